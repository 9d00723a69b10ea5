/** `/api/events`: what a reader is told when it connects, and what it is told then. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { BOT_TOKEN, startGateway, until, v1Bot, v2Bot, type V2Bot } from "./harness.ts";
import { fakeClock } from "./harness/clock.ts";
import { of, placeOf, settle, types, type EventOf } from "./harness/events.ts";
import { person, type List, type Person } from "./harness/person.ts";

let gateway: Awaited<ReturnType<typeof startGateway>>;
let bot: V2Bot;
let admin: Person;

beforeAll(async () => {
  gateway = await startGateway({ limits: { sendsPerMinute: 0, streamsPerUser: 0 } });
  bot = await v2Bot(gateway.wsUrl, {
    register: { token: BOT_TOKEN },
    onChat: (chat, self) => {
      if (chat.content.startsWith("hold")) self.write(chat, "so far ");
      else self.end(chat, `echo: ${chat.content}`);
    },
  });
  admin = await person(gateway.url);
});
afterAll(async () => {
  await bot.close();
  await gateway.stop();
});

const store = () => gateway.gateway.gate.store;

describe("a reader that connects", () => {
  test("is told who it is, who is online and what is open, in this order, and then what happens", async () => {
    const id = await admin.conversation();
    const { turnId, message } = (await admin.send(id, "hold")).body;
    await until(async () => (await admin.messages(id)).at(-1)?.content === "so far ");
    const reader = await admin.events();
    await settle(reader, admin);
    const [hello, bots, turn] = reader.events;
    expect(hello!.data).toEqual({
      type: "hello",
      epoch: store().epoch,
      rev: expect.any(Number),
      user: { username: "admin", displayName: "管理员", role: "admin" },
    });
    expect(hello!.id).toBe(`${store().epoch}:${(hello!.data as EventOf<"hello">).rev}`);
    expect(bots!.data).toMatchObject({ type: "bots", bots: [{ id: "bot", name: "Bot", instances: 1, busy: false }] });
    expect(turn!.data).toEqual({
      type: "turn",
      turnId,
      conversationId: id,
      messageId: turnId,
      botId: "bot",
      botName: "Bot",
      parentId: message.id,
      generation: 0,
      content: "so far ",
      createdAt: message.createdAt,
    });
    expect(reader.events.slice(0, 3).map(({ event }) => event)).toEqual(["message", "message", "message"]);
    bot.end({ id: turnId }, "and done");
    await reader.find((event) => event.type === "message" && event.message.id === turnId);
    await reader.leave();
  });

  test("sees a turn from its question to its stored answer, and the pieces make up the answer", async () => {
    const reader = await admin.events();
    const id = await admin.conversation();
    const { turnId, message } = (await admin.send(id, "hold on")).body;
    await reader.find((event) => event.type === "chunk" && event.turnId === turnId);
    for (const piece of ["一", "二 ", "\u2028\r\n", "😀", "end"]) {
      bot.write({ id: turnId }, piece);
      await Bun.sleep(2);
    }
    bot.end({ id: turnId }, "!");
    await reader.find((event) => event.type === "message" && event.message.id === turnId);
    const mine = reader.events.filter(({ text }) => text.includes(id) || text.includes(turnId));
    const order = mine.map(({ data }) => data.type);
    expect(order.slice(0, 4)).toEqual(["conversation", "conversation", "message", "turn"]);
    expect(order.slice(-2)).toEqual(["conversation", "message"]);
    expect(of(mine, "message").map((event) => [event.message.id, event.message.state])).toEqual([
      [message.id, "sent"],
      [turnId, "done"],
    ]);
    expect(of(mine, "turn")[0]!.content).toBe("");
    let text = "";
    for (const chunk of of(mine, "chunk")) {
      expect(chunk.offset).toBeLessThanOrEqual(text.length);
      text = text.slice(0, chunk.offset) + chunk.content;
    }
    const final = "so far 一二 \u2028\r\n😀end!";
    expect(final).toStartWith(text);
    expect(of(mine, "message").at(-1)!.message).toMatchObject({ content: final, parentId: message.id });
    // Only stored changes carry an id, and ids only go up.
    for (const { data, id: eventId } of mine) if (data.type === "message") expect(eventId).toContain(store().epoch);
    const revs = reader.events.map((item) => Number(item.id.split(":")[1]));
    expect(revs).toEqual(revs.toSorted((a, b) => a - b));
    await reader.leave();
  });

  test("in two tabs sees the same, within 100 ms of each other", async () => {
    const tabs = await Promise.all([admin.events(), admin.events()]);
    for (const tab of tabs) await settle(tab, admin);
    const from = tabs.map((tab) => tab.events.length);
    const id = await admin.conversation();
    await admin.exchange(id, "for both");
    await Promise.all(
      tabs.map((tab) => tab.find((event) => event.type === "message" && event.message.content === "echo: for both")),
    );
    const { turnId } = (await admin.send(id, "hold")).body;
    const shown = tabs.map(async (tab) => {
      await tab.find((event) => event.type === "chunk" && event.turnId === turnId);
      return performance.now();
    });
    const [first, second] = await Promise.all(shown);
    expect(Math.abs(first! - second!)).toBeLessThan(100);
    bot.end({ id: turnId });
    await Promise.all(tabs.map((tab) => tab.find((event) => event.type === "message" && event.message.id === turnId)));
    // Who is busy is told soon after it changed, so its place among the others differs.
    const told = tabs.map((tab, i) =>
      tab.events.slice(from[i]).flatMap(({ text }) => (text.startsWith('{"type":"bots"') ? [] : [text])),
    );
    expect(told[0]!.length).toBeGreaterThan(8);
    expect(told[0]).toEqual(told[1]!);
    for (const tab of tabs) await tab.leave();
  });

  test("is told when a bot comes, goes or is renamed, also while it was catching up", async () => {
    const reader = await admin.events();
    await settle(reader, admin);
    const late = await v1Bot(gateway.wsUrl, { botId: "late", botName: "Late", token: BOT_TOKEN });
    await reader.find((event) => event.type === "bots" && event.bots.some(({ id }) => id === "late"));
    await late.close();
    await reader.find(
      (event, item) =>
        event.type === "bots" && reader.events.indexOf(item) > 3 && event.bots.every(({ id }) => id !== "late"),
    );
    await reader.leave();
  });

  test("sees nothing of anybody else", async () => {
    const other = await person(gateway.url, "user1");
    const reader = await other.events();
    await settle(reader, other);
    const seen = reader.events.length;
    const id = await admin.conversation({ title: "private" });
    await admin.exchange(id, "private words");
    await admin.call("DELETE", `/api/conversations/${id}`);
    await settle(reader, other);
    expect(reader.events.slice(seen).filter(({ data }) => data.type !== "bots")).toHaveLength(1);
    await reader.leave();
  });

  test("is told which conversations retention takes away, by the revision that one that returns is told", async () => {
    const clock = fakeClock();
    const own = await startGateway({ retentionDays: 1 }, { now: clock.now });
    const old = await person(own.url);
    const id = await old.conversation({ title: "old" });
    clock.pass(36 * 3600_000);
    const who = await person(own.url);
    const kept = await who.conversation({ title: "new" });
    const since = await placeOf(who);
    const other = await (await person(own.url, "user1")).events();
    const live = await who.events();
    await live.find(({ type }) => type === "bots");
    own.gateway.sweeps.fiveSeconds();
    const gone = await live.find(({ type }) => type === "conversation_deleted");
    expect(gone.data).toEqual({ type: "conversation_deleted", id });
    expect((await who.call<List>("GET", "/api/conversations")).body.conversations.map((one) => one.id)).toEqual([kept]);
    const returned = await who.events(since);
    const told = await returned.find((event, item) => event.type === "conversation_deleted" && item.id !== "");
    expect([told.id, told.data]).toEqual([gone.id, gone.data]);
    await other.find(({ type }) => type === "bots");
    expect(types(other)).not.toContain("conversation_deleted");
    for (const reader of [live, returned, other]) await reader.leave();
    await own.stop();
  });

  test("by HEAD leaves no stream open", async () => {
    await until(() => gateway.gateway.gate.streams.count() === 0);
    const answer = await fetch(`${gateway.url}/api/events`, {
      method: "HEAD",
      headers: { Authorization: `Bearer ${admin.token}` },
    });
    expect(answer.status).toBe(200);
    await until(() => gateway.gateway.gate.streams.count() === 0);
  });
});
