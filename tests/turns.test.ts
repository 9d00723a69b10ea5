/** The life of a turn: who may answer, failing over, waiting, ending. Every test leaves no turn behind. */
import { afterEach, describe, expect, test } from "bun:test";
import type { ChatFrame } from "../lib/protocol.ts";
import { until, within } from "./harness.ts";
import { createRigs, type Rig, shown } from "./harness/rig.ts";

const rigs = createRigs();
let last: Rig | undefined;
const open: typeof rigs.open = async (...args) => {
  last = await rigs.open(...args);
  return last;
};
afterEach(async () => {
  const rig = last;
  last = undefined;
  await rig?.quiet().finally(rigs.closeAll);
});

const hold = { onChat: () => {} };
const png = (fill: number, bytes = 64): string =>
  Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), Buffer.alloc(bytes, fill)]).toString("base64");

describe("whose turn it is (D6)", () => {
  test("a bot cannot answer, accept or comment a turn that another was given", async () => {
    const { v1, v2, person, logged } = await open();
    const a = await v1("a", hold);
    const b = await v2("b", {}, hold);
    const c = await v1("c", hold);
    const turn = await (await person()).ask("hi", { target: "a" });
    const chat = await a.waitFor("chat");
    b.send({ type: "reply", replyTo: chat.id, content: "forged", done: true, seq: 1 });
    expect(await b.waitFor("error")).toMatchObject({ code: "not_your_turn", id: chat.id });
    b.send({ type: "event", replyTo: chat.id, kind: "status", text: "forged" });
    b.send({ type: "ack", id: chat.id });
    c.reply(chat, "forged");
    await until(() => b.frames.filter(({ type }) => type === "error").length === 3, 2000, "three refusals");
    expect(await c.waitFor("error")).toMatchObject({ code: "not_your_turn" });
    a.reply(chat, "genuine");
    const events = await turn.all();
    expect(events.map(({ data }) => data.type)).toEqual(["start", "chunk", "end"]);
    expect(shown(events)).toBe("genuine");
    b.send({ type: "reply", replyTo: chat.id, content: "forged after the end", done: true, seq: 1 });
    await b.waitFor("error", ({ code }) => code === "not_found");
    expect(JSON.stringify(await (await person()).messages(turn.conversation))).not.toContain("forged");
    expect(logged("not_your_turn").length).toBeGreaterThan(0);
  });

  test("a turn's stream and its cancelling are its owner's alone", async () => {
    const { v1, person } = await open();
    const bot = await v1("a", hold);
    const turn = await (await person("admin")).ask("hi");
    const other = await person("user1");
    expect((await other("GET", `/api/turns/${turn.id}/stream`)).status).toBe(404);
    expect((await other("POST", `/api/turns/${turn.id}/cancel`)).status).toBe(404);
    bot.reply(await bot.waitFor("chat"), "for you only");
    expect(shown(await turn.all())).toBe("for you only");
    expect((await other("GET", `/api/turns/${turn.id}/stream`)).status).toBe(404);
  });
});

describe("mentions", () => {
  test("a leading id or exact name picks the bot, longest first, and is taken off the text the bot sees", async () => {
    const { v1, person } = await open();
    const bot = await v1("bot", { botName: "Doc" });
    const bot2 = await v1("bot-2", { botName: "Doc Brown" });
    await v1("third", { botName: "İstanbul" });
    const me = await person();
    for (const [message, who, text] of [
      ["@bot-2 hello", "bot-2", "hello"],
      ["@bot hello", "bot", "hello"],
      ["@BOT-2\nhello", "bot-2", "hello"],
      ["@doc brown hello", "bot-2", "hello"],
      ["@Doc hello", "bot", "hello"],
      ["@İstanbul hello", "third", "hello"],
      ["@bot-2", "bot-2", ""],
    ] as const)
      expect((await me("POST", "/api/chat", { message })).body).toMatchObject({ botId: who, content: `echo: ${text}` });
    for (const message of ["@bot-22 hello", "@nobody hello", "hello @bot-2", "@ bot hello"])
      expect((await me("POST", "/api/chat", { message })).body.content).toBe(`echo: ${message}`);
    expect(bot.chats.length + bot2.chats.length).toBeGreaterThan(6);
  });

  test("a mention of a bot that is offline is 404, and one that may not be used is just text", async () => {
    const { v1, person } = await open({ bots: { vip: { token: "token-of-the-vip-1", users: ["admin"] } } });
    const gone = await v1("gone");
    await gone.close();
    await v1("here");
    await v1("vip", { token: "token-of-the-vip-1" });
    const me = await person("user1");
    expect((await me("POST", "/api/chat", { message: "@gone hi" })).body.code).toBe("bot_not_found");
    expect((await me("POST", "/api/chat", { message: "@vip hi" })).body).toMatchObject({
      botId: "here",
      content: "echo: @vip hi",
    });
    expect((await (await person())("POST", "/api/chat", { message: "@vip hi" })).body).toMatchObject({ botId: "vip" });
  });
});

describe("failing over", () => {
  const two = async (rig: Rig, make: (botId: string) => Promise<Awaited<ReturnType<Rig["v2"]>>>) => {
    const a = await make("a");
    const b = await make("b");
    const turn = await (await rig.person()).ask("hi");
    await until(() => a.chats.length + b.chats.length === 1, 2000, "somebody to be asked");
    const [first, second, heir] = a.chats.length === 1 ? [a, b, "b"] : [b, a, "a"];
    return { first, second, heir, turn, chat: first.chats[0]! };
  };

  test("a v1 bot that goes within a second without a chunk is replaced by another", async () => {
    const rig = await open();
    const bots = [await rig.v1("a", hold), await rig.v1("b", hold)];
    const turn = await (await rig.person()).ask("hi");
    await until(() => bots.some((bot) => bot.chats.length === 1), 2000, "somebody to be asked");
    const [first, second] = bots[0]!.chats.length === 1 ? bots : [bots[1]!, bots[0]!];
    first!.cut();
    const again = await second!.waitFor("chat");
    expect(again.id).toBe(first!.chats[0]!.id);
    second!.reply(again, "I took over");
    expect(shown(await turn.all())).toBe("I took over");
  });

  test("a v1 bot that has begun, or had a second, is not; its turn fails after two seconds with what there is", async () => {
    for (const begin of [true, false]) {
      const rig = await open();
      const a = await rig.v1("a", hold);
      const turn = await (await rig.person()).ask("hi");
      const chat = await a.waitFor("chat");
      const b = await rig.v1("b", hold);
      if (begin) {
        a.reply(chat, "half an ", false);
        await turn.find(({ type }) => type === "chunk");
      } else rig.pass(1001);
      a.cut();
      await until(() => rig.bots.count() === 1, 2000, "the bot to be gone");
      rig.later(1_900);
      expect(rig.turns.count()).toBe(1);
      rig.later(100);
      const end = (await turn.all()).at(-1)?.data;
      expect(end).toMatchObject({ type: "error", code: "bot_disconnected" });
      expect(b.chats).toHaveLength(0);
      const [, answer] = await (await rig.person()).messages(turn.conversation);
      expect(answer).toMatchObject({
        state: "failed",
        content: begin ? "half an " : "",
        error: { code: "bot_disconnected" },
      });
      await rig.quiet();
    }
  });

  test("a v2 bot that goes before it accepted is replaced, attempts are counted", async () => {
    const rig = await open();
    const { first, second, turn, chat } = await two(rig, (id) => rig.v2(id, {}, { ...hold, ack: false }));
    expect(chat.attempt).toBe(1);
    first.cut();
    const again = await second.waitFor("chat");
    expect([again.id, again.attempt]).toEqual([chat.id, 2]);
    second.end(again, "second try");
    expect(shown(await turn.all())).toBe("second try");
  });

  test("a v2 bot that accepted is not replaced: it has sixty seconds to return, then the turn fails", async () => {
    const rig = await open();
    const { first, second, turn } = await two(rig, (id) => rig.v2(id, {}, hold));
    first.write(first.chats[0]!, "so far");
    await turn.find(({ type }) => type === "chunk");
    first.cut();
    await until(() => rig.bots.count() === 1, 2000, "the bot to be gone");
    rig.later(59_000);
    await Bun.sleep(20);
    expect([rig.turns.count(), second.chats.length]).toEqual([1, 0]);
    rig.later(1_000);
    expect((await turn.all()).at(-1)?.data).toMatchObject({ type: "error", code: "bot_disconnected" });
    expect(shown(turn.events)).toBe("so far");
  });

  test("a retryable error moves the turn, the loser is told and what it still says counts for nothing", async () => {
    const rig = await open();
    const { first, second, turn, chat } = await two(rig, (id) => rig.v2(id, {}, hold));
    const overloaded = { code: "overloaded", message: "busy", retryable: true };
    first.end(chat, "", { error: overloaded });
    expect(await first.waitFor("cancel")).toMatchObject({ id: chat.id, reason: "failover" });
    const again = await second.waitFor("chat");
    expect(again.attempt).toBe(2);
    first.send({ type: "reply", replyTo: chat.id, content: "loser", done: true, seq: 1 });
    expect(await first.waitFor("error")).toMatchObject({ code: "not_your_turn" });
    second.end(again, "winner");
    const events = await turn.all();
    expect(shown(events)).toBe("winner");
    expect(events.filter(({ data }) => data.type === "start")).toHaveLength(1);
  });

  test("when every bot refuses, the turn fails once each has had it, and the last one's error frame is acked", async () => {
    const rig = await open();
    const refuse = (chat: ChatFrame, bot: { end: (...args: never[]) => number }): void => {
      (bot.end as (...args: unknown[]) => number)(chat, "", {
        error: { code: "no", message: "not now", retryable: true },
      });
    };
    const bots = await Promise.all(["a", "b", "c"].map((id) => rig.v2(id, {}, { onChat: refuse as never })));
    const answer = await (await rig.person())("POST", "/api/chat", { message: "hi" });
    expect([answer.status, answer.body.code, answer.body.error]).toEqual([502, "bot_failed", "not now"]);
    expect(bots.map((bot) => bot.chats.length)).toEqual([1, 1, 1]);
    const lastOne = bots.find((bot) => bot.chats[0]!.attempt === 3)!;
    expect(await lastOne.waitFor("ack")).toMatchObject({ seq: 1 });
  });

  test("an error after text, or one that is not retryable, ends the turn with the bot's own sentence", async () => {
    const rig = await open();
    const me = await rig.person();
    const bot = await rig.v2("a", {}, hold);
    await rig.v2("b", { pools: ["other"] }, hold);
    for (const [text, last, retryable] of [
      ["some text", "", true],
      ["", "", false],
      // The last words may come in the frame that says the failure.
      ["some text", " and more", true],
      ["", "only words", true],
    ] as const) {
      const turn = await me.ask("hi");
      const chat = await bot.waitFor("chat", ({ id }) => id === turn.id);
      if (text) bot.write(chat, text);
      bot.end(chat, last, { error: { code: "quota", message: "The quota is used up", retryable } });
      const end = (await turn.all()).at(-1)?.data;
      expect(end).toMatchObject({ type: "error", code: "bot_failed", error: "The quota is used up" });
      expect(shown(turn.events)).toBe(text + last);
    }
  });

  test("an idempotent bot may be replaced at any time, and nothing of the first attempt stays: text, files, usage", async () => {
    const rig = await open();
    const make = (id: string) => rig.v2(id, { caps: ["ack", "seq", "idempotent", "attachments"] }, hold);
    const { first, second, heir, turn, chat } = await two(rig, make);
    const events = await (await rig.person()).reader("/api/events");
    await events.find(({ type }) => type === "turn");
    first.write(chat, "first attempt", {
      usage: { total_tokens: 99 },
      attachments: [{ name: "first.png", mime: "image/png", data: png(1) }],
    });
    await turn.find(({ type }) => type === "attachment");
    await turn.find(({ type }) => type === "chunk");
    // Two more files are on their way to disk while the connection goes; one arrives before the second's end, one after.
    const { attachments } = rig.gateway.gate.store;
    const { add } = attachments;
    const gates = { "late1.png": Promise.withResolvers<void>(), "late2.png": Promise.withResolvers<void>() };
    attachments.add = async (file) => {
      await gates[file.name as keyof typeof gates]?.promise;
      return add(file);
    };
    for (const name of Object.keys(gates))
      first.write(chat, " more", { attachments: [{ name, mime: "image/png", data: png(2) }] });
    await until(() => [...rig.turns.all()][0]?.storing?.size === 2, 2000, "two files on their way");
    first.cut();
    const again = await second.waitFor("chat");
    second.write(again, "second", { attachments: [{ name: "second.png", mime: "image/png", data: png(3) }] });
    await turn.find(({ attachment }) => attachment?.name === "second.png");
    gates["late1.png"].resolve();
    await Bun.sleep(20);
    second.end(again, " attempt");
    const all = await turn.all();
    gates["late2.png"].resolve();
    expect(shown(all)).toBe("second attempt");
    expect(all.some(({ data }) => data.type === "replace")).toBe(true);
    const names = all.filter(({ data }) => data.type === "attachment").map(({ data }) => data.attachment?.name);
    expect(names.at(-1)).toBe("second.png");
    const [, answer] = await (await rig.person()).messages(turn.conversation);
    expect(answer).toMatchObject({ content: "second attempt", state: "done", botId: heir });
    expect(answer?.attachments.map(({ name }) => name)).toEqual(["second.png"]);
    expect(answer?.usage).toBeUndefined();
    // Everybody who watches learned who has it now.
    const told = events.events
      .filter(({ data }) => data.type === "turn")
      .map(({ data }) => [data.botId, data.generation]);
    expect(told.at(-1)).toEqual([heir, 1]);
  });

  test("a named bot is never replaced by another, but by another instance of it", async () => {
    const rig = await open();
    const one = await rig.v2("a", { instanceId: "1" }, { ...hold, ack: false });
    await rig.v2("b", {}, hold);
    const me = await rig.person();
    const lonely = await me.ask("hi", { target: "a" });
    await one.waitFor("chat");
    one.cut();
    await until(() => rig.bots.count() === 1, 2000, "the bot to be gone");
    rig.later(60_000);
    expect((await lonely.all()).at(-1)?.data.code).toBe("bot_disconnected");

    const again = await rig.v2("a", { instanceId: "1" }, { ...hold, ack: false });
    const turn = await me.ask("hi", { target: "a" });
    await again.waitFor("chat");
    const two = await rig.v2("a", { instanceId: "2" }, hold);
    again.end(again.chats[0]!, "", { error: { code: "busy", message: "busy", retryable: true } });
    const chat = await two.waitFor("chat");
    two.end(chat, "the other instance");
    expect(shown(await turn.all())).toBe("the other instance");
  });

  test("a question that no bot survives is given up after five tries", async () => {
    const rig = await open();
    let deaths = 0;
    const mortal = async (): Promise<void> => {
      const bot = await rig.v2("a", {}, { ack: false, onChat: (_, self) => self.cut() });
      void bot.closed.then(() => {
        if (++deaths < 20) void mortal();
      });
    };
    await mortal();
    const answer = await (await rig.person())("POST", "/api/chat", { message: "deadly" });
    expect([answer.status, answer.body.code]).toEqual([502, "bot_disconnected"]);
    expect(deaths).toBeLessThanOrEqual(6);
    await until(() => rig.bots.count() === 1, 2000, "the last one to be back");
    for (const one of [...rig.bots.connections()]) rig.bots.close(one, "no_pong");
    deaths = 100;
  });

  test("not even when there are many bots: five are enough", async () => {
    const rig = await open();
    const mortal = { ack: false, onChat: (_: unknown, self: { cut: () => void }) => self.cut() };
    await Promise.all(Array.from({ length: 8 }, (_, i) => rig.v2(`bot${i}`, {}, mortal)));
    const answer = (await rig.person())("POST", "/api/chat", { message: "deadly" });
    await until(() => rig.bots.count() === 3, 2000, "five to be gone");
    await Bun.sleep(30);
    rig.later(60_000);
    expect((await answer).body.code).toBe("bot_disconnected");
    expect(rig.bots.count()).toBe(3);
  });

  test("a bot of another pool does not inherit", async () => {
    const rig = await open();
    const a = await rig.v2("a", {}, { ...hold, ack: false });
    const b = await rig.v2("b", { pools: ["elsewhere"] }, hold);
    const turn = await (await rig.person()).ask("hi");
    await a.waitFor("chat");
    a.cut();
    await until(() => rig.bots.count() === 1, 2000, "the bot to be gone");
    rig.later(60_000);
    expect((await turn.all()).at(-1)?.data.code).toBe("bot_disconnected");
    expect(b.chats).toHaveLength(0);
  });
});

describe("waiting in the queue", () => {
  test("everyone is told their place, gets `start` when a bot has them, in the order they came", async () => {
    const rig = await open();
    const bot = await rig.v2("a", { maxConcurrency: 1 }, hold);
    const me = await rig.person();
    const events = await me.reader("/api/events");
    await events.find(({ type }) => type === "bots");
    const first = await me.ask("1");
    const second = await me.reader("/api/chat/stream", { message: "2" });
    await second.find(({ type, kind, position }) => type === "activity" && kind === "queued" && position === 1);
    const third = await me.reader("/api/chat/stream", { message: "3" });
    await third.find(({ position }) => position === 2);
    expect(third.events.some(({ data }) => data.type === "start")).toBe(false);
    bot.end(await bot.waitFor("chat"), "one");
    expect(shown(await first.all())).toBe("one");
    await third.find(({ position }) => position === 1);
    for (const [stream, text] of [
      [second, "2"],
      [third, "3"],
    ] as const) {
      await stream.find(({ type }) => type === "start");
      bot.end(await bot.waitFor("chat", ({ content }) => content === text), `answer ${text}`);
      expect(shown(await stream.all())).toBe(`answer ${text}`);
    }
    expect(bot.chats.map(({ content, attempt }) => [content, attempt])).toEqual([
      ["1", 1],
      ["2", 1],
      ["3", 1],
    ]);
    expect(events.events.filter(({ data }) => data.kind === "queued").length).toBeGreaterThanOrEqual(3);
  });

  test("beyond queuedTurns it is bot_busy, also for many at the same moment", async () => {
    const rig = await open({ limits: { queuedTurns: 3, turnsPerUser: 0 } });
    const bot = await rig.v2("a", { maxConcurrency: 1 }, { onChat: () => {} });
    const me = await rig.person();
    const clientIds = Array.from({ length: 12 }, (_, i) => `c${i}`);
    const answers = clientIds.map((clientId) => me("POST", "/api/chat", { message: clientId, clientId }));
    await until(() => rig.turns.queued() === 3, 2000, "three to wait");
    const busy = await Promise.all(answers.map((one) => Promise.race([one, Bun.sleep(300)])));
    expect(busy.filter((one) => one?.status === 503 && one.body.code === "bot_busy")).toHaveLength(8);
    expect(rig.turns.count()).toBe(4);
    for (let i = 0; i < 4; i++) {
      await until(() => bot.chats.length > i, 2000, "the next");
      bot.end(bot.chats[i]!, "ok");
    }
    expect((await Promise.all(answers)).filter(({ status }) => status === 200)).toHaveLength(4);
  });

  test("who waits can be cancelled, and who waits too long is told that the bots are busy", async () => {
    const rig = await open();
    const bot = await rig.v2("a", { maxConcurrency: 1 }, hold);
    const me = await rig.person();
    const first = await me.ask("1");
    const answer = me("POST", "/api/chat", { message: "2", clientId: "two" });
    const third = await me.reader("/api/chat/stream", { message: "3" });
    await third.find(({ position }) => position === 2);
    const second = [...rig.turns.all()].find((turn) => turn.ask.content === "2")!;
    expect((await me("POST", `/api/turns/${second.key}/cancel`)).body).toMatchObject({ state: "cancelled" });
    expect((await answer).body).toMatchObject({ finish: "cancelled", content: "" });
    await third.find(({ position }) => position === 1);
    rig.pass(299_000);
    bot.send({ type: "event", replyTo: first.id, kind: "typing" });
    await first.find(({ type }) => type === "activity");
    rig.later(2_000);
    expect((await third.all()).at(-1)?.data).toMatchObject({ type: "error", code: "bot_busy" });
    bot.end(bot.chats[0]!, "done");
    await first.all();
    expect(bot.chats).toHaveLength(1);
  });

  test("a queued turn goes to whoever comes, also when the busy bot leaves", async () => {
    const rig = await open();
    const a = await rig.v2("a", { maxConcurrency: 1 }, hold);
    const me = await rig.person();
    const first = await me.ask("1");
    const second = await me.reader("/api/chat/stream", { message: "2" });
    await second.find(({ position }) => position === 1);
    await rig.v1("b");
    expect(shown(await second.all())).toBe("echo: 2");
    a.end(a.chats[0]!, "done");
    await first.all();
  });

  test("who waits does not wait in the conversation of a bot that would not get it", async () => {
    const rig = await open();
    await rig.v2("special", { pools: ["vip"] });
    const worker = await rig.v2("worker", { maxConcurrency: 1 }, hold);
    const me = await rig.person();
    const special = await me.ask("hello", { target: "special" });
    const busy = await me.ask("busy", { target: "worker" });
    const waiting = await me.reader("/api/chat/stream", { message: "for anybody" });
    await waiting.find(({ position }) => position === 1);
    worker.end(worker.chats[0]!, "done");
    await until(() => worker.chats.length === 2, 2000, "the one that waited");
    worker.end(worker.chats[1]!, "by worker");
    await waiting.all();
    expect((await me.messages(busy.conversation)).map(({ content }) => content)).toContain("by worker");
    expect((await me.ask("again", { target: "special" })).conversation).toBe(special.conversation);
  });
});

test("of many streams at the same moment as many are asked as there is room for", async () => {
  const rig = await open({ limits: { streamsPerUser: 1 } });
  const bot = await rig.v2("a", {}, hold);
  const me = await rig.person();
  const send = async () => (await me.stream("/api/chat/stream", { message: "hi" })).status;
  expect((await Promise.all([send(), send(), send()])).sort()).toEqual([200, 429, 429]);
  const chat = await bot.waitFor("chat");
  expect([rig.turns.count(), bot.chats.length]).toEqual([1, 1]);
  bot.end(chat, "done");
  await rig.quiet();
});

describe("cancelling", () => {
  test("the partial text is kept, the bot is told, and what it still sends is dropped", async () => {
    const rig = await open();
    const bot = await rig.v2("a", {}, hold);
    const me = await rig.person();
    const turn = await me.ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "so far");
    await turn.find(({ type }) => type === "chunk");
    expect((await me("POST", `/api/turns/${turn.id}/cancel`)).body).toEqual({ turnId: turn.id, state: "cancelled" });
    expect(await bot.waitFor("cancel")).toEqual({ type: "cancel", id: chat.id, reason: "user" });
    bot.end(chat, " and what came later");
    const events = await turn.all();
    expect(events.at(-1)?.data).toEqual({ type: "end", finish: "cancelled" });
    expect(shown(events)).toBe("so far");
    await rig.quiet();
    bot.end(chat, " even later");
    await Bun.sleep(30);
    const stored = await me.messages(turn.conversation);
    expect(stored.map(({ content, state }) => [content, state])).toEqual([
      ["hi", "sent"],
      ["so far", "cancelled"],
    ]);
    expect((await me("POST", `/api/turns/${turn.id}/cancel`)).body).toMatchObject({ state: "cancelled" });
  });

  test("a bot may end its turn as cancelled or silent; silence is an empty message nobody has to read", async () => {
    const rig = await open();
    const me = await rig.person();
    const bot = await rig.v2("a", {}, hold);
    for (const finish of ["cancelled", "silent"] as const) {
      const turn = await me.ask("hi");
      bot.end(await bot.waitFor("chat", ({ id }) => id === turn.id), "", { finish });
      const events = await turn.all();
      expect(events.at(-1)?.data).toEqual({ type: "end", finish });
      const answer = (await me.messages(turn.conversation)).at(-1);
      expect(answer).toMatchObject({ content: "", state: finish === "silent" ? "done" : "cancelled" });
    }
    const { body } = await me<{ conversations: { unread: number }[] }>("GET", "/api/conversations");
    expect(body.conversations[0]?.unread).toBe(1);
  });
});

describe("deadlines (D5)", () => {
  /** So that only the turn's own deadlines end it. */
  const patient = { botTimeout: 10_000_000, pingInterval: 5_000_000 };

  test("five minutes without a frame end a turn with what there is; any frame about it begins them anew", async () => {
    const rig = await open(patient);
    const bot = await rig.v2("a", {}, hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    const talk: [() => void, (said: { type: string }) => boolean][] = [
      [() => bot.write(chat, "text"), ({ type }) => type === "chunk"],
      [
        () => bot.send({ type: "event", replyTo: chat.id, kind: "status", text: "working" }),
        ({ type }) => type === "activity",
      ],
    ];
    for (const [say, heard] of talk) {
      rig.later(299_000);
      say();
      await turn.find(heard);
    }
    rig.later(300_000);
    expect(rig.turns.count()).toBe(1);
    rig.later(1_000);
    expect((await turn.all()).at(-1)?.data).toMatchObject({ type: "error", code: "turn_timeout" });
    expect(shown(turn.events)).toBe("text");
    expect(await bot.waitFor("cancel")).toMatchObject({ reason: "timeout" });
  });

  test("a turn that never stops talking ends after sixty minutes", async () => {
    const rig = await open({ ...patient, turnTimeout: 3_600_000 }); // silence ends it no sooner
    const bot = await rig.v2("a", {}, hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    for (let minute = 0; minute < 60; minute += 10) {
      expect(rig.turns.count()).toBe(1);
      bot.write(chat, `${minute} `);
      await turn.find(({ type, content }) => type === "chunk" && content === `${minute} `);
      rig.later(600_000);
    }
    rig.later(1_000);
    expect((await turn.all()).at(-1)?.data).toMatchObject({ type: "error", code: "turn_timeout" });
  });

  test("a bot that lies about seq moves nothing: repeated and far numbers are dropped and do not keep the turn alive", async () => {
    const rig = await open(patient);
    const bot = await rig.v2("a", {}, hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "one", { seq: 1 });
    await turn.find(({ type }) => type === "chunk");
    rig.later(200_000);
    for (const seq of [1, 3, 9_000_000, 1, 5]) bot.write(chat, "lie", { seq });
    bot.end(chat, "lie", { seq: 7 });
    bot.send({ type: "pong" });
    await Bun.sleep(50);
    rig.later(101_000);
    expect((await turn.all()).at(-1)?.data).toMatchObject({ type: "error", code: "turn_timeout" });
    expect(shown(turn.events)).toBe("one");
  });

  test("a bot that dies with twenty turns leaves none behind", async () => {
    const rig = await open();
    const bot = await rig.v2("a", {}, hold);
    const me = await rig.person();
    const answers = Array.from({ length: 20 }, (_, i) => me("POST", "/api/chat", { message: `${i}` }));
    await until(() => bot.chats.length === 20, 2000, "twenty chats");
    for (const chat of bot.chats) bot.write(chat, "half");
    await until(() => [...rig.turns.all()].every((turn) => turn.text === "half"), 2000, "twenty halves");
    bot.cut();
    await until(() => rig.bots.count() === 0, 2000, "the bot to be gone");
    rig.later(60_000);
    for (const { status, body } of await Promise.all(answers))
      expect([status, body.code]).toEqual([502, "bot_disconnected"]);
  });
});

describe("bots that come back", () => {
  test("a v1 bot of the same id within two seconds goes on with the turn", async () => {
    const rig = await open();
    const bot = await rig.v1("a", hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    bot.reply(chat, "before ", false);
    await turn.find(({ type }) => type === "chunk");
    bot.cut();
    await until(() => rig.bots.count() === 0, 2000, "the bot to be gone");
    rig.later(1_500);
    const back = await rig.v1("a", hold);
    rig.later(2_000);
    back.reply(chat, "and after");
    const events = await turn.all();
    expect(shown(events)).toBe("before and after");
    expect(back.chats).toHaveLength(0);
  });

  test("a v2 bot with its session goes on; another instance or a wrong session does not", async () => {
    const rig = await open();
    const bot = await rig.v2("a", { instanceId: "1" }, hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "before ");
    await bot.waitFor("ack");
    bot.cut();
    await until(() => rig.bots.count() === 0, 2000, "the bot to be gone");
    const session = bot.registered.session!;
    const other = await rig.v2("a", { instanceId: "2", session }, hold);
    expect(other.registered.pending).toEqual([]);
    other.write(chat, "forged", { seq: 2 });
    expect(await other.waitFor("error")).toMatchObject({ code: "not_your_turn" });
    rig.later(30_000);
    const back = await rig.v2("a", { instanceId: "1", session }, hold);
    expect(back.registered.pending).toEqual([{ id: chat.id, seq: 1 }]);
    rig.later(59_000);
    back.end(chat, "and after", { seq: 2 });
    expect(shown(await turn.all())).toBe("before and after");
  });

  test("a v2 bot that comes back without its session cannot go on, so its turn fails at once and not in a minute", async () => {
    const rig = await open();
    const bot = await rig.v2("a", {}, hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "half");
    await turn.find(({ type }) => type === "chunk");
    bot.cut();
    await until(() => rig.bots.count() === 0, 2000, "the bot to be gone");
    await rig.v2("a", { session: "nxb_wrong" }, hold);
    expect((await turn.all()).at(-1)?.data).toMatchObject({ type: "error", code: "bot_disconnected" });
    expect(shown(turn.events)).toBe("half");
  });

  test("an idempotent bot without its session is asked again instead", async () => {
    const rig = await open();
    const caps = ["ack", "seq", "idempotent"];
    const bot = await rig.v2("a", { caps }, hold);
    const turn = await (await rig.person()).ask("hi");
    bot.write(await bot.waitFor("chat"), "half");
    await turn.find(({ type }) => type === "chunk");
    bot.cut();
    await until(() => rig.bots.count() === 0, 2000, "the bot to be gone");
    const back = await rig.v2("a", { caps }, hold);
    const again = await back.waitFor("chat");
    expect(again.attempt).toBe(2);
    back.end(again, "whole");
    expect(shown(await turn.all())).toBe("whole");
  });

  test("a replaced connection hands its turns to the one that replaced it with its session", async () => {
    const rig = await open();
    const bot = await rig.v2("a", {}, hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "before ");
    await bot.waitFor("ack");
    const fresh = await rig.v2("a", { session: bot.registered.session }, hold);
    expect((await within(bot.closed, 2000, "the close")).code).toBe(4003);
    expect(fresh.registered.pending).toEqual([{ id: chat.id, seq: 1 }]);
    fresh.end(chat, "after", { seq: 2 });
    expect(shown(await turn.all())).toBe("before after");
  });
});

describe("bounds", () => {
  test("a reply of replyBytes passes, one byte more fails with what there was before", async () => {
    const rig = await open({ limits: { replyBytes: 300 } });
    const me = await rig.person();
    const bot = await rig.v2("a", {}, hold);
    const run = async (pieces: [string, "delta" | "replace"][]) => {
      const turn = await me.ask("hi");
      const chat = await bot.waitFor("chat", ({ id }) => id === turn.id);
      for (const [content, mode] of pieces) bot.write(chat, content, { mode });
      bot.end(chat, "");
      await turn.all();
      const { state, content, error } = (await me.messages(turn.conversation)).find(
        ({ turnId, role }) => turnId === turn.id && role === "bot",
      )!;
      return [state, content.length, error?.code];
    };
    expect(
      await run([
        ["好".repeat(99), "delta"],
        ["abc", "delta"],
      ]),
    ).toEqual(["done", 102, undefined]);
    expect(
      await run([
        ["好".repeat(99), "delta"],
        ["abcd", "delta"],
      ]),
    ).toEqual(["failed", 99, "too_large"]);
    expect(
      await run([
        ["short", "delta"],
        ["x".repeat(300), "replace"],
      ]),
    ).toEqual(["done", 300, undefined]);
    expect(
      await run([
        ["short", "delta"],
        ["x".repeat(301), "replace"],
      ]),
    ).toEqual(["failed", 5, "too_large"]);
  });

  test("a user has at most turnsPerUser open turns, one after the other or at the same moment; others are not affected", async () => {
    const rig = await open();
    const bot = await rig.v2("a", {}, hold);
    const me = await rig.person();
    const answers = Array.from({ length: 30 }, (_, i) => me("POST", "/api/chat", { message: `${i}` }));
    await until(() => bot.chats.length >= 20, 2000, "twenty chats");
    const early = await Promise.all(answers.map((one) => Promise.race([one, Bun.sleep(200)])));
    const refused = early.filter((one) => one !== undefined);
    expect(refused.map(({ status }) => status)).toEqual(Array(10).fill(429));
    expect(refused[0]!.headers.get("retry-after")).toMatch(/^\d+$/);
    expect(bot.chats).toHaveLength(20);
    expect((await me("POST", "/api/chat", { message: "more" })).status).toBe(429);
    const other = (await rig.person("user1"))("POST", "/api/chat", { message: "mine" });
    bot.end(await bot.waitFor("chat", ({ content }) => content === "mine"), "yours");
    expect((await other).status).toBe(200);
    for (const chat of bot.chats.slice(0, 20)) bot.end(chat, "ok");
    await Promise.all(answers);
    await rig.quiet();
    const again = me("POST", "/api/chat", { message: "again" });
    bot.end(await bot.waitFor("chat", ({ content }) => content === "again"), "ok");
    expect((await again).status).toBe(200);
  });

  test("a bot that keeps no history gets at most 40 messages and 60,000 characters of it, newest kept, oldest first", async () => {
    const rig = await open({ limits: { sendsPerMinute: 0 } });
    const me = await rig.person();
    const caps = ["ack", "seq", "history"];
    const bot = await rig.v2(
      "a",
      { caps },
      { onChat: (chat, self) => self.end(chat, `re ${chat.content.slice(0, 4)}`) },
    );
    for (let i = 0; i < 25; i++) await me("POST", "/api/chat", { message: `m${i}` });
    const { history } = bot.chats.at(-1)!;
    expect(history).toHaveLength(40);
    expect(history!.slice(-2)).toEqual([
      { role: "user", content: "m23" },
      { role: "assistant", content: "re m23" },
    ]);
    expect(bot.chats[1]!.history).toEqual([
      { role: "user", content: "m0" },
      { role: "assistant", content: "re m0" },
    ]);
    await me("POST", "/api/chat", { message: `big${"x".repeat(50_000)}` });
    await me("POST", "/api/chat", { message: `BIG${"x".repeat(50_000)}` });
    await me("POST", "/api/chat", { message: "last" });
    const chars = bot.chats.at(-1)!.history!.reduce((sum, { content }) => sum + content.length, 0);
    expect(chars).toBeLessThanOrEqual(60_000);
    expect(bot.chats.at(-1)!.history!.at(-2)!.content.slice(0, 3)).toBe("BIG");
  });
});

describe("names", () => {
  test("a display name that is not one person's alone, or imitates another, comes with the username", async () => {
    const { testConfig } = await import("./harness.ts");
    const { admin } = (testConfig({}, true) as { users: { admin: { password: string } } }).users;
    const named = (displayName: string) => ({ password: admin.password, displayName });
    const rig = await open({
      users: {
        admin: named("管理员"),
        ann: named("Ann"),
        ann2: named("ann"),
        bob: named("Admin"),
        cat: named("Cat (ann)"),
        dan: named("Dan (Sales)"),
        eve: named("Ａnn\u200b"),
      },
    });
    const bot = await rig.v2("a");
    const froms: Record<string, string> = {};
    for (const user of ["admin", "ann", "ann2", "bob", "cat", "dan", "eve"]) {
      await (
        await rig.person(user)
      )("POST", "/api/chat", { message: user });
      froms[user] = bot.chats.at(-1)!.from;
      expect(bot.chats.at(-1)!.userId).toBe(user);
    }
    expect(froms).toEqual({
      admin: "管理员",
      ann: "Ann (ann)",
      ann2: "ann (ann2)",
      bob: "Admin (bob)",
      cat: "Cat ann (cat)",
      dan: "Dan (Sales)",
      eve: "Ａnn\u200b (eve)",
    });
  });
});

describe("what readers see", () => {
  test("frames that come together are joined, the last chunk and only it is done", async () => {
    const rig = await open();
    const bot = await rig.v1("a", {
      onChat: (chat, self) => {
        for (let i = 0; i < 500; i++) self.reply(chat, `${i},`, i === 499);
      },
    });
    const me = await rig.person();
    const whole = Array.from({ length: 500 }, (_, i) => `${i},`).join("");
    const turn = await me.ask("count");
    const chunks = (await turn.all()).filter(({ data }) => data.type === "chunk");
    expect(chunks.map(({ data }) => data.content).join("")).toBe(whole);
    expect(chunks.length).toBeLessThan(100);
    expect(chunks.map(({ data }) => data.done)).toEqual([...Array(chunks.length - 1).fill(false), true]);
    let held = 0;
    for (const { id, data } of chunks) {
      held += data.content!.length;
      expect(id).toBe(`0:${held}`);
    }
    expect(bot.chats).toHaveLength(1);
  });

  test("frames that come apart are chunks of their own, also when the last one is empty", async () => {
    const rig = await open();
    const bot = await rig.v1("a", hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    for (const text of ["a", "b", "c"]) {
      bot.reply(chat, text, false);
      await turn.find(({ content }) => content === text);
    }
    bot.reply(chat, "", true);
    const said = (await turn.all()).map(({ data }) => [data.type, data.content, data.done]);
    expect(said.slice(1)).toEqual([
      ["chunk", "a", false],
      ["chunk", "b", false],
      ["chunk", "c", false],
      ["chunk", "", true],
      ["end", undefined, undefined],
    ]);
  });

  test("a replacement begins a new generation; who holds nothing gets it as a chunk", async () => {
    const rig = await open();
    const bot = await rig.v2("a", {}, hold);
    const me = await rig.person();
    const turn = await me.ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "draft");
    const first = await turn.find(({ type }) => type === "chunk");
    expect(first.id).toBe("0:5");
    bot.write(chat, "better", { mode: "replace" });
    const replaced = await turn.find(({ type }) => type === "replace");
    expect([replaced.id, replaced.data.content]).toEqual(["1:6", "better"]);
    bot.write(chat, " text");
    await turn.find(({ content }) => content === " text");
    const newcomer = await me.resume(turn.id);
    expect((await newcomer.find(({ type }) => type === "chunk")).id).toBe("1:11");
    const old = await me.resume(turn.id, "0:3");
    expect((await old.find(({ type }) => type === "replace")).data.content).toBe("better text");
    bot.end(chat, "!");
    for (const reader of [turn, newcomer, old]) expect(shown(await reader.all())).toBe("better text!");
    expect(newcomer.events.some(({ data }) => data.type === "replace")).toBe(false);
    expect(newcomer.events.filter(({ data }) => data.type === "start")).toHaveLength(1);
    expect(old.events.some(({ data }) => data.type === "start")).toBe(false);
  });

  test("activities come between the text they were said between, and never before start", async () => {
    const rig = await open();
    const bot = await rig.v2(
      "a",
      {},
      {
        onChat: (chat, self) => {
          self.send({ type: "event", replyTo: chat.id, kind: "status", text: "reading" });
          self.write(chat, "one");
          self.send({
            type: "event",
            replyTo: chat.id,
            kind: "tool",
            tool: { id: "t", name: "search", phase: "start" },
          });
          self.end(chat, "two");
        },
      },
    );
    const me = await rig.person();
    for (let i = 0; i < 10; i++) {
      const events = (await (await me.ask("hi")).all()).map(({ data }) => data.type);
      expect(events[0]).toBe("start");
      const tool = events.lastIndexOf("activity");
      expect(events.indexOf("chunk")).toBeLessThan(tool < 2 ? 99 : tool);
      expect(events.at(-1)).toBe("end");
    }
    expect(bot.chats).toHaveLength(10);
  });

  test("usage and images of the bot are stored with the answer, in both calls", async () => {
    const rig = await open();
    const usage = { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 };
    const bot = await rig.v2("a", {}, { onChat: (chat, self) => self.end(chat, "see", { usage, image: png(9) }) });
    const me = await rig.person();
    const sync = await me<{ content: string; attachments: { size: number }[] }>("POST", "/api/chat", { message: "hi" });
    expect(sync.body).toMatchObject({ content: "see", attachments: [{ mime: "image/png", size: 72 }] });
    const turn = await me.ask("hi");
    const events = await turn.all();
    expect(events.map(({ data }) => data.type)).toEqual(["start", "attachment", "chunk", "end"]);
    expect((await me.messages(turn.conversation)).at(-1)).toMatchObject({ usage, attachments: [{ size: 72 }] });
    expect(bot.chats).toHaveLength(2);
  });
});

describe("replies after the end", () => {
  test("within ten minutes they are a further message; never twice, never after cancelled or failed", async () => {
    const rig = await open();
    const me = await rig.person();
    const v2 = await rig.v2("new", {}, hold);
    const turn = await me.ask("hi");
    const chat = await v2.waitFor("chat");
    v2.end(chat, "answer", { seq: 1 });
    await turn.all();
    v2.write(chat, "answer", { seq: 1 }); // sent again: acked, not appended
    await until(() => v2.frames.filter(({ type }) => type === "ack").length === 2, 2000, "two acks");
    v2.write(chat, "PS: one ", { seq: 2 });
    v2.end(chat, "more", { seq: 3 });
    const contents = async (): Promise<string[]> =>
      (await me.messages(turn.conversation)).map(({ content }) => content);
    await until(async () => (await contents()).length === 3, 2000, "the further message");
    expect(await v2.waitFor("ack", (ack) => "seq" in ack && ack.seq === 3)).toBeDefined();
    v2.end(chat, "more", { seq: 3 });
    v2.end(chat, "more", { seq: 2 });
    v2.send({ type: "unheard-of" });
    await v2.waitFor("error", ({ code }) => code === "unknown_type"); // all of that has been read
    rig.pass(601_000);
    v2.end(chat, "too late", { seq: 4 });
    await v2.waitFor("error", ({ code }) => code === "not_found");
    expect(await contents()).toEqual(["hi", "answer", "PS: one more"]);

    const cancelled = await me.ask("again", { target: "new" });
    const second = await v2.waitFor("chat", ({ id }) => id === cancelled.id);
    await me("POST", `/api/turns/${cancelled.id}/cancel`);
    v2.end(second, "unwanted", { seq: 1 });
    await Bun.sleep(30);
    expect(await contents()).toEqual(["hi", "answer", "PS: one more", "again", ""]);
  });

  test("of a v1 bot: a second reply is a message, an empty one is nothing, one without done comes after a minute", async () => {
    const rig = await open();
    const me = await rig.person();
    const bot = await rig.v1("old", hold);
    const events = await me.reader("/api/events");
    const turn = await me.ask("hi");
    const chat = await bot.waitFor("chat");
    bot.reply(chat, "answer");
    await turn.all();
    bot.reply(chat, "");
    bot.reply(chat, "second", true);
    await events.find(({ message }) => message?.content === "second");
    bot.reply(chat, "without an end", false);
    await Bun.sleep(30);
    rig.later(61_000);
    await events.find(({ message }) => message?.content === "without an end");
    expect((await me.messages(turn.conversation)).map(({ content }) => content)).toEqual([
      "hi",
      "answer",
      "second",
      "without an end",
    ]);
  });
});

describe("draining (F5)", () => {
  test("health says so, nothing new is taken, open turns finish, then streams end with a retry and bots with 1001", async () => {
    const rig = await open();
    const bot = await rig.v2("a", {}, hold);
    const me = await rig.person();
    const events = await me.reader("/api/events");
    await events.find(({ type }) => type === "bots");
    const turn = await me.ask("hi");
    const drained = rig.gateway.drain();
    const health = await me("GET", "/health");
    expect([health.status, health.body.status]).toEqual([503, "draining"]);
    expect((await me("POST", "/api/chat", { message: "new" })).body.code).toBe("shutting_down");
    await expect(rig.v1("late")).rejects.toThrow("refused");
    await Bun.sleep(100);
    expect(bot.ws.readyState).toBe(WebSocket.OPEN);
    bot.end(await bot.waitFor("chat"), "finished in time");
    expect(shown(await turn.all())).toBe("finished in time");
    expect(await within(events.ended, 3000, "the events to end")).toBe("end");
    expect(events.retries.length).toBe(1);
    expect(events.retries[0]).toBeGreaterThanOrEqual(500);
    expect((await within(bot.closed, 3000, "the bot to be closed")).code).toBe(1001);
    await within(drained, 3000, "the drain");
  });
});

test("a bot that answers in the default conversation of another, named or stepping in, does not lose its answer", async () => {
  const rig = await open();
  const a = await rig.v2("a");
  const b = await rig.v2("b");
  const me = await rig.person();
  const first = await me.ask("to a", { target: "a" });
  await first.all();
  await (await me.ask("to b", { target: "b" })).all();
  const path = `/api/conversations/${first.conversation}/messages`;
  await me("POST", path, { clientId: "x", content: "b, what do you say?", target: "b" });
  await until(() => b.chats.length === 2 && rig.turns.count() === 0, 2000, "the answer of b");
  expect((await me.messages(first.conversation)).map(({ content, botId }) => [content, botId])).toEqual([
    ["to a", undefined],
    ["echo: to a", "a"],
    ["b, what do you say?", undefined],
    ["echo: b, what do you say?", "b"],
  ]);
  await me("POST", path, { clientId: "y", content: "and now?" });
  await until(() => b.chats.length === 3 && rig.turns.count() === 0, 2000, "b again: who answered last goes on");
  expect((await (await me.ask("to a", { target: "a" })).all()).at(-1)?.data.type).toBe("end");
  expect(a.chats).toHaveLength(2);
});

test("the same clientId fifty times at once is one message, one turn and one answer (D2)", async () => {
  const rig = await open({ limits: { sendsPerMinute: 0 } });
  const bot = await rig.v2("a", { maxConcurrency: 2 });
  const me = await rig.person();
  const send = (more: object = {}) => me("POST", "/api/chat", { message: "hi", clientId: "once", ...more });
  const answers = await Promise.all(Array.from({ length: 50 }, () => send()));
  expect(new Set(answers.map(({ status, body }) => `${status} ${body.turnId} ${body.content}`)).size).toBe(1);
  expect(answers[0]!.status).toBe(200);
  expect((await send()).body.turnId).toBe(answers[0]!.body.turnId);
  expect((await send({ message: "other" })).body.code).toBe("conflict");
  expect(bot.chats).toHaveLength(1);
  expect(await me.messages(answers[0]!.body.conversationId as string)).toHaveLength(2);
  // Also with an image, which is stored before the turn begins.
  const image = png(5);
  const looks = await Promise.all(Array.from({ length: 20 }, () => send({ clientId: "look", image })));
  expect(new Set(looks.map(({ body }) => body.turnId)).size).toBe(1);
  expect(bot.chats).toHaveLength(2);
});
