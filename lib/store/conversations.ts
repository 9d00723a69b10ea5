/**
 * Conversations as their owner sees them: list, pages of messages, rename, pin, read, delete with undo, what changed since.
 *
 * What must stay true: every read and write names the user, so nobody reaches a conversation of someone else. A deleted
 * conversation stays as a tombstone for readers that were away; its words go when the undo time is over.
 */
import type { Message, Conversation } from "../protocol.ts";
import { Reject } from "../protocol.ts";
import type { AttachmentStore } from "./attachments.ts";
import type { StoreBase } from "./base.ts";
import { toConversation, toMessage, type ConversationRow, type MessageRow } from "./rows.ts";
import type { TurnStore } from "./turns.ts";

/** The protocol promises 10 s; the rest is for the request to arrive. */
export const UNDO_MS = 12_000;
/** More changed rows than this and a returning reader is told to start over. */
export const MAX_GAP_ROWS = 1000;
/** Retention looks at every conversation, so not at each sweep. */
const RETENTION_MS = 60_000;
/** Messages emptied in one commit: a few milliseconds. */
const PURGE_ROWS = 200;

/** A conversation that is no more, and the revision of that. */
export type Gone = { id: number; user: string; rev: number };
export type ConversationPatch = { title?: string; pinned?: boolean; read?: number };

export const createConversationStore = (
  { db, write, now, nextRev }: StoreBase,
  turns: TurnStore,
  attachments: AttachmentStore,
  /** Told of another title, and of messages that come back (store/search.ts). */
  note: (conversation: number, user: string, retitled: boolean) => void,
) => {
  const listAll = db.prepare<ConversationRow, [string, number, number, number]>(
    `SELECT * FROM conversations WHERE user = ? AND deleted_at IS NULL AND (updated_at, id) < (?, ?)
     ORDER BY updated_at DESC, id DESC LIMIT ?`,
  );
  const byId = db.prepare<ConversationRow, [number, string]>("SELECT * FROM conversations WHERE id = ? AND user = ?");
  const pageBefore = db.prepare<MessageRow, [number, number, number, number]>(
    "SELECT * FROM messages WHERE conversation = ? AND (rev, id) < (?, ?) ORDER BY rev DESC, id DESC LIMIT ?",
  );
  // Of one that is gone by now, the next older that is left.
  const revAt = db.prepare<{ rev: number | null }, [number, number]>(
    "SELECT max(rev) AS rev FROM messages WHERE conversation = ? AND id <= ?",
  );
  const revOf = db.prepare<{ rev: number }, [number, number]>(
    "SELECT rev FROM messages WHERE id = ? AND conversation = ?",
  );
  const patchRow = db.prepare(
    "UPDATE conversations SET title = $title, titled = $titled, pinned = $pinned, unread = $unread, read_upto = $read, rev = $rev WHERE id = $id",
  );
  const countUnread = db.prepare<{ n: number }, [number, number]>(
    // All but silence: what store/turns.ts counts when it arrives.
    `SELECT count(*) AS n FROM messages WHERE conversation = ? AND id > ? AND role = 'bot'
       AND NOT (state = 'done' AND content = '' AND files = 0)`,
  );
  const markSeen = db.prepare<{ bot: string; id: string }, [number, number, number]>(
    "UPDATE proactive SET seen_at = ? WHERE conversation = ? AND message <= ? AND seen_at IS NULL RETURNING bot, id",
  );
  const setDeleted = db.prepare("UPDATE conversations SET deleted_at = ?, is_default = 0, rev = ? WHERE id = ?");
  const restoreRow = db.prepare("UPDATE conversations SET deleted_at = NULL, rev = ? WHERE id = ?");
  // Apart from the row, whose own revision goes on with what still ends in it.
  const keepDeletion = db.prepare("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)");
  const forgetDeletion = db.prepare("DELETE FROM meta WHERE key = ?");
  const storedSinceDeletion = db.prepare<MessageRow, [number, string]>(
    `SELECT * FROM messages WHERE conversation = ? AND rev > (SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?)
     ORDER BY rev`,
  );
  const setMessageRev = db.prepare("UPDATE messages SET rev = ? WHERE id = ?");
  const expired = db.prepare<{ id: number }, [number]>(
    "SELECT id FROM conversations WHERE deleted_at < ? AND (leaf IS NOT NULL OR title != '') LIMIT 1",
  );
  const someMessages = db.prepare<{ id: number; turn: number | null }, [number, number]>(
    "SELECT id, turn FROM messages WHERE conversation = ? LIMIT ?",
  );
  const unindex = db.prepare("DELETE FROM search WHERE rowid = ?");
  // A turn is over before open_from, and after it when its reply is there: so turns go before their messages do.
  const over = `(ended_at IS NOT NULL OR id < (SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'open_from')
    OR EXISTS (SELECT 1 FROM messages m WHERE m.id = turns.id))`;
  const dropTurn = db.prepare(`DELETE FROM turns WHERE id = ? AND ${over}`);
  const hollow = db.prepare(
    "UPDATE conversations SET leaf = NULL, title = '', last_text = NULL, last_role = NULL WHERE id = ?",
  );
  const oldMessages = db.prepare<{ id: number }, [number]>(
    "SELECT id FROM messages WHERE id < ? ORDER BY id LIMIT 500",
  );
  const dropMessage = db.prepare("DELETE FROM messages WHERE id = ?");
  // As many as the messages above could be of.
  const dropOldTurns = db.prepare(
    `DELETE FROM turns WHERE id IN (SELECT id FROM turns WHERE id < ? AND ${over} ORDER BY id LIMIT 500)`,
  );
  const emptyOld = db.prepare<{ id: number; user: string }, [number]>(
    `SELECT id, user FROM conversations c WHERE deleted_at IS NULL AND updated_at < ? AND NOT EXISTS
       (SELECT 1 FROM messages m WHERE m.conversation = c.id) LIMIT 100`,
  );
  const changedConversations = db.prepare<ConversationRow, [string, number]>(
    "SELECT * FROM conversations WHERE user = ? AND rev > ? ORDER BY rev",
  );
  const changedMessages = db.prepare<MessageRow, [string, number, number, number, number]>(
    `SELECT m.* FROM conversations c JOIN messages m ON m.conversation = c.id
     WHERE c.user = ? AND c.rev > ? AND c.deleted_at IS NULL AND m.rev > ? AND m.rev <= ? ORDER BY m.rev LIMIT ?`,
  );
  const countChanged = db.prepare<{ n: number }, [string, number, number]>(
    `SELECT count(*) AS n FROM conversations c JOIN messages m ON m.conversation = c.id
     WHERE c.user = ? AND c.rev > ? AND c.deleted_at IS NULL AND m.rev > ?`,
  );

  let retainAt = 0;

  const own = (user: string, id: number): ConversationRow => {
    const row = byId.get(id, user);
    if (!row || row.deleted_at !== null) throw new Reject("not_found");
    return row;
  };

  const withFiles = (rows: MessageRow[]): Message[] =>
    rows.map((row) => toMessage(row, row.files > 0 ? attachments.ofMessage(row.id) : []));

  const deletionOf = (id: number): string => `deletion_rev_${id}`;

  /**
   * What was stored since the deletion was told to nobody, and readers may be past it: it changes once more. It was the
   * newest of its conversation and stays so, in the same order.
   */
  const storeAgain = (id: number, user: string): MessageRow[] => {
    const messages = storedSinceDeletion.all(id, deletionOf(id)).map((message) => ({ ...message, rev: nextRev() }));
    for (const message of messages) {
      setMessageRev.run(message.rev, message.id);
      unindex.run(message.id); // search reads it again, and adds what it reads
    }
    if (messages.length > 0) note(id, user, false);
    return messages;
  };

  /** Takes words out of a deleted conversation, as many as one commit should; what is left is found again. */
  const purge = (id: number): void => {
    const some = someMessages.all(id, PURGE_ROWS);
    for (const message of some) {
      unindex.run(message.id);
      if (message.turn !== null) dropTurn.run(message.turn);
      dropMessage.run(message.id);
    }
    if (some.length === PURGE_ROWS) return;
    unindex.run(id);
    hollow.run(id);
    forgetDeletion.run(deletionOf(id));
  };

  /** One commit's worth of what was deleted and may not come back; false when there is nothing. */
  const purgeNext = (): boolean => {
    const next = expired.get(now() - UNDO_MS);
    if (next) purge(next.id);
    return next !== null;
  };

  /** `more`: there may be more. */
  const dropOld = (before: number): { gone: Gone[]; more: boolean } => {
    dropOldTurns.run(before * 1000);
    const old = oldMessages.all(before * 1000);
    for (const { id } of old) {
      unindex.run(id);
      dropMessage.run(id);
    }
    const gone = emptyOld.all(before).map((empty) => ({ ...empty, rev: nextRev() }));
    for (const { id, rev } of gone) {
      setDeleted.run(now() - UNDO_MS - 1, rev, id);
      purge(id);
    }
    return { gone, more: old.length > 0 || gone.length > 0 };
  };

  return {
    withFiles,

    /** Newest first, at most `limit`, after the conversation `before` (the last of the page before). */
    list: async (user: string, limit: number, before = { at: Number.MAX_SAFE_INTEGER, id: 0 }) => {
      const rows = listAll.all(user, before.at, before.id, limit + 1);
      const page = rows.slice(0, limit);
      return { rows: page, conversations: page.map(toConversation), more: rows.length > limit };
    },

    get: async (user: string, id: number): Promise<Conversation> => toConversation(own(user, id)),

    /** For checks that must not wait: does this live conversation belong to the user? Undefined when not. */
    find: (user: string, id: number): ConversationRow | undefined => {
      const row = byId.get(id, user);
      return row && row.deleted_at === null ? row : undefined;
    },

    /**
     * Messages stored before the message `before`, oldest first within the page. Rejects `not_found`. `next`: for the page
     * before, and not the first of this one where an answer came after a later question.
     */
    messages: async (user: string, id: number, limit: number, before?: number) => {
      own(user, id);
      const known = before === undefined ? undefined : revOf.get(before, id);
      const upto =
        known?.rev ?? (before === undefined ? Number.MAX_SAFE_INTEGER : (revAt.get(id, before)?.rev ?? -1) + 1);
      const rows = pageBefore.all(id, upto, known ? before! : 0, limit + 1);
      const page = rows.slice(0, limit);
      const next = rows.length > limit ? page.at(-1)!.id : undefined;
      return { messages: withFiles(page.sort((a, b) => a.id - b.id)), next };
    },

    create: (user: string, title: string, bot: string | null): Promise<ConversationRow> =>
      write(() => turns.makeConversation(user, bot, title, false)),

    /** `seen` lists proactive messages the person has now read, so their bots can be told. Rejects `not_found`. */
    patch: (
      user: string,
      id: number,
      patch: ConversationPatch,
    ): Promise<{ row: ConversationRow; seen: { bot: string; id: string }[] }> =>
      write(() => {
        const row = own(user, id);
        // Nobody has read what is not there yet.
        const read = Math.max(row.read_upto, Math.min(patch.read ?? 0, row.leaf ?? 0));
        patchRow.run({
          id,
          title: patch.title ?? row.title,
          titled: patch.title === undefined ? row.titled : 1,
          pinned: patch.pinned === undefined ? row.pinned : patch.pinned ? 1 : 0,
          unread: patch.read === undefined ? row.unread : countUnread.get(id, read)!.n,
          read,
          rev: nextRev(),
        });
        if (patch.title !== undefined) note(id, user, true);
        const seen = patch.read === undefined ? [] : markSeen.all(now(), id, read);
        return { row: own(user, id), seen };
      }),

    /** Hides it at once; `restore` brings it back within UNDO_MS. Rejects `not_found`. */
    delete: (user: string, id: number): Promise<number> =>
      write(() => {
        const { leaf } = own(user, id);
        const rev = nextRev();
        setDeleted.run(now(), rev, id);
        // Where nothing was asked nothing can end; `purge` takes it away again, and comes to what has messages or a title.
        if (leaf !== null) keepDeletion.run(deletionOf(id), String(rev));
        return rev;
      }),

    /** `messages`: stored while it was deleted, in order; its own revision is that of the last. Rejects `not_found`. */
    restore: (user: string, id: number): Promise<{ row: ConversationRow; messages: MessageRow[] }> =>
      write(() => {
        const row = byId.get(id, user);
        if (!row || row.deleted_at === null || row.deleted_at < now() - UNDO_MS) throw new Reject("not_found");
        const messages = storeAgain(id, user);
        forgetDeletion.run(deletionOf(id));
        restoreRow.run(messages.at(-1)?.rev ?? nextRev(), id);
        return { row: own(user, id), messages };
      }),

    /**
     * Empties what was deleted longer than UNDO_MS ago and, with `keepDays` above 0, what is older than that. Resolves to
     * the conversations that are gone by it.
     */
    sweep: async (keepDays: number): Promise<Gone[]> => {
      // The long ones take several commits, and others come between.
      while (await write(purgeNext));
      if (keepDays === 0 || now() < retainAt) return [];
      const { gone, more } = await write(() => dropOld(now() - keepDays * 86_400_000));
      if (!more) retainAt = now() + RETENTION_MS;
      return gone;
    },

    /** How many rows of this user changed after `rev`, to decide between catching up and starting over. */
    gap: (user: string, rev: number): number =>
      changedConversations.all(user, rev).length + countChanged.get(user, rev, rev)!.n,

    /** Changed or deleted after `rev`, in order of rev: either `conversation` or `deleted` (its id). */
    changedConversations: (
      user: string,
      rev: number,
    ): { rev: number; conversation?: Conversation; deleted?: number }[] =>
      changedConversations.all(user, rev).map((row) => ({
        rev: row.rev,
        ...(row.deleted_at === null ? { conversation: toConversation(row) } : { deleted: row.id }),
      })),

    /** The next `limit` messages changed after `rev` and up to `upto`, in order of rev. */
    changedMessages: (user: string, rev: number, upto: number, limit: number): { rev: number; message: Message }[] => {
      const rows = changedMessages.all(user, rev, rev, upto, limit);
      const messages = withFiles(rows);
      return rows.map((row, i) => ({ rev: row.rev, message: messages[i]! }));
    },
  };
};

export type ConversationStore = ReturnType<typeof createConversationStore>;
