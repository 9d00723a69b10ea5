/**
 * The bot client: one file, no imports but types, for Bun, Node ≥ 22 and browsers (global WebSocket, fetch, crypto).
 *
 * Owns one bot's connection to a gateway: register, heartbeat, reconnect, and the text of every turn until the gateway
 * has acked its last `seq`. What must stay true: a turn's text reaches the gateway whole, in order and once, whatever
 * is cut or killed; a message given to `send` is stored or its promise rejects; memory is bounded by the options.
 * Refuses to know what a bot does, and to come back when told not to (close codes 4500–4999).
 *
 * A v1 gateway (no `proto` in `registered`) gets the v1 form only: no acks, no events; text in flight when it dies is lost.
 */
import type {
  Attachment,
  Cap,
  ChatFrame,
  EventFrame,
  Finish,
  GatewayFrame,
  MessageFrame,
  RegisteredFrame,
  ReplyFile,
  ReplyFrame,
  Usage,
} from "../lib/protocol.ts";

// ── what callers see ──────────────────────────────────────────────────────────────────────────────────────────────

export type BotState =
  | { state: "connecting" }
  | { state: "online"; proto: 1 | 2 }
  /** Between two tries. `retryAt` in milliseconds since 1970; `code` is the close code, if there was one. */
  | { state: "waiting"; retryAt: number; reason: string; code?: number }
  /** Over for good: closed by us, or the gateway said not to come back. */
  | { state: "stopped"; reason: string; code?: number };

export type BotLog = (level: "debug" | "info" | "warn" | "error", event: string, fields: object) => void;

/** Thrown by `send`, `attach` and `fetchAttachment`; `code` is the gateway's, or one of ours. */
export type BotError = Error & { code: string };

export type BotOptions = {
  /** `ws://host:port/bot-ws`; http(s) is read as ws(s), and a bare origin gets the path. */
  url: string;
  botId: string;
  botName?: string;
  token?: string;
  /** Set it when several processes serve one botId; without it the newest connection replaces the older. */
  instanceId?: string;
  /** What this bot can do beyond what the client does by itself: `history`, `idempotent`. */
  caps?: Cap[];
  pools?: string[];
  weight?: number;
  maxConcurrency?: number;
  description?: string;
  avatar?: string;
  suggestions?: string[];
  /** Where the session secret lives between processes. Without it, a new process starts afresh. */
  session?: {
    load(): string | undefined | Promise<string | undefined>;
    save(session: string): void | Promise<void>;
  };
  /** Milliseconds. Backoff doubles from `minMs` (500) to `maxMs` (15,000), half of it random; `replacedMs` after 4003. */
  reconnect?: { minMs?: number; maxMs?: number; replacedMs?: number };
  limits?: ClientLimits;
  /** One call per turn. When it returns the turn ends; when it throws the turn fails with a plain sentence. */
  onTurn(turn: Turn): void | Promise<void>;
  /**
   * An accepted turn of an earlier process, whose text is gone. Write on from what the reader holds, or replace it.
   * Default: it fails with `bot_restarted`.
   */
  onLost?(turn: Turn): void | Promise<void>;
  onSeen?(messageId: string): void;
  onState?(state: BotState): void;
  log?: BotLog;
};

export type ClientLimits = {
  /** Text, files and overhead held for one turn, in characters. 16 Mi: several times what a gateway takes. */
  turnChars?: number;
  /** Messages of `send` that wait for their ack. 1,000 */
  queuedMessages?: number;
  /** Their size together, in characters. 32 Mi */
  queuedChars?: number;
};

export type TurnFile = { name: string; mime: string; data: Uint8Array };
export type TurnAttachment = Attachment & { data?: string };
export type TurnEnd = { usage?: Usage; finish?: Finish };
export type TurnFailure = { code: string; message: string; retryable?: boolean };

export type Turn = {
  readonly id: string;
  readonly text: string;
  /** Stable identity of the person; a v1 gateway has none. */
  readonly userId: string | undefined;
  /** For display only: names may repeat or imitate. */
  readonly userName: string;
  readonly conversationId: string | undefined;
  /** Files of the message; a v1 image is in here too, with its data. */
  readonly attachments: readonly TurnAttachment[];
  /** The first image as the person sent it: a data URL or bare base64. */
  readonly image: string | undefined;
  readonly history: NonNullable<ChatFrame["history"]>;
  readonly source: string;
  readonly replyTo: ChatFrame["replyTo"];
  readonly timestamp: number;
  readonly attempt: number;
  /** Aborted when the turn is over before it ended here: cancelled, timed out, or unknown to the gateway. */
  readonly signal: AbortSignal;
  /** Appends text. Writes of one microtask go out as one frame. Ignored once the turn is over or ended. */
  write(text: string): void;
  /** The whole text so far is now this. A v1 gateway cannot take text back: what differs is appended. */
  replace(text: string): void;
  /** Best effort: not kept, not sent to a v1 gateway. Also tells the gateway that the bot is alive. */
  event(event: Omit<EventFrame, "type" | "replyTo">): void;
  /** Settles when the file is queued (inline up to 1 MiB) or uploaded; rejects when it could not be. */
  attach(file: TurnFile): Promise<void>;
  /** The bytes of a file of this message, or of its history. */
  fetchAttachment(which: string | TurnAttachment): Promise<Uint8Array>;
  /** Ends the turn. Settles when the gateway has stored the end, or the turn is over; never rejects. */
  end(end?: TurnEnd): Promise<void>;
  /** Ends the turn with a named error; text so far is kept. */
  fail(failure: TurnFailure): Promise<void>;
};

export type SendOptions = {
  /** Idempotency key: the same id is one message, also across restarts of either side. Default: random. */
  id?: string;
  attachments?: TurnFile[];
  title?: string;
  /** Rejects with `timeout` after this long; whether it was stored is then unknown. Default: waits. */
  timeoutMs?: number;
};

export type Bot = {
  readonly state: BotState;
  /** Turns that are running or not yet stored. */
  readonly openTurns: number;
  /** A proactive message. Resolves when the gateway has stored it; sent again after a reconnect with the same id. */
  send(
    to: string | { userId: string } | { conversationId: string },
    text: string,
    options?: SendOptions,
  ): Promise<{ id: string }>;
  /** No new turns; resolves when every open turn is stored and the queue of messages is empty. */
  drain(): Promise<void>;
  /**
   * Fails what still runs, closes the socket, stays closed. Resolves when the socket has closed (at most 2 s). With
   * `keepTurns` what runs is given up without a word: the gateway decides who goes on with it.
   */
  close(options?: { keepTurns?: boolean }): Promise<void>;
};

// ── constants ─────────────────────────────────────────────────────────────────────────────────────────────────────

const OWN_CAPS: readonly Cap[] = ["ack", "seq", "replace", "event", "cancel", "attachments", "message"];
/** Protocol: a file travels inside a frame up to this size, larger ones are uploaded. */
const INLINE_BYTES = 1024 * 1024;
/** Queued in the socket before we stop and wait: keeps a pong from standing behind megabytes. */
const SOCKET_BYTES = 1024 * 1024;
/** A frame is never larger than this many characters, whatever the gateway allows: others want the socket too. */
const PIECE_CHARS = 256 * 1024;
/** Rough cost of one kept frame beside its text. */
const FRAME_COST = 64;
/** From opening the socket to `registered`. The gateway gives itself 5 s. */
const CONNECT_MS = 15_000;
/** A v1 gateway does not announce its ping interval: this is its default. */
const V1_PING_MS = 30_000;
/** Nor its frame size: half of what WebSocket servers commonly take. */
const V1_FRAME_BYTES = 8 * 1024 * 1024;
/** After a return the gateway sends unaccepted turns again at once; one it does not mention for this long is over. */
const LIMBO_MS = 10_000;
/** Closed with 4000–4499 sooner than this after it came online: the next pause is longer than the last. */
const STABLE_MS = 60_000;
/** Ids of turns that were answered, so that a late repeat is not run twice. */
const ANSWERED_IDS = 1000;

const botError = (code: string, message: string): BotError => Object.assign(new Error(message), { code });
const abortReason = (reason: string): Error =>
  Object.assign(new Error(`The turn is over: ${reason}`), { name: "AbortError", reason });

const isHigh = (text: string, at: number): boolean => {
  const unit = text.charCodeAt(at);
  return unit >= 0xd800 && unit <= 0xdbff;
};

const randomId = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Base64 without a call per byte on the stack; the inputs are at most a few MiB. */
export const toBase64 = (bytes: Uint8Array): string => {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000) binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(binary);
};
export const fromBase64 = (text: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

/** A v1 image (data URL or bare base64) as an attachment. */
const imageAttachment = (image: string): TurnAttachment => {
  const match = /^data:([^;,]{1,100})[^,]{0,100},/.exec(image);
  const mime = match?.[1] ?? "image/png";
  const data = match ? image.slice(match[0].length) : image;
  const name = `image.${(mime.split("/")[1] ?? "png").replace(/[^a-z0-9].*$/, "")}`;
  return { id: "image", name, mime, size: Math.floor((data.length * 3) / 4), url: "", data };
};

/** ws(s) URL of the bot socket and http(s) base of the API beside it. Throws on anything else. */
export const gatewayUrls = (url: string): { socket: string; api: string } => {
  const parsed = new URL(url);
  const scheme = /^(?:ws|http)(s?):$/.exec(parsed.protocol);
  if (!scheme) throw botError("bad_url", `The gateway URL must begin with ws:// or wss://, not ${parsed.protocol}//`);
  const path = parsed.pathname === "/" ? "/bot-ws" : parsed.pathname;
  return {
    socket: `ws${scheme[1]}://${parsed.host}${path}${parsed.search}`,
    api: `http${scheme[1]}://${parsed.host}${path.replace(/\/bot-ws\/?$/, "")}`,
  };
};

// ── the text of one turn ──────────────────────────────────────────────────────────────────────────────────────────

type Piece = { content: string; replace?: boolean; files?: ReplyFile[]; end?: TurnEnd & { error?: TurnFailure } };

/**
 * What one turn has said: numbered frames (seq 1 is `frames[0]`) and what waits to be framed. Frames stay until the end
 * is acked, because a gateway that lost its last seconds may ask for any of them again.
 */
const createOutbox = (maxChars: number) => {
  let frames: Piece[] = [];
  let waiting: Piece[] = [];
  let size = 0;
  let ended = false;
  const add = (piece: Piece, chars: number) => {
    waiting.push(piece);
    size += chars + FRAME_COST;
  };
  const append = (text: string) => {
    const last = waiting.at(-1);
    if (last && !last.files) {
      last.content += text;
      size += text.length;
    } else add({ content: text }, text.length);
  };
  /** Text before a replacement will never be read: only its numbers and files must go out. */
  const forget = (piece: Piece) => {
    size -= piece.content.length;
    piece.content = "";
    return piece.files !== undefined;
  };
  return {
    get ended() {
      return ended;
    },
    get full() {
      return size > maxChars;
    },
    get lastSeq() {
      return frames.length;
    },
    get idle() {
      return waiting.length === 0;
    },
    write: (text: string) => {
      if (!ended && text !== "") append(text);
    },
    replace: (text: string) => {
      if (ended) return;
      for (const frame of frames) forget(frame);
      waiting = waiting.filter(forget);
      add({ content: text, replace: true }, text.length);
    },
    file: (file: ReplyFile) => {
      if (!ended) add({ content: "", files: [file] }, "data" in file ? file.data.length : 0);
    },
    end: (end: NonNullable<Piece["end"]>) => {
      if (ended) return;
      ended = true;
      const last = waiting.at(-1);
      if (last) last.end = end;
      else add({ content: "", end }, 0);
    },
    /** Numbers begin after `seq`: for a turn whose first frames were sent by a process that is gone. */
    startAfter: (seq: number) => {
      frames = Array.from({ length: seq }, () => ({ content: "" }));
    },
    /** The frame with this number, cut from what waits if it is the next one; undefined when there is nothing. */
    frame: (seq: number, maxUnits: number): Piece | undefined => {
      const known = frames[seq - 1];
      if (known) return known;
      const next = waiting[0];
      if (!next || seq !== frames.length + 1) return undefined;
      let cut = next.content.length;
      if (cut > maxUnits) cut = isHigh(next.content, maxUnits - 1) ? maxUnits - 1 : maxUnits;
      // A lone high surrogate waits for its other half, which is the next thing written.
      else if (waiting.length === 1 && !next.end && cut > 0 && isHigh(next.content, cut - 1)) cut--;
      if (cut === 0 && next.content !== "") return undefined;
      if (cut === next.content.length) {
        waiting.shift();
        frames.push(next);
        return next;
      }
      const { content, replace, ...rest } = next;
      const head: Piece = { content: content.slice(0, cut), ...(replace ? { replace } : {}) };
      waiting[0] = { ...rest, content: content.slice(cut) };
      size += FRAME_COST;
      frames.push(head);
      return head;
    },
  };
};
type Outbox = ReturnType<typeof createOutbox>;

type OpenTurn = {
  turn: Turn;
  out: Outbox;
  abort: AbortController;
  attempt: number;
  /** Last seq handed to the present connection. */
  sent: number;
  /** The gateway has shown that it stored the acceptance. */
  accepted: boolean;
  /** The present connection holds this turn. */
  live: boolean;
  over: boolean;
  /** Ended by an error that the gateway may answer with a further attempt. */
  retryable: boolean;
  flushing: boolean;
  /** Files on their way up; the end waits for them. */
  uploads: Set<Promise<unknown>>;
  limbo?: ReturnType<typeof setTimeout>;
  /** v1 only: what the gateway has been given, to tell what a replacement adds. */
  v1Text: string;
  settle: (() => void)[];
};

type Outgoing = {
  frame: MessageFrame;
  chars: number;
  sent: boolean;
  resolve(value: { id: string }): void;
  reject(error: BotError): void;
  promise: Promise<{ id: string }>;
  timer?: ReturnType<typeof setTimeout>;
};

type Link = {
  ws: WebSocket;
  /** Undefined until registered. */
  proto?: 1 | 2;
  heardAt: number;
  pingMs?: number;
  pingedAt?: number;
  maxUnits: number;
  frameBytes: number;
  onlineAt?: number;
  watch: ReturnType<typeof setInterval>;
  refused?: string;
};

// ── the connection ────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Connects a bot and keeps it connected. Throws at once on a bad URL or bot id; everything later is told by `onState`.
 */
export const connectBot = (options: BotOptions): Bot => {
  const urls = gatewayUrls(options.url);
  if (!/^[^\s@\p{Cc}]{1,64}$/u.test(options.botId))
    throw botError("bad_bot_id", "A botId has 1 to 64 characters, without spaces, controls or @");
  const minMs = options.reconnect?.minMs ?? 500;
  const maxMs = Math.max(minMs, options.reconnect?.maxMs ?? 15_000);
  const replacedMs = options.reconnect?.replacedMs ?? 60_000;
  const maxTurnChars = options.limits?.turnChars ?? 16 * 1024 * 1024;
  const maxMessages = options.limits?.queuedMessages ?? 1000;
  const maxMessageChars = options.limits?.queuedChars ?? 32 * 1024 * 1024;
  const log: BotLog = options.log ?? (() => {});

  const turns = new Map<string, OpenTurn>();
  const answered = new Set<string>();
  const messages = new Map<string, Outgoing>();
  let messageChars = 0;
  let link: Link | undefined;
  /** What the gateway announced last, for files that come while it is away. */
  let known = { maxUnits: PIECE_CHARS, attachmentBytes: 0 };
  let session: string | undefined;
  let sessionLoaded = false;
  let tries = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let poll: ReturnType<typeof setTimeout> | undefined;
  let draining = false;
  const idleWaiters: (() => void)[] = [];
  let closed: Promise<void> | undefined;
  let current: BotState = { state: "connecting" };

  const setState = (state: BotState) => {
    current = state;
    try {
      options.onState?.(state);
    } catch (error) {
      log("error", "bot.onState", { error: String(error) });
    }
  };
  const open = (): Link | undefined =>
    link?.proto !== undefined && link.ws.readyState === WebSocket.OPEN ? link : undefined;
  const put = (to: Link, frame: object) => to.ws.send(JSON.stringify(frame));

  // ── turns ──

  const idleCheck = () => {
    if (turns.size > 0 || messages.size > 0) return;
    for (const resolve of idleWaiters.splice(0)) resolve();
  };

  const forget = (open: OpenTurn) => {
    open.over = true;
    clearTimeout(open.limbo);
    if (turns.get(open.turn.id) === open) turns.delete(open.turn.id);
    for (const settle of open.settle.splice(0)) settle();
    idleCheck();
  };

  const abandon = (open: OpenTurn, reason: string) => {
    if (open.over) return;
    forget(open);
    open.abort.abort(abortReason(reason));
  };

  const replyFrame = (open: OpenTurn, seq: number, piece: Piece): ReplyFrame => {
    const { end } = piece;
    return {
      type: "reply",
      replyTo: open.turn.id,
      seq,
      content: piece.content,
      done: end !== undefined,
      ...(piece.replace ? { mode: "replace" as const } : {}),
      ...(piece.files ? { attachments: piece.files } : {}),
      ...(end?.usage ? { usage: end.usage } : {}),
      ...(end?.finish ? { finish: end.finish } : {}),
      ...(end?.error ? { error: end.error } : {}),
    };
  };

  /** v1 has only text, an image and `done`: everything else is put into words. */
  const v1Frame = (open: OpenTurn, piece: Piece): ReplyFrame & { id: string } => {
    let text = piece.content;
    if (piece.replace) {
      const had = open.v1Text;
      open.v1Text = text;
      text = text.startsWith(had) ? text.slice(had.length) : `\n\n${text}`;
    } else open.v1Text += text;
    let image: string | undefined;
    for (const file of piece.files ?? []) {
      if (!("data" in file)) continue;
      if (file.mime.startsWith("image/")) image = `data:${file.mime};base64,${file.data}`;
      else text += `\n[${file.name}]`;
    }
    if (piece.end?.error) text += `${open.v1Text === "" ? "" : "\n\n"}⚠️ ${piece.end.error.message}`;
    return {
      type: "reply",
      id: `reply-${open.turn.id}`,
      replyTo: open.turn.id,
      content: text,
      done: piece.end !== undefined,
      timestamp: Date.now(),
      ...(image === undefined ? {} : { image }),
    };
  };

  /** Sends what this turn has, as far as the socket takes it. Returns false when the socket is full. */
  const flush = (turn: OpenTurn): boolean => {
    const to = open();
    if (!to || !turn.live) return true;
    for (;;) {
      if (turn.over) return true;
      if (to.ws.bufferedAmount > SOCKET_BYTES) return false;
      const piece = turn.out.frame(turn.sent + 1, to.maxUnits);
      if (!piece) return true;
      turn.sent++;
      if (to.proto === 2) put(to, replyFrame(turn, turn.sent, piece));
      else {
        put(to, v1Frame(turn, piece));
        piece.content = ""; // nobody will ask for it again
        if (piece.end) {
          remember(turn.turn.id);
          forget(turn);
        }
      }
    }
  };

  const flushAll = () => {
    let full = false;
    for (const turn of turns.values()) if (!flush(turn)) full = true;
    if (!flushMessages()) full = true;
    // There is no drain event on a client socket: look again shortly.
    if (full && poll === undefined)
      poll = setTimeout(() => {
        poll = undefined;
        flushAll();
      }, 20);
  };

  const schedule = (turn: OpenTurn) => {
    if (turn.flushing) return;
    turn.flushing = true;
    queueMicrotask(() => {
      turn.flushing = false;
      if (poll === undefined && !flush(turn)) flushAll();
    });
  };

  const remember = (id: string) => {
    answered.add(id);
    if (answered.size > ANSWERED_IDS) for (const oldest of answered) return void answered.delete(oldest);
  };

  const finish = (turn: OpenTurn, end: NonNullable<Piece["end"]>): Promise<void> => {
    if (turn.over) return Promise.resolve();
    const stored = new Promise<void>((resolve) => turn.settle.push(resolve));
    const endNow = () => {
      turn.retryable = end.error?.retryable ?? false;
      turn.out.end(end);
      schedule(turn);
    };
    if (turn.uploads.size === 0) endNow();
    else void Promise.all(turn.uploads).then(endNow);
    return stored;
  };

  const overflow = (turn: OpenTurn) => {
    if (!turn.out.full || turn.out.ended) return;
    log("error", "bot.turn_too_large", { turnId: turn.turn.id, maxTurnChars });
    turn.out.end({ error: { code: "too_large", message: "The reply is too long", retryable: false } });
    schedule(turn);
    turn.abort.abort(abortReason("too large"));
  };

  const api = async (path: string, init: RequestInit = {}): Promise<Response> => {
    if (session === undefined) throw botError("unsupported", "This gateway has no file transfer for bots");
    const headers = { ...(init.headers as Record<string, string> | undefined), Authorization: `Bearer ${session}` };
    const response = await fetch(urls.api + path, { ...init, headers });
    if (response.ok) return response;
    const body = (await response.json().catch(() => ({}))) as { code?: string; error?: string };
    throw botError(body.code ?? `http_${response.status}`, body.error ?? `The gateway answered ${response.status}`);
  };

  const upload = async (turn: OpenTurn, file: TurnFile): Promise<ReplyFile> => {
    const max = known.attachmentBytes;
    if (max > 0 && file.data.byteLength > max)
      throw botError("too_large", `${file.name} is larger than the gateway's ${max} bytes`);
    for (let attempt = 1; ; attempt++) {
      try {
        const response = await api(`/api/attachments?turn=${encodeURIComponent(turn.turn.id)}`, {
          method: "POST",
          headers: { "Content-Type": file.mime, "X-Filename": encodeURIComponent(file.name) },
          body: file.data as Uint8Array<ArrayBuffer>,
          signal: turn.abort.signal,
        });
        const body = (await response.json()) as { id?: string; attachment?: { id: string } };
        const id = body.id ?? body.attachment?.id;
        if (id === undefined) throw botError("bad_answer", "The gateway named no attachment id");
        return { id };
      } catch (error) {
        // The gateway may be restarting, and a session rotates when we come back.
        const code = (error as Partial<BotError>).code ?? "";
        const passing = !/^(too_large|bad_request|unsupported|forbidden|not_found|bad_answer)$/.test(code);
        if (turn.over || !passing || attempt >= 5) throw error;
        await new Promise((resolve) => setTimeout(resolve, 300 * 2 ** attempt));
      }
    }
  };

  const attach = (turn: OpenTurn, file: TurnFile): Promise<void> => {
    if (turn.over || turn.out.ended) return Promise.resolve();
    const inline = file.data.byteLength <= INLINE_BYTES && file.data.byteLength * 1.4 < known.maxUnits * 6;
    if (inline || open()?.proto === 1) {
      turn.out.file({ name: file.name, mime: file.mime, data: toBase64(file.data) });
      schedule(turn);
      overflow(turn);
      return Promise.resolve();
    }
    const done = upload(turn, file).then((reply) => {
      turn.out.file(reply);
      schedule(turn);
    });
    const quiet = done
      .catch((error) => log("warn", "bot.upload_failed", { turnId: turn.turn.id, error: String(error) }))
      .finally(() => turn.uploads.delete(quiet));
    turn.uploads.add(quiet);
    return done;
  };

  const fetchAttachment = async (turn: OpenTurn, which: string | TurnAttachment): Promise<Uint8Array> => {
    const id = typeof which === "string" ? which : which.id;
    const known = typeof which === "string" ? turn.turn.attachments.find((file) => file.id === id) : which;
    if (known?.data !== undefined) return fromBase64(known.data);
    const response = await api(`/api/attachments/${encodeURIComponent(id)}`, { signal: turn.abort.signal });
    return new Uint8Array(await response.arrayBuffer());
  };

  const createTurn = (chat: ChatFrame): OpenTurn => {
    const out = createOutbox(maxTurnChars);
    const abort = new AbortController();
    const inlineImage = chat.image !== undefined && !chat.attachments?.length ? [imageAttachment(chat.image)] : [];
    const self: OpenTurn = {
      turn: {
        id: chat.id,
        text: chat.content,
        userId: chat.userId,
        userName: chat.userName ?? chat.from,
        conversationId: chat.conversationId,
        attachments: [...(chat.attachments ?? []), ...inlineImage],
        image: chat.image,
        history: chat.history ?? [],
        source: chat.source ?? "web",
        replyTo: chat.replyTo,
        timestamp: chat.timestamp,
        get attempt() {
          return self.attempt;
        },
        signal: abort.signal,
        write: (text) => {
          if (self.over) return;
          out.write(text);
          schedule(self);
          overflow(self);
        },
        replace: (text) => {
          if (self.over) return;
          out.replace(text);
          schedule(self);
          overflow(self);
        },
        event: (event) => {
          const to = open();
          if (to?.proto !== 2 || self.over || !self.live || out.ended) return;
          flush(self);
          if (to.ws.bufferedAmount <= SOCKET_BYTES) put(to, { type: "event", replyTo: chat.id, ...event });
        },
        attach: (file) => attach(self, file),
        fetchAttachment: (which) => fetchAttachment(self, which),
        end: (end = {}) => finish(self, end),
        fail: (error) => finish(self, { error }),
      },
      out,
      abort,
      attempt: chat.attempt ?? 1,
      sent: 0,
      accepted: false,
      live: true,
      over: false,
      retryable: false,
      flushing: false,
      uploads: new Set(),
      v1Text: "",
      settle: [],
    };
    turns.set(chat.id, self);
    return self;
  };

  const run = async (turn: OpenTurn, handler: (turn: Turn) => void | Promise<void>) => {
    try {
      const going = handler(turn.turn);
      if (going) await going; // a handler that is done at once ends in the same frame as its text
      if (!turn.over && !turn.out.ended) await finish(turn, {});
    } catch (error) {
      if (turn.over) return;
      // The thrown text may hold paths or secrets: the log gets it, the person a plain sentence.
      log("error", "bot.turn_failed", {
        turnId: turn.turn.id,
        error: error instanceof Error ? error.stack : String(error),
      });
      await finish(turn, { error: { code: "bot_failed", message: "The bot failed to answer", retryable: false } });
    }
  };

  const onChat = (to: Link, chat: ChatFrame) => {
    const held = turns.get(chat.id);
    const attempt = chat.attempt ?? 1;
    if (to.proto === 2) put(to, { type: "ack", id: chat.id });
    // It failed here as worth another try, and this is that try.
    if (held?.retryable && attempt > held.attempt) forget(held);
    else if (held) {
      // Sent again because our acceptance was not stored: the text begins anew on this attempt, the work does not.
      clearTimeout(held.limbo);
      if (attempt > held.attempt || !held.live) held.sent = 0;
      held.attempt = attempt;
      held.live = true;
      schedule(held);
      return;
    }
    const turn = createTurn(chat);
    if (answered.has(chat.id))
      void turn.turn.fail({ code: "already_answered", message: "This message was answered before", retryable: false });
    else if (draining) void turn.turn.fail({ code: "draining", message: "The bot is going away", retryable: true });
    else void run(turn, options.onTurn);
  };

  const resume = (pending: NonNullable<RegisteredFrame["pending"]>) => {
    const seqs = new Map(pending.map((entry) => [entry.id, entry.seq]));
    for (const turn of [...turns.values()]) {
      const seq = seqs.get(turn.turn.id);
      seqs.delete(turn.turn.id);
      clearTimeout(turn.limbo);
      if (seq !== undefined) {
        turn.accepted = true;
        turn.live = true;
        turn.sent = Math.min(seq, turn.out.lastSeq);
      } else if (turn.accepted) abandon(turn, "the gateway no longer knows it");
      else {
        turn.live = false;
        turn.limbo = setTimeout(() => abandon(turn, "the gateway no longer knows it"), LIMBO_MS);
      }
    }
    for (const [id, seq] of seqs) {
      const turn = createTurn({ type: "chat", id, content: "", from: "", timestamp: Date.now() });
      turn.out.startAfter(seq);
      turn.sent = seq;
      turn.accepted = true;
      log("warn", "bot.turn_lost", { turnId: id, seq });
      const lost = (turn: Turn) =>
        turn.fail({
          code: "bot_restarted",
          message: "The bot was restarted while it was answering",
          retryable: options.caps?.includes("idempotent") ?? false,
        });
      void run(turn, options.onLost ?? lost);
    }
  };

  const onAck = (replyTo: string, seq: number) => {
    const turn = turns.get(replyTo);
    if (!turn) return;
    turn.accepted = true;
    if (!turn.out.ended || !turn.out.idle || seq < turn.out.lastSeq) return;
    const failed = turn.out.frame(turn.out.lastSeq, 1)?.end?.error !== undefined;
    if (!failed) remember(replyTo); // a failed turn may come again as a further attempt
    forget(turn);
  };

  // ── messages ──

  const settleMessage = (id: string, error?: BotError) => {
    const message = messages.get(id);
    if (!message) return;
    messages.delete(id);
    messageChars -= message.chars;
    clearTimeout(message.timer);
    if (error) message.reject(error);
    else message.resolve({ id });
    idleCheck();
  };

  /** Returns false when the socket is full. */
  const flushMessages = (): boolean => {
    const to = open();
    if (!to) return true;
    for (const [id, message] of messages) {
      if (message.sent) continue;
      if (to.proto !== 2) {
        settleMessage(id, botError("unsupported", "This gateway does not take messages that answer nothing"));
        continue;
      }
      if (to.ws.bufferedAmount > SOCKET_BYTES) return false;
      // Uploads belong to turns: the files of a message travel inside its frame, as far as the gateway takes it.
      if (message.chars + message.frame.content.length * 5 + 2048 > to.frameBytes) {
        settleMessage(id, botError("too_large", `The message is larger than the gateway's ${to.frameBytes} bytes`));
        continue;
      }
      put(to, message.frame);
      message.sent = true;
    }
    return true;
  };

  const send: Bot["send"] = (to, text, extra = {}) => {
    const id = extra.id ?? randomId();
    const already = messages.get(id);
    if (already) return already.promise;
    if (current.state === "stopped")
      return Promise.reject(botError("stopped", `The bot is not connected: ${current.reason}`));
    const files: ReplyFile[] = [];
    for (const file of extra.attachments ?? [])
      files.push({ name: file.name, mime: file.mime, data: toBase64(file.data) });
    const frame: MessageFrame = {
      type: "message",
      id,
      to: typeof to === "string" ? { userId: to } : to,
      content: text,
      ...(files.length > 0 ? { attachments: files } : {}),
      ...(extra.title === undefined ? {} : { title: extra.title }),
    };
    const chars = text.length + files.reduce((sum, file) => sum + ("data" in file ? file.data.length : 0), FRAME_COST);
    if (messages.size >= maxMessages || messageChars + chars > maxMessageChars)
      return Promise.reject(botError("queue_full", "Too many messages wait to be stored"));
    let resolve!: Outgoing["resolve"];
    let reject!: Outgoing["reject"];
    const promise = new Promise<{ id: string }>((yes, no) => {
      resolve = yes;
      reject = no;
    });
    const message: Outgoing = { frame, chars, sent: false, resolve, reject, promise };
    if (extra.timeoutMs !== undefined)
      message.timer = setTimeout(
        () => settleMessage(id, botError("timeout", "The gateway did not confirm the message in time")),
        extra.timeoutMs,
      );
    messages.set(id, message);
    messageChars += chars;
    flushAll();
    return promise;
  };

  // ── the socket ──

  const onFrame = (to: Link, frame: GatewayFrame) => {
    switch (frame.type) {
      case "registered":
        return onRegistered(to, frame);
      case "ping":
        if (to.proto === 1 && to.pingedAt !== undefined)
          to.pingMs = Math.max(V1_PING_MS, to.heardAt - to.pingedAt, to.pingMs ?? 0);
        to.pingedAt = to.heardAt;
        return put(to, { type: "pong" });
      case "chat":
        if (typeof frame.id === "string" && typeof frame.content === "string") onChat(to, frame);
        return;
      case "ack":
        if ("replyTo" in frame) return onAck(frame.replyTo, frame.seq);
        if (frame.state === "seen") return options.onSeen?.(frame.id);
        return settleMessage(frame.id);
      case "cancel": {
        const turn = turns.get(frame.id);
        if (turn) abandon(turn, frame.reason);
        return;
      }
      case "error": {
        log("warn", "bot.gateway_error", { code: frame.code, message: frame.message, id: frame.id });
        if (frame.id === undefined) return;
        const turn = turns.get(frame.id);
        if (turn && frame.code === "not_your_turn") abandon(turn, frame.code);
        return settleMessage(frame.id, botError(frame.code ?? "refused", frame.message));
      }
    }
  };

  const onRegistered = (to: Link, frame: RegisteredFrame) => {
    if (!frame.success) {
      // The close code that follows decides whether to come back.
      to.refused = frame.error ?? frame.code ?? "registration refused";
      log("error", "bot.refused", { error: to.refused });
      return;
    }
    const v2 = (frame.proto ?? 1) >= 2;
    to.proto = v2 ? 2 : 1;
    // A character is at most 6 bytes of JSON; 1 KiB for everything around it.
    to.frameBytes = frame.limits?.frameBytes ?? V1_FRAME_BYTES;
    to.maxUnits = Math.max(64, Math.min(PIECE_CHARS, Math.floor((to.frameBytes - 1024) / 6)));
    known = { maxUnits: to.maxUnits, attachmentBytes: frame.limits?.attachmentBytes ?? 0 };
    if (frame.pingInterval !== undefined) to.pingMs = frame.pingInterval;
    to.onlineAt = Date.now();
    for (const message of messages.values()) message.sent = false;
    if (v2) {
      if (frame.session !== undefined) {
        const secret = frame.session;
        session = secret;
        void (async () => options.session?.save(secret))().catch((error) =>
          log("error", "bot.session_save", { error: String(error) }),
        );
      }
      resume(frame.pending ?? []);
      if (draining) put(to, { type: "event", kind: "draining" });
    } else {
      session = undefined;
      // v1 gateways know a turn by its id alone: go on where we stopped.
      for (const turn of turns.values()) turn.live = true;
    }
    log("info", "bot.online", { botId: options.botId, proto: to.proto, turns: turns.size });
    setState({ state: "online", proto: to.proto });
    flushAll();
  };

  const backoffMs = () => {
    const span = Math.min(maxMs, minMs * 2 ** Math.min(tries, 20));
    return span / 2 + Math.random() * (span / 2);
  };

  const onGone = (from: Link, code: number | undefined, reason: string) => {
    if (link !== from) return;
    link = undefined;
    clearInterval(from.watch);
    for (const turn of turns.values()) turn.live = false;
    if (closed) return;
    const why = from.refused ?? (reason || (code === undefined ? "no answer" : `closed with ${code}`));
    if (code !== undefined && code >= 4500 && code <= 4999) return stop(why, code);
    // A connection that worked starts the pauses anew, unless the gateway throws this bot out again and again.
    const thrownOut = code !== undefined && code >= 4000 && Date.now() - (from.onlineAt ?? 0) < STABLE_MS;
    if (from.onlineAt !== undefined && !thrownOut) tries = 0;
    let waitMs = backoffMs();
    if (code === 4003) waitMs = replacedMs * (1 + Math.random() / 4);
    // Refused without a code that says so (v1): somebody has to change something, there is no hurry.
    else if (from.refused !== undefined) waitMs = Math.max(waitMs, maxMs * (0.5 + Math.random() / 2));
    tries++;
    log("warn", "bot.offline", { code, reason: why, retryInMs: Math.round(waitMs) });
    setState({ state: "waiting", retryAt: Date.now() + waitMs, reason: why, ...(code === undefined ? {} : { code }) });
    timer = setTimeout(connect, waitMs);
  };

  const stop = (reason: string, code?: number) => {
    for (const turn of [...turns.values()]) abandon(turn, reason);
    for (const id of [...messages.keys()])
      settleMessage(id, botError("stopped", `The bot is not connected: ${reason}`));
    clearTimeout(timer);
    clearTimeout(poll);
    log(code === undefined ? "info" : "error", "bot.stopped", { code, reason });
    setState({ state: "stopped", reason, ...(code === undefined ? {} : { code }) });
  };

  const register = async (to: Link) => {
    if (!sessionLoaded && options.session) {
      try {
        session = (await options.session.load()) || undefined;
      } catch (error) {
        log("error", "bot.session_load", { error: String(error) });
      }
    }
    sessionLoaded = true;
    if (link !== to || to.ws.readyState !== WebSocket.OPEN) return;
    put(to, {
      type: "register",
      botId: options.botId,
      botName: options.botName ?? options.botId,
      token: options.token ?? "",
      proto: 2,
      caps: [...new Set([...OWN_CAPS, ...(options.caps ?? [])])],
      instanceId: options.instanceId,
      pools: options.pools,
      weight: options.weight,
      maxConcurrency: options.maxConcurrency,
      session,
      description: options.description,
      avatar: options.avatar,
      suggestions: options.suggestions,
    });
  };

  const connect = () => {
    timer = undefined;
    setState({ state: "connecting" });
    const ws = new WebSocket(urls.socket);
    const startedAt = Date.now();
    const self: Link = {
      ws,
      heardAt: startedAt,
      maxUnits: PIECE_CHARS,
      frameBytes: V1_FRAME_BYTES,
      watch: setInterval(() => {
        const silentMs = Date.now() - self.heardAt;
        // 2.5 intervals: one lost ping is forgiven. Before a v1 gateway's first ping its interval is unknown.
        const limitMs = self.proto === undefined ? CONNECT_MS : (self.pingMs ?? V1_PING_MS * 4) * 2.5;
        if (silentMs <= limitMs) return;
        // A half-open socket would take minutes to say so: it is gone now, and its late events are ignored.
        onGone(self, undefined, self.proto === undefined ? "the gateway did not answer" : "the gateway went silent");
        ws.close();
      }, 250),
    };
    link = self;
    ws.onopen = () => void register(self);
    ws.onmessage = (event) => {
      if (link !== self || typeof event.data !== "string") return;
      self.heardAt = Date.now();
      let frame: GatewayFrame;
      try {
        frame = JSON.parse(event.data) as GatewayFrame;
      } catch {
        return;
      }
      if (typeof frame !== "object" || frame === null) return;
      try {
        onFrame(self, frame);
      } catch (error) {
        log("error", "bot.frame_failed", {
          type: frame.type,
          error: error instanceof Error ? error.stack : String(error),
        });
      }
    };
    ws.onclose = (event) =>
      onGone(self, event.code, event.reason || (event.code === 1006 ? `no connection to ${urls.socket}` : ""));
    // Details of an error are empty in every runtime; the close that follows is what counts.
    ws.onerror = () => {};
  };

  const drain = (): Promise<void> => {
    const to = open();
    if (!draining && to?.proto === 2) put(to, { type: "event", kind: "draining" });
    draining = true;
    if (turns.size === 0 && messages.size === 0) return Promise.resolve();
    return new Promise((resolve) => idleWaiters.push(resolve));
  };

  const close = ({ keepTurns = false }: { keepTurns?: boolean } = {}): Promise<void> => {
    closed ??= (async () => {
      const last = link;
      for (const turn of turns.values()) {
        if (!turn.out.ended && !keepTurns)
          turn.out.end({ error: { code: "bot_stopped", message: "The bot was stopped", retryable: false } });
        flush(turn);
      }
      clearTimeout(timer);
      stop("closed");
      if (!last) return;
      clearInterval(last.watch);
      const gone = new Promise<void>((resolve) => {
        last.ws.addEventListener("close", () => resolve());
        if (last.ws.readyState === WebSocket.CLOSED) resolve();
      });
      last.ws.close(1000);
      let limit: ReturnType<typeof setTimeout> | undefined;
      await Promise.race([gone, new Promise<void>((resolve) => (limit = setTimeout(resolve, 2000)))]);
      clearTimeout(limit);
    })();
    return closed;
  };

  timer = setTimeout(connect, 0); // so that the caller holds the bot before its first callback
  return {
    get state() {
      return current;
    },
    get openTurns() {
      return turns.size;
    },
    send,
    drain,
    close,
  };
};
