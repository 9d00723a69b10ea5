/**
 * Which connection gets this turn. A pure function over what bots.ts knows; it keeps nothing and changes nothing.
 */

export type Candidate = {
  botId: string;
  pools: readonly string[];
  weight: number;
  maxConcurrency: number;
  inFlight: number;
  /** When it last finished a turn, or registered. */
  idleSince: number;
  /** It said it takes no new turns. */
  draining: boolean;
};

export type Wanted = {
  /** Only this bot. */
  bot?: string;
  /** Only bots of this pool; ignored with `bot`. */
  pool?: string;
  /** This bot, if it can; else anyone of the pool. */
  sticky?: string;
  /** The caller named the pool: a sticky bot counts only in it. */
  poolOnly?: boolean;
};

export type Choice<C> = { connection: C } | { none: "offline" | "full" };

const better = (a: Candidate, b: Candidate): boolean => {
  const loadA = a.inFlight / a.weight;
  const loadB = b.inFlight / b.weight;
  return loadA === loadB ? a.idleSince < b.idleSince : loadA < loadB;
};

/**
 * The candidate with the lowest inFlight / weight under its maxConcurrency, ties by longest idle. A sticky bot wins while
 * it is online, even when it is full (the turn then waits for it): a conversation stays with who knows it, outside of the
 * pool too unless the caller named that.
 * "full": somebody suitable is online but has no room. `allowed` tells whom the person may use.
 */
export const choose = <C extends Candidate>(
  connections: Iterable<C>,
  wanted: Wanted,
  allowed: (candidate: C) => boolean,
): Choice<C> => {
  let best: C | undefined;
  let stuck: C | undefined;
  let stickyOnline = false;
  let online = false;
  for (const one of connections) {
    if (one.draining || !allowed(one)) continue;
    if (wanted.bot !== undefined ? one.botId !== wanted.bot : !one.pools.includes(wanted.pool ?? "default")) {
      if (wanted.bot !== undefined || wanted.poolOnly || one.botId !== wanted.sticky) continue;
    }
    online = true;
    const sticky = one.botId === wanted.sticky;
    stickyOnline ||= sticky;
    if (one.inFlight >= one.maxConcurrency) continue;
    if (!best || better(one, best)) best = one;
    if (sticky && (!stuck || better(one, stuck))) stuck = one;
  }
  if (stickyOnline) return stuck ? { connection: stuck } : { none: "full" };
  if (best) return { connection: best };
  return { none: online ? "full" : "offline" };
};
