/**
 * What the parts of turns.ts share: the open turns and the ways to everything around it. Made once in turns.ts.
 */
import type { Bots } from "../bots.ts";
import type { Config } from "../config.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { Quota } from "../quota.ts";
import type { Roster } from "../roster.ts";
import type { Store } from "../store.ts";
import type { Streams } from "../streams.ts";
import type { Turn } from "../turn.ts";
import type { Asks } from "./ask.ts";
import type { Publisher } from "./publish.ts";
import type { TextLog } from "./textlog.ts";

export type Core = {
  config: () => Config;
  store: Store;
  bots: () => Bots;
  streams: Streams;
  quota: Quota;
  metrics: Pick<Metrics, "firstChunk" | "turnEnded">;
  log: Log;
  now: () => number;
  /** Only turns.ts writes it; `remember` and `forget` are the ways in and out. */
  open: Roster<Turn>;
  /**
   * Open turns per user, for the quota, those that are just being stored included. `hold` takes a place, which
   * `forget` gives back with the turn, or `unhold` when no turn came of it.
   */
  countOf: (user: string) => number;
  hold: (user: string) => void;
  unhold: (user: string) => void;
  remember: (turn: Turn) => void;
  forget: (turn: Turn) => void;
  asks: Asks;
  publish: Publisher;
  textLog: TextLog;
};
