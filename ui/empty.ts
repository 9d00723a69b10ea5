/** The empty state: who is here to help, as rows to tap, and prompts the bots suggest. */
import type { BotInfo } from "../lib/protocol.ts";
import { h } from "./dom.ts";
import { cleanName, hueOf, sealOf, type Page } from "./page.ts";

/** One bot as a row; also used by the list of bots. `chosen` only where the choice stays in view. */
export const botRow = (page: Page, bot: BotInfo, chosen?: boolean): HTMLElement => {
  const name = cleanName(bot.name);
  const notes = [
    bot.busy ? page.t("busy") : page.t("online"),
    bot.instances > 1 ? page.t("instances", { n: bot.instances }) : undefined,
  ].filter(Boolean);
  return h(
    "button.bot-row",
    { type: "button", "data-bot": bot.id, "aria-pressed": chosen === undefined ? undefined : String(chosen) },
    h("span.seal", { "data-hue": hueOf(bot.id), "aria-hidden": "true" }, sealOf(name)),
    h(
      "span.bot-text",
      {},
      h("strong", { dir: "auto" }, name),
      h("span.meta", { dir: "auto" }, bot.description ? cleanName(bot.description) : `@${bot.id}`),
    ),
    h(
      "span.bot-state",
      { "data-busy": bot.busy || undefined },
      h("span.dot", { "aria-hidden": "true" }),
      notes.join(" · "),
    ),
  );
};

export const createEmpty = (
  page: Page,
  actions: { pickBot: (botId: string) => void; chosenBot: () => string | undefined; suggest: (text: string) => void },
): { element: HTMLElement; draw: (isNew: boolean) => void } => {
  const element = h("div.empty", { hidden: true });
  element.addEventListener("click", (event) => {
    const target = (event.target as Element).closest<HTMLElement>("[data-bot],[data-suggest]");
    if (target?.dataset.bot) actions.pickBot(target.dataset.bot);
    else if (target?.dataset.suggest) actions.suggest(target.dataset.suggest);
  });
  return {
    element,
    draw: (isNew) => {
      const bots = page.state.bots;
      const suggestions = [...new Set((bots ?? []).flatMap((bot) => bot.suggestions ?? []))].slice(0, 3);
      element.replaceChildren(
        h("h2", {}, isNew || bots?.length ? page.t("emptyTitle") : page.t("emptyThread")),
        ...(bots === undefined
          ? []
          : bots.length === 0
            ? [h("p.meta-line", {}, page.t("emptyNone"))]
            : [h("div.bot-rows", {}, ...bots.map((bot) => botRow(page, bot, bot.id === actions.chosenBot())))]),
        ...(suggestions.length
          ? [
              h(
                "div.suggestions",
                {},
                ...suggestions.map((text) => h("button.chip", { type: "button", "data-suggest": text }, text)),
              ),
            ]
          : []),
      );
    },
  };
};
