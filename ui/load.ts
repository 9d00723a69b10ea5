/**
 * Fetching what the stream does not bring: the list, the messages of a conversation, what ended while nobody listened; and
 * telling the gateway what was read. Must stay true: answers merge into the state, so an event that came first is not undone.
 */
import type { Conversation, Message } from "../lib/protocol.ts";
import { ApiError } from "./api.ts";
import type { Page } from "./page.ts";
import { byAge } from "./state.ts";

export type Load = {
  /** The newest messages of a conversation, and the conversation itself when the list does not have it. Never rejects. */
  thread: (id: string) => Promise<void>;
  list: () => Promise<void>;
  /** Turns that ended while nobody listened: what is stored now is the truth. */
  turns: (id: string) => Promise<void>;
  /** Soon tells the gateway how far the open conversation was read, if it is looked at. */
  markRead: () => void;
};

type Answer = { messages: Message[]; next?: string };

const PAGE = 50;
const READ_AFTER_MS = 400;

/** `atEnd`: the newest message of the open conversation is in view. */
export const createLoad = (page: Page, atEnd: () => boolean): Load => {
  const { api, state } = page;
  let readTimer: ReturnType<typeof setTimeout> | undefined;
  let lastRead: string | undefined;

  const newest = (id: string): Promise<Answer> =>
    api.call<Answer>("GET", `/api/conversations/${id}/messages?limit=${PAGE}`);

  const thread = async (id: string): Promise<void> => {
    const known = state.threads.get(id) ?? {
      messages: new Map(),
      status: "loading" as const,
      next: undefined,
      choice: new Map(),
    };
    state.threads.set(id, known);
    try {
      const [answer] = await Promise.all([
        newest(id),
        state.conversations.has(id)
          ? undefined
          : api.call<Conversation>("GET", `/api/conversations/${id}`).then((conversation) => {
              state.putConversation(conversation);
              state.emit("list");
            }),
      ]);
      // More was missed than one page holds: what is known is too old to stand beside it without a hole.
      const joined = answer.messages.some((message) => known.messages.has(message.id));
      if (known.status === "ready" && !joined) known.messages.clear();
      if (known.status !== "ready" || !joined) known.next = answer.next;
      known.status = "ready";
      for (const message of answer.messages) state.putMessage(message);
    } catch (error) {
      if (known.status === "ready") return;
      const missing = error instanceof ApiError && (error.status === 404 || error.status === 400);
      known.status = missing ? "missing" : "failed";
    }
    state.emit("thread", id);
  };

  return {
    thread,
    list: async () => {
      const answer = await api.call<{ conversations: Conversation[]; next?: string }>(
        "GET",
        "/api/conversations?limit=50",
      );
      const known = new Set(answer.conversations.map((c) => c.id));
      if (!state.listReady)
        for (const id of [...state.conversations.keys()])
          if (!known.has(id) && id !== state.current) state.conversations.delete(id);
      for (const conversation of answer.conversations) state.putConversation(conversation);
      state.listNext = answer.next;
      state.listReady = true;
      state.emit("list");
    },
    turns: async (id) => {
      const { messages } = await newest(id).catch((error: unknown): Answer => {
        if (error instanceof ApiError && error.status === 404) return { messages: [] }; // deleted, and its turns with it
        throw error;
      });
      const open = new Set(messages.filter((m) => m.state === "streaming").map((m) => m.id));
      for (const turn of [...state.turns.values()])
        if (turn.conversationId === id && !open.has(turn.turnId)) state.turns.delete(turn.turnId);
      for (const message of messages) state.putMessage(message);
      state.emit("thread", id);
    },
    markRead: () => {
      clearTimeout(readTimer);
      readTimer = setTimeout(() => {
        const conversation = state.current ? state.conversations.get(state.current) : undefined;
        if (!conversation?.unread || document.visibilityState !== "visible" || !atEnd()) return;
        const stored = [...(state.threads.get(conversation.id)?.messages.values() ?? [])];
        const last = stored
          .filter((m) => m.state !== "streaming")
          .sort(byAge)
          .at(-1);
        if (!last || last.id === lastRead) return;
        lastRead = last.id;
        api
          .call<Conversation>("PATCH", `/api/conversations/${conversation.id}`, { read: last.id })
          .then((answer) => {
            if (typeof answer.unread === "number") state.putConversation(answer);
            state.emit("list");
          })
          .catch(() => {
            lastRead = undefined;
          });
      }, READ_AFTER_MS);
    },
  };
};
