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
/** Rows of the audit log that an export reads at once. */
const PAGE = 500;
/** A year of a large company is a million rows: after this long everybody else has their turn. */
const SLICE_MS = 5;

/** A cell that no spreadsheet takes for a formula. */
const cell = (value: string | number): string => {
  const text = typeof value === "number" ? String(value) : /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
};
const lines = (rows: readonly (string | number)[][]): string =>
  rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
/** RFC 4180, with the mark by which spreadsheets know UTF-8. */
const csv = async function* (head: string, parts: AsyncIterable<(string | number)[][]>): AsyncGenerator<string> {
  yield `\ufeff${lines([head.split(" ")])}`;
  for await (const rows of parts) if (rows.length > 0) yield lines(rows);
};

/** `parts`, with a pause for others between them. */
const inTurn = async function* <T>(parts: Iterable<T>): AsyncGenerator<T> {
  let since = performance.now();
  for (const part of parts) {
    yield part;
    if (performance.now() - since < SLICE_MS) continue;
    await Bun.sleep(0);
    since = performance.now();
  }
};

const BY = ["day", "user", "bot"] as const;

export const adminRecordRoutes = (gate: Gate, done: Done): Route[] => {
  const { store, days, people, bots, config } = gate;

  /** Day by day, newest first. */
  const asked = (call: Call): AsyncGenerator<UsageRow[]> => {
    const span = limitOf(call.query("days"), DAYS, store.usage.keepDays, "days");
    const names = Array.from({ length: span }, (_, ago) => days.daysAgo(ago));
    return inTurn(names.values().map((day) => store.usage.on(day)));
  };

  const usage = async (call: Call): Promise<AdminUsageRow[]> => {
    const by = BY.find((one) => one === (call.query("by") ?? "day"));
    if (!by) throw new Reject("bad_request", { zh: "by：应为 day、user 或 bot", en: "by: day, user or bot" });
    const sums = new Map<string, AdminUsageRow>();
    const names = by === "bot" ? bots.names() : new Map<string, string>();
    const add = (row: UsageRow): void => {
      const key = row[by];
      // Messages are counted before a bot has them; per bot the turns tell.
      if (by === "bot" && key === "" && row.messages > 0) return;
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
    };
    for await (const rows of asked(call)) for (const row of rows) add(row);
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

  const file = (call: Call, name: string, body: AsyncGenerator<string>): Response =>
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
      handle: async (call) => call.json({ usage: await usage(call), timeZone: days.zone(), today: days.today() }),
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
        const days = asked(call);
        const cells = async function* () {
          for await (const rows of days)
            yield rows.map((row) => [
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
        };
        await done(call, { action: "exported", detail: { what: "usage" } });
        const head = "day user bot messages done failed cancelled chars prompt_tokens completion_tokens";
        return file(call, "nexus-usage.csv", csv(head, cells()));
      },
    },
    {
      method: "GET",
      path: "/api/admin/export/audit.csv",
      auth: "admin",
      handle: async (call) => {
        const pages = function* (): Generator<(string | number)[][]> {
          for (let before = Number.MAX_SAFE_INTEGER; ;) {
            const rows = store.audit.list(PAGE, before, "", "");
            yield rows.map((row) => [
              new Date(row.created_at).toISOString(),
              row.actor,
              row.action,
              row.target,
              row.detail,
              row.address,
            ]);
            const last = rows.at(-1);
            if (!last || rows.length < PAGE) return;
            before = last.id;
          }
        };
        await done(call, { action: "exported", detail: { what: "audit" } });
        return file(call, "nexus-audit.csv", csv("at actor action target detail address", inTurn(pages())));
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
