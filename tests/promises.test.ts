/** The tables of promises in docs/: every promise once, in both languages alike, with a test that exists and can fail. */
import { describe, expect, test } from "bun:test";
import { rowsOf } from "./harness/markdown.ts";
import { hasTest, read } from "./mutate/patch.ts";
import { PATCHES } from "./mutate/patches.ts";

/** Every promise there is. One that goes away goes from here too, and somebody has to say why. */
const PROMISES = (
  "D1 D2 D3 D4 D5 D6 D7 L1 L2 L3 L4 L5 L6 B1 B2 B3 B4 B5 B6 F3 F4 F5 F6 F7 F8 " +
  "S1 S2 S3 S5 S6 S7 S8 S9 S11 S12 S13 S14 S15 S16 P1 P3 P5 P6 P7"
).split(" ");

type Row = { id: string; promise: string; measured: string; tests: [file: string, name: string][] };

const promisesOf = async (file: string): Promise<Row[]> =>
  rowsOf(await read(file))
    .filter(([id = ""]) => /^[A-Z]\d+$/.test(id))
    .map(([id = "", promise = "", measured = "", tests = ""]) => ({
      id,
      promise,
      measured,
      tests: tests.split("<br>").map((one): [string, string] => {
        const [, path = "", name = ""] = /^`([^`]+)` (.+)$/.exec(one.trim()) ?? [];
        return [path, name];
      }),
    }));

describe.each([
  ["zh", "docs/security.md", "docs/operations.md"],
  ["en", "docs/security.en.md", "docs/operations.en.md"],
])("the promises in %s", (_, security, operations) => {
  test("are all there, once, each with what was measured and the name of a test that is written", async () => {
    const rows = [...(await promisesOf(security)), ...(await promisesOf(operations))];
    expect(rows.map(({ id }) => id).sort()).toEqual(PROMISES.toSorted());
    for (const { id, promise, measured, tests } of rows) {
      expect(promise.length).toBeGreaterThan(5);
      expect(`${id}: ${measured}`).toMatch(/: (—|.*\d.*)$/);
      for (const [file, name] of tests)
        expect(`${id}: ${file} "${name}": ${hasTest(await read(file), name.replaceAll("\\", ""))}`).toEndWith(": true");
    }
  });
});

test("both languages have the same promises, numbers and tests", async () => {
  for (const name of ["docs/security", "docs/operations"]) {
    const [zh, en] = [await promisesOf(`${name}.md`), await promisesOf(`${name}.en.md`)];
    const numbers = ({ measured }: Row): string[] => (measured.match(/\d[\d.]*/g) ?? []).sort();
    expect(en.map((row) => [row.id, row.tests, numbers(row)])).toEqual(
      zh.map((row) => [row.id, row.tests, numbers(row)]),
    );
  }
});

test("each promise has a patch in `bun run mutate` that its tests must not survive", () => {
  const covered = new Set(PATCHES.map(({ id }) => id.replace(/[a-z]$/, "")));
  expect(PROMISES.filter((id) => !covered.has(id))).toEqual([]);
});
