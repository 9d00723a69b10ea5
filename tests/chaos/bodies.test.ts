/** Refused bodies leave nothing behind: memory after a hundred of them is what it was before (B1). Linux: reads /proc. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { startProcess, until } from "../harness.ts";
import { person } from "../harness/person.ts";
import { rawHttp } from "../harness/raw.ts";

const MIB = 1024 * 1024;

test("a hundred bodies over the limit, in both framings, are refused and forgotten", async () => {
  const run = await startProcess({ config: { limits: { bodyBytes: 5 * MIB, attachmentBytes: 5 * MIB } } });
  const resident = (): number =>
    Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${run.pid}/status`, "latin1"))![1]) / 1024;
  const { token } = await person(run.url);
  const send = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      const framing = i % 2 ? "chunked" : "length";
      const path = i % 4 < 2 ? "/api/chat" : "/api/attachments";
      const body = Buffer.alloc(5 * MIB + 1 + (i % 3) * 100_000, "x");
      const { status } = await rawHttp(run.port, "POST", path, { token, body, framing });
      expect(`${path} ${framing} ${status}`).toBe(`${path} ${framing} 413`);
    }
  };
  await send(8); // what the first ones need, the next ones use again
  const before = resident();
  await send(100);
  const after = await until(
    () => resident() < before + 40 && resident(),
    30_000,
    `memory near ${before.toFixed(0)} MB`,
  );
  console.log(`${before.toFixed(0)} MB before, ${after.toFixed(0)} MB after`);
  expect((await fetch(`${run.url}/health`)).status).toBe(200);
  await run.stop();
}, 60_000);
