/** On a narrow page the list of conversations is a drawer over the chat. Must stay true: on a wide one nothing is covered. */
import { h } from "./dom.ts";

export type Drawer = {
  /** Covers the chat while the drawer is open; a press closes. */
  scrim: HTMLElement;
  /** Opens it, where the list is a drawer. */
  open: () => void;
  close: () => void;
  isOpen: () => boolean;
};

export const createDrawer = (sidebar: HTMLElement, bar: HTMLElement, chat: HTMLElement): Drawer => {
  const narrow = matchMedia("(max-width: 760px)");
  const scrim = h("button.scrim", { type: "button", tabindex: -1, hidden: true });
  let isOpen = false;
  const set = (on: boolean): void => {
    if (isOpen === on) return;
    isOpen = on;
    document.documentElement.classList.toggle("drawer", on);
    scrim.hidden = !on;
    chat.inert = on;
    bar.querySelector("[aria-controls=sidebar]")?.setAttribute("aria-expanded", String(on));
    (on ? sidebar : bar).querySelector<HTMLElement>("button")?.focus({ preventScroll: true });
  };
  const close = (): void => set(false);
  scrim.addEventListener("click", close);
  narrow.addEventListener("change", close); // a phone on its side has room for both
  return { scrim, open: () => set(narrow.matches), close, isOpen: () => isOpen };
};
