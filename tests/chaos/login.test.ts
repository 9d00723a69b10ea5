/** What the time of a sign-in tells: nothing about whether the name exists (S9). Over HTTP, as a stranger measures it. */
import { expect, test } from "bun:test";
import { api, startProcess } from "../harness.ts";

const SAMPLES = 200;

test("unknown user and wrong password, 200 times each: the same answer, medians within 10 ms (S9)", async () => {
  const run = await startProcess({ config: { trustedProxies: ["127.0.0.1"], language: "en" } });
  try {
    const times: Record<"admin" | "nobody", number[]> = { admin: [], nobody: [] };
    const bodies = new Set<string>();
    let address = 0;
    const attempt = async (username: "admin" | "nobody"): Promise<void> => {
      // Each from an address of its own, or the throttle would answer instead of the check.
      const n = address++;
      const headers = { "X-Forwarded-For": `198.51.${n >> 8}.${n & 255}`, "X-Request-Id": "same" };
      const began = performance.now();
      const answer = await api(run.url)("POST", "/api/login", { username, password: "not this one" }, { headers });
      times[username].push(performance.now() - began);
      const shown = [...answer.headers].filter(([name]) => name !== "date");
      bodies.add(JSON.stringify([answer.status, answer.text, shown]));
    };
    for (let i = 0; i < SAMPLES; i++)
      for (const name of i % 2 ? (["admin", "nobody"] as const) : (["nobody", "admin"] as const)) await attempt(name);
    const median = (list: number[]): number => list.toSorted((a, b) => a - b)[list.length >> 1]!;
    const [known, unknown] = [median(times.admin), median(times.nobody)];
    console.log(`medians of ${SAMPLES}: wrong password ${known.toFixed(1)} ms, unknown user ${unknown.toFixed(1)} ms`);
    expect(bodies.size).toBe(1);
    expect(Math.abs(known - unknown)).toBeLessThan(10);
    expect(times.nobody.length).toBe(SAMPLES);
  } finally {
    await run.stop();
  }
}, 120_000);
