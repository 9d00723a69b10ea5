/** What changed in the store, told to the owner's /api/events. Builds nothing when nobody watches. */
import { encodeId } from "../ids.ts";
import type { Store } from "../store.ts";
import { toConversation, type ConversationRow, type MessageRow } from "../store/rows.ts";
import type { Streams } from "../streams.ts";
import type { Turn } from "../turn.ts";
import type { Message, UserEvent } from "../protocol.ts";

export const turnEvent = (turn: Turn, content: string): UserEvent => ({
  type: "turn",
  turnId: turn.key,
  conversationId: turn.conversationKey,
  messageId: turn.key,
  ...(turn.botId !== undefined && { botId: turn.botId }),
  ...(turn.botName !== undefined && { botName: turn.botName }),
  parentId: encodeId(turn.question),
  generation: turn.generation,
  content,
  createdAt: turn.createdAt,
});

/** An open turn's reply, as a message that is still being written. */
export const openReply = (turn: Turn): Message => ({
  id: turn.key,
  conversationId: turn.conversationKey,
  role: "bot",
  ...(turn.botId !== undefined && { botId: turn.botId }),
  ...(turn.botName !== undefined && { botName: turn.botName }),
  content: turn.text.slice(0, turn.visible),
  attachments: turn.attachments,
  state: "streaming",
  turnId: turn.key,
  parentId: encodeId(turn.question),
  createdAt: turn.createdAt,
  updatedAt: turn.frameAt,
});

export const createPublisher = ({ store, streams }: { store: Store; streams: Streams }) => {
  const eventId = (rev: number): string => `${store.epoch}:${rev}`;

  const conversation = (user: string, row: ConversationRow): void => {
    if (streams.watches(user))
      streams.toUser(user, { type: "conversation", conversation: toConversation(row) }, eventId(row.rev));
  };

  /**
   * The conversation goes first and without an id: whoever is cut between the two gets both again. What still ends in a
   * deleted one is told to nobody: for its owner it is gone, until `restored`.
   */
  const message = (user: string, row: MessageRow, owner: ConversationRow): void => {
    if (!streams.watches(user) || owner.deleted_at !== null) return;
    streams.toUser(user, { type: "conversation", conversation: toConversation(owner) });
    streams.toUser(user, { type: "message", message: store.conversations.withFiles([row])[0]! }, eventId(row.rev));
  };

  return {
    eventId,
    conversation,
    message,
    /** An end that no message could be made of: without an id, as there is no revision of it. */
    unstored: (turn: Turn, code: string): void => {
      if (!streams.watches(turn.user)) return;
      const message: Message = { ...openReply(turn), state: "failed", error: { code, message: "" } };
      streams.toUser(turn.user, { type: "message", message });
    },
    restored: (user: string, row: ConversationRow, messages: MessageRow[]): void => {
      if (messages.length === 0) conversation(user, row);
      for (const one of messages) message(user, one, row);
    },
    deleted: (user: string, id: number, rev: number): void =>
      streams.toUser(user, { type: "conversation_deleted", id: encodeId(id) }, eventId(rev)),
    /** Another bot has it now, or the first one after the queue: a snapshot, empty because the text begins anew. */
    given: (turn: Turn): void => {
      if (streams.watches(turn.user)) streams.toUser(turn.user, turnEvent(turn, ""));
    },
    started: (turn: Turn, question: MessageRow, owner: ConversationRow): void => {
      if (!streams.watches(turn.user)) return;
      message(turn.user, question, owner);
      streams.toUser(turn.user, turnEvent(turn, ""));
    },
  };
};

export type Publisher = ReturnType<typeof createPublisher>;
