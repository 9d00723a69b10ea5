/**
 * What the page knows of the gateway's data, merged from answers and events, and who wants to hear of changes.
 *
 * Must stay true: applying the same thing twice changes nothing, and an older version of a message or conversation never
 * replaces a newer one, because answers and events race. Knows nothing of the DOM.
 */
import type { Activity, BotInfo, Conversation, Message, UserEvent, UserInfo } from "../lib/protocol.ts";

export type Link = "connecting" | "online" | "reconnecting" | "offline";
export type Session = "unknown" | "in" | "out" | "expired";

/** A reply being produced. */
export type Turn = {
  turnId: string;
  conversationId: string;
  botId: string | undefined;
  botName: string | undefined;
  parentId: string | undefined;
  generation: number;
  text: string;
  createdAt: number;
  /** When anything of it was heard last. */
  heardAt: number;
  /** What the bot says it is doing now. */
  activity: Activity | undefined;
  steps: { text: string; at: number }[];
  /** When the first text came. */
  textAt: number | undefined;
  /** The person pressed stop: later text is not shown. */
  stopped: boolean;
};

export type Thread = {
  messages: Map<string, Message>;
  status: "loading" | "ready" | "missing" | "failed";
  /** Cursor of the page before; undefined: everything is here. */
  next: string | undefined;
  /** Which version is shown, by the parent of the versions. */
  choice: Map<string, string>;
};

export type Topics = {
  session: undefined;
  bots: undefined;
  link: undefined;
  /** Conversations changed. */
  list: undefined;
  /** The messages of this conversation changed. */
  thread: string;
  /** A turn's text or activity changed. */
  turn: Turn;
  /** Another conversation is open. */
  current: undefined;
  /** A message of the bot is finished. */
  finished: Message;
};

export type State = ReturnType<typeof createState>;

/** Later by creation; ids are opaque but time-ordered, and equal times keep arrival order. */
export const byAge = (a: Message, b: Message): number =>
  a.createdAt - b.createdAt || a.id.length - b.id.length || (a.id < b.id ? -1 : 1);

export const createState = () => {
  const listeners = new Map<keyof Topics, Set<(value: never) => void>>();
  const conversations = new Map<string, Conversation>();
  const threads = new Map<string, Thread>();
  const turns = new Map<string, Turn>();
  /** Finished turns, so that a late snapshot does not open them again. */
  const ended = new Set<string>();
  const gone = new Set<string>();
  const self = {
    user: undefined as UserInfo | undefined,
    session: "unknown" as Session,
    link: "connecting" as Link,
    bots: undefined as BotInfo[] | undefined,
    current: undefined as string | undefined,
    /** Cursor of the conversation list; undefined: all loaded. */
    listNext: undefined as string | undefined,
    listReady: false,
    conversations,
    threads,
    turns,
    gone,
  };

  const emit = <T extends keyof Topics>(topic: T, ...value: Topics[T] extends undefined ? [] : [Topics[T]]): void => {
    for (const listener of listeners.get(topic) ?? []) (listener as (v: unknown) => void)(value[0]);
  };

  /** Subscribes; returns the function that ends it. */
  const on = <T extends keyof Topics>(topic: T, listener: (value: Topics[T]) => void): (() => void) => {
    const set = listeners.get(topic) ?? new Set();
    listeners.set(topic, set);
    set.add(listener as (value: never) => void);
    return () => set.delete(listener as (value: never) => void);
  };

  const putConversation = (conversation: Conversation): void => {
    if (gone.has(conversation.id)) return;
    // The deletion was undone: what it holds has to be asked for again.
    if (threads.get(conversation.id)?.status === "missing") threads.delete(conversation.id);
    const old = conversations.get(conversation.id);
    if (old && old.updatedAt > conversation.updatedAt) return;
    conversations.set(conversation.id, conversation);
  };

  /** What was known of it goes too: it cannot be written to, and if it comes back it may hold something else. */
  const dropConversation = (id: string): void => {
    conversations.delete(id);
    threads.delete(id);
    if (self.current === id)
      threads.set(id, { messages: new Map(), status: "missing", next: undefined, choice: new Map() });
    // The gateway stops them and tells their end only when the deletion is undone; of their text a last piece may come yet.
    for (const turn of [...turns.values()]) {
      if (turn.conversationId !== id) continue;
      turns.delete(turn.turnId);
      ended.add(turn.turnId);
    }
  };

  const putMessage = (message: Message): void => {
    if (message.role === "bot" && message.state !== "streaming") {
      const turnId = message.turnId ?? message.id;
      ended.add(turnId);
      turns.delete(turnId);
    }
    const thread = threads.get(message.conversationId);
    if (!thread) return;
    const old = thread.messages.get(message.id);
    if (old && (old.updatedAt > message.updatedAt || (old.state !== "streaming" && message.state === "streaming")))
      return;
    thread.messages.set(message.id, message);
  };

  const openTurn = (event: Extract<UserEvent, { type: "turn" }>): void => {
    if (ended.has(event.turnId)) return;
    const old = turns.get(event.turnId);
    if (
      old &&
      (old.generation > event.generation ||
        (old.generation === event.generation && old.text.length > event.content.length))
    )
      return;
    const now = Date.now();
    const turn: Turn = {
      turnId: event.turnId,
      conversationId: event.conversationId,
      botId: event.botId ?? old?.botId,
      botName: event.botName ?? old?.botName,
      parentId: event.parentId ?? old?.parentId,
      generation: event.generation,
      text: event.content,
      createdAt: event.createdAt ?? old?.createdAt ?? now,
      heardAt: now,
      activity: old?.activity,
      steps: old?.steps ?? [],
      textAt: old?.textAt ?? (event.content ? now : undefined),
      stopped: old?.stopped ?? false,
    };
    turns.set(turn.turnId, turn);
    emit("thread", turn.conversationId);
  };

  /** False: the reader lacks what came before and needs a snapshot. */
  const append = (event: Extract<UserEvent, { type: "chunk" }>): boolean => {
    if (ended.has(event.turnId)) return true;
    const turn = turns.get(event.turnId);
    if (!turn || event.generation > turn.generation || event.offset > turn.text.length) return false;
    if (event.generation < turn.generation) return true;
    const fresh = event.content.slice(turn.text.length - event.offset);
    turn.heardAt = Date.now();
    if (fresh) {
      turn.text += fresh;
      turn.textAt ??= Date.now();
      turn.activity = undefined;
      if (!turn.stopped) emit("turn", turn);
    }
    return true;
  };

  const act = (event: Extract<UserEvent, { type: "activity" }>): void => {
    const turn = turns.get(event.turnId);
    if (!turn) return;
    turn.heardAt = Date.now();
    turn.activity = event;
    const text = event.kind === "tool" ? event.tool?.name : event.kind === "queued" ? undefined : event.text;
    const ending = event.kind === "tool" && event.tool?.phase !== "start";
    if (text && !ending && turn.steps.at(-1)?.text !== text) turn.steps.push({ text, at: Date.now() });
    emit("turn", turn);
  };

  /** Applies one event. False: something is missing, reconnect for a snapshot. */
  const apply = (event: UserEvent): boolean => {
    switch (event.type) {
      case "hello":
        self.user = event.user;
        self.session = "in";
        emit("session");
        return true;
      case "bots":
        self.bots = event.bots;
        emit("bots");
        return true;
      case "message": {
        const { message } = event;
        const wasOpen = turns.has(message.turnId ?? message.id);
        putMessage(message);
        emit("thread", message.conversationId);
        if (message.role === "bot" && message.state !== "streaming") emit("finished", message);
        else if (wasOpen) emit("thread", message.conversationId);
        return true;
      }
      case "conversation":
        putConversation(event.conversation);
        emit("list");
        return true;
      case "conversation_deleted":
        dropConversation(event.id);
        emit("list");
        if (self.current === event.id) emit("thread", event.id);
        return true;
      case "turn":
        openTurn(event);
        return true;
      case "chunk":
        return append(event);
      case "replace": {
        const turn = turns.get(event.turnId);
        if (!turn) return ended.has(event.turnId);
        if (event.generation < turn.generation) return true;
        turn.generation = event.generation;
        turn.text = event.content;
        turn.heardAt = Date.now();
        if (!turn.stopped) emit("turn", turn);
        return true;
      }
      case "activity":
        act(event);
        return true;
      default:
        return true;
    }
  };

  /** Forgets everything of this person: another one signed in, or the gateway began anew. */
  const clear = (): void => {
    conversations.clear();
    threads.clear();
    turns.clear();
    ended.clear();
    gone.clear();
    self.listReady = false;
    self.listNext = undefined;
  };

  return Object.assign(self, { emit, on, apply, putConversation, putMessage, clear });
};
