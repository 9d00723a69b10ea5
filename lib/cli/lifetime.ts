/**
 * From running to stopped: signals, and what happens when something breaks that nobody caught.
 *
 * What must stay true (PROMISES F5): the first SIGTERM or SIGINT drains, the second ends the process within a second; an
 * error nobody caught is logged and ends the process in order, since what it left behind cannot be trusted.
 */
import type { Env } from "../config/secrets.ts";
import type { Log } from "../log.ts";
import { EXIT } from "./command.ts";

/** Closing sockets and the store. Beyond it, something hangs. */
const CLOSE_MS = 3_000;
/** F5: open answers get 25 s (the gateway counts them), then everything is closed. */
const DRAIN_MS = 25_000 + CLOSE_MS;
/** After an unexpected error: enough to store what is open, not enough to look alive. */
const BROKEN_DRAIN_MS = 5_000;
/**
 * Behind a launcher (deploy/npm/nexus-gateway.cjs, `bun run`, npx) a signal may come twice or more: a terminal and PM2 signal
 * every process of a tree, and each launcher passes on what it got. What comes this soon after the first is the same one
 * then; on a busy machine npm takes its time.
 */
const SAME_SIGNAL_MS = 300;

/** Whether somebody stands between this process and whoever signals it: our launcher, or a script of package.json. */
export const isLaunched = (env: Env): boolean => env.NEXUS_LAUNCHED === "1" || env.npm_lifecycle_event !== undefined;

const SIGNALS = ["SIGTERM", "SIGINT"] as const;

const atMost = async (work: () => Promise<unknown> | unknown, ms: number): Promise<"done" | "late"> => {
  let timer: Timer | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(() => resolve("late"), ms);
  });
  try {
    return await Promise.race([Promise.resolve(work()).then(() => "done" as const), late]);
  } finally {
    clearTimeout(timer);
  }
};

/**
 * Waits for the end and brings it about: `drain` (which lets open work finish and closes everything), and where that fails
 * or takes longer than `drainMs`, `close`. Resolves with the exit code: 0 after a signal, 1 after an error nobody caught. A
 * second signal calls `exit(1)` at once.
 */
export const untilStopped = ({
  drain,
  close,
  log,
  drainMs = DRAIN_MS,
  launched = false,
  exit = (code) => process.exit(code),
}: {
  drain(): Promise<unknown> | unknown;
  close(): Promise<unknown> | unknown;
  log: Log;
  drainMs?: number;
  /** Whether one signal may come several times, see isLaunched. */
  launched?: boolean;
  exit?: (code: number) => void;
}): Promise<number> => {
  const { promise, resolve } = Promise.withResolvers<number>();
  let stopping = false;
  let signalledAt = Number.NEGATIVE_INFINITY;

  const stop = async (code: number, graceMs: number): Promise<void> => {
    stopping = true;
    let worst = code;
    try {
      if ((await atMost(drain, graceMs)) === "late") {
        log("warn", "drain_cut", { afterMs: graceMs });
        if ((await atMost(close, CLOSE_MS)) === "late") log("warn", "close_cut", { afterMs: CLOSE_MS });
      }
    } catch (error) {
      log("error", "stop_failed", { error });
      worst = EXIT.failed;
    }
    log("info", "stopped", { exit: worst });
    resolve(worst);
  };

  for (const signal of SIGNALS)
    process.on(signal, () => {
      if (launched && performance.now() - signalledAt < SAME_SIGNAL_MS) return;
      if (stopping) {
        log("warn", "stopped_at_once", { signal });
        exit(EXIT.failed);
        return;
      }
      signalledAt = performance.now();
      log("info", "stopping", { signal });
      void stop(EXIT.ok, drainMs);
    });

  const broken = (kind: string) => (error: unknown) => {
    log("error", kind, { error });
    if (!stopping) void stop(EXIT.failed, BROKEN_DRAIN_MS);
  };
  process.on("uncaughtException", broken("uncaught_exception"));
  process.on("unhandledRejection", broken("unhandled_rejection"));
  return promise;
};
