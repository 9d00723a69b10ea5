/** What bots said to nobody: listed without its words, opened one at a time. */
import type { AdminDeadLetter } from "../../lib/protocol/admin.ts";
import { openDialog } from "../dialog.ts";
import { h } from "../dom.ts";
import { button, table, type Admin, type AdminText, type Column, type Section } from "./parts.ts";

/** The gateway's reasons (lib/inbox.ts) as sentences; one that is not here is shown as it is. */
const REASONS: Readonly<Record<string, AdminText>> = {
  "late reply too large": "deadLate",
  "outbound without a person (v1 form)": "deadOutbound",
  "turn of another bot, or over": "deadOver",
  "unknown turn": "deadUnknown",
};

/** As it would be sent, indented; what is cut or broken stays as it is. */
const pretty = (frame: string): string => {
  try {
    return JSON.stringify(JSON.parse(frame), null, 2);
  } catch {
    return frame;
  }
};

export const createDeadLetters = (admin: Admin): Section => {
  const { t, page, call } = admin;
  const columns: Column[] = [
    { label: t("at") },
    { label: t("bot") },
    { label: t("reason") },
    { label: t("size"), numeric: true },
    { label: "" },
  ];
  const why = (reason: string): string => {
    const code = /^proactive refused: (.*)$/.exec(reason)?.[1];
    if (code !== undefined) return t("deadRefused", { code });
    const known = Object.hasOwn(REASONS, reason) ? REASONS[reason] : undefined;
    return known ? t(known) : reason;
  };
  const list = h("div", {});
  const more = button(t("more"), () => add());
  const element = h("section", {}, h("p.meta", {}, t("deadHint")), list, more);
  let letters: AdminDeadLetter[] = [];
  let next: string | undefined;

  const open = async (letter: AdminDeadLetter): Promise<void> => {
    const got = await call<{ frame: string }>("GET", `/api/admin/dead-letters/${letter.id}`);
    if (!got) return;
    const dialog = openDialog(
      { title: t("deadTitle"), closeLabel: page.t("close"), name: "admin-letter" },
      h("p.meta", { dir: "auto" }, `${admin.time(letter.createdAt)} · ${letter.botId} · ${why(letter.reason)}`),
      h("pre.frame", { tabindex: 0, dir: "auto" }, pretty(got.frame)),
      h(
        "div.actions",
        {},
        button(t("copy"), () => page.copy(got.frame)),
        button(t("remove"), async () => {
          if (!(await call("DELETE", `/api/admin/dead-letters/${letter.id}`))) return;
          dialog.close();
          page.toast(t("removed"));
          await load();
        }),
      ),
    );
  };
  const draw = (): void => {
    const rows = letters.map((letter) => [
      admin.time(letter.createdAt),
      h("span", { dir: "auto" }, letter.botId),
      why(letter.reason),
      admin.bytes(letter.bytes),
      button(t("read"), () => open(letter)),
    ]);
    list.replaceChildren(rows.length ? table(t("dead"), columns, rows) : h("p", {}, t("noDead")));
    more.hidden = next === undefined;
  };
  const fetchPage = async (before?: string): Promise<void> => {
    const answer = await admin.read<{ deadLetters: AdminDeadLetter[]; next?: string }>(
      `/api/admin/dead-letters${before ? `?before=${before}` : ""}`,
    );
    if (!answer) return;
    letters = before ? [...letters, ...answer.deadLetters] : answer.deadLetters;
    next = answer.next;
    draw();
  };
  const add = (): Promise<void> => fetchPage(next);
  const load = (): Promise<void> => fetchPage();
  return { element, load };
};
