/**
 * May this `register` come in, and as what? Pure: config and frame in, verdict out. Refuses to touch sockets.
 */
import { timingSafeEqual } from "node:crypto";
import { digest } from "./auth.ts";
import type { Config } from "./config.ts";
import { CAPS, PROTO, type Cap, type RegisterFrame } from "./protocol.ts";

export type Admitted = {
  /** The register frame without its token, and the token's digest: enough to ask again after a config change. */
  asked: Omit<RegisterFrame, "token" | "session">;
  tokenDigest: string;
  botId: string;
  name: string;
  instance: string;
  proto: 1 | 2;
  caps: Set<Cap>;
  pools: string[];
  weight: number;
  maxConcurrency: number;
  description?: string;
  avatar?: string;
  suggestions?: string[];
};
export type Verdict =
  | ({ ok: true } & Admitted)
  | { ok: false; reason: "token_refused" | "version_unsupported" | "disconnected"; error: string };

/** A bot that names no limit gets as many turns as come. */
const UNLIMITED = 1_000_000;

const isCap = (cap: string): cap is Cap => (CAPS as readonly string[]).includes(cap);

/** Pools that some entry lists admit only bots whose entry lists them. */
const reservedPools = (config: Config): Set<string> =>
  new Set([...config.bots.values()].flatMap((entry) => entry.pools ?? []));

const sameDigest = (a: string, b: string): boolean => timingSafeEqual(Buffer.from(a), Buffer.from(b));

/** Digests of the tokens that let a bot in under this name; undefined: it needs none. */
const acceptedFor = ({ bots, botTokens, models }: Config, botId: string): string[] | undefined => {
  // Else whoever has the shared token could be asked what people ask the model.
  if (models.some(({ id }) => id === botId)) return [];
  const entry = bots.get(botId);
  const own = [...(entry?.tokens ?? []).map(digest), ...(entry?.tokenDigests ?? [])];
  if (own.length > 0) return own;
  // Limited while it was a model, which needs no token; with the shared one its name would be free to take.
  if (entry?.users || entry?.pools) return [];
  return botTokens.length > 0 ? botTokens.map(digest) : undefined;
};

/**
 * Values of the config entry overrule those of the frame. `tokenDigest`: SHA-256 hex of the token it brought. `ours`: that of
 * the secret of this process, which lets its own models in whatever the config says of tokens.
 * A v1 sentence for a wrong token, because v1 bots print it.
 */
export const admit = (
  config: Config,
  frame: Omit<RegisterFrame, "token" | "session">,
  tokenDigest: string,
  ours: string,
): Verdict => {
  const entry = config.bots.get(frame.botId);
  const accepted = acceptedFor(config, frame.botId);
  if (accepted && ![ours, ...accepted].some((known) => sameDigest(known, tokenDigest)))
    return { ok: false, reason: "token_refused", error: "Invalid token" };
  if (frame.proto !== undefined && frame.proto > PROTO)
    return {
      ok: false,
      reason: "version_unsupported",
      error: `Protocol ${frame.proto} is not supported; this gateway speaks up to ${PROTO}`,
    };
  // After the token: who has none learns nothing. It may come back until it is enabled again.
  if (entry?.disabled) return { ok: false, reason: "disconnected", error: "Disabled by an administrator" };
  const reserved = reservedPools(config);
  const pools = entry?.pools ?? (frame.pools ?? ["default"]).filter((pool) => !reserved.has(pool));
  const { description, avatar, suggestions } = frame;
  return {
    ok: true,
    asked: frame,
    tokenDigest,
    botId: frame.botId,
    name: entry?.name ?? frame.botName ?? frame.botId,
    instance: frame.instanceId ?? "",
    proto: frame.proto === 2 ? 2 : 1,
    caps: new Set(frame.proto === 2 ? (frame.caps ?? []).filter(isCap) : []),
    pools,
    weight: entry?.weight ?? frame.weight ?? 1,
    maxConcurrency: entry?.maxConcurrency ?? frame.maxConcurrency ?? UNLIMITED,
    ...(description !== undefined && { description }),
    ...(avatar !== undefined && { avatar }),
    ...(suggestions !== undefined && { suggestions }),
  };
};

/** Whether `user` may use the bot: an entry without `users`, or no entry, is open to everybody. */
export const mayUse = (config: Config, user: string, botId: string): boolean =>
  config.bots.get(botId)?.users?.has(user) ?? true;
