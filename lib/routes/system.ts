/** Health, and what could not be delivered. */
import { limitOf } from "../bodies.ts";
import type { Gate } from "../gate.ts";
import type { Route } from "../http.ts";
import { decodeId, encodeId } from "../ids.ts";

export const systemRoutes = ({ bots, store, isDraining }: Gate): Route[] => [
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
  {
    method: "GET",
    path: "/api/admin/dead-letters",
    auth: "admin",
    handle: (call) => {
      const before = call.query("before");
      const limit = limitOf(call.query("limit"), 50, 200);
      const rows = store.inbox.deadLetters(limit, before ? decodeId(before) : undefined);
      const deadLetters = rows.map(({ id, bot, reason, frame, created_at }) => ({
        id: encodeId(id),
        botId: bot,
        reason,
        frame,
        createdAt: created_at,
      }));
      const last = rows.at(-1);
      return call.json({ deadLetters, ...(rows.length === limit && last && { next: encodeId(last.id) }) });
    },
  },
];
