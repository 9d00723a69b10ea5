/** The line above the field that says what is quoted or edited, with the button that gives it up. Owns no choice itself. */
import type { Message } from "../lib/protocol.ts";
import { h } from "./dom.ts";
import { icon } from "./icons.ts";
import { cleanName, type Page } from "./page.ts";

export type Notice = {
  element: HTMLElement;
  draw: (editing: Message | undefined, replyTo: Message | undefined) => void;
};

export const createNotice = (page: Page, cancelled: () => void): Notice => {
  const { t } = page;
  const element = h("div.notice", { hidden: true });
  return {
    element,
    draw: (editing, replyTo) => {
      const text = editing
        ? t("editing")
        : replyTo
          ? `${t("quoting", { name: replyTo.role === "user" ? t("you") : cleanName(replyTo.botName ?? "") })}：${replyTo.content.replace(/\s+/g, " ").slice(0, 80)}`
          : "";
      element.hidden = text === "";
      element.replaceChildren();
      if (!text) return;
      const cancel = h(
        "button.icon",
        { type: "button", "aria-label": t(editing ? "cancelEdit" : "cancelQuote") },
        icon("close"),
      );
      cancel.addEventListener("click", cancelled);
      element.append(h("span", {}, text), cancel);
    },
  };
};
