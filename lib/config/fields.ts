/**
 * The fields of config.json as written: what each may be. Bounds have their reason beside them.
 *
 * Knows nothing of defaults (config.ts) and of rules between fields (rules.ts). Unknown fields are refused (strict.ts).
 */
import { isTimeZone } from "../days.ts";
import { botIdShape } from "../frames.ts";
import { int, list, mapOf, maybe, num, oneOf, type Of, type Shape, text } from "../shape.ts";
import { modelsShape } from "./models.ts";
import { ancestorShape, blockShape, hostShape, originShape, publicUrlShape } from "./network.ts";
import { type Env, FLOOR, passwordShape, type ReadFile, secret } from "./secrets.ts";
import { signInShape } from "./signin.ts";
import { strict } from "./strict.ts";

const MIB = 1024 * 1024;
const DAY_MS = 86_400_000;
/** Timers hold 31 bits of milliseconds: more would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** Ten years: sessions are swept, no timer holds them. */
const LONGEST_SESSION_MS = 3650 * DAY_MS;
/** Below this a heartbeat costs more than chatting. */
const SHORTEST_MS = 10;
/** The total deadline of a turn (turns.ts) is an hour; silence cannot last longer. */
const LONGEST_TURN_MS = 3_600_000;
/** A body or frame is held in memory whole. */
const LARGEST_BYTES = 1024 * MIB;
const LARGEST_COUNT = 1_000_000_000;
/** Users and bots in one file. People beyond this sign in by identity and live in the store. */
const MOST_ENTRIES = 100_000;

const span = (least: number, most: number) => maybe(int(least, most));
const count = maybe(int(0, LARGEST_COUNT));
const bytes = maybe(int(1, LARGEST_BYTES));

/** Sign-in makes usernames like `feishu:…` of identity keys; a `:` here could pose as one. */
export const usernameShape = text(1, 256, /^[^:\p{Cc}]+$/u, {
  zh: "用户名不能含冒号或控制字符",
  en: "a username has no colon and no control characters",
});
export const displayNameShape = text(0, 256, /^[^\p{Cc}]*$/u, { zh: "不能含控制字符", en: "no control characters" });
const timeZoneShape: Shape<string> = (value, path, faults) => {
  if (typeof value === "string" && value !== "" && isTimeZone(value)) return value;
  faults.push({ path, say: { zh: "应为时区名，如 Asia/Shanghai", en: "a time zone, for example Asia/Shanghai" } });
  return "";
};
const identityShape = text(3, 512, /^[a-z0-9-]+:\S+$/, {
  zh: "应为 来源:标识，如 wecom:企业ID:用户ID",
  en: "source:id, for example wecom:CORP:zhang",
});

export type ParseOptions = {
  /** The least cost of a password hash that is accepted. Tests lower it: a sign-in there need not cost 50 ms. */
  hashFloor?: { memoryKiB: number; passes: number };
  /** For whom needs no secret: one that cannot be had here is no fault but named in `withheld`. */
  withoutSecrets?: boolean;
};

export const configShape = (env: Env, readFile: ReadFile, { hashFloor = FLOOR }: ParseOptions) => {
  const token = secret(env, readFile);
  /** One token or several; `""` (v1: not checked) only where it stands alone. */
  const tokens =
    (emptyMeansNone: boolean): Shape<string[]> =>
    (value, path, faults) => {
      if (value === "" && emptyMeansNone) return [];
      if (!Array.isArray(value)) return [token(value, path, faults)];
      return list(token, 100)(value, path, faults);
    };
  return strict({
    port: maybe(int(0, 65_535)),
    sessionTTL: span(SHORTEST_MS, LONGEST_SESSION_MS),
    pingInterval: span(SHORTEST_MS, LONGEST_TIMER_MS),
    botTimeout: span(SHORTEST_MS, LONGEST_TIMER_MS),
    botToken: maybe(tokens(true)),
    users: maybe(
      mapOf(
        usernameShape,
        strict({
          password: maybe(passwordShape(env, readFile, hashFloor)),
          displayName: maybe(displayNameShape),
          role: maybe(oneOf("admin", "user")),
          identities: maybe(list(identityShape, 20)),
          messagesPerDay: count,
        }),
      ),
    ),
    host: maybe(hostShape),
    publicUrl: maybe(publicUrlShape),
    trustedProxies: maybe(list(blockShape, 1_000)),
    corsOrigins: maybe(list(originShape, 1_000)),
    frameAncestors: maybe(list(ancestorShape, 100)),
    dataDir: maybe(text(1, 4_096, /^[^\0]+$/, { zh: "应为路径", en: "a path" })),
    synchronous: maybe(oneOf("normal", "full")),
    retentionDays: maybe(int(0, 36_500)),
    turnTimeout: span(SHORTEST_MS, LONGEST_TURN_MS),
    language: maybe(oneOf("zh", "en")),
    timeZone: maybe(timeZoneShape),
    metricsToken: maybe(tokens(true)),
    bots: maybe(
      mapOf(
        botIdShape,
        strict({
          token: maybe(tokens(false)),
          users: maybe(list(text(1, 1_024), MOST_ENTRIES)),
          pools: maybe(list(botIdShape, 100)),
          weight: maybe(num(0, 1_000)),
          maxConcurrency: maybe(int(1, 100_000)),
          name: maybe(displayNameShape),
        }),
      ),
    ),
    limits: maybe(
      strict({
        turnsPerUser: count,
        streamsPerUser: count,
        sendsPerMinute: count,
        streams: count,
        bots: count,
        connectionsPerAddress: count,
        queuedTurns: count,
        textChars: count,
        bodyBytes: bytes,
        frameBytes: bytes,
        replyBytes: bytes,
        attachmentBytes: bytes,
      }),
    ),
    signIn: maybe(signInShape(env, readFile)),
    models: maybe(modelsShape(env, readFile)),
  });
};

/** The file's fields, each undefined when absent. */
export type Parsed = Of<ReturnType<typeof configShape>>;
