/** A million damaged inputs (P1). CHAOS_SEED repeats a run. */
import { expect, test } from "bun:test";
import { fuzzAll } from "../harness/fuzz.ts";

test("a million damaged frames, bodies, headers and configs: a refusal or an answer each (P1)", () => {
  const seed = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000);
  const rounds = { frame: 800_000, body: 100_000, header: 97_000, config: 3_000 };
  const began = performance.now();
  const refused = fuzzAll(seed, rounds);
  const total = Object.values(rounds).reduce((a, b) => a + b);
  console.log(
    `seed ${seed}: ${total} inputs in ${Math.round(performance.now() - began)} ms, refused ${JSON.stringify(refused)}`,
  );
  expect(total).toBe(1_000_000);
});
