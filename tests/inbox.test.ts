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

describe("a reply after the end", () => {
  const acked = (bot: Bot, replyTo: string): number[] =>
    bot.frames.flatMap((frame) =>
      frame.type === "ack" && "seq" in frame && frame.replyTo === replyTo ? [frame.seq] : [],
    );
  const contents = async (me: Person, conversation: string): Promise<string[]> =>
    (await me.messages(conversation)).map(({ content }) => content);
  /** Everything the bot has said until now has been read. */
  const read = async (bot: Bot): Promise<void> => {
    const { length } = bot.frames;
    bot.send({ type: "unheard-of" });
    await until(() => bot.frames.slice(length).some(({ type }) => type === "error"), 2000, "all to be read");
  };
  const answered = async (rig: Rig, bot: Bot, me: Person) => {
    const turn = await me.ask("hi");
    const chat = await bot.waitFor("chat", ({ id }) => id === turn.id);
    bot.end(chat, "answer", { seq: 1 });
    await turn.all();
    await rig.quiet();
    return { chat, conversation: turn.conversation };
  };
  const hold = { onChat: () => {} };
  /** A turn that is over, its bot and its person. */
  const over = async (config: Parameters<typeof rigs.open>[0] = {}) => {
    const rig = await rigs.open(config);
    const bot = await rig.v2("a", { caps }, hold);
    const me = await rig.person();
    return { rig, bot, me, ...(await answered(rig, bot, me)) };
  };

  test("is acked again when it is sent again, as far as it is stored", async () => {
    const { rig, bot, me, chat, conversation } = await over();
    bot.write(chat, "PS: ", { seq: 2 });
    bot.end(chat, "one more", { seq: 3 });
    await until(() => acked(bot, chat.id).includes(3), 2000, "the ack");
    bot.write(chat, "and ", { seq: 4 });
    bot.write(chat, "PS: ", { seq: 2 });
    bot.write(chat, "and ", { seq: 4 });
    bot.end(chat, "one more", { seq: 3 });
    await read(bot);
    expect(acked(bot, chat.id)).toEqual([1, 3, 3, 3]);
    bot.end(chat, "another", { seq: 5 });
    await until(() => acked(bot, chat.id).includes(5), 2000, "the ack of the rest");
    rig.pass(3600_000);
    bot.end(chat, "another", { seq: 5 });
    await until(() => acked(bot, chat.id).length === 6, 2000, "the ack an hour later");
    expect(await contents(me, conversation)).toEqual(["hi", "answer", "PS: one more", "and another"]);
  });

  test("is one message when it is sent again after a restart, and acked", async () => {
    const folder = await tempDir("late");
    rigs.onClose(() => folder.remove());
    const first = await rigs.open({}, { dataDir: folder.path });
    const bot = await first.v2("a", { caps }, hold);
    const { chat, conversation } = await answered(first, bot, await first.person());
    const say = (one: Bot): void => {
      one.write(chat, "PS: ", { seq: 2 });
      one.end(chat, "one more", { seq: 3 });
    };
    say(bot);
    await until(() => acked(bot, chat.id).includes(3), 2000, "the ack");
    await first.stop();
    const second = await rigs.open({}, { dataDir: folder.path, clock: first.clock });
    const me = await second.person();
    const back = await second.v2("a", { caps }, hold);
    say(back);
    await read(back);
    await until(() => acked(back, chat.id).length > 0, 2000, "an ack after the restart");
    expect(await contents(me, conversation)).toEqual(["hi", "answer", "PS: one more"]);
    expect(acked(back, chat.id)).toEqual([3, 3]);
    back.end(chat, "and another", { seq: 4 });
    await until(() => acked(back, chat.id).includes(4), 2000, "the ack of what is new");
    expect(await contents(me, conversation)).toEqual(["hi", "answer", "PS: one more", "and another"]);
  });

  test("is not acked before it is stored, and then where it was sent last", async () => {
    const { rig, bot, me, chat, conversation } = await over();
    const { inbox } = rig.gateway.gate.store;
    const kept = inbox.addLate;
    const hanging = Promise.withResolvers<void>();
    inbox.addLate = async (...given) => {
      await hanging.promise;
      return kept(...given);
    };
    bot.end(chat, "more", { seq: 2 });
    bot.end(chat, "more", { seq: 2 });
    await read(bot);
    await bot.close();
    const back = await rig.v2("a", { caps, session: bot.registered.session }, hold);
    back.end(chat, "more", { seq: 2 });
    await read(back);
    rig.later(61_000);
    expect([...acked(bot, chat.id), ...acked(back, chat.id)]).toEqual([1]);
    hanging.resolve();
    await until(() => acked(back, chat.id).includes(2), 2000, "the ack");
    expect(await contents(me, conversation)).toEqual(["hi", "answer", "more"]);
  });

  test("that the disk refuses is stored later, and the one behind it not before", async () => {
    const { rig, bot, me, chat, conversation } = await over();
    const { inbox } = rig.gateway.gate.store;
    const kept = inbox.addLate;
    let tries = 0;
    inbox.addLate = async () => {
      tries++;
      throw new Reject("storage_failed");
    };
    bot.end(chat, "one", { seq: 2 });
    await until(() => tries === 1, 2000, "the first try");
    bot.write(chat, "tw", { seq: 3 });
    bot.end(chat, "o", { seq: 4 });
    bot.end(chat, "three", { seq: 5 });
    await read(bot);
    expect(acked(bot, chat.id)).toEqual([1]);
    inbox.addLate = kept;
    rig.later(61_000);
    await until(() => acked(bot, chat.id).includes(5), 2000, "the last ack");
    expect(acked(bot, chat.id)).toEqual([1, 2, 4, 5]);
    expect(await contents(me, conversation)).toEqual(["hi", "answer", "one", "two", "three"]);
  });

  test("does not pile up while the disk refuses: beyond what one may hold, what comes is a dead letter and not acked", async () => {
    const { rig, bot, chat } = await over({ limits: { replyBytes: 1000 } });
    rig.gateway.gate.store.inbox.addLate = async () => {
      throw new Reject("storage_failed");
    };
    for (let seq = 2; seq <= 6; seq++) bot.end(chat, "x".repeat(300), { seq });
    const admin = await rig.person("admin");
    await until(async () => (await deadLetters(admin)).length >= 2, 2000, "what is beyond");
    expect((await deadLetters(admin)).map(({ reason }) => reason)).toEqual(Array(2).fill("late reply too large"));
    expect(acked(bot, chat.id)).toEqual([1]);
  });

  test("while its conversation is deleted comes back with it, and is not acked before it is stored", async () => {
    const { bot, me, chat, conversation } = await over();
    const events = await me.reader("/api/events");
    await events.find(({ type }) => type === "hello");
    await me("DELETE", `/api/conversations/${conversation}`);
    bot.end(chat, "late", { seq: 2 });
    await until(() => acked(bot, chat.id).includes(2), 2000, "the ack");
    await me("POST", `/api/conversations/${conversation}/restore`, {});
    expect(await contents(me, conversation)).toEqual(["hi", "answer", "late"]);
    await events.find(({ type, message }) => type === "message" && (message as { content: string }).content === "late");
  });

  test("keeps its text, and the other files, when a file is not there or cannot be read", async () => {
    const { rig, bot, me, chat, conversation } = await over();
    const good = { name: "plan.txt", mime: "text/plain", data: Buffer.from("the plan").toString("base64") };
    bot.end(chat, "with files", { seq: 2, attachments: [{ id: "zzz" }, good], image: "data:image/png;base64,?!" });
    await until(() => acked(bot, chat.id).includes(2), 2000, "the ack");
    expect((await me.messages(conversation)).at(-1)).toMatchObject({
      content: "with files",
      attachments: [{ name: "plan.txt" }],
    });
    expect(rig.logged("reply_file_refused")).toHaveLength(2);
  });

  test("to an older turn comes after what was said since, and the next question goes on from all of it", async () => {
    const rig = await rigs.open();
    const bot = await rig.v2("a", { caps: [...caps, "history"] }, hold);
    const me = await rig.person();
    const { chat, conversation } = await answered(rig, bot, me);
    const ask = async (content: string) => {
      const turn = await me.ask(content, { conversationId: conversation });
      return { turn, chat: await bot.waitFor("chat", ({ id }) => id === turn.id) };
    };
    const second = await ask("second");
    bot.end(second.chat, "answer 2", { seq: 1 });
    await second.turn.all();
    bot.end(chat, "late", { seq: 2 });
    await until(() => acked(bot, chat.id).includes(2), 2000, "the ack");
    const third = await ask("third");
    bot.end(chat, "later, while one is open", { seq: 3 });
    await until(() => acked(bot, chat.id).includes(3), 2000, "the ack");
    bot.end(third.chat, "answer 3", { seq: 1 });
    await third.turn.all();
    const fourth = await ask("fourth");
    const before = ["hi", "answer", "second", "answer 2", "late"];
    expect(third.chat.history?.map(({ content }) => content)).toEqual(before);
    expect(fourth.chat.history?.map(({ content }) => content)).toEqual([
      ...before,
      "third",
      "answer 3",
      "later, while one is open",
    ]);
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
