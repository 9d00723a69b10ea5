/**
 * The one Bun.serve of a gateway: its routes, the page for every other address, the bot socket, and the limits that belong
 * to connections. Refuses to know what any of them do.
 */
import { readdirSync, readFileSync } from "node:fs";
import type { Server } from "bun";
import { assetResponse, type Assets } from "./assets.ts";
import type { Bots, SocketData } from "./bots.ts";
import type { Config } from "./config.ts";
import type { Call, Http, Route } from "./http.ts";
import { addressKey, createCounter } from "./limits.ts";
import type { Log } from "./log.ts";
import { ERRORS, Reject } from "./protocol.ts";

/** Bun's granularity is coarse: 12 s means closed after 12 to 24 s (measured), within the 30 s of PROMISES B5. */
const IDLE_S = 12;
/** Upload limits are checked by the routes; Bun's own refusal, which has no JSON, is only for what is far over. */
const BODY_SLACK = 1024 * 1024;
/** Bots' sockets answer protocol pings too; this only catches a peer that vanished under our JSON heartbeat. */
const SOCKET_IDLE_S = 120;

/** Where this machine reaches a gateway that listens on `host`. */
export const urlOf = (host: string, port: number): string => {
  if (host === "0.0.0.0" || host === "::") return `http://127.0.0.1:${port}`;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
};

/** Kept for the database, for files on their way, and for newcomers who sign in or ask for /health. */
const SPARE_DESCRIPTORS = 64;
/** Counting takes about a microsecond for each, so not for every one who comes; near the limit more often. */
const RECOUNT_MS = { usual: 1_000, near: 100 };

const NEARLY_FULL = {
  zh: "网关的连接快满了，请稍后再试",
  en: "The gateway is nearly out of connections, try again shortly",
};

/** RLIMIT_NOFILE of this process where the system tells it (Linux). */
const mostDescriptors = (): number | undefined => {
  try {
    const told = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.[1];
    return told === undefined ? undefined : Number(told);
  } catch {
    return undefined;
  }
};

/**
 * Room for one more stream or bot, which stay: at the very limit of descriptors nobody could connect at all, nothing could
 * be stored in a file, and the runtime would do nothing but try to accept. Elsewhere than on Linux there always is room.
 */
const createDescriptors = (now: () => number): { isFull: () => boolean } => {
  const most = mostDescriptors();
  if (most === undefined) return { isFull: () => false };
  const upto = most - Math.min(SPARE_DESCRIPTORS, Math.floor(most / 4));
  let held = 0;
  let countedAt = Number.NEGATIVE_INFINITY;
  const count = (): number => {
    try {
      return readdirSync("/proc/self/fd").length;
    } catch {
      return most; // looking takes one too
    }
  };
  return {
    isFull: () => {
      const age = now() - countedAt;
      if (age > RECOUNT_MS.usual || (held >= upto && age > RECOUNT_MS.near)) {
        held = count();
        countedAt = now();
      }
      if (held >= upto) return true;
      held++; // whoever is let in now, until the next count
      return false;
    },
  };
};

const STAYS_UNCOUNTED = (): void => {};

/**
 * Counts whoever comes to stay (a stream, a bot's socket) toward its address; the returned function, called once, takes it
 * back. Rejects
 * `rate_limited` beyond connectionsPerAddress, `bot_busy` when the process has nearly no descriptors left.
 */
export const createEntrance = ({ config, log, now }: { config: () => Config; log: Log; now: () => number }) => {
  const addresses = createCounter({ most: () => config().limits.connectionsPerAddress || Infinity });
  const descriptors = createDescriptors(now);
  /** The way out of each address, one for all who came from it: a held stream has none of its own. */
  const ways = new Map<string, () => void>();
  let crowded = 0;
  return ({ address, countsAddress }: Pick<Call, "address" | "countsAddress">): (() => void) => {
    if (descriptors.isFull()) {
      if ((crowded & (crowded - 1)) === 0) log("warn", "descriptors_full", { refused: crowded + 1 }); // a line per doubling
      crowded++;
      throw new Reject("bot_busy", NEARLY_FULL, 5);
    }
    if (!countsAddress) return STAYS_UNCOUNTED;
    const key = addressKey(address);
    if (!addresses.enter(key)) throw new Reject("rate_limited", ERRORS.rate_limited, 15);
    const known = ways.get(key);
    if (known) return known;
    const leave = (): void => {
      addresses.leave(key);
      if (addresses.count(key) === 0) ways.delete(key);
    };
    ways.set(key, leave);
    return leave;
  };
};

/** Listens. `beforePage`: another answer than the page, for in-app browsers that sign in by themselves. */
export const serve = (given: {
  config: () => Config;
  routes: readonly Route[];
  http: Http;
  sockets: Bots["handlers"];
  page: () => Promise<Assets>;
  beforePage: (request: Request, path: string) => Response | undefined;
}): Server<SocketData> => {
  const { config, routes, http, sockets, page, beforePage } = given;
  const { port, host, limits } = config();
  return Bun.serve<SocketData>({
    port,
    hostname: host,
    development: false,
    idleTimeout: IDLE_S,
    maxRequestBodySize: Math.max(limits.bodyBytes, limits.attachmentBytes) + BODY_SLACK,
    routes: http.table(routes) as never,
    fetch: http.fallback(routes, async (request, path) => {
      const { frameAncestors, language } = config();
      return beforePage(request, path) ?? assetResponse(await page(), request, path, { frameAncestors, language });
    }),
    error: http.failed,
    websocket: {
      data: {} as SocketData,
      maxPayloadLength: limits.frameBytes,
      // Twice a frame: after one of the largest, the small ones behind it still fit (measured; see facts on 0 from send).
      backpressureLimit: 2 * limits.frameBytes + BODY_SLACK,
      idleTimeout: SOCKET_IDLE_S,
      sendPings: true,
      perMessageDeflate: false,
      ...sockets,
    },
  });
};
