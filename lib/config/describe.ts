/**
 * The effective config as JSON for a person to read (`nexus check`): every default filled in, every secret masked.
 *
 * What must stay true: no password, token or hash is in it, not even in part. Where it came from and how it is kept
 * (hash or plain) is told, since that is what an operator checks.
 */
import type { Config } from "../config.ts";
import { NO_LIMIT } from "./defaults.ts";
import { isHash } from "./secrets.ts";

const MASK = "***";
const SECRET_NAME = /secret|token|password|key|credential/i;
/** Named like one, but it says which of two addresses Feishu is asked at. */
const NO_SECRET = "tokenApi";

/** Some services take their key in the query. */
const withoutQuery = (value: string): string =>
  URL.canParse(value) && /^https?:$/.test(new URL(value).protocol)
    ? value.replace(/([?&][^=&#]*=(?=[^=&#])|[?&])[^&#]*/g, `$1${MASK}`)
    : value;

/** `signIn` and `models` belong to other modules: what is named like a secret is masked, and queries, at any depth. */
const masked = (value: unknown, name = ""): unknown => {
  if (Array.isArray(value)) return value.map((entry) => masked(entry, name));
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, masked(entry, key)]));
  if (typeof value !== "string") return value;
  return SECRET_NAME.test(name) && name !== NO_SECRET ? MASK : withoutQuery(value);
};

const zeroIsNone = (value: number): number => (value === NO_LIMIT ? 0 : value);

/** A JSON value in the shape of config.json. */
export const describeConfig = (config: Config): Record<string, unknown> => {
  const { botTokens, metricsTokens, users, bots, limits, signIn, models, ...rest } = config;
  return {
    ...rest,
    botToken: botTokens.length === 0 ? "" : botTokens.map(() => MASK),
    metricsToken: metricsTokens.length === 0 ? "" : metricsTokens.map(() => MASK),
    users: Object.fromEntries(
      [...users].map(([name, { password, messagesPerDay, ...user }]) => [
        name,
        {
          ...(password === undefined ? {} : { password: `${MASK} (${isHash(password) ? "argon2id" : "plain"})` }),
          ...user,
          messagesPerDay: zeroIsNone(messagesPerDay),
        },
      ]),
    ),
    bots: Object.fromEntries(
      [...bots].map(([id, { tokens, users: allowed, ...bot }]) => [
        id,
        {
          ...(tokens.length > 0 ? { token: tokens.map(() => MASK) } : {}),
          ...(allowed ? { users: [...allowed] } : {}),
          ...bot,
        },
      ]),
    ),
    limits: Object.fromEntries(Object.entries(limits).map(([name, value]) => [name, zeroIsNone(value)])),
    signIn: masked(signIn),
    models: masked(models),
  };
};
