/** Whatever is sent: a refusal or an answer, never another exception, never a hang (P1). A million of it is in tests/chaos. */
import { describe, expect, test } from "bun:test";
import { parseFrame } from "../lib/frames.ts";
import { FRAMES, fuzzAll, onlyReject } from "./harness/fuzz.ts";

const SEED = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000);
const LIMITS = { textChars: 100_000 };

describe("parsers throw Reject and nothing else (P1)", () => {
  test("for frames, bodies, headers, resume places and configs damaged by a seed", () => {
    const refused = fuzzAll(SEED, { frame: 3_000, body: 800, header: 1_500, config: 300 });
    // Neither all nor nothing: the damage reaches beyond the first check, and is damage.
    expect(refused.frame).toBeGreaterThan(300);
    expect(refused.frame).toBeLessThan(2_950);
  });

  test("for each valid frame cut at every byte, alone and with another frame behind it", () => {
    for (const [type, frame] of Object.entries(FRAMES)) {
      const whole = Buffer.from(JSON.stringify(frame));
      expect(parseFrame(whole.toString(), LIMITS)?.type).toBe(type as never);
      for (let at = 0; at < whole.length; at++) {
        const cut = whole.subarray(0, at).toString();
        expect(`${type} cut at ${at}: ${onlyReject(() => parseFrame(cut, LIMITS))}`).toBe(`${type} cut at ${at}: true`);
        expect(onlyReject(() => parseFrame(cut + whole.toString(), LIMITS))).toBe(at > 0);
      }
    }
  });
});
