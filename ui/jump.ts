/**
 * Jumping to a message: a search hit, or what a quote is of. It may be on a page that is not loaded yet, or in a version that
 * is not shown.
 */
import type { Message } from "../lib/protocol.ts";
import { collectItems } from "./items.ts";
import type { Page } from "./page.ts";
import type { Thread } from "./state.ts";

/** Chooses the versions a message is in. False: it is not loaded. */
const reveal = (page: Page, { messages, choice }: Thread, id: string): boolean => {
  while (true) {
    const shown = new Set(collectItems(page).map(({ message }) => message.id));
    if (shown.has(id)) return true;
    let first: Message | undefined; // of the ancestors not shown: those below it depend on it
    for (let at = messages.get(id); at && !shown.has(at.id); at = messages.get(at.parentId ?? ""))
      if (at.role === "user") first = at;
    if (!first || choice.get(first.parentId ?? "") === first.id) return false;
    choice.set(first.parentId ?? "", first.id);
  }
};

/** Creates the jump; `show` draws what is chosen and holds the element of that message in view. */
export const createJump = (
  page: Page,
  thread: () => Thread | undefined,
  loadOlder: () => Promise<void>,
  show: (messageId: string) => void,
): ((messageId: string) => Promise<void>) => {
  let asked = 0;
  return async (messageId) => {
    const here = thread();
    const mine = ++asked;
    // Until it is there, there is no more, the network is away, or the reader has left or wants to go elsewhere.
    for (let at = ""; here && here === thread() && mine === asked; await loadOlder()) {
      if (reveal(page, here, messageId)) return show(messageId);
      if (!here.next || here.next === at) return;
      at = here.next;
    }
  };
};
