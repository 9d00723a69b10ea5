/**
 * The published contract against the source tree, or against the binary when NEXUS_RUN=binary (tests/run.ts does both).
 * The checks themselves are proven by `bun tests/contract/against-v1.ts`.
 */
import { afterAll, describe, test } from "bun:test";
import { CHECKS } from "./contract/all.ts";
import { createRunner } from "./contract/check.ts";
import { startProcess } from "./harness/process.ts";

const run = process.env.NEXUS_RUN === "binary" ? "binary" : "source";

describe(`the published contract, from ${run === "binary" ? "dist/nexus" : "bun server.ts"}`, () => {
  const runner = createRunner({
    name: run,
    start: (options) =>
      startProcess({
        ...options,
        run,
        config: options.config === null ? null : { host: "127.0.0.1", ...options.config },
      }),
  });
  afterAll(() => runner.stop());
  const apart = CHECKS.filter((check) => check.apart);
  const together = CHECKS.filter((check) => !check.apart);
  for (const check of apart) test.concurrent(check.name, () => runner.run(check), 30_000);
  for (const check of together) test(check.name, () => runner.run(check), 20_000);
});
