/** How rows of the store become the shapes of the wire. Pure; refuses to query. */
import { encodeId } from "../ids.ts";
import type { Attachment, Conversation, Message, MessageState, Usage } from "../protocol.ts";

export type ConversationRow = {
  id: number;
  user: string;
  bot: string | null;
  is_default: number;
  title: string;
  titled: number;
  pinned: number;
  unread: number;
  read_upto: number;
  leaf: number | null;
  last_role: "user" | "bot" | null;
  last_text: string | null;
  last_at: number | null;
  created_at: number;
  updated_at: number;
  rev: number;
  deleted_at: number | null;
};

export type MessageRow = {
  id: number;
  conversation: number;
  role: "user" | "bot";
  bot: string | null;
  bot_name: string | null;
  content: string;
  state: MessageState;
  error_code: string | null;
  error_text: string | null;
  turn: number | null;
  parent: number | null;
  reply_to: number | null;
  client_id: string | null;
  usage: string | null;
  files: number;
  created_at: number;
  updated_at: number;
  rev: number;
  /** Of a turn's reply: its last frame (a late one's too), and how often its text had been replaced. */
  seq: number;
  generation: number;
};

export type AttachmentRow = {
  id: number;
  user: string;
  sha: string;
  name: string;
  mime: string;
  size: number;
  width: number | null;
  height: number | null;
  turn: number | null;
  created_at: number;
};

/** Where an attachment is read. */
export const attachmentUrl = (id: number): string => `/api/attachments/${encodeId(id)}`;

export const toAttachment = (row: AttachmentRow): Attachment => {
  return {
    id: encodeId(row.id),
    name: row.name,
    mime: row.mime,
    size: row.size,
    url: attachmentUrl(row.id),
    ...(row.width !== null && row.height !== null && { width: row.width, height: row.height }),
  };
};

export const toConversation = (row: ConversationRow): Conversation => ({
  id: encodeId(row.id),
  title: row.title,
  ...(row.bot !== null && { botId: row.bot }),
  pinned: row.pinned === 1,
  unread: row.unread,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  ...(row.leaf !== null &&
    row.last_role !== null && {
      lastMessage: {
        id: encodeId(row.leaf),
        role: row.last_role,
        text: row.last_text ?? "",
        createdAt: row.last_at ?? row.updated_at,
      },
    }),
});

export const toMessage = (row: MessageRow, attachments: Attachment[]): Message => ({
  id: encodeId(row.id),
  conversationId: encodeId(row.conversation),
  role: row.role,
  ...(row.bot !== null && { botId: row.bot }),
  ...(row.bot_name !== null && { botName: row.bot_name }),
  content: row.content,
  attachments,
  state: row.state,
  ...(row.error_code !== null && { error: { code: row.error_code, message: row.error_text ?? "" } }),
  ...(row.turn !== null && { turnId: encodeId(row.turn) }),
  ...(row.client_id !== null && { clientId: row.client_id }),
  ...(row.usage !== null && { usage: JSON.parse(row.usage) as Usage }),
  ...(row.parent !== null && { parentId: encodeId(row.parent) }),
  ...(row.reply_to !== null && { replyTo: encodeId(row.reply_to) }),
  createdAt: row.created_at,
  updatedAt: row.updated_at,
});

/** A title or preview from message text: one line, at most `max` UTF-16 units, no half surrogate pair. */
export const excerpt = (content: string, max: number): string => {
  const line = content
    .slice(0, max * 4)
    .replace(/\s+/g, " ")
    .trim();
  if (line.length <= max) return line;
  const cut = line.slice(0, max - 1);
  const last = cut.charCodeAt(cut.length - 1);
  return `${last >= 0xd800 && last <= 0xdbff ? cut.slice(0, -1) : cut}…`;
};
