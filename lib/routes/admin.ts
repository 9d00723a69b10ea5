/**
 * `/api/admin/*`: everything an operator sees and does, for people with the role and never for an API key.
 *
 * What must stay true: an action is answered after its entry in the audit log is stored; no message text is shown except a
 * dead letter that is opened, and that is written down too.
 */
import type { AuditEntry } from "../audit.ts";
import type { Gate } from "../gate.ts";
import type { Call, Route } from "../http.ts";
import { overviewOf } from "../overview.ts";
import { adminBotRoutes } from "./admin/bots.ts";
import { adminRecordRoutes } from "./admin/records.ts";
import { adminUserRoutes } from "./admin/users.ts";
import { adminWorkRoutes } from "./admin/work.ts";

/** Writes down what the caller just did. Resolves once stored. */
export type Done = (call: Call, entry: Omit<AuditEntry, "actor" | "address">) => Promise<void>;

export const adminRoutes = (gate: Gate): Route[] => {
  const done: Done = async (call, entry) => {
    const actor = call.caller.user;
    gate.log("info", "admin_action", { admin: actor, action: entry.action, target: entry.target });
    await gate.audit.record({ ...entry, actor, address: call.address });
  };
  return [
    { method: "GET", path: "/api/admin/overview", auth: "admin", handle: (call) => call.json(overviewOf(gate)) },
    ...adminUserRoutes(gate, done),
    ...adminBotRoutes(gate, done),
    ...adminWorkRoutes(gate, done),
    ...adminRecordRoutes(gate, done),
  ];
};
