/** A gateway whose process can be looked into: stalls of its event loop and its memory after a collection (probe.ts). */
import { join } from "node:path";
import { type ConfigJson, ROOT, type RunningProcess, startProcess, until } from "../harness.ts";

export type Look = { samples: number; p50: number; p99: number; max: number; rssMb: number; heapMb: number };

export const watched = async (
  config: ConfigJson,
  before: string[] = [],
): Promise<RunningProcess & { look: () => Promise<Look> }> => {
  const preload = join(import.meta.dir, "probe.ts");
  const run = await startProcess({
    run: [...before, process.execPath, "--preload", preload, join(ROOT, "server.ts")],
    config,
  });
  const lines = (): string[] => run.stderr().match(/^probe .*$/gm) ?? [];
  return Object.assign(run, {
    /** What the probe saw since the last look. */
    look: async (): Promise<Look> => {
      const had = lines().length;
      run.kill("SIGUSR2");
      const line = await until(() => lines()[had], 10_000, "the probe to answer");
      return JSON.parse(line.slice("probe ".length));
    },
  });
};
