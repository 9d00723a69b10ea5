/**
 * Messages on their way out. Each has a client id made once, so sending it again is the same message to the gateway; they
 * are kept in the browser until the gateway has them, each under a key of its own, because every tab has an outbox.
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
  /** Of a version: of what it replaces. */
  parentId?: string;
  createdAt: number;
  state: "sending" | "waiting" | "failed";
  /** Why it was refused, or is waited with; absent: the network is away. */
  error?: string;
  /** Of a refused one: the newest message at that time. */
  after?: string;
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

const KEY = "outbox.";
/** Where the version before had them, all together. */
const OLD_KEY = "outbox";

/** `created`: a conversation was made for a first message. */
export const createOutbox = (
  api: Api,
  state: State,
  keep: Keep,
  on: { changed: (conversationId: string | undefined) => void; created: (id: string) => void },
): Outbox => {
  const read = (key: string): Unsent[] => {
    try {
      return [JSON.parse(keep.get(key) ?? "[]") as Unsent | Unsent[]].flat();
    } catch {
      return [];
    }
  };
  const save = (entry: Unsent): void => keep.set(KEY + entry.clientId, JSON.stringify(entry));
  for (const entry of read(OLD_KEY)) save(entry);
  keep.set(OLD_KEY, undefined);
  let entries = keep
    .keys(KEY)
    .flatMap(read)
    .sort((a, b) => a.createdAt - b.createdAt);
  for (const entry of entries) if (entry.state !== "failed") entry.state = "waiting";
  const busy = new Set<string>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let failures = 0;

  const changed = (entry: Unsent): void => {
    save(entry);
    on.changed(entry.conversationId);
  };
  const drop = (clientId: string): void => {
    const entry = entries.find((e) => e.clientId === clientId);
    if (!entry) return;
    entries = entries.filter((e) => e !== entry);
    keep.set(KEY + clientId, undefined);
    on.changed(entry.conversationId);
  };
  // Sent or discarded in another tab.
  keep.onChange((key, value) => {
    if (value === undefined && key.startsWith(KEY)) drop(key.slice(KEY.length));
  });

  const newest = (conversationId: string | undefined): string | undefined => {
    const stored = [...(state.threads.get(conversationId ?? "")?.messages.values() ?? [])];
    const open = [...state.turns.values()].filter((turn) => turn.conversationId === conversationId);
    const all = [...stored, ...open.map(({ turnId, createdAt }) => ({ id: turnId, createdAt }))];
    return all.sort((a, b) => a.createdAt - b.createdAt).at(-1)?.id;
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
      for (const other of entries) save(other);
      busy.add(conversation.id);
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
    const free = (): void => {
      for (const one of [lane, entry.conversationId ?? lane]) busy.delete(one);
    };
    entry.state = "sending";
    delete entry.error;
    delete entry.after;
    changed(entry);
    try {
      await deliver(entry);
      failures = 0;
      free();
      flush();
    } catch (error) {
      free();
      const refused = error instanceof ApiError ? error : new ApiError(0, "network", "");
      if (!entries.includes(entry)) return flush();
      if (refused.code === "network" || refused.code === "unauthorized" || refused.code === "shutting_down") {
        entry.state = "waiting";
        failures++;
        if (refused.code !== "unauthorized") later(Math.min(15_000, 1000 * 2 ** failures));
      } else if (refused.code === "rate_limited" && (refused.retryAfter ?? 99) <= 30) {
        entry.state = "waiting";
        entry.error = refused.message;
        later((refused.retryAfter ?? 1) * 1000);
      } else {
        entry.state = "failed";
        entry.error = refused.message;
        const after = newest(entry.conversationId);
        if (after) entry.after = after;
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
      // Their order after a reload; two may be sent within one millisecond.
      const createdAt = Math.max(Date.now(), (entries.at(-1)?.createdAt ?? 0) + 1);
      const made: Unsent = { ...entry, clientId: randomId(), createdAt, state: "sending" };
      entries.push(made);
      changed(made);
      flush();
    },
    retry: (clientId) => {
      const entry = entries.find((e) => e.clientId === clientId);
      if (!entry) return;
      entry.state = "waiting";
      flush();
    },
    discard: drop,
    flush,
    confirm: (clientId) => clientId && drop(clientId),
    clear: () => {
      entries = [];
      for (const key of keep.keys(KEY)) keep.set(key, undefined);
    },
  };
};
