/** What is written down, for admins: use per day, person and bot; the audit log; limits; all of it as CSV too. */
import { limitOf } from "../../bodies.ts";
import { NO_LIMIT } from "../../config/defaults.ts";
import { disposition } from "../../export.ts";
import type { Gate } from "../../gate.ts";
import type { Call, Route } from "../../http.ts";
import { decodeId, encodeId } from "../../ids.ts";
import { Reject } from "../../protocol.ts";
import type { AdminAuditEntry, AdminUsageRow } from "../../protocol/admin.ts";
import type { AuditRow } from "../../store/audit.ts";
import type { UsageRow } from "../../store/usage.ts";
import type { Done } from "../admin.ts";

const DAYS = 30;
/** Rows of one export of the audit log. */
const MOST = 100_000;

/** A cell that no spreadsheet takes for a formula. */
const cell = (value: string | number): string => {
  const text = typeof value === "number" ? String(value) : /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
};
/** RFC 4180, with the mark by which spreadsheets know UTF-8. */
const csv = (head: readonly string[], rows: readonly (string | number)[][]): string =>
  `\ufeff${[head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;

const BY = ["day", "user", "bot"] as const;

export const adminRecordRoutes = (gate: Gate, done: Done): Route[] => {
  const { store, days, people, bots, config } = gate;

  const between = (call: Call): UsageRow[] => {
    const span = limitOf(call.query("days"), DAYS, store.usage.keepDays, "days");
    return store.usage.between(days.daysAgo(span - 1), days.today());
  };

  const usage = (call: Call): AdminUsageRow[] => {
    const by = BY.find((one) => one === (call.query("by") ?? "day"));
    if (!by) throw new Reject("bad_request", { zh: "by：应为 day、user 或 bot", en: "by: day, user or bot" });
    const sums = new Map<string, AdminUsageRow>();
    const names = by === "bot" ? bots.names() : new Map<string, string>();
    for (const row of between(call)) {
      const key = row[by];
      // Messages are counted before a bot has them; per bot the turns tell.
      if (by === "bot" && key === "" && row.messages > 0) continue;
      let sum = sums.get(key);
      if (!sum) {
        const name = by === "user" ? people.find(key)?.displayName : names.get(key);
        sum = {
          key,
          ...(name !== undefined && { name }),
          messages: 0,
          done: 0,
          failed: 0,
          cancelled: 0,
          chars: 0,
          promptTokens: 0,
          completionTokens: 0,
        };
        sums.set(key, sum);
      }
      const turns = row.done + row.failed + row.cancelled;
      sum.messages += by === "bot" ? turns : row.messages;
      sum.done += row.done;
      sum.failed += row.failed;
      sum.cancelled += row.cancelled;
      sum.chars += row.chars;
      sum.promptTokens += row.prompt_tokens;
      sum.completionTokens += row.completion_tokens;
    }
    const rows = [...sums.values()];
    return by === "day" ? rows.sort((a, b) => (a.key < b.key ? 1 : -1)) : rows.sort((a, b) => b.messages - a.messages);
  };

  const entry = ({ id, actor, action, target, detail, address, created_at }: AuditRow): AdminAuditEntry => ({
    id: encodeId(id),
    at: created_at,
    actor,
    action,
    target,
    detail: detailOf(detail),
    address,
  });

  const file = (call: Call, name: string, body: string): Response =>
    new Response(body, {
      headers: {
        ...call.headers,
        "Content-Type": "text/csv; charset=utf-8",
        "Cache-Control": "no-store",
        "Content-Disposition": disposition("attachment", name),
      },
    });

  const limits = (): Record<string, number> =>
    Object.fromEntries(Object.entries(config().limits).map(([name, value]) => [name, value >= NO_LIMIT ? 0 : value]));

  return [
    {
      method: "GET",
      path: "/api/admin/usage",
      auth: "admin",
      handle: (call) => call.json({ usage: usage(call), timeZone: days.zone(), today: days.today() }),
    },
    {
      method: "GET",
      path: "/api/admin/audit",
      auth: "admin",
      handle: (call) => {
        const limit = limitOf(call.query("limit"), 50, 200);
        const before = call.query("before");
        const rows = store.audit.list(
          limit,
          before ? decodeId(before) : Number.MAX_SAFE_INTEGER,
          call.query("action") ?? "",
          call.query("who") ?? "",
        );
        const last = rows.at(-1);
        return call.json({
          entries: rows.map(entry),
          ...(rows.length === limit && last && { next: encodeId(last.id) }),
        });
      },
    },
    {
      method: "GET",
      path: "/api/admin/limits",
      auth: "admin",
      handle: (call) => call.json({ limits: limits(), timeZone: days.zone() }),
    },
    {
      method: "GET",
      path: "/api/admin/export/usage.csv",
      auth: "admin",
      handle: async (call) => {
        const rows = between(call).map((row) => [
          row.day,
          row.user,
          row.bot,
          row.messages,
          row.done,
          row.failed,
          row.cancelled,
          row.chars,
          row.prompt_tokens,
          row.completion_tokens,
        ]);
        await done(call, { action: "exported", detail: { what: "usage" } });
        const head = "day user bot messages done failed cancelled chars prompt_tokens completion_tokens".split(" ");
        return file(call, "nexus-usage.csv", csv(head, rows));
      },
    },
    {
      method: "GET",
      path: "/api/admin/export/audit.csv",
      auth: "admin",
      handle: async (call) => {
        const rows = store.audit
          .list(MOST, Number.MAX_SAFE_INTEGER, "", "")
          .map((row) => [
            new Date(row.created_at).toISOString(),
            row.actor,
            row.action,
            row.target,
            row.detail,
            row.address,
          ]);
        await done(call, { action: "exported", detail: { what: "audit" } });
        return file(call, "nexus-audit.csv", csv("at actor action target detail address".split(" "), rows));
      },
    },
  ];
};

/** A detail that was cut is no JSON any more; it is shown as it stands. */
const detailOf = (text: string): Record<string, unknown> => {
  if (text === "") return {};
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return { text };
  }
};
