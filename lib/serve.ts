/**
 * The one Bun.serve of a gateway: its routes, the page for every other address, the bot socket, and the limits that belong
 * to connections. Refuses to know what any of them do.
 */
import type { Server } from "bun";
import { assetResponse, type Assets } from "./assets.ts";
import type { Bots, SocketData } from "./bots.ts";
import type { Config } from "./config.ts";
import type { Http, Route } from "./http.ts";

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
