/** Passing notes at the bottom. At most one; a new one replaces the old. */
import { byId, h } from "./dom.ts";

/** Creates the function that shows a note for `ms` (5 s), with at most one action. */
export const createToast = (): ((text: string, action?: { label: string; run: () => void }, ms?: number) => void) => {
  let shown: HTMLElement | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const hide = (): void => {
    clearTimeout(timer);
    shown?.remove();
    shown = undefined;
  };
  return (text, action, ms = 5000) => {
    hide();
    const button = action && h("button", { type: "button" }, action.label);
    button?.addEventListener("click", () => {
      hide();
      action?.run();
    });
    shown = h("div.toast", { role: "status" }, h("span", { dir: "auto" }, text), button);
    // Over an open dialog nothing else can be seen or pressed.
    ([...document.querySelectorAll("dialog[open]")].at(-1) ?? byId("layers")).append(shown);
    timer = setTimeout(hide, ms);
  };
};
