/** Health. */
import type { Gate } from "../gate.ts";
import type { Route } from "../http.ts";

export const systemRoutes = ({ bots, isDraining }: Gate): Route[] => [
  {
    method: "GET",
    path: "/health",
    auth: "none",
    handle: (call) => {
      if (isDraining()) return call.json({ status: "draining" }, 503);
      const botIds = bots.list().map(({ id }) => id);
      return call.json({ status: "ok", bots: botIds.length, botIds });
    },
  },
];
