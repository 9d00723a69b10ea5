/** The wall clock is set, forwards and backwards, while everything is in use: who is connected and what is open goes on. */
import { afterEach, describe, expect, test } from "bun:test";
import { steadyFrom } from "../lib/clocks.ts";
import { api, BOT_TOKEN, type ConfigJson, login, readSse, startGateway, until, v2Bot } from "./harness.ts";
import { fakeClock } from "./harness/clock.ts";
import type { Said } from "./harness/rig.ts";

const HOUR = 3_600_000;
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A gateway whose wall clock can be set while its steady one stands still, with a turn half said. */
const busy = async (config: ConfigJson = {}) => {
  const wall = fakeClock();
  const steady = fakeClock(wall.now());
  const rig = await startGateway(config, { now: wall.now, steady: steady.now });
  closers.push(rig.stop);
  const bot = await v2Bot(rig.wsUrl, { register: { token: BOT_TOKEN }, onChat: () => {} });
  const token = await login(rig.url);
  const call = api(rig.url, token);
  const events = readSse<Said>(await call.stream("/api/events"));
  await events.find(({ type }) => type === "bots");
  const turn = readSse<Said>(await call.stream("/api/chat/stream", { message: "hi" }));
  await turn.find(({ type }) => type === "start");
  const chat = await bot.waitFor("chat");
  bot.write(chat, "before, ");
  await turn.find(({ type }) => type === "chunk");
  const sweep = (): void => {
    rig.gateway.sweeps.second();
    rig.gateway.sweeps.fiveSeconds();
    rig.gateway.sweeps.minute();
  };
  return { rig, wall, steady, bot, call, events, turn, chat, sweep };
};

describe.each([
  ["forwards", 2 * HOUR],
  ["backwards", -2 * HOUR],
])("a wall clock that is set two hours %s", (_, by) => {
  test("ends no turn, no bot, no stream and no session, and what is said goes on", async () => {
    const { rig, wall, bot, call, events, turn, chat, sweep } = await busy();
    wall.pass(by);
    sweep();
    expect(rig.gateway.gate.turns.count()).toBe(1);
    expect(rig.gateway.gate.bots.count()).toBe(1);
    expect(rig.gateway.gate.streams.count()).toBe(2);
    expect((await call("GET", "/api/me")).status).toBe(200);
    bot.end(chat, "after");
    const said = await turn.all();
    expect(said.map(({ data }) => data.content ?? "").join("")).toBe("before, after");
    const stored = await events.find(({ message }) => message?.role === "bot" && message.state === "done");
    expect(stored.data.message!.content).toBe("before, after");
    // What comes next stands after it, whatever the clock says now.
    const { conversationId } = (await turn.find(({ type }) => type === "start")).data;
    const asked = call<{ content: string }>("POST", "/api/chat", { message: "again" });
    bot.end(await bot.waitFor("chat", ({ content }) => content === "again"), "and again");
    expect((await asked).body.content).toBe("and again");
    const path = `/api/conversations/${conversationId}/messages`;
    const { messages } = (await call<{ messages: { content: string }[] }>("GET", path)).body;
    expect(messages.map(({ content }) => content)).toEqual(["hi", "before, after", "again", "and again"]);
  });

  test("still notices what is dead by the time that really passed", async () => {
    const { rig, wall, steady, bot, turn, events, sweep } = await busy();
    wall.pass(by);
    const comments = events.comments.length;
    steady.pass(12_000);
    sweep();
    await until(() => events.comments.length > comments, 2000, "a heartbeat");
    steady.pass(30_000);
    sweep();
    await bot.waitFor("ping");
    steady.pass(6 * 60_000); // longer than turnTimeout and botTimeout
    sweep();
    expect((await bot.closed).code).toBe(4001);
    steady.pass(61_000);
    sweep();
    expect((await turn.all()).at(-1)?.data).toMatchObject({ type: "error" });
    await until(() => rig.gateway.gate.turns.count() === 0, 2000, "the turn to be over");
  });

  test("a turn begun after it lives as long as any other", async () => {
    const { rig, wall, steady, bot, call, turn, chat, sweep } = await busy();
    bot.end(chat);
    await turn.all();
    wall.pass(by);
    const second = readSse<Said>(await call.stream("/api/chat/stream", { message: "later" }));
    const { data } = await second.find(({ type }) => type === "start");
    sweep();
    expect(rig.gateway.gate.turns.count()).toBe(1);
    for (let minutes = 0; minutes < 61; minutes += 1) {
      steady.pass(60_000);
      bot.send({ type: "event", replyTo: data.turnId!, kind: "typing" });
      bot.send({ type: "pong" });
      await until(() => [...rig.gateway.gate.bots.connections()].every((one) => one.seenAt === steady.now()));
      sweep();
      if (minutes < 59) expect(rig.gateway.gate.turns.count()).toBe(1);
    }
    expect((await second.all()).at(-1)?.data.code).toBe("turn_timeout");
  });
});

test("a wall clock that is set two days forwards costs no answer the file that its bot has sent before", async () => {
  const { rig, wall, bot, events, turn, chat, sweep } = await busy({ sessionTTL: 30 * 24 * HOUR });
  const data = Buffer.from("the report").toString("base64");
  bot.write(chat, "with a file, ", { attachments: [{ name: "report.txt", mime: "text/plain", data }] });
  const sent = await turn.find(({ type }) => type === "attachment");
  wall.pass(49 * HOUR);
  sweep();
  await rig.gateway.gate.store.write(() => {}); // the sweep's own has been committed
  bot.end(chat, "after");
  const stored = await events.find(({ message }) => message?.role === "bot" && message.state === "done");
  expect(stored.data.message).toMatchObject({
    content: "before, with a file, after",
    attachments: [sent.data.attachment],
  });
  expect((await turn.all()).at(-1)?.data.type).toBe("end");
});

test("the steady clock begins at the wall clock and goes on by itself", async () => {
  const clock = steadyFrom(1_000_000);
  const first = clock();
  expect(first).toBeGreaterThanOrEqual(1_000_000);
  expect(first).toBeLessThan(1_001_000);
  await Bun.sleep(20);
  expect(clock() - first).toBeGreaterThanOrEqual(19);
  expect(Number.isSafeInteger(clock())).toBe(true); // some of it is stored
});
