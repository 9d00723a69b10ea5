/** The door of the bot socket: `/bot-ws`. What comes through it is bots.ts's. */
import { checkOrigin } from "../auth.ts";
import type { SocketData } from "../bots.ts";
import type { Gate } from "../gate.ts";
import type { Route } from "../http.ts";
import { ERRORS, Reject } from "../protocol.ts";

export const socketRoutes = ({ config, now, isDraining, enter }: Gate): Route[] => [
  {
    method: "GET",
    path: "/bot-ws",
    auth: "none",
    handle: (call) => {
      const { headers } = call.request;
      if (isDraining()) throw new Reject("shutting_down", ERRORS.shutting_down, 5);
      // A page can open a WebSocket anywhere and would bring the cookie. Bots send no Origin; judged as an unsafe request.
      const foreign =
        headers.has("origin") && checkOrigin("POST", headers, call.own, config().corsOrigins).verdict === "forbidden";
      if (foreign)
        throw new Reject("forbidden", {
          zh: "不接受来自其他网站的连接",
          en: "Connections from other origins are refused",
        });
      if (headers.get("upgrade")?.toLowerCase() !== "websocket")
        return call.json({ error: "WebSocket only", code: "bad_request" }, 426, { Upgrade: "websocket" });
      const release = enter(call);
      const data: SocketData = {
        address: call.address,
        openedAt: now(),
        connection: undefined,
        registering: false,
        release,
      };
      // Bun answers the upgrade itself and wants no Response then.
      if (call.server.upgrade(call.request, { data })) return undefined as unknown as Response;
      release();
      throw new Reject("bad_request");
    },
  },
];
