/** The line above the conversation: its title, what can be done with it, and one calm word on the connection. */
import { openDialog } from "./dialog.ts";
import { h, setAttributes, setText } from "./dom.ts";
import { botRow } from "./empty.ts";
import { icon } from "./icons.ts";
import type { Page } from "./page.ts";

export type Bar = { element: HTMLElement; show: () => void };

export const createBar = (
  page: Page,
  on: { menu: () => void; actions: (button: HTMLElement) => void; pickBot: (botId: string) => void },
): Bar => {
  const { state, t } = page;
  const menu = h(
    "button.icon.menu-button",
    { type: "button", "aria-controls": "sidebar", "aria-expanded": "false" },
    icon("menu"),
  );
  const unread = h("span.menu-dot", { hidden: true, "aria-hidden": "true" });
  menu.append(unread);
  const title = h("h1.title", { dir: "auto" });
  const more = h("button.icon", { type: "button", "aria-haspopup": "menu", "aria-expanded": "false" }, icon("more"));
  const text = h("span.status-text");
  const short = h("span.status-text.status-short");
  const status = h(
    "button.status",
    { type: "button", "aria-haspopup": "dialog" },
    h("span.dot", { "aria-hidden": "true" }),
    text,
    short,
  );
  const element = h("header.bar", {}, menu, title, more, status);

  const openBots = (): void => {
    const rows = h("div.bot-rows");
    const draw = (): void => {
      const bots = state.bots ?? [];
      rows.replaceChildren(
        ...(bots.length ? bots.map((bot) => botRow(page, bot)) : [h("p.meta-line", {}, t("emptyNone"))]),
      );
    };
    const stop = state.on("bots", draw);
    const dialog = openDialog({ title: t("botsTitle"), closeLabel: t("close"), name: "bots", onClose: stop }, rows);
    rows.addEventListener("click", (event) => {
      const id = (event.target as Element).closest<HTMLElement>("[data-bot]")?.dataset.bot;
      if (!id) return;
      dialog.close();
      on.pickBot(id);
    });
    draw();
  };

  const draw = (): void => {
    const conversation = state.current ? state.conversations.get(state.current) : undefined;
    setText(title, state.current === undefined ? t("newChat") : conversation?.title || t("untitled"));
    more.hidden = conversation === undefined;
    const link = state.link;
    const count = state.bots?.length ?? 0;
    const online = link === "online" || link === "connecting";
    setAttributes(status, {
      "data-link": link === "online" && count === 0 ? "empty" : link,
    });
    setText(
      text,
      link === "reconnecting"
        ? t("unreachable")
        : link === "offline"
          ? t("offline")
          : state.bots === undefined
            ? t("connecting")
            : count > 0
              ? t("botsOnline", { n: count })
              : t("botsNone"),
    );
    // On a phone the title needs the room.
    setText(
      short,
      link === "reconnecting"
        ? t("reconnecting")
        : link === "offline"
          ? t("offlineShort")
          : count > 0
            ? t("onlineShort", { n: count })
            : (text.textContent ?? ""),
    );
    status.classList.toggle("trouble", !online);
    let others = 0;
    for (const c of state.conversations.values()) if (c.id !== state.current) others += c.unread;
    unread.hidden = others === 0;
  };

  menu.addEventListener("click", on.menu);
  more.addEventListener("click", () => on.actions(more));
  status.addEventListener("click", openBots);
  for (const topic of ["bots", "link", "list", "current"] as const) state.on(topic, draw);

  return {
    element,
    show: () => {
      setAttributes(menu, { "aria-label": t("menu") });
      setAttributes(more, { "aria-label": t("conversationMenu") });
      draw();
    },
  };
};
