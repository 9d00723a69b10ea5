/**
 * New conversations and new messages, inside a write of the caller: what each of them changes in its conversation (newest
 * message, title, unread, revision). What must stay true: a message and its conversation carry the same revision.
 *
 * A conversation is written once per transaction, however many messages it got (docs/benchmarks.md has the gain). Until `settle`, `touched` is the truth; the committer calls that before every write of another kind
 * and at the end of the transaction, and `reset` when it begins.
 */
import type { Ids } from "../ids.ts";
import type { StoreBase } from "./base.ts";
import { excerpt, type ConversationRow, type MessageRow } from "./rows.ts";

/** Longest automatic title: one line of the sidebar. */
const TITLE_CHARS = 40;
/** Preview under a title. */
const PREVIEW_CHARS = 120;

/** What the committer must know of it, see store.ts. */
export type Settling = { reset(): void; settle(): void };

export const createMessageWriter = ({
  db,
  ids,
  now,
  nextRev,
  note,
}: Omit<StoreBase, "write"> & {
  ids: Ids;
  /** Told of every conversation that changed (store/search.ts). */
  note: (conversation: number, user: string, retitled: boolean) => void;
}) => {
  const conversationById = db.prepare<ConversationRow, [number]>("SELECT * FROM conversations WHERE id = ?");
  const messageById = db.prepare<MessageRow, [number]>("SELECT * FROM messages WHERE id = ?");
  const defaultOf = db.prepare<ConversationRow, [string, string]>(
    "SELECT * FROM conversations WHERE user = ? AND bot IS ? AND is_default = 1",
  );
  const insertConversation = db.prepare(
    `INSERT INTO conversations (id, user, bot, is_default, title, titled, created_at, updated_at, rev)
     VALUES ($id, $user, $bot, $isDefault, $title, $titled, $at, $at, $rev)`,
  );
  const insertMessage = db.prepare(
    `INSERT INTO messages (id, conversation, role, bot, bot_name, content, state, error_code, error_text, turn, parent,
       reply_to, client_id, usage, files, created_at, updated_at, rev, seq, generation)
     VALUES ($id, $conversation, $role, $bot, $bot_name, $content, $state, $error_code, $error_text, $turn, $parent,
       $reply_to, $client_id, $usage, $files, $created_at, $updated_at, $rev, $seq, $generation)`,
  );
  const insertFile = db.prepare("INSERT INTO message_files (message, place, attachment) VALUES (?, ?, ?)");
  const touchConversation = db.prepare(
    `UPDATE conversations SET title = $title, unread = $unread, leaf = $leaf, last_role = $last_role, last_text = $last_text,
       last_at = $last_at, updated_at = $updated_at, rev = $rev WHERE id = $id`,
  );
  // Apart, because naming these columns writes their index, changed or not.
  const giveConversation = db.prepare("UPDATE conversations SET is_default = ?, bot = ? WHERE id = ?");
  let touched = new Map<number, ConversationRow>();
  /** Default conversations that were looked up in this transaction, by user and bot. */
  let defaults = new Map<string, ConversationRow>();

  const reset = (): void => {
    // New ones, not cleared: see roster.ts.
    if (touched.size > 0) touched = new Map();
    if (defaults.size > 0) defaults = new Map();
  };
  const settle = (): void => {
    for (const row of touched.values()) {
      note(row.id, row.user, false);
      touchConversation.run({
        id: row.id,
        title: row.title,
        unread: row.unread,
        leaf: row.leaf,
        last_role: row.last_role,
        last_text: row.last_text,
        last_at: row.last_at,
        updated_at: row.updated_at,
        rev: row.rev,
      });
    }
    reset();
  };

  const conversationOf = (id: number): ConversationRow | undefined =>
    touched.get(id) ?? conversationById.get(id) ?? undefined;

  /** The default conversation of this person with this bot. */
  const defaultConversation = (user: string, bot: string | null): ConversationRow | undefined => {
    const key = `${user}\n${bot ?? ""}`;
    const known = defaults.get(key);
    if (known && known.is_default === 1 && known.bot === bot) return known;
    if (touched.size > 0) settle(); // one that was touched may be another bot's by now
    const row = defaultOf.get(user, bot as string) ?? undefined;
    if (row) defaults.set(key, row);
    return row;
  };

  const retitle = (conversation: ConversationRow, title: string): void => {
    conversation.title = title;
    note(conversation.id, conversation.user, true);
  };

  const append = (
    row: MessageRow,
    files: number[],
    conversation: ConversationRow,
    unreadBy: number,
    about = row.content,
  ): void => {
    insertMessage.run(row);
    files.forEach((attachment, place) => {
      insertFile.run(row.id, place, attachment);
    });
    // A reply that ends after a newer question must not become the parent of the next one.
    const newest = conversation.leaf === null || row.id > conversation.leaf;
    conversation.unread += unreadBy;
    // The default conversation with a bot is an ordinary one once another bot answered in it (named there, or stepping in):
    // a user has one default per bot, and this one would be a second.
    if (row.bot !== null && conversation.bot !== row.bot) {
      conversation.is_default = 0;
      conversation.bot = row.bot;
      giveConversation.run(0, row.bot, conversation.id);
    }
    if (newest) {
      conversation.leaf = row.id;
      conversation.last_role = row.role;
      conversation.last_text = excerpt(row.content, PREVIEW_CHARS);
      conversation.last_at = row.updated_at;
    }
    conversation.updated_at = row.updated_at;
    conversation.rev = row.rev;
    if (conversation.titled === 0 && conversation.title === "" && row.role === "user")
      retitle(conversation, excerpt(about, TITLE_CHARS));
    touched.set(conversation.id, conversation);
  };

  /** A new conversation row, in a write of the caller. */
  const makeConversation = (user: string, bot: string | null, title: string, isDefault: boolean): ConversationRow => {
    settle();
    const id = ids.next();
    const at = now();
    const titled = title === "" ? 0 : 1;
    insertConversation.run({ id, user, bot, isDefault: isDefault ? 1 : 0, title, titled, at, rev: nextRev() });
    if (titled) note(id, user, true);
    return conversationById.get(id)!;
  };

  /** A further bot message of a conversation: a late reply or a proactive message. In a write of the caller. */
  const appendBotMessage = (
    conversation: ConversationRow,
    say: {
      bot: string;
      botName: string;
      content: string;
      files: number[];
      turn: number | null;
      parent: number | null;
      seq?: number;
    },
  ): MessageRow => {
    const at = now();
    const row: MessageRow = {
      id: ids.next(),
      conversation: conversation.id,
      role: "bot",
      bot: say.bot,
      bot_name: say.botName,
      content: say.content,
      state: "done",
      error_code: null,
      error_text: null,
      turn: say.turn,
      parent: say.parent,
      reply_to: null,
      client_id: null,
      usage: null,
      files: say.files.length,
      created_at: at,
      updated_at: at,
      rev: nextRev(),
      seq: say.seq ?? 0,
      generation: 0,
    };
    append(row, say.files, conversation, 1);
    return row;
  };

  return {
    makeConversation,
    append,
    appendBotMessage,
    message: (id: number): MessageRow | undefined => messageById.get(id) ?? undefined,
    conversation: conversationOf,
    defaultConversation,
    settling: { reset, settle } satisfies Settling,
  };
};

export type MessageWriter = ReturnType<typeof createMessageWriter>;
