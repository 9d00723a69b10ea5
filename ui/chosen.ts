/**
 * Who was chosen to answer, in each conversation, and the button that shows who will. The choice lives as long as the page;
 * without one it is whoever answered last here, which the gateway decides and this only shows.
 */
import { h, setText } from "./dom.ts";
import { cleanName, type Page } from "./page.ts";

export type Chosen = {
  button: HTMLElement;
  /** Who was chosen here; undefined: nobody, or that the gateway chooses. */
  here: () => string | undefined;
  choose: (botId: string | undefined) => void;
  /** The new conversation has this id now. */
  made: (id: string) => void;
  forget: () => void;
  draw: () => void;
};

export const createChosen = (page: Page, lastBot: () => string | undefined): Chosen => {
  const { state, t } = page;
  const text = h("span.chip-text", { dir: "auto" });
  const button = h("button.chip.bot-chip", { type: "button", "aria-haspopup": "listbox" }, text);
  const chosen = new Map<string, string | undefined>();
  const key = (): string => state.current ?? "new";
  const ownBot = (id: string): string | undefined => state.conversations.get(id)?.botId;

  return {
    button,
    here: () => chosen.get(key()),
    choose: (botId) => chosen.set(key(), botId),
    made: (id) => {
      // Who was chosen for the first message is the conversation's own bot by now; somebody else was chosen since.
      if (chosen.has("new") && chosen.get("new") !== ownBot(id)) chosen.set(id, chosen.get("new"));
      chosen.delete("new");
    },
    forget: () => chosen.clear(),
    draw: () => {
      const id = chosen.has(key()) ? chosen.get(key()) : state.current && (lastBot() ?? ownBot(state.current));
      const known = state.bots?.find((one) => one.id === id);
      const name = cleanName(id === undefined ? t("auto") : (known?.name ?? id));
      setText(text, name);
      button.setAttribute("aria-label", `${t("pickBot")}：${name}`);
      button.dataset.offline = String(id !== undefined && state.bots !== undefined && !known);
    },
  };
};
