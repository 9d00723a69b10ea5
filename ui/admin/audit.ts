/** The audit log: who did what to whom, newest first. */
import type { AdminAuditEntry } from "../../lib/protocol/admin.ts";
import { h } from "../dom.ts";
import { cleanName } from "../page.ts";
import { button, selectInput, table, textInput, type Admin, type Column, type Section } from "./parts.ts";
import { ADMIN_ZH } from "./texts-zh.ts";

const FILTER_AFTER_MS = 300;

export const createAuditLog = (admin: Admin): Section => {
  const { t, word } = admin;
  const actions = Object.keys(ADMIN_ZH)
    .filter((key) => key.startsWith("a_"))
    .map((key) => key.slice(2));
  const action = selectInput(
    [["", t("allActions")], ...actions.map((one): [string, string] => [one, word("a_", one)])],
    "",
  );
  const who = textInput("", { type: "search", placeholder: t("filterWho"), "aria-label": t("filterWho") });
  action.setAttribute("aria-label", t("action"));
  const list = h("div", {});
  const more = button(t("more"), () => fetchPage(next));
  const csv = button(t("csv"), () => admin.download("/api/admin/export/audit.csv", "nexus-audit.csv"));
  const element = h("section", {}, h("div.admin-tools", {}, action, who, csv), list, more);
  const columns: Column[] = [
    { label: t("at") },
    { label: t("actor") },
    { label: t("action") },
    { label: t("target") },
    { label: t("detail") },
  ];
  let entries: AdminAuditEntry[] = [];
  let next: string | undefined;

  const say = (detail: Record<string, unknown>): string =>
    Object.entries(detail)
      .map(
        ([key, value]) => `${key}: ${Array.isArray(value) ? value.join(", ") : value === null ? "–" : String(value)}`,
      )
      .join(" · ");
  const draw = (): void => {
    const rows = entries.map((one) => [
      h("time", { datetime: new Date(one.at).toISOString() }, admin.time(one.at)),
      h("span.who", { dir: "auto" }, h("span", {}, cleanName(one.actor) || "–"), h("span.meta", {}, one.address)),
      h("span", { "data-action": one.action }, word("a_", one.action)),
      h("span", { dir: "auto" }, cleanName(one.target)),
      h("span.meta", { dir: "auto" }, cleanName(say(one.detail))),
    ]);
    list.replaceChildren(rows.length ? table(t("audit"), columns, rows) : h("p.meta", {}, t("empty")));
    more.hidden = next === undefined;
  };
  const fetchPage = async (before?: string): Promise<void> => {
    const query = new URLSearchParams({ action: action.value, who: who.value.trim(), ...(before && { before }) });
    const answer = await admin.read<{ entries: AdminAuditEntry[]; next?: string }>(`/api/admin/audit?${query}`);
    if (!answer) return;
    entries = before ? [...entries, ...answer.entries] : answer.entries;
    next = answer.next;
    draw();
  };
  const load = (): Promise<void> => fetchPage();
  let timer: ReturnType<typeof setTimeout> | undefined;
  action.addEventListener("change", () => void load());
  who.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => void load(), FILTER_AFTER_MS);
  });
  return { element, load };
};
