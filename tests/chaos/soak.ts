/**
 * `bun run soak [--minutes 60] [--seed n]`: the storm of the chaos tests for as long as one likes. Prints its seed first and
 * its numbers as it goes; ends with 0 when nothing was lost, doubled or mixed up, with 1 and the differences otherwise.
 */
import { parseArgs } from "node:util";
import { storm } from "./storm.ts";

/** An hour is compared in rounds, so that what goes wrong is told within minutes and memory of the check stays small. */
const ROUND_S = 300;

const readArgs = (): { minutes: number; seed: number } => {
  try {
    const { values } = parseArgs({ options: { minutes: { type: "string" }, seed: { type: "string" } } });
    return { minutes: Number(values.minutes ?? 60), seed: Number(values.seed ?? Date.now() % 1_000_000) };
  } catch {
    return { minutes: NaN, seed: NaN };
  }
};
const { minutes, seed } = readArgs();
if (!(minutes > 0) || !Number.isSafeInteger(seed)) {
  console.error("bun run soak [--minutes 60] [--seed 123456]: minutes above 0, the seed a whole number");
  process.exit(2);
}

console.log(`seed ${seed}, ${minutes} minutes`);
const all = Math.round(minutes * 60);
let wrong = 0;
for (let done = 0, round = 0; done < all; round++) {
  const seconds = Math.min(ROUND_S, all - done);
  const report = await storm({
    seed: seed + round,
    seconds,
    streams: 50,
    killEveryMs: 3_000,
    progress: (numbers) => console.log(JSON.stringify(numbers)),
  });
  done += seconds;
  wrong += report.wrong.length;
  console.log(`${done} of ${all} s: ${JSON.stringify({ ...report, wrong: report.wrong.length })}`);
  for (const line of report.wrong) console.error(line);
}
console.log(wrong === 0 ? `seed ${seed}: nothing lost, doubled or mixed up` : `seed ${seed}: ${wrong} differences`);
process.exit(wrong === 0 ? 0 : 1);
