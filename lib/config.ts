/**
 * config.json → Config: the effective settings, or every fault of the file at once, each with its path.
 *
 * What must stay true: every v1 file works as it is; unknown fields are refused; no fault or warning repeats a secret; what
 * is returned is complete (secrets resolved, defaults filled), so nothing else in the program knows a default. A pure
 * function of its arguments. In config/: fields.ts what each field may be, rules.ts what fields must be together,
 * defaults.ts, file.ts reading and watching, first.ts the first start, describe.ts showing it.
 */
import { DEFAULTS, NO_LIMIT } from "./config/defaults.ts";
import { configShape, type Parsed, type ParseOptions } from "./config/fields.ts";
import type { ModelEntry } from "./config/models.ts";
import { crossCheck, warningsOf } from "./config/rules.ts";
import type { Env, ReadFile } from "./config/secrets.ts";
import { completeSignIn, type SignIn } from "./config/signin.ts";
import type { Say } from "./protocol.ts";
import type { Fault } from "./shape.ts";

export type BotEntry = {
  /** Accepted tokens; several for rotation. Empty: the shared botToken counts. */
  tokens: string[];
  /** Usernames that may use this bot; undefined: everybody. */
  users?: Set<string>;
  pools?: string[];
  weight?: number;
  maxConcurrency?: number;
  name?: string;
  /** SHA-256 of tokens made on the admin page, accepted like `tokens`. Never from the file. */
  tokenDigests?: string[];
  /** By an admin on the page: refused until that is lifted. Never from the file. */
  disabled?: true;
};

export type UserEntry = {
  /** Plain, or an argon2id PHC string. Undefined: signs in by identity only. */
  password?: string;
  displayName: string;
  role?: "admin";
  identities: string[];
  /** NO_LIMIT when not set. */
  messagesPerDay: number;
};

/** Counts are NO_LIMIT where config.json says 0, so that comparing needs no special case. */
export type Limits = {
  turnsPerUser: number;
  streamsPerUser: number;
  sendsPerMinute: number;
  streams: number;
  bots: number;
  connectionsPerAddress: number;
  queuedTurns: number;
  bodyBytes: number;
  frameBytes: number;
  textChars: number;
  replyBytes: number;
  attachmentBytes: number;
};

/** The effective config: secrets resolved, defaults filled. Spans in milliseconds, sizes in bytes. */
export type Config = {
  port: number;
  host: string;
  sessionTTL: number;
  pingInterval: number;
  botTimeout: number;
  turnTimeout: number;
  /** Accepted shared tokens; empty: not checked. */
  botTokens: string[];
  users: Map<string, UserEntry>;
  bots: Map<string, BotEntry>;
  /** An origin: scheme, host and port, without a slash at the end. */
  publicUrl?: string;
  trustedProxies: string[];
  corsOrigins: string[];
  frameAncestors: string[];
  dataDir: string;
  synchronous: "normal" | "full";
  retentionDays: number;
  language: "zh" | "en";
  /** Where a day ends, for messagesPerDay and use per day; undefined: the machine's time zone. */
  timeZone?: string;
  /** Accepted for /metrics from elsewhere than this machine; empty: only from here. */
  metricsTokens: string[];
  limits: Limits;
  signIn: SignIn;
  models: ModelEntry[];
};

const portOf = (env: Env, faults: Fault[]): number | undefined => {
  // An empty PORT is how shells unset one.
  if (!env.PORT) return undefined;
  if (/^\d{1,5}$/.test(env.PORT) && Number(env.PORT) <= 65_535) return Number(env.PORT);
  faults.push({ path: "PORT", say: { zh: "环境变量应为 0–65535 的端口号", en: "a port number (0–65535)" } });
  return undefined;
};

const noneIsNoLimit = (value: number): number => (value === 0 ? NO_LIMIT : value);

const complete = (parsed: Parsed, port: number | undefined): Config => {
  const users = new Map<string, UserEntry>();
  for (const [name, { password, displayName, role, identities, messagesPerDay }] of parsed.users ?? [])
    users.set(name, {
      ...(password === undefined ? {} : { password }),
      displayName: displayName || name,
      ...(role === "admin" ? { role } : {}),
      identities: identities ?? [],
      messagesPerDay: noneIsNoLimit(messagesPerDay ?? 0),
    });
  const bots = new Map<string, BotEntry>();
  for (const [id, { token, users: allowed, name, ...rest }] of parsed.bots ?? [])
    bots.set(id, {
      tokens: token ?? [],
      ...(allowed ? { users: new Set(allowed) } : {}),
      ...(name ? { name } : {}),
      ...rest,
    });
  const { limits: d } = DEFAULTS;
  const l = parsed.limits ?? {};
  const ancestors = parsed.frameAncestors ?? [...DEFAULTS.frameAncestors];
  return {
    port: port ?? parsed.port ?? DEFAULTS.port,
    host: parsed.host ?? DEFAULTS.host,
    sessionTTL: parsed.sessionTTL ?? DEFAULTS.sessionTTL,
    pingInterval: parsed.pingInterval ?? DEFAULTS.pingInterval,
    botTimeout: parsed.botTimeout ?? DEFAULTS.botTimeout,
    turnTimeout: parsed.turnTimeout ?? DEFAULTS.turnTimeout,
    botTokens: parsed.botToken ?? [],
    users,
    bots,
    ...(parsed.publicUrl === undefined ? {} : { publicUrl: parsed.publicUrl }),
    trustedProxies: parsed.trustedProxies ?? [],
    corsOrigins: parsed.corsOrigins ?? [],
    frameAncestors: ancestors.length > 0 ? ancestors : ["'none'"],
    dataDir: parsed.dataDir ?? DEFAULTS.dataDir,
    synchronous: parsed.synchronous ?? DEFAULTS.synchronous,
    retentionDays: parsed.retentionDays ?? DEFAULTS.retentionDays,
    language: parsed.language ?? DEFAULTS.language,
    ...(parsed.timeZone === undefined ? {} : { timeZone: parsed.timeZone }),
    metricsTokens: parsed.metricsToken ?? [],
    limits: {
      turnsPerUser: noneIsNoLimit(l.turnsPerUser ?? d.turnsPerUser),
      streamsPerUser: noneIsNoLimit(l.streamsPerUser ?? d.streamsPerUser),
      sendsPerMinute: noneIsNoLimit(l.sendsPerMinute ?? d.sendsPerMinute),
      streams: noneIsNoLimit(l.streams ?? d.streams),
      bots: noneIsNoLimit(l.bots ?? d.bots),
      connectionsPerAddress: noneIsNoLimit(l.connectionsPerAddress ?? d.connectionsPerAddress),
      queuedTurns: noneIsNoLimit(l.queuedTurns ?? d.queuedTurns),
      textChars: noneIsNoLimit(l.textChars ?? d.textChars),
      bodyBytes: l.bodyBytes ?? d.bodyBytes,
      frameBytes: l.frameBytes ?? d.frameBytes,
      replyBytes: l.replyBytes ?? d.replyBytes,
      attachmentBytes: l.attachmentBytes ?? d.attachmentBytes,
    },
    signIn: completeSignIn(parsed.signIn),
    models: parsed.models ?? [],
  };
};

export type ParsedConfig =
  | {
      ok: true;
      config: Config;
      warnings: Say[];
      /** With `withoutSecrets`: the secrets that could not be had; in their place stands what nobody can know. */
      withheld: Fault[];
    }
  | { ok: false; faults: Fault[] };

/**
 * Parses the JSON of a config file. `env` gives PORT and the secrets named by {"env": …}, `readFile` those named by
 * {"file": …} (it throws when it cannot). Never throws; paths of faults look like `users.admin.password`.
 */
export const parseConfig = (
  json: unknown,
  env: Env = {},
  readFile: ReadFile = () => {
    throw new Error("no files here");
  },
  options: ParseOptions = {},
): ParsedConfig => {
  const faults: Fault[] = [];
  const parsed = configShape(env, readFile, options)(json, "", faults);
  const port = portOf(env, faults);
  if (parsed) crossCheck(parsed, faults);
  const [withheld, wrong] = options.withoutSecrets
    ? [faults.filter((fault) => fault.withheld), faults.filter((fault) => !fault.withheld)]
    : [[], faults];
  if (wrong.length > 0) return { ok: false, faults: wrong };
  const config = complete(parsed, port);
  return { ok: true, config, warnings: warningsOf(config), withheld };
};
