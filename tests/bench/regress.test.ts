/**
 * That a chat and a chunk do not become dearer unseen: CPU against the bare relay, in one run, with a quarter of room over the
 * budgets of DESIGN.md, or over what it is today where a budget is not met yet. Medians of ratios of runs that stand beside
 * each other: this machine may be slow, and slower now than a minute ago.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { inTurns, median } from "./measure.ts";
import { startBare, startOurs } from "./peers.ts";
import { ROWS } from "./rows.ts";

const ROUNDS = 5;
const ROOM = 1.25;
const MOST_WARM = 40_000;

for (const name of ["chat", "burst"]) {
  const whole = ROWS.find((one) => one.name === name)!;
  // A warm-up as long as the bench gives would take half a minute of every test run.
  const row = { ...whole, warm: Math.min(whole.warm!, MOST_WARM) };
  const guarded = row.today ?? row.budget!;
  test(`CPU per ${name === "chat" ? "chat" : "chunk"} is at most ${ROOM} × ${guarded} of bare's`, async () => {
    const built = await Bun.file(join(import.meta.dir, "../../dist/nexus")).exists();
    const runs = await inTurns(row, [startBare, () => startOurs(built ? "binary" : "source")], ROUNDS);
    const [bare, ours] = [...runs.values()].map((all) => all.map(row.value));
    const each = ours!.map((one, i) => one / bare![i]!);
    console.log(`${name}: ${each.map((one) => one.toFixed(2)).join(" ")} of bare, budget ${row.budget}`);
    expect(median(each)).toBeLessThanOrEqual(guarded * ROOM);
  });
}
