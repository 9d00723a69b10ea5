/**
 * The clocks of a gateway: what is looked after every second, every five and every minute. One timer per beat, none per
 * object. A job that fails is logged and tried again at the next beat.
 */
import type { Log } from "./log.ts";

export type Beats = "second" | "fiveSeconds" | "minute";
/** Returns the jobs that are not done when it returns, by name. */
export type Sweep = () => Record<string, Promise<unknown>> | undefined;

const MS: Record<Beats, number> = { second: 1000, fiveSeconds: 5000, minute: 60_000 };

/**
 * Whole milliseconds like Date.now(), from `at` on, by a clock that nobody sets: NTP, an administrator or a summer time that moves
 * the wall clock neither ends turns and connections before their time nor keeps dead ones. Time asleep does not count.
 */
export const steadyFrom = (at: number): (() => number) => {
  const base = at - performance.now();
  return () => Math.floor(base + performance.now());
};

export const createClocks = (sweeps: Record<Beats, Sweep>, log: Log) => {
  const timers: ReturnType<typeof setInterval>[] = [];
  const watched =
    (sweep: Sweep): (() => void) =>
    () => {
      for (const [what, job] of Object.entries(sweep() ?? {}))
        job.catch((error: unknown) => log("error", "sweep_failed", { what, error: String(error) }));
    };
  const beats = {
    second: watched(sweeps.second),
    fiveSeconds: watched(sweeps.fiveSeconds),
    minute: watched(sweeps.minute),
  };
  const every = (ms: number, run: () => void): void => {
    timers.push(setInterval(run, ms));
  };
  return {
    /** For tests with a clock of their own. */
    beats,
    every,
    start: (): void => {
      for (const beat of ["second", "fiveSeconds", "minute"] as const) every(MS[beat], beats[beat]);
    },
    stop: (): void => {
      for (const timer of timers.splice(0)) clearInterval(timer);
    },
  };
};
