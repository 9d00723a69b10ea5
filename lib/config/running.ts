/** What of an edited config can hold in a process that runs: some settings were given to the runtime at its start. Pure. */
import type { Config } from "../config.ts";

/** Bytes of what comes in. Less of it we refuse ourselves; more would be refused by the runtime, without a sentence. */
const SIZES = ["bodyBytes", "frameBytes", "attachmentBytes"] as const;

/** `next` in a process that began with `started`; `waits`: the settings of it that count after a restart. */
export const asRunning = (started: Config, next: Config): { config: Config; waits: string[] } => {
  const { host, port, dataDir, synchronous } = started;
  const fixed = { host, port, dataDir, synchronous };
  const limits = { ...next.limits };
  for (const name of SIZES) limits[name] = Math.min(limits[name], started.limits[name]);
  const waits = [
    ...Object.entries(fixed).flatMap(([name, is]) => (next[name as keyof typeof fixed] === is ? [] : [name])),
    ...SIZES.filter((name) => limits[name] < next.limits[name]).map((name) => `limits.${name}`),
  ];
  return { config: { ...next, ...fixed, limits }, waits };
};
