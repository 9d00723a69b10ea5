/** Long texts in JSON: read and written apart from what is around them, with the outcome of JSON.parse in every case. */
import { describe, expect, test } from "bun:test";
import { estimateShallowMemoryUsageOf } from "bun:jsc";
import { jsonWithText, parseJson } from "../lib/json.ts";
import { seeded } from "./harness/proxy.ts";

const LONG = 64 * 1024;
const ROUNDS = 400;

type Outcome = { value: unknown } | { refused: true };
const outcome = (parse: () => unknown): Outcome => {
  try {
    return { value: parse() };
  } catch (error) {
    if (error instanceof SyntaxError) return { refused: true };
    throw error;
  }
};
const both = (bytes: Uint8Array<ArrayBuffer>): [Outcome, Outcome] => [
  outcome(() => parseJson(bytes)),
  outcome(() => JSON.parse(new TextDecoder().decode(bytes))),
];
const bytesOf = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text));

describe("a body with long texts", () => {
  const long = "QUJD".repeat(LONG / 3);

  test("is what JSON.parse makes of it, wherever the long text stands", () => {
    for (const json of [
      `{"message":"看图","image":"data:image/png;base64,${long}"}`,
      `{"image":"${long}","message":"x","image":"short"}`,
      `{"image":"${long}","message":"x","image":"${long}B"}`,
      `{"${long}":1,"b":["${long}",{"c":"${long}"}]}`,
      `"${long}"`,
      `["${long}","\\"${long}\\\\","\\\\"]`,
      `{"__proto__":"${long}","constructor":{"a":"${long}"}}`,
      `\ufeff{"a":"${long}"}`,
      `{"a":"${long}"\ufeff}`,
      `{"a":"${long}" "b":1}`,
      `{"a":"${long}\n"}`,
      `{"a":"${long}\\u4f60\\n"}`,
      `{"a":"${long}\\x"}`,
      `{"a":"${long}`,
      `{"a":"${long}"}}`,
      `{"a":"${long}"} x`,
      `[["${long}"],[${"0,".repeat(300_000)}0]]`,
      `[${'{"a":0},'.repeat(60_000)}"${long}"]`,
      `${"[".repeat(500)}"${long}"${"]".repeat(500)}`,
      `[${'"a",'.repeat(20_000)}"${long}"]`,
    ]) {
      const [got, due] = both(bytesOf(json));
      expect(got).toEqual(due);
    }
  });

  test("and so is any damage to one", () => {
    const random = seeded(20261128);
    const pick = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)]!;
    const piece = (): string =>
      pick([
        long,
        `${long}\\"`,
        `${long}\\\\`,
        "short",
        "看图",
        "\\\\",
        '\\"',
        "",
        `${long.slice(0, LONG - 5)}é`,
        "\\ud83d",
      ]);
    const value = (depth: number): string => {
      const kind = depth > 3 ? 0 : Math.floor(random() * 5);
      if (kind === 3) return `[${Array.from({ length: 3 }, () => value(depth + 1)).join(",")}]`;
      if (kind === 4)
        return `{${Array.from({ length: 3 }, () => `${pick([" ", "\t", ""])}"${piece()}":${value(depth + 1)}`).join(",")}}`;
      return pick([`"${piece()}"`, `"${piece()}"`, "12", "null"]);
    };
    let refused = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const bytes = bytesOf(value(0));
      for (let hits = Math.floor(random() * 3); hits > 0; hits--)
        bytes[Math.floor(random() * bytes.length)] = pick([0x22, 0x5c, 0x0a, 0xff, 0x7b, 0x61, 0xe4]);
      const [got, due] = both(bytes);
      if ("refused" in due) refused++;
      if (!Bun.deepEquals(got, due)) throw new Error(`round ${round}: ${bytes.length} bytes came out differently`);
    }
    expect(refused).toBeGreaterThan(ROUNDS / 20);
    expect(refused).toBeLessThan(ROUNDS);
  });

  test("keeps a picture in one byte per character, whatever is said beside it", () => {
    const { image } = parseJson(bytesOf(`{"message":"看图","image":"${long}"}`)) as { image: string };
    expect(estimateShallowMemoryUsageOf(image)).toBeLessThan(long.length * 1.5);
    const frame = jsonWithText({ content: "看图 🙂" }, "image", image);
    expect(JSON.parse(frame)).toEqual({ content: "看图 🙂", image });
    frame.charCodeAt(0); // makes one text of its parts
    expect(estimateShallowMemoryUsageOf(frame)).toBeLessThan(frame.length * 1.5);
  });
});
