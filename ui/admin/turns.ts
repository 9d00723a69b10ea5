/** What is being answered right now, live: who asked whom, how far it is, and a button that stops it. */
import type { AdminTurn } from "../../lib/protocol/admin.ts";
import { createList, h, setText } from "../dom.ts";
import { button, named, row, type Admin, type Column, type Section } from "./parts.ts";

export const createTurns = (admin: Admin): Section => {
  const { t, number, page, call } = admin;
  const columns: Column[] = [
    { label: t("person") },
    { label: t("bot") },
    { label: t("state") },
    { label: t("length"), numeric: true },
    { label: t("duration"), numeric: true },
    { label: "" },
  ];
  const body = h("tbody");
  const grid = h(
    "table.grid",
    { hidden: true },
    h("caption.offscreen", {}, t("turns")),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ...columns.map(({ label, numeric }) => h(`th${numeric ? ".numeric" : ""}` as "th", { scope: "col" }, label)),
      ),
    ),
    body,
  );
  const head = h("p.meta", {});
  const element = h("section", {}, head, h("div.table-box", {}, grid));

  const show = createList<AdminTurn>(
    body,
    ({ id }) => id,
    (first) => {
      const [bot, state, length, duration] = [h("span", { dir: "auto" }), h("span"), h("span"), h("span")];
      const stop = button(t("cancelTurn"), async () => {
        stop.disabled = true;
        if (await call("POST", `/api/admin/turns/${first.id}/cancel`, {})) page.toast(t("cancelled"));
        else stop.disabled = false;
        await load(true);
      });
      const element = row(columns, [named(first.displayName, first.user), bot, state, length, duration, stop]);
      element.dataset.turn = first.id;
      const update = (turn: AdminTurn): void => {
        setText(bot, turn.botName ?? turn.botId ?? "–");
        setText(state, admin.word("state_", turn.state));
        setText(length, t("chars", { n: number(turn.chars) }));
        setText(duration, page.i18n.span(Math.max(0, Date.now() - turn.createdAt)));
      };
      update(first);
      return { element, update };
    },
  );

  const load = async (again = false): Promise<void> => {
    const answer = await admin.read<{ turns: AdminTurn[]; queued: number }>("/api/admin/turns", again);
    if (!answer) return;
    show(answer.turns);
    grid.hidden = answer.turns.length === 0;
    head.hidden = answer.turns.length > 0 && answer.queued === 0;
    setText(
      head,
      answer.turns.length === 0 ? t("noTurns") : answer.queued > 0 ? t("queuedNow", { n: answer.queued }) : "",
    );
  };
  return { element, load, live: true };
};
