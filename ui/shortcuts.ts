/** The keys that work everywhere: Ctrl+K or / searches, Ctrl+J starts a conversation, Escape closes the topmost thing. */
import { composing } from "./page.ts";

/** `escape` tells whether there was something to close. */
export const listenForShortcuts = (on: {
  signedOut: () => boolean;
  search: () => void;
  fresh: () => void;
  escape: () => boolean;
}): void => {
  addEventListener("keydown", (event) => {
    if (composing(event) || on.signedOut()) return;
    const strong = (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey;
    const typing = (event.target as Element).closest?.("input, textarea, select, dialog");
    const dialog = document.querySelector("dialog[open]") !== null;
    if (strong && event.key.toLowerCase() === "k" && !dialog) on.search();
    else if (strong && event.key.toLowerCase() === "j" && !dialog) on.fresh();
    else if (event.key === "/" && !typing && !dialog) on.search();
    else if (event.key !== "Escape" || dialog || !on.escape()) return;
    event.preventDefault();
  });
};
