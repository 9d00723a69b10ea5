/**
 * The shapes of `/api/admin/*`: what the admin page, `nexus status` and scripts read. Types only. Moments and spans are
 * milliseconds; a limit of 0 is none.
 */

/** The numbers of the first admin page and of `nexus status`. Counts without "today" are since the start. */
export type Overview = {
  at: number;
  startedAt: number;
  version: string;
  draining: boolean;
  timeZone: string;
  turns: { open: number; queued: number; done: number; failed: number; cancelled: number };
  today: { messages: number; people: number; done: number; failed: number; cancelled: number };
  firstChunkMs: { p50?: number | undefined; p95?: number | undefined };
  loopDelayMs: { p99?: number | undefined; max: number };
  bots: { online: number; connections: number; busy: number };
  people: number;
  sessions: number;
  streams: number;
  sentBytes: number;
  store: { bytes: number; commits: number; writes: number; maxCommitMs: number };
  memoryBytes: number;
  cpuMs: number;
  deadLetters: number;
};

export type AdminPerson = {
  username: string;
  displayName: string;
  role: "admin" | "user";
  /** Of config.json, added on the page, or made by signing in with an identity. */
  source: "config" | "page" | "sign-in";
  hasPassword: boolean;
  disabledAt?: number;
  createdAt?: number;
  sessions: number;
  keys: number;
  streams: number;
  openTurns: number;
  messagesToday: number;
  /** What holds. */
  messagesPerDay: number;
  turnsAtOnce: number;
  /** Set on the page, not by config.json. */
  set: { messagesPerDay: boolean; turnsAtOnce: boolean };
};

export type AdminSession = { id: string; createdAt: number; expiresAt: number; current: boolean };

export type AdminConnection = {
  instance: string;
  address: string;
  proto: 1 | 2;
  connectedAt: number;
  seenAt: number;
  inFlight: number;
  caps: string[];
  draining: boolean;
};

export type AdminBot = {
  id: string;
  name: string;
  online: boolean;
  connections: AdminConnection[];
  /** null: everybody. */
  users: string[] | null;
  pools: string[] | null;
  /** 0: none. */
  maxConcurrency: number;
  hasToken: boolean;
  /** One of the gateway's own: no token lets in under its name. */
  model: boolean;
  disabled: boolean;
  inConfig: boolean;
  /** The page has set something about it. */
  onPage: boolean;
};

export type AdminTurn = {
  id: string;
  user: string;
  displayName: string;
  botId?: string;
  botName?: string;
  state: string;
  source: string;
  requestId?: string;
  attempt: number;
  createdAt: number;
  /** Text so far, in UTF-16 units; never the text itself. */
  chars: number;
  /** Since the last sign of life of the bot. */
  silentMs: number;
};

export type AdminDeadLetter = { id: string; botId: string; reason: string; createdAt: number; bytes: number };

export type AdminUsageRow = {
  /** By what was asked: a day, a username or a bot id. */
  key: string;
  name?: string;
  messages: number;
  done: number;
  failed: number;
  cancelled: number;
  chars: number;
  promptTokens: number;
  completionTokens: number;
};

/** What the bots of a platform may send for nothing. `asOf`: since when, where the document says it. */
export type FreeQuota = { calls: number; per: "month" | "member_day"; asOf?: string; source: string };

/** Sign-ins of a month (`2026-11`, China's) and the requests they took. */
export type SignInCounts = {
  month: string;
  providers: {
    id: string;
    name: string;
    signIns: number;
    refused: number;
    calls: number;
    freeBotQuota?: FreeQuota & { spentBySignIn: number };
  }[];
};

export type AdminAuditEntry = {
  id: string;
  at: number;
  actor: string;
  action: string;
  target: string;
  detail: Record<string, unknown>;
  address: string;
};
