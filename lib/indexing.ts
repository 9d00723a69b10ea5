/**
 * When search reads what was said: about a second after it, and not in the middle of a rush.
 *
 * What must stay true: one pass at a time; nothing waits longer than INDEX_MS for a rush to end. Indexing a chat costs about
 * as much as storing it, and nobody searches for what is being said by the hundred this very second.
 */
import type { Store } from "./store.ts";

/** So many writes a second are a rush: some two hundred chats. */
const BUSY_WRITES = 400;
const INDEX_MS = 30_000;
/** Between two passes, for whoever else wants the disk. */
const PAUSE_MS = 20;

export const createIndexing = (store: Pick<Store, "search" | "stats">) => {
  let running: Promise<void> | undefined;
  let stopped = false;
  let writesBefore = 0;

  const run = async (): Promise<void> => {
    while (!stopped && (await store.search.indexSome())) await Bun.sleep(PAUSE_MS);
  };

  return {
    /** Call it about once a second. The pass that is running now, if one is. */
    beat: (): Promise<void> | undefined => {
      const { writes } = store.stats();
      const busy = writes - writesBefore > BUSY_WRITES && store.search.waitingMs() < INDEX_MS;
      writesBefore = writes;
      if (!busy)
        running ??= run().finally(() => {
          running = undefined;
        });
      return running;
    },
    /** Resolves when the pass that is running has ended. What failed in it was told to whoever called `beat`. */
    stop: async (): Promise<void> => {
      stopped = true;
      await running?.catch(() => {});
    },
  };
};
