/** The patches of `bun run mutate` fit the code, and the tests they name are there: every day, without running them. */
import { expect, test } from "bun:test";
import { faultOf, hasTest, read } from "./mutate/patch.ts";
import { PATCHES } from "./mutate/patches.ts";

test("every patch finds its line exactly once, and the test it must turn red is written in its file", async () => {
  const faults: string[] = [];
  const files = new Map<string, string>();
  const textOf = async (file: string): Promise<string> => {
    const text = files.get(file) ?? (await read(file));
    files.set(file, text);
    return text;
  };
  for (const patch of PATCHES) {
    const fault = faultOf(patch, await textOf(patch.file));
    if (fault) faults.push(fault);
    const [file, name] = patch.test;
    if (!hasTest(await textOf(file), name)) faults.push(`${patch.id}: ${file} has no test "${name}"`);
  }
  expect(faults).toEqual([]);
  expect(new Set(PATCHES.map(({ id }) => id)).size).toBe(PATCHES.length);
});
