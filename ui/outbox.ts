/**
 * Messages on their way out. Each has a client id made once, so sending it again is the same message to the gateway; they
 * are kept in the browser until the gateway has them.
 *
 * Must stay true: a message the person sent is shown until it is stored or discarded, it goes out once, and those of one
 * conversation go out in order. A network that is away is waited for; a refusal is shown with its reason.
 */
import type { Attachment, Conversation, Message } from "../lib/protocol.ts";
import { ApiError, type Api } from "./api.ts";
import { randomId, type Keep } from "./keep.ts";
import type { State } from "./state.ts";

export type Unsent = {
  clientId: string;
  /** Absent: the conversation is made with the first message. */
  conversationId: string | undefined;
  content: string;
  target?: string;
  attachments: Attachment[];
  replyTo?: string;
  replaces?: string;
  parentId?: string;
  createdAt: number;
  state: "sending" | "waiting" | "failed";
  error?: string;
};

export type Outbox = {
  /** Everything unsent for a conversation; undefined: for the one not made yet. */
  of: (conversationId: string | undefined) => Unsent[];
  send: (entry: Omit<Unsent, "clientId" | "createdAt" | "state">) => void;
  retry: (clientId: string) => void;
  discard: (clientId: string) => void;
  /** Tries everything that waits; call when the connection is back. */
  flush: () => void;
  /** The gateway has this message. */
  confirm: (clientId: string | undefined) => void;
  clear: () => void;
};

/** `onCreated`: a conversation was made for a first message. */
export const createOutbox = (
  api: Api,
  state: State,
  keep: Keep,
  on: { changed: (conversationId: string | undefined) => void; created: (id: string) => void },
): Outbox => {
  const restore = (): Unsent[] => {
    try {
      const stored = JSON.parse(keep.get("outbox") ?? "[]") as Unsent[];
      return stored.map((entry) => (entry.state === "failed" ? entry : { ...entry, state: "waiting" as const }));
    } catch {
      return [];
    }
  };
  let entries = restore();
  const busy = new Set<string>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let failures = 0;

  const save = (): void => keep.set("outbox", entries.length ? JSON.stringify(entries) : undefined);
  const changed = (entry: Unsent): void => {
    save();
    on.changed(entry.conversationId);
  };
  const drop = (clientId: string): void => {
    const entry = entries.find((e) => e.clientId === clientId);
    entries = entries.filter((e) => e.clientId !== clientId);
    if (entry) changed(entry);
  };

  const later = (ms: number): void => {
    clearTimeout(timer);
    timer = setTimeout(flush, ms);
  };

  const deliver = async (entry: Unsent): Promise<void> => {
    if (entry.conversationId === undefined) {
      const made = await api.call<Conversation | { conversation: Conversation }>("POST", "/api/conversations", {
        ...(entry.target ? { botId: entry.target } : {}),
      });
      const conversation = "conversation" in made ? made.conversation : made;
      // Whatever else was written into the new conversation meanwhile belongs to it too.
      for (const other of entries) other.conversationId ??= conversation.id;
      save();
      state.putConversation(conversation);
      state.threads.set(conversation.id, { messages: new Map(), status: "ready", next: undefined, choice: new Map() });
      state.emit("list");
      on.created(conversation.id);
    }
    const { clientId, content, target, replyTo, replaces } = entry;
    const answer = await api.call<{ message: Message; turnId: string }>(
      "POST",
      `/api/conversations/${entry.conversationId}/messages`,
      {
        clientId,
        content,
        ...(target ? { target } : {}),
        ...(entry.attachments.length ? { attachments: entry.attachments.map((a) => a.id) } : {}),
        ...(replyTo ? { replyTo } : {}),
        ...(replaces ? { replaces } : {}),
      },
    );
    state.putMessage(answer.message);
    drop(clientId);
    state.emit("thread", answer.message.conversationId);
  };

  const run = async (entry: Unsent): Promise<void> => {
    const lane = entry.conversationId ?? "new";
    busy.add(lane);
    entry.state = "sending";
    changed(entry);
    try {
      await deliver(entry);
      failures = 0;
      busy.delete(lane);
      flush();
    } catch (error) {
      busy.delete(lane);
      const refused = error instanceof ApiError ? error : new ApiError(0, "network", "");
      if (!entries.includes(entry)) return;
      if (refused.code === "network" || refused.code === "unauthorized" || refused.code === "shutting_down") {
        entry.state = "waiting";
        failures++;
        if (refused.code !== "unauthorized") later(Math.min(15_000, 1000 * 2 ** failures));
      } else if (refused.code === "rate_limited" && (refused.retryAfter ?? 99) <= 30) {
        entry.state = "waiting";
        later((refused.retryAfter ?? 1) * 1000);
      } else {
        entry.state = "failed";
        entry.error = refused.message;
      }
      changed(entry);
    }
  };

  function flush(): void {
    clearTimeout(timer);
    if (state.session === "out" || state.session === "expired") return;
    const lanes = new Set<string>();
    for (const entry of entries) {
      const lane = entry.conversationId ?? "new";
      if (lanes.has(lane) || busy.has(lane)) continue;
      if (entry.state === "failed") continue;
      lanes.add(lane);
      void run(entry);
    }
  }

  return {
    of: (conversationId) => entries.filter((entry) => entry.conversationId === conversationId),
    send: (entry) => {
      entries.push({ ...entry, clientId: randomId(), createdAt: Date.now(), state: "sending" });
      save();
      on.changed(entry.conversationId);
      flush();
    },
    retry: (clientId) => {
      const entry = entries.find((e) => e.clientId === clientId);
      if (!entry) return;
      entry.state = "waiting";
      delete entry.error;
      flush();
    },
    discard: drop,
    flush,
    confirm: (clientId) => clientId && entries.some((e) => e.clientId === clientId) && drop(clientId),
    clear: () => {
      entries = [];
      save();
    },
  };
};
