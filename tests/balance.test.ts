/** Which connection gets a turn: the pure choice, and its fairness through a real gateway. */
import { afterAll, describe, expect, test } from "bun:test";
import { type Candidate, type Wanted, choose } from "../lib/balance.ts";
import { api, BOT_TOKEN, login, startGateway, v1Bot } from "./harness.ts";

type Named = Candidate & { name: string };

const candidate = (name: string, over: Partial<Candidate> = {}): Named => ({
  name,
  botId: name,
  pools: ["default"],
  weight: 1,
  maxConcurrency: 1_000_000,
  inFlight: 0,
  idleSince: 0,
  draining: false,
  ...over,
});
const everyone = () => true;
const pick = (all: Named[], wanted: Wanted = {}, allowed: (one: Named) => boolean = everyone): string => {
  const choice = choose(all, wanted, allowed);
  return "connection" in choice ? choice.connection.name : choice.none;
};

/** Gives `turns` turns that never end, and counts who got them. */
const spread = (all: Named[], turns: number): Record<string, number> => {
  for (let i = 0; i < turns; i++) {
    const choice = choose(all, {}, everyone);
    if ("connection" in choice) choice.connection.inFlight++;
  }
  return Object.fromEntries(all.map((one) => [one.name, one.inFlight]));
};

describe("the choice", () => {
  test("120 turns over three equal bots are 40 each", () => {
    expect(spread([candidate("a"), candidate("b"), candidate("c")], 120)).toEqual({ a: 40, b: 40, c: 40 });
  });

  test("a bot of weight 3 gets three times as much as one of weight 1", () => {
    expect(spread([candidate("light"), candidate("heavy", { weight: 3 })], 120)).toEqual({ light: 30, heavy: 90 });
  });

  test("weights below one count too", () => {
    expect(spread([candidate("half", { weight: 0.5 }), candidate("one")], 30)).toEqual({ half: 10, one: 20 });
  });

  test("of two equally loaded bots the one that has been idle longest is next, wherever it stands", () => {
    const fresh = candidate("fresh", { idleSince: 9 });
    const rested = candidate("rested", { idleSince: 3 });
    expect(pick([fresh, rested])).toBe("rested");
    expect(pick([rested, fresh])).toBe("rested");
  });

  test("load goes before rest", () => {
    expect(pick([candidate("rested", { inFlight: 1 }), candidate("fresh", { idleSince: 9 })])).toBe("fresh");
  });

  test("nobody gets more than its maxConcurrency; when all are full, that is said", () => {
    const all = [candidate("a", { maxConcurrency: 2 }), candidate("b", { maxConcurrency: 1 })];
    expect(spread(all, 10)).toEqual({ a: 2, b: 1 });
    expect(pick(all)).toBe("full");
  });

  test("a pool is served by its own bots only", () => {
    const all = [candidate("a"), candidate("b", { pools: ["vip", "default"], inFlight: 5 })];
    expect(pick(all, { pool: "vip" })).toBe("b");
    expect(pick(all)).toBe("a");
    expect(pick(all, { pool: "nobody" })).toBe("offline");
  });

  test("a named bot is the only one, whatever its pools and load", () => {
    const all = [candidate("a"), candidate("b", { pools: [], inFlight: 5 })];
    expect(pick(all, { bot: "b" })).toBe("b");
    expect(pick(all, { bot: "b", pool: "default", sticky: "a" })).toBe("b");
    expect(pick(all, { bot: "c" })).toBe("offline");
    all[1]!.maxConcurrency = 5;
    expect(pick(all, { bot: "b" })).toBe("full");
  });

  test("of several instances of a named bot the freest is taken", () => {
    const all = [candidate("b1", { botId: "b", inFlight: 2 }), candidate("b2", { botId: "b", inFlight: 1 })];
    expect(pick(all, { bot: "b" })).toBe("b2");
  });

  test("a conversation stays with its bot, also a busy one and one of no pool", () => {
    const all = [candidate("a"), candidate("b", { inFlight: 50, pools: [] })];
    expect(pick(all, { sticky: "b" })).toBe("b");
  });

  test("a conversation's bot counts only inside of a pool that the caller named", () => {
    const all = [candidate("a", { pools: ["vip"] }), candidate("b", { pools: ["vip"], inFlight: 5 }), candidate("c")];
    expect(pick(all, { pool: "vip", poolOnly: true, sticky: "b" })).toBe("b");
    expect(pick(all, { pool: "vip", poolOnly: true, sticky: "c" })).toBe("a");
  });

  test("a conversation waits for its bot while that is full, and moves on when it is gone", () => {
    const full = candidate("b", { inFlight: 1, maxConcurrency: 1 });
    expect(pick([candidate("a"), full], { sticky: "b" })).toBe("full");
    expect(pick([candidate("a")], { sticky: "b" })).toBe("a");
  });

  test("a bot that drains gets nothing new, named or not", () => {
    const all = [candidate("a", { draining: true }), candidate("b")];
    expect(pick(all)).toBe("b");
    expect(pick(all, { bot: "a" })).toBe("offline");
    expect(pick(all, { sticky: "a" })).toBe("b");
  });

  test("who may not be used is as good as absent", () => {
    const all = [candidate("secret"), candidate("open", { inFlight: 9 })];
    const allowed = (one: Named) => one.name === "open";
    expect(pick(all, {}, allowed)).toBe("open");
    expect(pick(all, { bot: "secret" }, allowed)).toBe("offline");
    expect(pick(all, { sticky: "secret" }, allowed)).toBe("open");
  });
});

describe("through the gateway", () => {
  const started = startGateway({ limits: { sendsPerMinute: 0, turnsPerUser: 0 } });
  afterAll(async () => (await started).stop());

  test("120 sends over three bots, one after the other, are 40 each", async () => {
    const gateway = await started;
    const call = api(gateway.url, await login(gateway.url));
    const ids = ["a", "b", "c"];
    const bots = await Promise.all(ids.map((botId) => v1Bot(gateway.wsUrl, { botId, token: BOT_TOKEN })));
    for (let i = 0; i < 120; i++) expect((await call("POST", "/api/chat", { message: "hi" })).status).toBe(200);
    expect(bots.map((bot) => bot.chats.length)).toEqual([40, 40, 40]);
  });

  test("120 sends, twelve at a time, leave no bot with less than half its share", async () => {
    const gateway = await started;
    const call = api(gateway.url, await login(gateway.url));
    const ids = ["a", "b", "c"];
    const bots = await Promise.all(ids.map((botId) => v1Bot(gateway.wsUrl, { botId, token: BOT_TOKEN })));
    for (let round = 0; round < 10; round++)
      await Promise.all(Array.from({ length: 12 }, () => call("POST", "/api/chat", { message: "hi" })));
    for (const bot of bots) expect(bot.chats.length).toBeGreaterThanOrEqual(20);
    expect(bots.reduce((sum, bot) => sum + bot.chats.length, 0)).toBe(120);
  });
});
