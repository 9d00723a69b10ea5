/** What bots say without being asked (D7), and where that goes which names nobody. */
import { afterEach, describe, expect, test } from "bun:test";
import type { GatewayFrame } from "../lib/protocol.ts";
import { Reject } from "../lib/protocol.ts";
import { tempDir, until } from "./harness.ts";
import { createRigs, type Rig, type Stored } from "./harness/rig.ts";

const rigs = createRigs();
afterEach(() => rigs.closeAll());

const caps = ["ack", "seq", "message"];
type Bot = Awaited<ReturnType<Rig["v2"]>>;

/** Sends a proactive message and waits for the verdict on its id. */
const tell = async (bot: Bot, to: object, content: string, more: object = {}): Promise<GatewayFrame> => {
  const id = crypto.randomUUID();
  bot.send({ type: "message", id, to, content, ...more });
  return verdict(bot, id);
};
const verdict = (bot: Bot, id: string): Promise<GatewayFrame> =>
  until(
    () =>
      bot.frames.find((frame) => (frame.type === "ack" || frame.type === "error") && "id" in frame && frame.id === id),
    3000,
    `a verdict on ${id}`,
  );

type Person = Awaited<ReturnType<Rig["person"]>>;
type Row = { id: string; unread: number; title: string; botId?: string };
const conversations = async (me: Person): Promise<Row[]> =>
  (await me<{ conversations: Row[] }>("GET", "/api/conversations")).body.conversations;
/** Everything a person has, of all conversations. */
const everything = async (me: Person): Promise<Stored[]> =>
  (await Promise.all((await conversations(me)).map(({ id }) => me.messages(id)))).flat();

type DeadLetter = { id: string; botId: string; reason: string };
const deadLetters = async (me: Person): Promise<DeadLetter[]> =>
  (await me<{ deadLetters: DeadLetter[] }>("GET", "/api/admin/dead-letters?limit=200")).body.deadLetters;

const frameOf = async (me: Person, { id }: DeadLetter): Promise<string> =>
  (await me<{ frame: string }>("GET", `/api/admin/dead-letters/${id}`)).body.frame;

const seenAck = (bot: Bot, id: string) =>
  bot.waitFor("ack", (ack) => "state" in ack && ack.id === id && ack.state === "seen");

describe("a proactive message", () => {
  test("is stored before it is acked, and is there for somebody who was away, also after a restart", async () => {
    const folder = await tempDir("inbox");
    rigs.onClose(() => folder.remove());
    const first = await rigs.open({}, { dataDir: folder.path });
    const bot = await first.v2("a", { botName: "Ann", caps });
    expect(await tell(bot, { userId: "user1" }, "Your table is booked")).toMatchObject({
      type: "ack",
      state: "stored",
    });
    await first.stop();
    const second = await rigs.open({}, { dataDir: folder.path });
    const me = await second.person("user1");
    const [conversation] = await conversations(me);
    expect(conversation).toMatchObject({ unread: 1, botId: "a" });
    expect(await me.messages(conversation!.id)).toMatchObject([
      { role: "bot", botId: "a", botName: "Ann", content: "Your table is booked", state: "done" },
    ]);
    expect(await everything(await second.person("admin"))).toEqual([]);
  });

  test("reaches the events of who is there at once", async () => {
    const rig = await rigs.open();
    const bot = await rig.v2("a", { caps });
    const events = await (await rig.person("user1")).reader("/api/events");
    await events.find(({ type }) => type === "bots");
    await tell(bot, { userId: "user1" }, "now");
    expect((await events.find(({ message }) => message?.content === "now")).data.message).toMatchObject({
      role: "bot",
    });
  });

  test("with the same id twenty times, also at once, over a reconnect and with other words, is one message", async () => {
    const rig = await rigs.open();
    const bot = await rig.v2("a", { caps });
    const frame = { type: "message", id: "same", to: { userId: "user1" }, content: "once" };
    for (let i = 0; i < 10; i++) bot.send(frame);
    const stored = (one: Bot): number =>
      one.frames.filter((ack) => ack.type === "ack" && "state" in ack && ack.id === "same" && ack.state === "stored")
        .length;
    await until(() => stored(bot) === 10, 3000, "ten acks");
    const again = await rig.v2("a", { caps });
    for (let i = 0; i < 9; i++) again.send(frame);
    again.send({ ...frame, content: "twice?" });
    await until(() => stored(again) === 10, 3000, "ten more acks");
    const me = await rig.person("user1");
    expect((await everything(me)).map(({ content }) => content)).toEqual(["once"]);
    // The id is the bot's own: another bot may use the same.
    const other = await rig.v2("b", { caps });
    other.send({ ...frame, content: "from b" });
    await verdict(other, "same");
    expect((await everything(me)).map(({ content }) => content).sort()).toEqual(["from b", "once"]);
  });

  test("carries a title and files", async () => {
    const rig = await rigs.open();
    const bot = await rig.v2("a", { caps });
    const attachments = [{ name: "plan.txt", mime: "text/plain", data: Buffer.from("the plan").toString("base64") }];
    await tell(bot, { userId: "user1" }, "", { title: "Monday", attachments });
    const me = await rig.person("user1");
    expect((await conversations(me))[0]!.title).toBe("Monday");
    const [message] = await everything(me);
    expect(message!.attachments).toMatchObject([{ name: "plan.txt", size: 8 }]);
    expect((await me("GET", `/api/attachments/${message!.attachments[0]!.id}`)).text).toBe("the plan");
  });

  test("goes into a conversation only where this bot has answered", async () => {
    const rig = await rigs.open();
    const a = await rig.v2("a", { caps });
    const b = await rig.v2("b", { caps });
    const me = await rig.person("user1");
    const turn = await me.ask("hi", { target: "a" });
    await turn.all();
    const to = { conversationId: turn.conversation };
    expect(await tell(a, to, "one more thing")).toMatchObject({ type: "ack", state: "stored" });
    expect(await tell(b, to, "me too")).toMatchObject({ type: "error", code: "not_found" });
    expect((await me.messages(turn.conversation)).map(({ content }) => content)).toEqual([
      "hi",
      "echo: hi",
      "one more thing",
    ]);
    await me("DELETE", `/api/conversations/${turn.conversation}`);
    expect(await tell(a, to, "hello?")).toMatchObject({ type: "error", code: "not_found" });
  });

  test("to nobody, to somebody who may not use the bot, or of nothing, is refused by its id", async () => {
    const rig = await rigs.open({ bots: { vip: { token: "token-of-the-vip-1", users: ["admin"] } } });
    const bot = await rig.v2("a", { caps });
    const vip = await rig.v2("vip", { caps, token: "token-of-the-vip-1" });
    for (const [who, to, content, code] of [
      [bot, { userId: "nobody" }, "hi", "not_found"],
      [bot, { userId: "__proto__" }, "hi", "not_found"],
      [bot, { conversationId: "zzzzzzzz" }, "hi", "not_found"],
      [bot, { conversationId: "!" }, "hi", "not_found"],
      [vip, { userId: "user1" }, "hi", "forbidden"],
      [bot, { userId: "user1" }, "", "bad_request"],
    ] as const)
      expect([to, await tell(who, to, content)]).toMatchObject([to, { type: "error", code }]);
    expect(await tell(vip, { userId: "admin" }, "hi")).toMatchObject({ type: "ack" });
    expect(await everything(await rig.person("user1"))).toEqual([]);
    expect((await deadLetters(await rig.person("admin"))).length).toBe(6);
  });
});

describe("receipts", () => {
  test("`seen` comes when the person has read it, once", async () => {
    const rig = await rigs.open();
    const bot = await rig.v2("a", { caps });
    const me = await rig.person("user1");
    bot.send({ type: "message", id: "m1", to: { userId: "user1" }, content: "one" });
    bot.send({ type: "message", id: "m2", to: { userId: "user1" }, content: "two" });
    await verdict(bot, "m2");
    const [conversation] = await conversations(me);
    const [one, two] = await me.messages(conversation!.id);
    await me("PATCH", `/api/conversations/${conversation!.id}`, { read: one!.id });
    await seenAck(bot, "m1");
    const seen = (): string[] =>
      bot.frames.flatMap((frame) =>
        frame.type === "ack" && "state" in frame && frame.state === "seen" ? [frame.id] : [],
      );
    expect(seen()).toEqual(["m1"]);
    await me("PATCH", `/api/conversations/${conversation!.id}`, { read: two!.id });
    await seenAck(bot, "m2");
    await me("PATCH", `/api/conversations/${conversation!.id}`, { read: two!.id });
    await Bun.sleep(30);
    expect(seen()).toEqual(["m1", "m2"]);
  });

  test("a bot that was away is told when it returns, and one that asks again is told both", async () => {
    const rig = await rigs.open();
    const bot = await rig.v2("a", { caps });
    const me = await rig.person("user1");
    const frame = { type: "message", id: "m1", to: { userId: "user1" }, content: "one" };
    bot.send(frame);
    await verdict(bot, "m1");
    await bot.close();
    await until(() => rig.bots.count() === 0, 2000, "the bot to be gone");
    const [conversation] = await conversations(me);
    const [one] = await me.messages(conversation!.id);
    await me("PATCH", `/api/conversations/${conversation!.id}`, { read: one!.id });
    const back = await rig.v2("a", { caps });
    await seenAck(back, "m1");
    await back.close();
    const third = await rig.v2("a", { caps });
    await Bun.sleep(30);
    expect(third.frames.some((ack) => ack.type === "ack")).toBe(false);
    third.send(frame);
    await seenAck(third, "m1");
    expect(third.frames.filter((ack) => ack.type === "ack").map((ack) => "state" in ack && ack.state)).toEqual([
      "stored",
      "seen",
    ]);
  });
});

describe("dead letters", () => {
  test("the v1 form `outbound-…` names no person and reaches none", async () => {
    const rig = await rigs.open();
    const bot = await rig.v1("old");
    bot.reply({ id: "outbound-user1-123" }, "psst", true);
    const admin = await rig.person("admin");
    await until(async () => (await deadLetters(admin)).length === 1, 2000, "the dead letter");
    const [letter] = await deadLetters(admin);
    expect(letter).toMatchObject({ botId: "old" });
    expect(letter!.reason).toContain("outbound");
    expect(await frameOf(admin, letter!)).toContain("psst");
    for (const user of ["admin", "user1"]) expect(await everything(await rig.person(user))).toEqual([]);
    expect(bot.frames.map(({ type }) => type)).toEqual(["registered"]);
  });

  test("a reply to a turn that never was, or of another bot that is over, is kept there too", async () => {
    const rig = await rigs.open();
    const a = await rig.v1("a");
    const b = await rig.v2("b", { pools: ["else"] });
    const me = await rig.person("user1");
    const turn = await me.ask("hi");
    await turn.all();
    b.send({ type: "reply", replyTo: turn.id, content: "not mine", done: true, seq: 1 });
    b.send({ type: "reply", replyTo: "no such turn!", content: "nowhere", done: true, seq: 1 });
    a.reply({ id: "zzz" }, "nowhere either", true);
    const admin = await rig.person("admin");
    await until(async () => (await deadLetters(admin)).length === 3, 2000, "three dead letters");
    expect((await everything(me)).map(({ content }) => content)).toEqual(["hi", "echo: hi"]);
  });

  test("they are for admins alone", async () => {
    const rig = await rigs.open();
    expect((await (await rig.person("user1"))("GET", "/api/admin/dead-letters")).status).toBe(403);
    const admin = await rig.person("admin");
    expect((await admin("GET", "/api/admin/dead-letters")).body).toMatchObject({ deadLetters: [] });
    const key = await admin<{ key: string }>("POST", "/api/keys", { name: "k", scope: "all" });
    const byKey = await fetch(`${rig.url}/api/admin/dead-letters`, {
      headers: { authorization: `Bearer ${key.body.key}` },
    });
    expect(byKey.status).toBe(403);
  });

  test("a bot that streams to nobody fills neither the disk nor the log", async () => {
    const rig = await rigs.open();
    const bot = await rig.v1("a");
    for (let i = 0; i < 500; i++) bot.reply({ id: "nobody" }, `${i}`, false);
    bot.send("{");
    await bot.waitFor("error");
    const admin = await rig.person("admin");
    await until(async () => (await deadLetters(admin)).length === 100, 2000, "a hundred dead letters");
    expect(rig.logged("dead_letter").length).toBe(100);
    rig.pass(60_000);
    bot.reply({ id: "nobody" }, "a minute later", false);
    await until(async () => (await deadLetters(admin)).length === 101, 2000, "one more");
    expect(await frameOf(admin, (await deadLetters(admin))[0]!)).toContain("a minute later");
  });
});

test("a proactive message is acked when it is stored and not before; when the disk refuses, it is refused by its id (D7)", async () => {
  const rig = await rigs.open();
  const bot = await rig.v2("a", { caps });
  const { inbox } = rig.gateway.gate.store;
  const kept = inbox.add;
  const hanging = Promise.withResolvers<void>();
  inbox.add = async (...given) => {
    await hanging.promise;
    return kept(...given);
  };
  bot.send({ type: "message", id: "m1", to: { userId: "user1" }, content: "hi" });
  bot.send({ type: "message", id: "none", to: { userId: "nobody" }, content: "hi" });
  await bot.waitFor("error", ({ id }) => id === "none"); // what came after it was answered
  expect(bot.frames.filter(({ type }) => type === "ack")).toEqual([]);
  hanging.resolve();
  await bot.waitFor("ack", (frame) => "id" in frame && frame.id === "m1");
  inbox.add = async () => {
    throw new Reject("storage_failed");
  };
  bot.send({ type: "message", id: "m2", to: { userId: "user1" }, content: "hi" });
  expect(await bot.waitFor("error", ({ id }) => id === "m2")).toMatchObject({ code: "storage_failed" });
  expect(bot.frames.filter(({ type }) => type === "ack")).toHaveLength(1);
  inbox.add = kept;
});
