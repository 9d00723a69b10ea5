/** What a burst left behind is collected once, when it is quiet. */
import { expect, test } from "bun:test";
import { createTidying } from "../lib/tidy.ts";

test("a second without a write after some is when garbage is collected, and not again before there was more", () => {
  let writes = 0;
  let collected = 0;
  const beat = createTidying(
    () => writes,
    () => {
      collected++;
    },
  );
  const after = (more: number): number => {
    writes += more;
    beat();
    return collected;
  };
  expect([after(0), after(0)]).toEqual([0, 0]);
  expect([after(50), after(50), after(1)]).toEqual([0, 0, 0]);
  expect([after(0), after(0), after(0)]).toEqual([1, 1, 1]);
  expect([after(1), after(0), after(0)]).toEqual([1, 2, 2]);
});
