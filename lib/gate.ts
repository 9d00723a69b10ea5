/** What every route file is given: the parts of one gateway. Made in gateway.ts. */
import type { Audit } from "./audit.ts";
import type { Bots } from "./bots.ts";
import type { BotSettings } from "./botsettings.ts";
import type { Config } from "./config.ts";
import type { Days } from "./days.ts";
import type { Call } from "./http.ts";
import type { Inbox } from "./inbox.ts";
import type { Buckets } from "./limits.ts";
import type { Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";
import type { People } from "./people.ts";
import type { PasswordCheck } from "./passwords.ts";
import type { Quota } from "./quota.ts";
import type { Sessions } from "./sessions.ts";
import type { Store } from "./store.ts";
import type { Streams } from "./streams.ts";
import type { Access } from "./streams/reader.ts";
import type { Sync } from "./sync.ts";
import type { Turns } from "./turns.ts";

export type Gate = {
  config: () => Config;
  log: Log;
  /** The wall clock: what is stored and shown. */
  now: () => number;
  /** Never set: what limits and deadlines count by. */
  steady: () => number;
  store: Store;
  people: People;
  sessions: Sessions;
  passwords: PasswordCheck;
  bots: Bots;
  turns: Turns;
  streams: Streams;
  sync: Sync;
  inbox: Inbox;
  /** Sends per user and minute. */
  sends: Buckets;
  metrics: Metrics;
  days: Days;
  quota: Quota;
  audit: Audit;
  /** What admins set about bots; call `settled` after each change. */
  botSettings: BotSettings;
  /** config.json as it stands, without what admins set over it. */
  file: () => Config;
  /** Who may come in has changed: takes it over and ends what is no longer permitted. */
  settled: () => void;
  isDraining: () => boolean;
  /** Somebody signed in with a password: the file with the first password goes. */
  signedIn: (user: string) => void;
  /** Keeps a request that answers late from being taken for a dead one; the returned function stops that. */
  keepAlive: (call: Call) => () => void;
  /** Counts a connection toward its address; the returned function takes it back. Rejects `rate_limited`. */
  enter: (call: Call) => () => void;
  /** Who a stream belongs to; counts it toward its address until it closes. Rejects `rate_limited`. */
  access: (call: Call) => Access;
};
