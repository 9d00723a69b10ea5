/** The bot socket: who comes in and as what, why connections end, and that no frame is lost in silence. */
import { afterEach, describe, expect, test } from "bun:test";
import type { ServerWebSocket } from "bun";
import { createOutlet } from "../lib/bots/outlet.ts";
import type { RegisteredFrame } from "../lib/protocol.ts";
import {
  api,
  BOT_TOKEN,
  type ConfigJson,
  login,
  rawSocket,
  startGateway,
  until,
  v1Bot,
  v2Bot,
  within,
} from "./harness.ts";
import { fakeClock } from "./harness/clock.ts";
import { textFrame, wireBot } from "./harness/wire.ts";

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const open = async (config: ConfigJson = {}) => {
  const clock = fakeClock();
  const rig = await startGateway(config, { now: clock.now });
  closers.push(() => rig.stop());
  const { bots } = rig.gateway.gate;
  return {
    ...rig,
    ...clock,
    bots,
    /** Time passes, and the sweeps see it. */
    later: (ms: number): void => {
      clock.pass(ms);
      rig.gateway.sweeps.second();
    },
    ids: (): string[] => bots.list().map(({ id }) => id),
    v1: (botId: string, more: Parameters<typeof v1Bot>[1] = {}) =>
      v1Bot(rig.wsUrl, { botId, token: BOT_TOKEN, ...more }),
    v2: (botId: string, register: object = {}, more: Parameters<typeof v2Bot>[1] = {}) =>
      v2Bot(rig.wsUrl, { ...more, register: { botId, token: BOT_TOKEN, ...register } }),
    person: async (user?: string) => api(rig.url, await login(rig.url, user)),
    /** What a `register` is answered, and how the socket then ends, if it does. */
    register: async (frame: object) => {
      const socket = await rawSocket(rig.wsUrl);
      socket.send({ type: "register", token: BOT_TOKEN, ...frame });
      const answer = await socket.waitFor("registered");
      const end = answer.success ? undefined : await within(socket.closed, 2000, "the close after a refusal");
      return { answer, end, socket };
    },
  };
};

describe("register", () => {
  test("a v1 bot is answered type and success, and nothing it does not know", async () => {
    const { register } = await open();
    const { answer } = await register({ botId: "a", botName: "A" });
    expect(answer).toEqual({ type: "registered", success: true });
  });

  test("a v2 bot learns protocol, its known caps, a session, the ping interval, the limits and what is pending", async () => {
    const { register } = await open({
      pingInterval: 20_000,
      limits: { frameBytes: 4_000_000, attachmentBytes: 9_000_000 },
    });
    const { answer } = await register({ botId: "a", proto: 2, caps: ["ack", "seq", "telepathy"] });
    const { session, ...rest } = answer;
    expect(rest).toEqual({
      type: "registered",
      success: true,
      proto: 2,
      caps: ["ack", "seq"],
      pingInterval: 20_000,
      limits: { frameBytes: 4_000_000, attachmentBytes: 9_000_000 },
      pending: [],
    });
    expect(session).toMatch(/^nxb_[\w-]{43}$/);
  });

  test("everything at its bounds is taken, and null means none", async () => {
    const { register, bots } = await open();
    const full = {
      botId: "机".repeat(64),
      botName: "N".repeat(64),
      proto: 2,
      caps: Array.from({ length: 64 }, (_, i) => `cap${i}`),
      instanceId: "i".repeat(128),
      pools: Array.from({ length: 16 }, (_, i) => `p${i}`),
      weight: 1000,
      maxConcurrency: 100_000,
      session: "s".repeat(256),
      description: "d".repeat(500),
      avatar: "a".repeat(200_000),
      suggestions: Array.from({ length: 8 }, () => "s".repeat(200)),
    };
    expect((await register(full)).answer.success).toBe(true);
    const [one] = bots.connections();
    expect(one).toMatchObject({ weight: 1000, maxConcurrency: 100_000, instance: full.instanceId, pools: full.pools });
    const nulls = Object.fromEntries(Object.keys(full).map((key) => [key, null]));
    expect((await register({ ...nulls, botId: "b" })).answer).toEqual({ type: "registered", success: true });
  });

  const bad: [field: string, values: unknown[]][] = [
    ["botId", [undefined, null, 5, "", "x".repeat(65), "a b", "a@b", "a\nb", "a\u202eb"]],
    ["botName", [5, "", "x".repeat(65), "a\u0000b"]],
    ["token", [5, "x".repeat(513)]],
    ["proto", ["2", -1, 1.5, 1001]],
    ["caps", ["ack", [5], [""], Array(65).fill("ack")]],
    ["instanceId", [5, "", "x".repeat(129), "a\u0007"]],
    ["pools", ["default", ["a b"], [""], Array(17).fill("p")]],
    ["weight", [0, -1, 1001, "1"]],
    ["maxConcurrency", [0, 1.5, 100_001, "4"]],
    ["session", [5, "x".repeat(257)]],
    ["description", [5, "x".repeat(501)]],
    ["avatar", [5, "x".repeat(200_001)]],
    ["suggestions", ["hi", [5], Array(9).fill("x"), ["x".repeat(201)]]],
  ];
  test.each(bad)("a bad %s is refused by name and with 4500", async (field, values) => {
    const { register, ids } = await open();
    for (const value of values) {
      const { answer, end } = await register({ botId: "a", proto: 2, [field]: value });
      expect([value, answer.success, answer.error?.split(/[:.[]/)[0]]).toEqual([value, false, field]);
      expect(end?.code).toBe(4500);
    }
    expect(ids()).toEqual([]);
  });

  test("a second register on the same socket counts as a bad frame and changes nothing", async () => {
    const { v2, ids } = await open();
    const bot = await v2("a");
    bot.send({ type: "register", botId: "b", token: BOT_TOKEN });
    expect((await bot.waitFor("error")).code).toBe("bad_request");
    expect(ids()).toEqual(["a"]);
  });

  test("a newer protocol than ours is refused with 4502 and says which we speak", async () => {
    const { register } = await open();
    const { answer, end } = await register({ botId: "a", proto: 3 });
    expect(answer).toMatchObject({ success: false, code: "version_unsupported" });
    expect(answer.error).toContain("up to 2");
    expect(end?.code).toBe(4502);
  });
});

describe("tokens and pools", () => {
  test("a wrong token is refused with 4501: a v1 bot gets a sentence, a v2 bot also a code", async () => {
    const { register } = await open();
    const v1 = await register({ botId: "a", token: "wrong" });
    expect(v1.answer).toEqual({ type: "registered", success: false, error: "Invalid token" });
    expect(v1.end?.code).toBe(4501);
    const v2 = await register({ botId: "a", token: "wrong", proto: 2 });
    expect(v2.answer).toMatchObject({ success: false, code: "token_refused" });
    expect(v2.end?.code).toBe(4501);
  });

  test("a bot with a token of its own is let in by that alone, and others not by it", async () => {
    const { register } = await open({ bots: { vip: { token: "its-own-secret-token" } } });
    expect((await register({ botId: "vip" })).end?.code).toBe(4501);
    expect((await register({ botId: "other", token: "its-own-secret-token" })).end?.code).toBe(4501);
    expect((await register({ botId: "vip", token: "its-own-secret-token" })).answer.success).toBe(true);
  });

  test("during a rotation both tokens are good, shared and own", async () => {
    const { register } = await open({
      botToken: ["shared-old-token", "shared-new-token"],
      bots: { vip: { token: ["own-old-token-xx", "own-new-token-xx"] } },
    });
    for (const token of ["shared-old-token", "shared-new-token"])
      expect((await register({ botId: "a", token })).answer.success).toBe(true);
    for (const token of ["own-old-token-xx", "own-new-token-xx"])
      expect((await register({ botId: "vip", token })).answer.success).toBe(true);
    expect((await register({ botId: "vip", token: "shared-new-token" })).end?.code).toBe(4501);
  });

  test("a pool that the config names admits only bots whose entry lists it", async () => {
    const { v2, bots, logs } = await open({ bots: { doc: { token: "token-of-the-doctor", pools: ["medical"] } } });
    await v2("doc", { token: "token-of-the-doctor", pools: ["default"] });
    await v2("quack", { pools: ["medical", "fun"] });
    await v2("lone", { pools: ["medical"] });
    expect(Object.fromEntries([...bots.connections()].map((one) => [one.botId, one.pools]))).toEqual({
      doc: ["medical"],
      quack: ["fun"],
      lone: [],
    });
    expect(logs.filter(({ event }) => event === "bot_without_pool").map(({ fields }) => fields.bot)).toEqual(["lone"]);
  });

  test("values of the config overrule those of register", async () => {
    const { v2, bots } = await open({ bots: { a: { name: "Official", weight: 5, maxConcurrency: 2 } } });
    await v2("a", { botName: "Mine", weight: 1, maxConcurrency: 50 });
    expect([...bots.connections()][0]).toMatchObject({ name: "Official", weight: 5, maxConcurrency: 2 });
  });

  test("a bot that asks for nothing gets pool default, weight 1, and its id as its name", async () => {
    const { register, bots } = await open();
    await register({ botId: "a" });
    expect([...bots.connections()][0]).toMatchObject({
      name: "a",
      pools: ["default"],
      weight: 1,
      proto: 1,
      instance: "",
    });
  });
});

describe("the same id again", () => {
  test("without an instance the newest replaces the older with 4003, and the older's close changes nothing", async () => {
    const { v1, v2, ids, logs } = await open();
    for (const again of [() => v1("a"), () => v2("a"), () => v1("a")]) {
      const old = await v1("a");
      const fresh = await again();
      const end = await within(old.closed, 2000, "the older to be closed");
      expect(end).toEqual({ code: 4003, reason: "replaced" });
      await Bun.sleep(20);
      expect(ids()).toEqual(["a"]);
      fresh.send({ type: "pong" });
      expect(fresh.ws.readyState).toBe(WebSocket.OPEN);
    }
    expect(logs.some(({ event, fields }) => event === "bot_replaced" && fields.bot === "a")).toBe(true);
  });

  test("what a replaced socket still says counts for nothing", async () => {
    const { v1, person } = await open();
    const old = await v1("a", { onChat: () => {} });
    const me = await person();
    const asked = me("POST", "/api/chat", { message: "hi" });
    const chat = await old.waitFor("chat");
    old.ws.pause();
    const fresh = await v1("a", { onChat: () => {} });
    old.ws.resume();
    old.reply(chat, "from the grave");
    await within(old.closed, 2000, "the older to be closed");
    fresh.reply(chat, "from the living");
    expect((await asked).body.content).toBe("from the living");
  });

  test("different instances share the load and are one bot with two instances", async () => {
    const { v2, person, bots } = await open();
    const one = await v2("a", { instanceId: "1" });
    const two = await v2("a", { instanceId: "2" });
    expect(bots.list()).toMatchObject([{ id: "a", instances: 2 }]);
    const me = await person();
    for (let i = 0; i < 6; i++) await me("POST", "/api/chat", { message: "hi", target: "a" });
    expect([one.chats.length, two.chats.length]).toEqual([3, 3]);
    const newOne = await v2("a", { instanceId: "1" });
    expect((await within(one.closed, 2000, "instance 1 to be replaced")).code).toBe(4003);
    expect(bots.list()).toMatchObject([{ id: "a", instances: 2 }]);
    await newOne.close();
    await until(() => bots.list()[0]?.instances === 1, 2000, "one instance to be left");
    expect(two.ws.readyState).toBe(WebSocket.OPEN);
  });
});

describe("why connections end", () => {
  test("a socket that says nothing, or half a frame, is closed 4000 at five seconds and not before (L5)", async () => {
    const { port, later } = await open();
    const silent = await wireBot(port);
    const half = await wireBot(port);
    const whole = textFrame({ type: "register", botId: "half", token: BOT_TOKEN });
    half.write(whole.subarray(0, whole.length - 5));
    await Bun.sleep(30);
    later(4_900);
    await Bun.sleep(30);
    expect([silent.over(), half.over()]).toEqual([false, false]);
    later(100);
    await until(() => silent.over() && half.over(), 2000, "both to be closed");
    expect([silent.closed(), half.closed()]).toEqual([
      { code: 4000, reason: "no_register" },
      { code: 4000, reason: "no_register" },
    ]);
  });

  test("a registered bot may be silent longer than that", async () => {
    const { v1, later, ids } = await open();
    await v1("a");
    later(6000);
    await Bun.sleep(20);
    expect(ids()).toEqual(["a"]);
  });

  test("a bot that answers no ping is closed 4001 within botTimeout, and any frame of it is a sign of life (L1)", async () => {
    const { v1, v2, later, ids } = await open({ pingInterval: 10_000, botTimeout: 30_000 });
    const dead = await v1("dead", { pong: false });
    const alive = await v1("alive");
    const chatty = await v2("chatty", {}, { pong: false });
    for (let at = 0; at < 29_000; at += 1000) {
      later(1000);
      if (at === 15_000) {
        chatty.send({ type: "something", new: true });
        await chatty.waitFor("error");
      }
      if (at % 10_000 === 9000) await alive.waitFor("ping", undefined, 1000);
      await Bun.sleep(1);
    }
    await Bun.sleep(20);
    expect(ids()).toEqual(["dead", "alive", "chatty"]);
    later(1000);
    expect((await within(dead.closed, 2000, "the dead to be closed")).code).toBe(4001);
    expect(ids()).toEqual(["alive", "chatty"]);
    later(16_000);
    expect((await within(chatty.closed, 2000, "the other to be closed")).code).toBe(4001);
    expect(alive.sent.filter((frame) => "type" in frame && frame.type === "pong").length).toBeGreaterThanOrEqual(3);
  });

  test("pings come at pingInterval, not before", async () => {
    const { v1, later } = await open({ pingInterval: 10_000, botTimeout: 30_000 });
    const bot = await v1("a");
    later(9_900);
    await Bun.sleep(30);
    expect(bot.frames.filter(({ type }) => type === "ping")).toHaveLength(0);
    later(100);
    await bot.waitFor("ping");
    later(9_000);
    await Bun.sleep(30);
    expect(bot.frames.filter(({ type }) => type === "ping")).toHaveLength(1);
  });

  test("ten bad frames are answered one by one, the eleventh closes 4500; binary ones count too", async () => {
    const { v2, ids } = await open();
    const bot = await v2("a");
    for (let i = 0; i < 5; i++) bot.send("{broken");
    for (let i = 0; i < 5; i++) bot.ws.send(new Uint8Array([1, 2, 3]));
    await until(() => bot.frames.filter(({ type }) => type === "error").length === 10, 2000, "ten answers");
    expect(ids()).toEqual(["a"]);
    bot.send({ type: "reply", content: "to nobody" });
    expect(await within(bot.closed, 2000, "the close")).toEqual({ code: 4500, reason: "bad_frames" });
    expect(ids()).toEqual([]);
  });

  test("a frame over frameBytes closes with 1009", async () => {
    const { v1, ids } = await open({ limits: { frameBytes: 1_000_000 } });
    const bot = await v1("a");
    bot.send({ type: "reply", replyTo: "x", content: "x".repeat(1_000_100), done: true });
    expect((await within(bot.closed, 2000, "the close")).code).toBe(1009);
    await until(() => ids().length === 0, 2000, "the bot to be gone");
  });

  test("a frame before register is answered, a malformed one refused", async () => {
    const { wsUrl } = await open();
    const early = await rawSocket(wsUrl);
    early.send({ type: "pong" });
    expect((await early.waitFor("error")).message).toBe("Not registered");
    const broken = await rawSocket(wsUrl);
    broken.send("[]");
    expect((await broken.waitFor("registered")).success).toBe(false);
    expect((await within(broken.closed, 2000, "the close")).code).toBe(4500);
  });

  test("closing the gateway closes bots with 1001", async () => {
    const rig = await startGateway();
    const bot = await v1Bot(rig.wsUrl, { botId: "a", token: BOT_TOKEN });
    await rig.stop();
    expect((await within(bot.closed, 2000, "the close")).code).toBe(1001);
  });
});

describe("frames of a kind", () => {
  test("a v1 bot never receives a type that v1 does not have, whatever it and people do", async () => {
    const { v1, person, later } = await open({ pingInterval: 1000, botTimeout: 60_000 });
    const bot = await v1("a", { onChat: () => {} });
    const other = await v1("b", { onChat: () => {} });
    const me = await person();
    const asked = me("POST", "/api/chat", { message: "1" });
    const chat = await Promise.race([bot.waitFor("chat"), other.waitFor("chat")]);
    const holder = bot.chats.length > 0 ? bot : other;
    for (const frame of [
      { type: "ack", id: chat.id },
      { type: "event", replyTo: chat.id, kind: "typing" },
      { type: "event", kind: "draining" },
      { type: "message", id: "m1", to: { userId: "admin" }, content: "hello" },
      { type: "message", id: "m2", to: { userId: "nobody" }, content: "hello" },
      { type: "nonsense" },
      { type: "reply", replyTo: "outbound-1", content: "x", done: true },
      { type: "reply", replyTo: chat.id, content: "", done: true, error: { code: "x", message: "x", retryable: true } },
    ])
      holder.send(frame);
    const loser = holder;
    const winner = holder === bot ? other : bot;
    const moved = await winner.waitFor("chat");
    expect(moved.id).toBe(chat.id);
    loser.reply(chat, "too late");
    await me("POST", `/api/turns/${chat.id}/cancel`);
    await asked;
    later(1000);
    await loser.waitFor("ping");
    const types = new Set([...bot.frames, ...other.frames].map(({ type }) => type));
    expect([...types].filter((type) => !["registered", "chat", "ping", "error"].includes(type))).toEqual([]);
    expect((await me("GET", "/api/conversations")).text).not.toContain("hello");
  });

  test("an unknown type is answered to a v2 bot and ignored for a v1 bot; neither counts as bad", async () => {
    const { v1, v2, ids } = await open();
    const old = await v1("old");
    const modern = await v2("modern");
    for (let i = 0; i < 20; i++) {
      old.send({ type: "future" });
      modern.send({ type: "future" });
    }
    await until(() => modern.frames.filter(({ type }) => type === "error").length === 20, 2000, "twenty answers");
    expect(modern.frames.at(-1)).toMatchObject({ type: "error", code: "unknown_type" });
    old.send("{broken");
    await old.waitFor("error");
    expect(old.frames.filter(({ type }) => type === "error")).toHaveLength(1);
    expect(ids()).toEqual(["old", "modern"]);
  });

  test("a message frame that cannot be read is refused by its id, so that its sender does not wait for ever", async () => {
    const { v2 } = await open({ limits: { textChars: 100 } });
    const bot = await v2("a");
    bot.send({ type: "message", id: "m-7", to: { userId: "admin" }, content: "x".repeat(101) });
    expect(await bot.waitFor("error")).toMatchObject({ id: "m-7", code: "bad_request" });
  });

  test("a bot that says it drains gets nothing new, and keeps what it has", async () => {
    const { v2, person } = await open();
    const bot = await v2("a", {}, { onChat: () => {} });
    const me = await person();
    const asked = me("POST", "/api/chat", { message: "hi" });
    const chat = await bot.waitFor("chat");
    bot.send({ type: "event", kind: "draining", replyTo: chat.id }); // of a turn: not about the connection
    bot.write(chat, "still ");
    expect((await me("GET", "/api/bots")).status).toBe(200);
    bot.send({ type: "event", kind: "draining" });
    bot.send({ type: "future" });
    await bot.waitFor("error"); // what it sent before that has been read
    expect((await me("POST", "/api/chat", { message: "again" })).body.code).toBe("no_bot");
    bot.end(chat, "here");
    expect((await asked).body.content).toBe("still here");
  });
});

describe("doors", () => {
  test("limits.bots holds for those who come one by one and at the same moment; a replacement is not one more", async () => {
    const { register, v2, ids, reload } = await open({ limits: { bots: 3 } });
    const all = await Promise.all(Array.from({ length: 12 }, (_, i) => register({ botId: `bot${i}`, proto: 2 })));
    const refused = all.filter(({ answer }) => !answer.success);
    expect(refused).toHaveLength(9);
    expect(new Set(refused.map(({ end }) => end?.code))).toEqual(new Set([4002]));
    expect(refused[0]?.answer).toMatchObject({ code: "rate_limited" } satisfies Partial<RegisteredFrame>);
    expect((await register({ botId: "one-more" })).answer.error).toContain("At most 3 bots");
    const again = await v2(ids()[0]!);
    expect(again.registered.success).toBe(true);
    reload({ limits: { bots: 0 } });
    expect((await register({ botId: "one-more" })).answer.success).toBe(true);
  });

  test("connectionsPerAddress refuses the upgrade with 429 and lets in again when one has left", async () => {
    const { v1, wsUrl, url } = await open({ limits: { connectionsPerAddress: 2 } });
    const one = await v1("a");
    await v1("b");
    await expect(rawSocket(wsUrl)).rejects.toThrow("refused");
    const asked = await fetch(`${url}/bot-ws`, { headers: { upgrade: "websocket", connection: "upgrade" } });
    expect(asked.status).toBe(429);
    expect(asked.headers.get("retry-after")).toMatch(/^\d+$/);
    await one.close();
    await until(() => v1("c").then(Boolean, () => false), 2000, "a third to be let in");
  });

  test("a page of another origin gets 403, our own origin and no origin come in, a plain GET gets 426", async () => {
    const { wsUrl, url } = await open();
    await expect(rawSocket(wsUrl, undefined, { origin: "https://evil.example" })).rejects.toThrow("refused");
    await expect(rawSocket(wsUrl, undefined, { origin: "null" })).rejects.toThrow("refused");
    const foreign = await fetch(`${url}/bot-ws`, { headers: { origin: "https://evil.example", upgrade: "websocket" } });
    expect([foreign.status, ((await foreign.json()) as { code: string }).code]).toEqual([403, "forbidden"]);
    const own = await rawSocket(wsUrl, undefined, { origin: url });
    await own.close();
    const plain = await fetch(`${url}/bot-ws`);
    expect([plain.status, plain.headers.get("upgrade")]).toEqual([426, "websocket"]);
  });

  test("a reload drops only who is no longer allowed, and the others take on what their entry now says", async () => {
    const first = { bots: { vip: { token: "token-of-the-vip-1" } } };
    const { v1, v2, reload, bots, ids, person } = await open(first);
    const plain = await v1("plain");
    const vip = await v2("vip", { token: "token-of-the-vip-1" });
    const held = (await v2("held", {}, { onChat: () => {} })) as Awaited<ReturnType<typeof v2>>;
    const asked = (await person())("POST", "/api/chat", { message: "hi", target: "held" });
    const chat = await held.waitFor("chat");
    reload({ bots: { vip: { token: "token-of-the-vip-2" }, held: { name: "Renamed", weight: 7, maxConcurrency: 9 } } });
    expect((await within(vip.closed, 2000, "the vip to be closed")).code).toBe(4501);
    expect(ids()).toEqual(["plain", "held"]);
    expect(bots.find("held", "")).toMatchObject({ name: "Renamed", weight: 7, maxConcurrency: 9, inFlight: 1 });
    held.end(chat, "undisturbed");
    expect((await asked).body.content).toBe("undisturbed");
    reload({ botToken: "another-shared-token", bots: {} });
    expect((await within(plain.closed, 2000, "the plain one to be closed")).code).toBe(4501);
    expect(ids()).toEqual([]);
  });

  test("less may come in at once, more after a restart, and what is announced holds", async () => {
    const limits = { bodyBytes: 1_000_000, frameBytes: 1_000_000, attachmentBytes: 1_000_000 };
    const { v2, reload, person, logs } = await open({ limits });
    const more = { bodyBytes: 2_000_000, frameBytes: 2_000_000, attachmentBytes: 500_000 };
    reload({ limits: more });
    const waits = logs.filter(({ event }) => event === "config_needs_restart").map(({ fields }) => fields?.setting);
    expect(waits).toEqual(["limits.bodyBytes", "limits.frameBytes"]);
    const bot = await v2("a");
    expect(bot.registered.limits).toEqual({ frameBytes: 1_000_000, attachmentBytes: 500_000 });
    const me = await person();
    const refused = await me("POST", "/api/chat", { message: "x".repeat(1_500_000) });
    expect([refused.status, refused.body.code]).toEqual([413, "too_large"]);
  });

  test("who may use a bot follows the config", async () => {
    const { v1, person, reload } = await open({ bots: { a: { token: "token-of-bot-a-xyz", users: ["admin"] } } });
    await v1("a", { token: "token-of-bot-a-xyz" });
    const [admin, other] = [await person("admin"), await person("user1")];
    expect((await admin("POST", "/api/chat", { message: "hi", target: "a" })).status).toBe(200);
    expect((await other("POST", "/api/chat", { message: "hi", target: "a" })).status).toBe(404);
    expect((await other("POST", "/api/chat", { message: "hi" })).status).toBe(503);
    expect((await other<{ bots: [] }>("GET", "/api/bots")).body.bots).toEqual([]);
    reload({ bots: { a: { token: "token-of-bot-a-xyz", users: ["user1"] } } });
    expect((await other("POST", "/api/chat", { message: "hi", target: "a" })).status).toBe(200);
    expect((await admin("POST", "/api/chat", { message: "hi", target: "a" })).status).toBe(404);
  });
});

describe("slow bots (L3)", () => {
  test("a bot that stops reading is closed 4002; every frame that was accepted arrives or the socket has ended", async () => {
    const { port, bots } = await open({ limits: { frameBytes: 1_000_000 } });
    const bot = await wireBot(port, { botId: "slow" });
    const connection = bots.find("slow", "")!;
    bot.pause();
    let accepted = 0;
    const frame = (): string => JSON.stringify({ type: "error", message: `${accepted} ${"x".repeat(900_000)}` });
    while (accepted < 100 && bots.sendText(connection, frame())) accepted++;
    expect(accepted).toBeGreaterThan(3);
    expect(accepted).toBeLessThan(100);
    expect(bots.count()).toBe(0);
    expect(bots.sendText(connection, frame())).toBe(false);
    bot.resume();
    await until(() => bot.over(), 5000, "the end of the socket");
    const got = bot.texts.filter((text) => text.includes('"error"'));
    expect(bot.closed()).toEqual({ code: 4002, reason: "too_slow" });
    // What was handed to the socket comes in order and without a hole.
    expect(got.map((text) => Number.parseInt(JSON.parse(text).message, 10))).toEqual(got.map((_, i) => i));
    expect(got.length).toBeLessThanOrEqual(accepted);
  });

  test("each 0 from send gives the bot up, whether the frame was new or had waited", async () => {
    let buffered = 0;
    let result = 1;
    let failed = 0;
    let corks = 0;
    const sent: string[] = [];
    const ws = {
      getBufferedAmount: () => buffered,
      send: (json: string) => {
        if (result !== 0) sent.push(json);
        return result;
      },
      cork: (write: () => void) => {
        corks++;
        write();
      },
    } as unknown as ServerWebSocket<unknown>;
    const outlet = createOutlet(
      ws,
      () => 1000,
      fakeClock().now,
      () => void failed++,
    );
    expect(outlet.send("taken")).toBe(true);
    expect(outlet.send("with it")).toBe(true);
    await Promise.resolve();
    expect({ sent, corks }).toEqual({ sent: ["taken", "with it"], corks: 1 });
    result = -1; // queued by the runtime: fine
    outlet.send("queued");
    await Promise.resolve();
    expect(failed).toBe(0);
    result = 0;
    outlet.send("dropped");
    await Promise.resolve();
    expect(failed).toBe(1);
    buffered = 1001;
    expect(outlet.send("waits")).toBe(true);
    buffered = 0;
    expect(outlet.drained()).toBe(false);
    expect(sent).toEqual(["taken", "with it", "queued"]);
  });

  test("a bot that reads again in time loses nothing", async () => {
    const { port, bots, ids } = await open({ limits: { frameBytes: 1_000_000 } });
    const bot = await wireBot(port, { botId: "late" });
    const connection = bots.find("late", "")!;
    bot.pause();
    let accepted = 0;
    const before = () => connection.ws.getBufferedAmount() <= 1_000_000;
    // As much as the sockets hold, and two frames that wait behind them.
    while (before())
      bots.sendText(connection, JSON.stringify({ type: "error", message: `${accepted++} ${"x".repeat(900_000)}` }));
    for (let i = 0; i < 2; i++)
      expect(bots.sendText(connection, JSON.stringify({ type: "error", message: `${accepted++} waits` }))).toBe(true);
    bot.resume();
    await until(() => bot.texts.filter((text) => text.includes('"error"')).length === accepted, 5000, "all frames");
    const order = bot.texts.slice(1).map((text) => Number.parseInt(JSON.parse(text).message, 10));
    expect(order).toEqual(order.map((_, i) => i));
    expect(ids()).toEqual(["late"]);
  });

  test("a bot that takes nothing for thirty seconds is closed 4002, its turn moves on", async () => {
    const { port, bots, later, v1, person } = await open({
      limits: { frameBytes: 1_000_000 },
      pingInterval: 100_000,
      botTimeout: 300_000,
    });
    const bot = await wireBot(port, { botId: "stuck", proto: 2, caps: ["ack"] });
    const connection = bots.find("stuck", "")!;
    bot.pause();
    while (connection.ws.getBufferedAmount() <= 1_000_000)
      bots.sendText(connection, JSON.stringify({ type: "error", message: "x".repeat(900_000) }));
    const asked = (await person())("POST", "/api/chat", { message: "hi" });
    await until(() => connection.inFlight === 1, 2000, "the turn to be given");
    await v1("quick");
    later(30_000);
    expect(bots.count()).toBe(2);
    later(1_000);
    expect((await asked).body).toMatchObject({ botId: "quick", content: "echo: hi" });
    bot.resume();
    await until(() => bot.closed()?.code === 4002, 5000, "close code 4002");
  });

  test("large images, many at once, do not close a healthy bot", async () => {
    const { v1, person, ids } = await open({
      limits: { frameBytes: 1_500_000, bodyBytes: 1_500_000, turnsPerUser: 0 },
    });
    const bot = await v1("a", { onChat: (chat, self) => self.reply(chat, String(chat.image?.length)) });
    const image = Buffer.alloc(1_000_000, 7).toString("base64");
    const me = await person();
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => me("POST", "/api/chat", { message: "look", image })),
    );
    expect(answers.map(({ body }) => body.content)).toEqual(Array(10).fill(String(image.length)));
    expect(bot.chats).toHaveLength(10);
    expect(ids()).toEqual(["a"]);
  });
});
