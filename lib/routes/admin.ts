/** Admin routes. */
import type { Gate } from "../gate.ts";
import type { Route } from "../http.ts";
import { overviewOf } from "../overview.ts";

export const adminRoutes = (gate: Gate): Route[] => [
  { method: "GET", path: "/api/admin/overview", auth: "admin", handle: (call) => call.json(overviewOf(gate)) },
];
