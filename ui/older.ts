/** Loading the pages before those that are here: of each conversation one at a time, however many ask. */
import type { Message } from "../lib/protocol.ts";
import type { Page } from "./page.ts";

const RETRY_MS = 2000;

/**
 * Loads a page of the open conversation; never rejects. `put` is given what merges it into the state; `more` is called after
 * it, or a while later if the network is away.
 */
export const createOlder = (
  page: Page,
  put: (id: string, merge: () => void) => void,
  more: () => void,
): ((count: number) => Promise<void>) => {
  const { api, state } = page;
  const loading = new Map<string, Promise<void>>();

  const load = async (id: string, count: number, before: string): Promise<void> => {
    try {
      const answer = await api.call<{ messages: Message[]; next?: string }>(
        "GET",
        `/api/conversations/${id}/messages?limit=${count}&before=${encodeURIComponent(before)}`,
      );
      put(id, () => {
        const current = state.threads.get(id);
        if (current?.next !== before) return; // begun anew meanwhile: this page would not join it
        current.next = answer.next;
        for (const message of answer.messages) state.putMessage(message);
      });
      requestAnimationFrame(more);
    } catch {
      setTimeout(more, RETRY_MS);
    }
  };

  return (count) => {
    const id = state.current;
    const before = id === undefined ? undefined : state.threads.get(id)?.next;
    if (id === undefined || before === undefined) return Promise.resolve();
    const mine = loading.get(id) ?? load(id, count, before).finally(() => loading.delete(id));
    loading.set(id, mine);
    return mine;
  };
};
