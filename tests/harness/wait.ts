/**
 * Waiting and temporary folders for tests. A wait always has a deadline and says what it waited for; nothing sleeps
 * and hopes. Folders live under the system's temp folder and are removed by whoever made them.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * Polls `ready` until it returns something other than undefined, null or false, and returns that.
 * Throws after `ms` milliseconds with `what` in the sentence.
 */
export const until = async <T>(
  ready: () => T | undefined | null | false | Promise<T | undefined | null | false>,
  ms = 5000,
  what = "the expected state",
): Promise<T> => {
  const deadline = performance.now() + ms;
  for (;;) {
    const got = await ready();
    if (got !== undefined && got !== null && got !== false) return got;
    if (performance.now() > deadline) throw new Error(`waited ${ms} ms for ${what}`);
    await Bun.sleep(5);
  }
};

/** `promise`, or a throw that names `what` after `ms` milliseconds. */
export const within = async <T>(promise: Promise<T>, ms: number, what: string): Promise<T> => {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
};

/** A new empty folder; `remove` deletes it with everything in it. */
export const tempDir = async (name = "test"): Promise<{ path: string; remove: () => Promise<void> }> => {
  const path = await mkdtemp(join(tmpdir(), `nexus-${name}-`));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
};

/**
 * A port that is free, for programs that cannot report the one they were given. From below those that the system gives to whoever
 * asks for any: one of these may be somebody else's by the time the program listens.
 */
export const freePort = (): number => {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    try {
      Bun.listen({ hostname: "127.0.0.1", port, socket: { data() {} } }).stop(true);
      return port;
    } catch {
      // in use
    }
  }
};
