/**
 * Every shape that crosses a wire: HTTP bodies, SSE events, bot frames, the error table, the close codes.
 *
 * Owns the words of docs/protocol.md as types. Shared with the page and the plugin, so it imports nothing and
 * touches no runtime API. Parsers of these shapes live in frames.ts (bot socket) and bodies.ts (HTTP): only the
 * gateway needs those. Refuses to know how anything is stored or sent.
 */

/** A sentence for a person, in both languages. The route wrapper picks one by Accept-Language. */
export type Say = { zh: string; en: string };

/** The one error table: machine code → HTTP status and the sentence used when the thrower has no better one. */
export const ERRORS = {
  bad_request: { status: 400, zh: "请求格式不对", en: "The request is malformed" },
  unauthorized: { status: 401, zh: "请先登录", en: "Sign in first" },
  forbidden: { status: 403, zh: "没有权限", en: "Not allowed" },
  not_found: { status: 404, zh: "没有找到", en: "Not found" },
  bot_not_found: { status: 404, zh: "机器人不存在或不在线", en: "The bot does not exist or is offline" },
  method_not_allowed: { status: 405, zh: "不支持这个方法", en: "Method not allowed" },
  conflict: { status: 409, zh: "与已有内容冲突", en: "Conflicts with what is already there" },
  too_large: { status: 413, zh: "内容太大", en: "Too large" },
  rate_limited: { status: 429, zh: "操作太频繁，请稍后再试", en: "Too many requests, try again later" },
  bot_failed: { status: 502, zh: "机器人回复失败", en: "The bot failed to answer" },
  bot_disconnected: { status: 502, zh: "机器人断开了连接", en: "The bot disconnected" },
  no_bot: { status: 503, zh: "没有在线的机器人", en: "No bot is online" },
  bot_busy: { status: 503, zh: "机器人都在忙，请稍后再试", en: "All bots are busy, try again later" },
  shutting_down: { status: 503, zh: "服务正在重启，请稍后再试", en: "The gateway is restarting, try again shortly" },
  storage_failed: { status: 503, zh: "无法保存，请联系管理员", en: "Could not be stored, tell the administrator" },
  turn_timeout: { status: 504, zh: "机器人太久没有回应", en: "The bot took too long to answer" },
  internal: { status: 500, zh: "内部错误", en: "Internal error" },
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** What a refused caller is told. `error` is a plain string because v1 clients print it. */
export type ErrorBody = { error: string; code: ErrorCode; requestId?: string; retryAfter?: number };

/**
 * Thrown to refuse input, and only for that: caught by the route wrapper and by the frame handler.
 * `retryAfter` is in seconds. Anything else that is thrown is a bug and answered as `internal`.
 */
export class Reject extends Error {
  readonly code: ErrorCode;
  readonly say: Say;
  readonly retryAfter: number | undefined;
  constructor(code: ErrorCode, say: Say = ERRORS[code], retryAfter?: number) {
    super(say.en);
    this.code = code;
    this.say = { zh: say.zh, en: say.en };
    this.retryAfter = retryAfter;
  }
}

/** Close codes of the bot socket. 4000–4499: come back with backoff and jitter; 4500–4999: do not come back. */
export const CLOSE = {
  shutting_down: 1001,
  frame_too_large: 1009,
  no_register: 4000,
  no_pong: 4001,
  too_slow: 4002,
  replaced: 4003,
  disconnected: 4004,
  bad_frames: 4500,
  token_refused: 4501,
  version_unsupported: 4502,
} as const;
export type CloseReason = keyof typeof CLOSE;

// ── people ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `avatar`: address of the picture kept here, readable by this person. */
export type UserInfo = { username: string; displayName: string; role?: "admin"; avatar?: string };

export type BotInfo = {
  id: string;
  name: string;
  /** ISO 8601, as v1 had it. */
  connectedAt: string;
  instances: number;
  /** Every connection is at its maxConcurrency. */
  busy: boolean;
  description?: string;
  avatar?: string;
  suggestions?: string[];
  caps: Cap[];
};

export type Attachment = {
  id: string;
  name: string;
  mime: string;
  /** Bytes. */
  size: number;
  url: string;
  width?: number;
  height?: number;
};

export type MessageState = "sent" | "streaming" | "done" | "failed" | "cancelled";

export type Message = {
  id: string;
  conversationId: string;
  role: "user" | "bot";
  botId?: string;
  botName?: string;
  content: string;
  attachments: Attachment[];
  state: MessageState;
  error?: { code: string; message: string };
  turnId?: string;
  clientId?: string;
  usage?: Usage;
  /** The message before this one on its branch: siblings (same parent, same role) are versions of each other. */
  parentId?: string;
  /** Quoted message. */
  replyTo?: string;
  /** Milliseconds since 1970, as every …At on the wire but v1's connectedAt. */
  createdAt: number;
  updatedAt: number;
};

export type Conversation = {
  id: string;
  title: string;
  botId?: string;
  pinned: boolean;
  unread: number;
  createdAt: number;
  updatedAt: number;
  lastMessage?: { id: string; role: "user" | "bot"; text: string; createdAt: number };
};

export type SearchHit = {
  conversationId: string;
  messageId?: string;
  title: string;
  snippet: string;
  createdAt: number;
};

/** Token counts as the bot reported them; names follow the OpenAI usage object. */
export type Usage = { prompt_tokens?: number; completion_tokens?: number; total_tokens?: number };

export type ApiKey = {
  id: string;
  name: string;
  scope: "chat" | "all";
  bots?: string[];
  createdAt: number;
  expiresAt?: number;
  lastUsedAt?: number;
};

// ── SSE ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export type Activity = {
  kind: "typing" | "status" | "tool" | "reasoning" | "queued" | "waiting";
  text?: string;
  tool?: { id: string; name: string; phase: "start" | "update" | "end"; ok?: boolean };
  /** Place in the queue, 1 is next; with kind "queued". */
  position?: number;
};

/** Events of one turn's stream (`POST /api/chat/stream`, `GET /api/turns/:id/stream`). */
export type TurnEvent =
  | { type: "start"; botId: string; botName: string; turnId: string; conversationId: string; messageId: string }
  | { type: "chunk"; content: string; done: boolean }
  | { type: "replace"; content: string }
  | { type: "attachment"; attachment: Attachment }
  | ({ type: "activity" } & Activity)
  | { type: "end"; finish: Finish }
  | { type: "error"; error: string; code: string; retryable: boolean };

/** Events of `/api/events`. */
export type UserEvent =
  | { type: "hello"; epoch: string; rev: number; user: UserInfo }
  | { type: "reset" }
  | { type: "bots"; bots: BotInfo[] }
  | { type: "message"; message: Message }
  | { type: "conversation"; conversation: Conversation }
  | { type: "conversation_deleted"; id: string }
  | {
      type: "turn";
      turnId: string;
      conversationId: string;
      messageId: string;
      botId?: string;
      botName?: string;
      /** The message this turn answers. */
      parentId?: string;
      generation: number;
      content: string;
      createdAt: number;
    }
  | { type: "chunk"; turnId: string; generation: number; offset: number; content: string }
  | { type: "replace"; turnId: string; generation: number; content: string }
  | ({ type: "activity"; turnId: string } & Activity);

// ── bot socket ────────────────────────────────────────────────────────────────────────────────────────────────────

export const PROTO = 2;

export const CAPS = [
  "ack",
  "seq",
  "replace",
  "event",
  "cancel",
  "attachments",
  "message",
  "history",
  "idempotent",
] as const;
export type Cap = (typeof CAPS)[number];

export type Finish = "stop" | "cancelled" | "silent";

export type RegisterFrame = {
  type: "register";
  botId: string;
  botName?: string;
  token?: string;
  proto?: number;
  caps?: string[];
  instanceId?: string;
  pools?: string[];
  weight?: number;
  maxConcurrency?: number;
  session?: string;
  description?: string;
  avatar?: string;
  suggestions?: string[];
};

export type RegisteredFrame = {
  type: "registered";
  success: boolean;
  error?: string;
  code?: string;
  proto?: number;
  caps?: Cap[];
  session?: string;
  /** Milliseconds. */
  pingInterval?: number;
  limits?: { frameBytes: number; attachmentBytes: number };
  pending?: { id: string; seq: number }[];
};

export type ChatSource = "web" | "api" | "openai" | "feishu" | "dingtalk" | "wecom";

export type ChatFrame = {
  type: "chat";
  /** The turn id, the same on every attempt. */
  id: string;
  content: string;
  from: string;
  image?: string;
  timestamp: number;
  conversationId?: string;
  userId?: string;
  userName?: string;
  source?: ChatSource;
  attachments?: (Attachment & { data?: string })[];
  replyTo?: { id: string; role: "user" | "bot"; content: string };
  attempt?: number;
  /** `X-Request-Id` of the request that asked, as its sender or a proxy gave it, else made here. */
  requestId?: string;
  /** `attachments`: files of that message, to be fetched while this turn is held; at most what the history goes back. */
  history?: { role: "user" | "assistant" | "system"; content: string; attachments?: Attachment[] }[];
};

/** A file inside a reply: `{id}` of an upload, or small data inline (base64, up to 1 MiB). */
export type ReplyFile = { id: string } | { name: string; mime: string; data: string };

export type ReplyFrame = {
  type: "reply";
  id?: string;
  replyTo: string;
  content: string;
  done: boolean;
  timestamp?: number;
  image?: string;
  seq?: number;
  mode?: "delta" | "replace";
  attachments?: ReplyFile[];
  usage?: Usage;
  finish?: Finish;
  error?: { code: string; message: string; retryable?: boolean };
};

export type EventFrame = {
  type: "event";
  replyTo?: string;
  kind: "typing" | "status" | "tool" | "reasoning" | "draining";
  text?: string;
  tool?: { id: string; name: string; phase: "start" | "update" | "end"; ok?: boolean };
};

/** Proactive: a bot speaks first. `id` is the idempotency key, unique per botId. */
export type MessageFrame = {
  type: "message";
  id: string;
  to: { userId: string } | { conversationId: string };
  content: string;
  attachments?: ReplyFile[];
  title?: string;
};

/** What a bot may send. */
export type BotFrame =
  RegisterFrame | ReplyFrame | EventFrame | MessageFrame | { type: "ack"; id: string } | { type: "pong" };

/** What the gateway may send to a bot. */
export type GatewayFrame =
  | RegisteredFrame
  | ChatFrame
  | { type: "ping" }
  | { type: "error"; message: string; code?: string; id?: string }
  | { type: "ack"; replyTo: string; seq: number }
  | { type: "ack"; id: string; state: "stored" | "seen" }
  | { type: "cancel"; id: string; reason: "user" | "timeout" | "failover" };
