/**
 * Scripted bots over a real socket, written against the published protocol and deliberately not against our own
 * client library: what these send is what a stranger's bot sends. They record every frame in both directions.
 */
import type { ChatFrame, GatewayFrame, RegisteredFrame, RegisterFrame, ReplyFrame } from "../../lib/protocol.ts";
import { until, within } from "./wait.ts";

type Frame<T extends GatewayFrame["type"]> = Extract<GatewayFrame, { type: T }>;

/** A bot socket that says nothing by itself. */
export type BotSocket = {
  ws: WebSocket;
  /** Every frame the gateway sent, in order. */
  frames: GatewayFrame[];
  /** Every frame this side sent. */
  sent: object[];
  /** Sends one frame; a string goes as it is, also when it is not JSON. */
  send: (frame: object | string) => void;
  /** The first frame of this type, past or coming, that `match` accepts. */
  waitFor: <T extends GatewayFrame["type"]>(
    type: T,
    match?: (frame: Frame<T>) => boolean,
    ms?: number,
  ) => Promise<Frame<T>>;
  /** Settles when the socket is closed, by whichever side. */
  closed: Promise<{ code: number; reason: string }>;
  close: () => Promise<void>;
  /** Ends the socket without a closing handshake, like a pulled plug as far as the gateway can tell. */
  cut: () => void;
};

/** Opens `/bot-ws` and nothing more. Throws when the upgrade is refused. */
export const rawSocket = async (
  wsUrl: string,
  onFrame?: (frame: GatewayFrame, socket: BotSocket) => void,
  headers: Record<string, string> = {},
): Promise<BotSocket> => {
  // Bun's client takes headers here; the DOM's type does not know it.
  const ws = new WebSocket(wsUrl, { headers } as unknown as string[]);
  const frames: GatewayFrame[] = [];
  const sent: object[] = [];
  const closed = new Promise<{ code: number; reason: string }>((resolve) =>
    ws.addEventListener("close", (event) => resolve({ code: event.code, reason: event.reason })),
  );
  const socket: BotSocket = {
    ws,
    frames,
    sent,
    closed,
    send(frame) {
      if (typeof frame === "string") return ws.send(frame);
      sent.push(frame);
      ws.send(JSON.stringify(frame));
    },
    async waitFor(type, match, ms = 5000) {
      type Want = Frame<typeof type>;
      let seen = 0;
      return await until<Want>(
        () => {
          for (; seen < frames.length; seen++) {
            const frame = frames[seen]!;
            if (frame.type === type && (!match || match(frame as Want))) return frame as Want;
          }
          return undefined;
        },
        ms,
        `a ${type} frame; seen: ${frames.map((frame) => frame.type).join(", ") || "none"}`,
      );
    },
    async close() {
      ws.close();
      await within(closed, 5000, "the bot socket to close");
    },
    cut() {
      ws.terminate();
    },
  };
  ws.addEventListener("message", (event) => {
    const frame: GatewayFrame = JSON.parse(String(event.data));
    frames.push(frame);
    onFrame?.(frame, socket);
  });
  const opened = new Promise<void>((resolve, reject) => {
    ws.addEventListener("open", () => resolve());
    ws.addEventListener("error", () => reject(new Error("the bot socket was refused")));
  });
  await within(opened, 5000, "the bot socket to open");
  return socket;
};

export type V1Bot = BotSocket & {
  registered: RegisteredFrame;
  chats: ChatFrame[];
  /** A reply in the form of seed.md. */
  reply: (chat: { id: string }, content: string, done?: boolean, more?: Partial<ReplyFrame>) => void;
};

export type V1Options = {
  botId?: string;
  botName?: string;
  token?: string;
  /** Called for each chat; absent: answers "echo: <content>" in one reply. */
  onChat?: (chat: ChatFrame, bot: V1Bot) => void;
  /** false: never answers a ping. */
  pong?: boolean;
};

const isChat = (frame: GatewayFrame): frame is ChatFrame => frame.type === "chat";

/** A bot exactly in the form of the published v1 protocol. Resolves when the gateway answered its `register`. */
export const v1Bot = async (wsUrl: string, options: V1Options = {}): Promise<V1Bot> => {
  const { botId = "bot", botName = "Bot", token, pong = true } = options;
  const chats: ChatFrame[] = [];
  let bot: V1Bot | undefined;
  const take = (chat: ChatFrame, self: V1Bot) => {
    if (options.onChat) options.onChat(chat, self);
    else self.reply(chat, `echo: ${chat.content}`);
  };
  const socket = await rawSocket(wsUrl, (frame, from) => {
    if (frame.type === "ping" && pong) from.send({ type: "pong" });
    if (!isChat(frame)) return;
    chats.push(frame);
    if (bot) take(frame, bot);
  });
  socket.send({ type: "register", botId, botName, ...(token === undefined ? {} : { token }) });
  const registered = await socket.waitFor("registered");
  bot = Object.assign(socket, {
    registered,
    chats,
    reply(chat: { id: string }, content: string, done = true, more: Partial<ReplyFrame> = {}) {
      const id = `reply-${crypto.randomUUID()}`;
      socket.send({ type: "reply", id, replyTo: chat.id, content, done, timestamp: Date.now(), ...more });
    },
  });
  // A chat may arrive in the same read as `registered`.
  for (const chat of chats) take(chat, bot);
  return bot;
};

export type V2Bot = BotSocket & {
  registered: RegisteredFrame;
  chats: ChatFrame[];
  /** Accepts a turn. */
  ack: (turn: { id: string }) => void;
  /** Appends text; `seq` counts up by itself for each turn. Returns the seq used. */
  write: (turn: { id: string }, content: string, more?: Partial<ReplyFrame>) => number;
  /** The last frame of a turn. Returns the seq used. */
  end: (turn: { id: string }, content?: string, more?: Partial<ReplyFrame>) => number;
};

export type V2Options = {
  register?: Partial<RegisterFrame>;
  /** Called for each chat, after the ack; absent: answers "echo: <content>". */
  onChat?: (chat: ChatFrame, bot: V2Bot) => void;
  onFrame?: (frame: GatewayFrame, bot: V2Bot) => void;
  /** false: does not accept turns by itself. */
  ack?: boolean;
  /** false: never answers a ping. */
  pong?: boolean;
  /** Last seq sent per turn, kept by the test over a reconnect. */
  seqs?: Map<string, number>;
};

/** A raw v2 bot that understands everything but claims only what `register.caps` says (default ack, seq, cancel, replace, event). */
export const v2Bot = async (wsUrl: string, options: V2Options = {}): Promise<V2Bot> => {
  const { ack = true, pong = true, seqs = new Map<string, number>() } = options;
  const chats: ChatFrame[] = [];
  const early: GatewayFrame[] = [];
  let bot: V2Bot | undefined;

  const take = (frame: GatewayFrame, self: V2Bot) => {
    options.onFrame?.(frame, self);
    if (!isChat(frame)) return;
    chats.push(frame);
    if (ack) self.ack(frame);
    if (options.onChat) options.onChat(frame, self);
    else self.end(frame, `echo: ${frame.content}`);
  };

  const socket = await rawSocket(wsUrl, (frame, from) => {
    if (frame.type === "ping" && pong) from.send({ type: "pong" });
    if (bot) take(frame, bot);
    else early.push(frame);
  });

  const reply = (turn: { id: string }, content: string, done: boolean, more: Partial<ReplyFrame>): number => {
    const seq = more.seq ?? (seqs.get(turn.id) ?? 0) + 1;
    seqs.set(turn.id, seq);
    socket.send({ type: "reply", replyTo: turn.id, content, done, timestamp: Date.now(), ...more, seq });
    return seq;
  };

  socket.send({
    type: "register",
    botId: "bot",
    botName: "Bot",
    proto: 2,
    caps: ["ack", "seq", "cancel", "replace", "event"],
    ...options.register,
  });
  const registered = await socket.waitFor("registered");
  bot = Object.assign(socket, {
    registered,
    chats,
    ack: (turn: { id: string }) => socket.send({ type: "ack", id: turn.id }),
    write: (turn: { id: string }, content: string, more: Partial<ReplyFrame> = {}) => reply(turn, content, false, more),
    end: (turn: { id: string }, content = "", more: Partial<ReplyFrame> = {}) => reply(turn, content, true, more),
  });
  // A chat may arrive in the same read as `registered`.
  for (const frame of early.splice(0)) take(frame, bot);
  return bot;
};
