/**
 * New conversations and new messages, inside a write of the caller: what each of them changes in its conversation (newest
 * message, title, unread, revision). What must stay true: a message and its conversation carry the same revision.
 */
import type { Ids } from "../ids.ts";
import type { StoreBase } from "./base.ts";
import { excerpt, type ConversationRow, type MessageRow } from "./rows.ts";

/** Longest automatic title: one line of the sidebar. */
const TITLE_CHARS = 40;
/** Preview under a title. */
const PREVIEW_CHARS = 120;

export const createMessageWriter = ({ db, ids, now, nextRev }: Omit<StoreBase, "write"> & { ids: Ids }) => {
  const conversationById = db.prepare<ConversationRow, [number]>("SELECT * FROM conversations WHERE id = ?");
  const messageById = db.prepare<MessageRow, [number]>("SELECT * FROM messages WHERE id = ?");
  const insertConversation = db.prepare(
    `INSERT INTO conversations (id, user, bot, is_default, title, titled, created_at, updated_at, rev)
     VALUES ($id, $user, $bot, $isDefault, $title, $titled, $at, $at, $rev)`,
  );
  const insertMessage = db.prepare(
    `INSERT INTO messages (id, conversation, role, bot, bot_name, content, state, error_code, error_text, turn, parent,
       reply_to, client_id, usage, files, created_at, updated_at, rev)
     VALUES ($id, $conversation, $role, $bot, $bot_name, $content, $state, $error_code, $error_text, $turn, $parent,
       $reply_to, $client_id, $usage, $files, $created_at, $updated_at, $rev)`,
  );
  const insertFile = db.prepare("INSERT INTO message_files (message, place, attachment) VALUES (?, ?, ?)");
  // The default conversation with a bot is an ordinary one once another bot answered in it (named there, or stepping in):
  // a user has one default per bot, and this one would be a second.
  const touchConversation = db.prepare(
    `UPDATE conversations SET is_default = CASE WHEN $bot IS NULL OR bot = $bot THEN is_default ELSE 0 END,
       bot = coalesce($bot, bot), title = $title, titled = $titled, unread = $unread, leaf = $leaf,
       last_role = $role, last_text = $text, last_at = $lastAt, updated_at = $at, rev = $rev WHERE id = $id`,
  );

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
    if (row.bot !== null) conversation.bot = row.bot;
    if (newest) {
      conversation.leaf = row.id;
      conversation.last_role = row.role;
      conversation.last_text = excerpt(row.content, PREVIEW_CHARS);
      conversation.last_at = row.updated_at;
    }
    conversation.updated_at = row.updated_at;
    conversation.rev = row.rev;
    if (conversation.titled === 0 && conversation.title === "" && row.role === "user")
      conversation.title = excerpt(about, TITLE_CHARS);
    touchConversation.run({
      id: conversation.id,
      bot: row.bot,
      title: conversation.title,
      titled: conversation.titled,
      unread: conversation.unread,
      leaf: conversation.leaf,
      role: conversation.last_role,
      text: conversation.last_text,
      lastAt: conversation.last_at,
      at: row.updated_at,
      rev: row.rev,
    });
  };

  /** A new conversation row, in a write of the caller. */
  const makeConversation = (user: string, bot: string | null, title: string, isDefault: boolean): ConversationRow => {
    const id = ids.next();
    const at = now();
    const titled = title === "" ? 0 : 1;
    insertConversation.run({ id, user, bot, isDefault: isDefault ? 1 : 0, title, titled, at, rev: nextRev() });
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
    };
    append(row, say.files, conversation, 1);
    return row;
  };

  return {
    makeConversation,
    append,
    appendBotMessage,
    message: (id: number): MessageRow | undefined => messageById.get(id) ?? undefined,
    conversation: (id: number): ConversationRow | undefined => conversationById.get(id) ?? undefined,
  };
};

export type MessageWriter = ReturnType<typeof createMessageWriter>;
