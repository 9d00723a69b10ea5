/**
 * Group commit: every write that arrives in one turn of the event loop shares one transaction.
 *
 * Owns the only transaction of the process. A write is a function that runs its statements; its promise settles when they
 * are committed, so "awaited" means "survives kill -9". A write must not change memory: when one of a batch throws, the
 * batch is rolled back and each write is run again in a transaction of its own, so one bad write harms no other. The
 * revision counter is rolled back with it: a revision that somebody was told is always on disk.
 * Grouping took a chat from 111-132 µs to 54-64 (throwaway measurement, DESIGN.md).
 */
import type { Database } from "bun:sqlite";
import { Reject } from "../protocol.ts";
import type { Log } from "../log.ts";

export type Committer = {
  /** Runs `op` in the next commit. Rejects with what `op` threw, or Reject("storage_failed") when the disk refused. */
  write<T>(op: () => T): Promise<T>;
  /** Commits what is waiting, now. For shutdown and tests. */
  flush(): void;
  /** Commits what is waiting; every later write is refused. */
  close(): void;
  stats(): { commits: number; writes: number; maxMs: number };
};

/**
 * A commit begins about so long after the last one began, at the soonest (66.6 µs of CPU per chat in the least of 12 rounds;
 * 71.7 with 2 ms, 69.0 with none). A single send never waits; in a rush, where there is always
 * a commit in the last WINDOW_MS, one holds more writes, and a commit costs 170 to 340 µs whatever is in it
 * (ten pages and more into the WAL, 9 µs each).
 */
const WINDOW_MS = 1;

type Waiting = { op: () => unknown; resolve: (value: unknown) => void; reject: (error: unknown) => void };

/** SQLite's own errors (full, read-only, I/O, corrupt) are the disk's; anything else a bug in the write. */
const isStorageError = (error: unknown): boolean =>
  error instanceof Error &&
  /^SQLITE_(FULL|IOERR|READONLY|CANTOPEN|CORRUPT|NOTADB|BUSY|LOCKED|NOMEM|PERM)/.test(
    String((error as { code?: unknown }).code ?? ""),
  );

/**
 * `counter` takes part in the transaction: its value is that of the last commit whenever nobody is writing. `tally` counts
 * what the writes of a transaction say and stores the sums in it.
 */
export const createCommitter = (
  db: Database,
  log: Log,
  counter: { value: number },
  tally: { reset(): void; store(): void } = { reset: () => {}, store: () => {} },
): Committer => {
  const begin = db.prepare("BEGIN IMMEDIATE");
  const commit = db.prepare("COMMIT");
  const rollback = db.prepare("ROLLBACK");
  let waiting: Waiting[] = [];
  let scheduled = false;
  let closed = false;
  /** Of the last commit. */
  let startedAt = -WINDOW_MS;
  const counts = { commits: 0, writes: 0, maxMs: 0 };

  const undo = (): void => {
    if (db.inTransaction) rollback.run();
  };

  const fail = (one: Waiting, error: unknown): void => {
    if (!isStorageError(error)) return one.reject(error);
    log("error", "storage_failed", { error: (error as Error).message });
    one.reject(new Reject("storage_failed"));
  };

  /** All of `batch` in one transaction; false when that failed and nothing of it is stored. */
  const together = (batch: Waiting[]): boolean => {
    const before = counter.value;
    tally.reset();
    try {
      begin.run();
      const results = batch.map((one) => one.op());
      tally.store();
      commit.run();
      batch.forEach((one, i) => {
        one.resolve(results[i]);
      });
      return true;
    } catch (error) {
      undo();
      counter.value = before;
      if (batch.length === 1) fail(batch[0]!, error);
      return false;
    }
  };

  const flush = (): void => {
    scheduled = false; // a flush by hand leaves a timer behind, which then finds nothing
    if (waiting.length === 0) return;
    const batch = waiting;
    waiting = [];
    startedAt = performance.now();
    if (!together(batch) && batch.length > 1) for (const one of batch) together([one]);
    counts.commits++;
    counts.writes += batch.length;
    counts.maxMs = Math.max(counts.maxMs, performance.now() - startedAt);
  };

  return {
    write: <T>(op: () => T) =>
      new Promise<T>((resolve, reject) => {
        if (closed) return reject(new Reject("shutting_down"));
        waiting.push({ op, resolve: resolve as (value: unknown) => void, reject });
        if (scheduled) return;
        scheduled = true;
        const rest = WINDOW_MS - (performance.now() - startedAt);
        if (rest > 0.5) setTimeout(flush, rest);
        else setImmediate(flush);
      }),
    flush,
    close: () => {
      closed = true;
      flush();
    },
    stats: () => ({ ...counts }),
  };
};
