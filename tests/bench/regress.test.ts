/**
 * That a chat and a chunk do not become dearer unseen: CPU against the bare relay, in one run, with a quarter of room over the
 * budgets of DESIGN.md, or over what it is today where a budget is not met yet. Ratios of the least of some rounds: what else runs on a machine only adds.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { measure } from "./measure.ts";
import { startBare, startOurs } from "./peers.ts";
import { ROWS } from "./rows.ts";

const ROUNDS = 3;
const ROOM = 1.25;
const MOST_WARM = 40_000;

for (const name of ["chat", "burst"]) {
  const whole = ROWS.find((one) => one.name === name)!;
  // A warm-up as long as the bench gives would take half a minute of every test run.
  const row = { ...whole, warm: Math.min(whole.warm!, MOST_WARM) };
  const guarded = row.today ?? row.budget!;
  test(`CPU per ${name === "chat" ? "chat" : "chunk"} is at most ${ROOM} × ${guarded} of bare's`, async () => {
    const built = await Bun.file(join(import.meta.dir, "../../dist/nexus")).exists();
    const runs = await measure(row, [startBare, () => startOurs(built ? "binary" : "source")], ROUNDS);
    const least = (peer: string): number => Math.min(...runs.get(peer)!.map(row.value));
    const ratio = least(built ? "ours" : "ours (source)") / least("bare");
    console.log(`${name}: ${ratio.toFixed(2)} of bare, budget ${row.budget}`);
    expect(ratio).toBeLessThanOrEqual(guarded * ROOM);
  });
}
