/** A store as large as years make it: 2,000 conversations of 200 messages of one person; and what writing costs meanwhile. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { TurnEvent, UserEvent } from "../../lib/protocol.ts";
import { api, BOT_TOKEN, startGateway, tempDir, until, v2Bot } from "../harness.ts";
import { person, type Page, type Person } from "../harness/person.ts";
import { rawEvents } from "../harness/raw.ts";
import { testStore } from "../harness/store.ts";

const CONVERSATIONS = 2_000;
const MESSAGES = 200;

const WORDS =
  "部署 服务器 磁盘 火山 日志 备份 数据库 网关 机器人 deploy server disk volume log backup database gateway kubernetes rollback".split(
    " ",
  );
const textOf = (i: number): string =>
  `${WORDS[i % WORDS.length]}${WORDS[(i * 7) % WORDS.length]} 第${i}条 ${WORDS[(i * 13) % WORDS.length]} step ${i % 97}: ${WORDS[(i * 3) % WORDS.length]}的状态是正常的，请检查 ${WORDS[(i * 5) % WORDS.length]}。`.repeat(
    3,
  );

const percentile = (sorted: number[], p: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))]!;
const sortedTimes = (times: number[]): number[] => times.toSorted((a, b) => a - b);

/**
 * Milliseconds of this thread: wall time without what it spent waiting for a core that somebody else had (Linux tells). What
 * it computes and what it waits for the disk counts; a busy machine does not.
 */
const own = (): number => {
  let waited = 0;
  try {
    waited = Number(readFileSync("/proc/self/schedstat", "latin1").split(" ")[1]) / 1e6;
  } catch {
    // Another system: wall time.
  }
  return performance.now() - waited;
};

/** Watches the event loop: `stop` gives the longest time it did not turn, in milliseconds. */
const watchLoop = (): { stop: () => number } => {
  let last = own();
  let longest = 0;
  const timer = setInterval(() => {
    const at = own();
    longest = Math.max(longest, at - last - 1);
    last = at;
  }, 1);
  return {
    stop: () => {
      clearInterval(timer);
      return Math.max(longest, own() - last - 1);
    },
  };
};

/** Up to four times, until it is good: another process may hold up the disk. What we are too slow for stays so. */
const best = async <T>(measure: () => Promise<T>, good: (got: T) => boolean): Promise<T> => {
  for (let attempt = 1; ; attempt++) {
    const got = await measure();
    if (good(got) || attempt === 4) return got;
  }
};

let folder: Awaited<ReturnType<typeof tempDir>>;

beforeAll(async () => {
  folder = await tempDir("scale");
  const made = await testStore({ dir: folder.path, at: Date.now() - 86_400_000 });
  const { store, clock } = made;
  const began = performance.now();
  let n = 0;
  for (let i = 0; i < CONVERSATIONS; i++) {
    const { id } = await store.conversations.create("admin", "", "bot");
    clock.at += 1000;
    await store.write(() => {
      const row = store.turns.conversation(id)!;
      for (let m = 0; m < MESSAGES; m++) {
        const say = { bot: "bot", botName: "Bot", content: textOf(n++), files: [], turn: null, parent: row.leaf };
        store.turns.appendBotMessage(row, say);
      }
    });
  }
  await store.conversations.create("admin", "一只罕见的鸭嘴兽", null);
  const written = performance.now();
  await made.index();
  const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
  const megabytes = (Bun.file(`${folder.path}/nexus.db`).size / 1e6).toFixed(0);
  console.log(
    `${n} messages written in ${seconds(written - began)}, indexed in ${seconds(performance.now() - written)}, ${megabytes} MB`,
  );
  await made.stop();
}, 150_000);
afterAll(() => folder.remove());

test("indexing a backlog does not hold up the event loop for 50 ms", async () => {
  const made = await testStore({ dir: folder.path });
  const { id } = await made.store.conversations.create("admin", "", "bot");
  const stall = await best(
    async () => {
      await made.store.write(() => {
        const row = made.store.turns.conversation(id)!;
        for (let m = 0; m < 3000; m++) {
          const say = { bot: "bot", botName: "Bot", content: textOf(m), files: [], turn: null, parent: row.leaf };
          made.store.turns.appendBotMessage(row, say);
        }
        const long = {
          bot: "bot",
          botName: "Bot",
          content: textOf(1).repeat(4000),
          files: [],
          turn: null,
          parent: row.leaf,
        };
        made.store.turns.appendBotMessage(row, long);
      });
      const loop = watchLoop();
      await made.index();
      return loop.stop();
    },
    (longest) => longest < 50,
  );
  console.log(`longest stall of indexing ${stall.toFixed(0)} ms`);
  await made.stop();
  expect(stall).toBeLessThan(50);
}, 60_000);

describe("with 2,000 conversations of 200 messages", () => {
  let gateway: Awaited<ReturnType<typeof startGateway>>;
  let admin: Person;
  let startMs = 0;
  beforeAll(async () => {
    const began = own();
    gateway = await startGateway({ limits: { sendsPerMinute: 0, streamsPerUser: 0 } }, { dataDir: folder.path });
    startMs = own() - began;
    admin = await person(gateway.url);
  });
  afterAll(() => gateway.stop());

  /** The slowest of these, each asked five times and counted by its median. */
  const timed = async (what: string, paths: string[]): Promise<void> => {
    const medians: number[] = [];
    for (const path of paths) {
      const median = await best(
        async () => {
          const times: number[] = [];
          for (let i = 0; i < 5; i++) {
            const began = own();
            const { status } = await admin.call("GET", path);
            times.push(own() - began);
            expect(status).toBe(200);
          }
          return percentile(sortedTimes(times), 0.5);
        },
        (ms) => ms < 50,
      );
      medians.push(median);
    }
    const slowest = Math.max(...medians);
    console.log(`${what}: ${slowest.toFixed(1)} ms`);
    expect(`${what} ${slowest < 50}`).toBe(`${what} true`);
  };

  test("the gateway starts within a second", () => {
    console.log(`start ${startMs.toFixed(0)} ms`);
    expect(startMs).toBeLessThan(1000);
  });

  test("list, open and search each answer within 50 ms", async () => {
    const list = (
      await admin.call<{ conversations: { id: string }[]; next: string }>("GET", "/api/conversations?limit=200")
    ).body;
    await timed("list", Array(20).fill("/api/conversations?limit=50"));
    await timed("list, further down", Array(10).fill(`/api/conversations?limit=200&before=${list.next}`));
    await timed(
      "open",
      list.conversations.slice(0, 50).map(({ id }) => `/api/conversations/${id}/messages`),
    );
    const queries = [
      "火山",
      "鸭嘴兽",
      "部署",
      "kubern",
      "gateway 磁盘",
      "数据库 rollback",
      "第399999条",
      "的",
      "step 42",
      "nothing-like-it",
      "e",
    ];
    for (const q of queries) await timed(`search ${q}`, [`/api/search?q=${encodeURIComponent(q)}`]);
    const { body } = await admin.call<{ hits: unknown[] }>("GET", `/api/search?q=${encodeURIComponent("鸭嘴兽")}`);
    expect(body.hits).toHaveLength(1);
  }, 30_000);

  test("a send, a read mark and a reader that comes back cost what they cost in a small store", async () => {
    const bot = await v2Bot(gateway.wsUrl, { register: { token: BOT_TOKEN } });
    const { conversations } = (
      await admin.call<{ conversations: { id: string }[] }>("GET", "/api/conversations?limit=50")
    ).body;
    const reader = await admin.events();
    const { id: place } = await reader.find(({ type }) => type === "hello");
    await reader.leave();
    const times: number[] = [];
    for (const { id } of conversations) {
      const began = own();
      const { reply } = await admin.exchange(id, "还好吗");
      await admin.call("PATCH", `/api/conversations/${id}`, { read: reply.id });
      times.push(own() - began);
    }
    const sorted = sortedTimes(times);
    console.log(
      `exchange and read mark: median ${percentile(sorted, 0.5).toFixed(1)} ms, slowest ${sorted.at(-1)!.toFixed(1)} ms`,
    );
    expect(percentile(sorted, 0.5)).toBeLessThan(50);
    const began = own();
    const back = await rawEvents<UserEvent>(gateway.port, "/api/events", {
      token: admin.token,
      headers: { "Last-Event-ID": place },
    });
    await until(() => back.events.filter(({ data }) => data.type === "message").length === conversations.length * 2);
    const backMs = own() - began;
    console.log(`100 messages caught up in ${backMs.toFixed(0)} ms`);
    expect(backMs).toBeLessThan(200);
    back.close();
    await bot.close();
  }, 30_000);

  test("sweeps do not hold up the event loop", async () => {
    const longest = await best(
      async () => {
        const loop = watchLoop();
        for (let i = 0; i < 10; i++) {
          gateway.gateway.sweeps.second();
          gateway.gateway.sweeps.fiveSeconds();
          gateway.gateway.sweeps.minute();
          await Bun.sleep(20);
        }
        return loop.stop();
      },
      (ms) => ms < 50,
    );
    console.log(`longest stall of sweeps ${longest.toFixed(0)} ms`);
    expect(longest).toBeLessThan(50);
  });
});

test("steady writing: p99 of commits under 10 ms, no stall over 50 ms, through WAL checkpoints", async () => {
  const made = await testStore({ dir: folder.path });
  const { store } = made;
  const piece = "一段正在写出来的文字 and some more of it. ".repeat(10);
  const measure = async () => {
    const open = await Promise.all(Array.from({ length: 50 }, (_, i) => made.ask("user1", `question ${i}`)));
    const times: number[] = [];
    const loop = watchLoop();
    const until = performance.now() + 6_000;
    for (let seq = 1; performance.now() < until; seq++) {
      const began = own();
      const commits: Promise<unknown>[] = [
        store.turns.log(open.map(({ turn }) => ({ turn, generation: 0, seq, text: piece }))),
      ];
      if (seq % 5 === 0) commits.push(made.exchange("user1", "quick one", "done"));
      await commits[0];
      times.push(own() - began);
      await Promise.all(commits);
      if (seq % 100 === 0) await store.turns.prune();
      await Bun.sleep(5);
    }
    const stall = loop.stop();
    for (const { turn } of open) await made.answer(turn, "end");
    const sorted = sortedTimes(times);
    const p99 = percentile(sorted, 0.99);
    console.log(
      `${times.length} commits: p50 ${percentile(sorted, 0.5).toFixed(2)} ms, p99 ${p99.toFixed(2)} ms, slowest ${sorted.at(-1)!.toFixed(1)} ms; longest stall ${stall.toFixed(0)} ms`,
    );
    return { commits: times.length, p99, stall };
  };
  const { commits, p99, stall } = await best(measure, (got) => got.p99 < 10 && got.stall < 50);
  await made.stop();
  expect(commits).toBeGreaterThan(300);
  expect(p99).toBeLessThan(10);
  expect(stall).toBeLessThan(50);
}, 90_000);

test("a gap of 10,000 chunks is caught up in under a second, on a turn's stream and on /api/events", async () => {
  const gateway = await startGateway({ limits: { sendsPerMinute: 0 } });
  const bot = await v2Bot(gateway.wsUrl, { register: { token: BOT_TOKEN }, onChat: () => {} });
  const admin = await person(gateway.url);
  const id = await admin.conversation();
  const { turnId } = (await admin.send(id, "long")).body;
  await bot.waitFor("chat");
  bot.write({ id: turnId }, "begin ");
  const first = await rawEvents<TurnEvent>(gateway.port, `/api/turns/${turnId}/stream`, { token: admin.token });
  await until(() => first.events.length >= 2);
  const place = first.events[1]!.id;
  first.close();
  const pieces = Array.from({ length: 10_000 }, (_, i) => `chunk ${i}, `);
  for (const piece of pieces) bot.write({ id: turnId }, piece);
  const whole = `begin ${pieces.join("")}`;
  await until(
    async () =>
      (await admin.call<Page>("GET", `/api/conversations/${id}/messages`)).body.messages.at(-1)!.content.length ===
      whole.length,
    20_000,
  );

  let began = performance.now();
  const headers = { "Last-Event-ID": place };
  const stream = await rawEvents<TurnEvent>(gateway.port, `/api/turns/${turnId}/stream`, {
    token: admin.token,
    headers,
  });
  const missed = (): string => stream.events.map(({ data }) => (data.type === "chunk" ? data.content : "")).join("");
  await until(() => missed().length === whole.length - "begin ".length);
  const turnMs = performance.now() - began;
  expect(`begin ${missed()}` === whole).toBe(true);
  stream.close();

  began = performance.now();
  const events = await rawEvents<UserEvent>(gateway.port, "/api/events", { token: admin.token });
  const shown = (): string =>
    events.events.map(({ data }) => (data.type === "turn" || data.type === "chunk" ? data.content : "")).join("");
  await until(() => shown().length === whole.length);
  const eventsMs = performance.now() - began;
  expect(shown() === whole).toBe(true);
  events.close();
  console.log(`10,000 chunks caught up in ${turnMs.toFixed(0)} ms (turn), ${eventsMs.toFixed(0)} ms (events)`);
  expect(turnMs).toBeLessThan(1000);
  expect(eventsMs).toBeLessThan(1000);
  bot.end({ id: turnId });
  expect((await api(gateway.url, admin.token)("GET", "/health")).status).toBe(200);
  await bot.close();
  await gateway.stop();
}, 40_000);
