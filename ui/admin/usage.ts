/** Who used what: sums per day, person or bot over a span of days, and all of it as a file. */
import type { AdminUsageRow } from "../../lib/protocol/admin.ts";
import { h } from "../dom.ts";
import { button, named, selectInput, table, type Admin, type Column, type Section } from "./parts.ts";

const SPANS = [7, 30, 90, 365];

export const createUsage = (admin: Admin): Section => {
  const { t, number } = admin;
  const by = selectInput(
    [
      ["day", t("byDay")],
      ["user", t("byUser")],
      ["bot", t("byBot")],
    ],
    "day",
  );
  const days = selectInput(
    SPANS.map((n) => [String(n), t("days", { n })]),
    "30",
  );
  by.setAttribute("aria-label", t("usage"));
  days.setAttribute("aria-label", t("day"));
  by.id = "admin-usage-by";
  const list = h("div", {});
  const csv = button(t("csv"), () =>
    admin.download(`/api/admin/export/usage.csv?days=${days.value}`, "nexus-usage.csv"),
  );
  const element = h("section", {}, h("div.admin-tools", {}, by, days, csv), list);

  const load = async (again = false): Promise<void> => {
    const answer = await admin.read<{ usage: AdminUsageRow[] }>(
      `/api/admin/usage?by=${by.value}&days=${days.value}`,
      again,
    );
    if (!answer) return;
    const first = by.value === "day" ? t("day") : by.value === "user" ? t("person") : t("bot");
    const columns: Column[] = [
      { label: first },
      ...(["messages", "done", "failedCount", "cancelledCount", "answerChars", "tokensIn", "tokensOut"] as const).map(
        (key) => ({ label: t(key), numeric: true }),
      ),
    ];
    // A bar of how much of the largest a row is: the eye compares lengths, not figures.
    const most = Math.max(1, ...answer.usage.map(({ messages }) => messages));
    const rows = answer.usage.map((one) => [
      one.key === "" ? "–" : named(one.name ?? one.key, one.key),
      h(
        "span.bar-cell",
        {},
        h("meter", { min: 0, max: most, value: one.messages, "aria-hidden": "true" }),
        number(one.messages),
      ),
      number(one.done),
      number(one.failed),
      number(one.cancelled),
      number(one.chars),
      number(one.promptTokens),
      number(one.completionTokens),
    ]);
    list.replaceChildren(rows.length ? table(t("usage"), columns, rows) : h("p.meta", {}, t("empty")));
  };
  for (const input of [by, days]) input.addEventListener("change", () => void load());
  return { element, load };
};
