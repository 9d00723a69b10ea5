/** How long a stream lives: slow readers (L2), life spans (L4), heartbeats, and the end of a session or key (S14). */
import { afterEach, describe, expect, test } from "bun:test";
import type { TurnEvent, UserEvent } from "../lib/protocol.ts";
import { api, BOT_TOKEN, PASSWORD, readSse, startGateway, testConfig, until, v2Bot, within } from "./harness.ts";
import { of } from "./harness/events.ts";
import { person } from "./harness/person.ts";
import { rawEvents } from "./harness/raw.ts";

const MIB = 1024 * 1024;
const MINUTE = 60_000;

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

/** A gateway with a clock to turn, and a bot that waits to be told what to say. */
const start = async (config: object = {}) => {
  const clock = { at: Date.now() };
  const day = 86_400_000;
  const started = await startGateway(
    {
      limits: { sendsPerMinute: 0 },
      // The clock is turned by minutes: nothing but streams is to notice.
      pingInterval: 10 * day,
      botTimeout: 20 * day,
      turnTimeout: 60 * MINUTE,
      sessionTTL: 10 * day,
      ...config,
    },
    { now: () => clock.at },
  );
  undo.push(started.stop);
  const bot = await v2Bot(started.wsUrl, { register: { token: BOT_TOKEN }, onChat: () => {} });
  undo.push(bot.close);
  const { gate, sweeps } = started.gateway;
  return { ...started, clock, bot, gate, sweep: sweeps.fiveSeconds, admin: await person(started.url) };
};

describe("a reader that stops reading", () => {
  test("is cut within 65 s, not within 59, and comes back to all of it; the others do not notice (L2)", async () => {
    const { admin, bot, clock, sweep, gate, port } = await start();
    const id = await admin.conversation();
    const turns: string[] = [];
    for (let i = 0; i < 3; i++) {
      const { turnId } = (await admin.send(id, `long ${i}`)).body;
      turns.push(turnId);
      await bot.waitFor("chat", (chat) => chat.id === turnId);
      // More than the buffers of a socket take, together.
      for (let n = 0; n < 13; n++) bot.write({ id: turnId }, `${i}`.repeat(300_000));
    }
    await until(() => [...gate.turns.all()].every((turn) => turn.visible === 13 * 300_000));

    const slow = await rawEvents<UserEvent>(port, "/api/events", { token: admin.token });
    slow.pause();
    const healthy = await admin.events();
    await until(
      () =>
        of(healthy.events, "chunk")
          .filter(({ turnId }) => turnId === turns[2])
          .at(-1)?.offset ===
        13 * 300_000 - ((13 * 300_000) % (256 * 1024)),
      10_000,
    );
    expect(gate.streams.count()).toBe(2);
    clock.at += 59_000;
    sweep();
    await Bun.sleep(20);
    expect(gate.streams.count()).toBe(2);
    clock.at += 6_000;
    sweep();
    await until(() => gate.streams.count() === 1);
    // It had a part, and a new connection gives it everything.
    slow.resume();
    expect(await slow.ended).toBe("cut");
    const again = await rawEvents<UserEvent>(port, "/api/events", { token: admin.token });
    await until(() => textOf(again.events, turns[2]!).length === 13 * 300_000, 10_000);
    for (const [i, turn] of turns.entries())
      expect(textOf(again.events, turn) === `${i}`.repeat(13 * 300_000)).toBe(true);
    // The other was never disturbed.
    bot.write({ id: turns[0]! }, "and on");
    await healthy.find((event) => event.type === "chunk" && event.content === "and on");
    await healthy.leave();
    again.close();
  }, 20_000);

  /** What a page would show of a turn. */
  const textOf = (events: { data: UserEvent }[], turnId: string): string => {
    let text = "";
    for (const { data } of events) {
      if (data.type === "turn" && data.turnId === turnId) text = data.content;
      if (data.type === "chunk" && data.turnId === turnId) text = text.slice(0, data.offset) + data.content;
      if (data.type === "replace" && data.turnId === turnId) text = data.content;
    }
    return text;
  };

  test("is cut at 1 MiB of live events in its queue, and resumes a turn's stream where it stood (L2)", async () => {
    const { admin, bot, gate, port } = await start();
    const { turnId } = (await admin.send(await admin.conversation(), "live")).body;
    await bot.waitFor("chat", (chat) => chat.id === turnId);
    const other = (await admin.send(await admin.conversation(), "live too")).body.turnId;
    await bot.waitFor("chat", (chat) => chat.id === other);
    const events = await rawEvents<UserEvent>(port, "/api/events", { token: admin.token });
    await until(() => events.events.length >= 3);
    events.pause();
    const healthy = await admin.events();
    // Live from the start, so everything the socket does not take piles up.
    let sent = 0;
    await until(async () => {
      for (const turn of [turnId, other]) if (sent < 3.5 * MIB) bot.write({ id: turn }, "x".repeat(100_000));
      sent += 100_000;
      await Bun.sleep(1);
      return gate.streams.count() === 1;
    }, 15_000);
    events.resume();
    expect(await events.ended).toBe("cut");
    bot.end({ id: other });
    bot.write({ id: turnId }, "the end");
    await healthy.find((event) => event.type === "chunk" && event.content.endsWith("the end"), 10_000);
    await healthy.leave();

    // The stream of one turn: nothing is queued for it, it pulls; what it holds is told by the id of the last event.
    const first = await rawEvents<TurnEvent>(port, `/api/turns/${turnId}/stream`, { token: admin.token });
    await until(() => first.events.length >= 3);
    first.close();
    const held = first.events.slice(0, 3);
    const have = held.map(({ data }) => (data.type === "chunk" ? data.content : "")).join("");
    bot.end({ id: turnId }, "!");
    const headers = { "Last-Event-ID": held.at(-1)!.id };
    const rest = await readSse<TurnEvent>(
      await api(`http://127.0.0.1:${port}`, admin.token).stream(`/api/turns/${turnId}/stream`, undefined, { headers }),
    ).all();
    const text = have + rest.map(({ data }) => (data.type === "chunk" ? data.content : "")).join("");
    expect(text).toEndWith("the end!");
    expect(text.length).toBe(Math.floor(text.length / 100_000) * 100_000 + "the end!".length);
    expect(rest.map(({ data }) => data.type)).not.toContain("replace");
    expect(rest.at(-1)!.data).toEqual({ type: "end", finish: "stop" });
  }, 20_000);

  test("a healthy one is never cut by 4 MiB to catch up with, while more comes in", async () => {
    const { admin, bot, gate } = await start();
    const { turnId } = (await admin.send(await admin.conversation(), "long")).body;
    await bot.waitFor("chat", (chat) => chat.id === turnId);
    for (let i = 0; i < 40; i++) bot.write({ id: turnId }, "中".repeat(33_000)); // 3.96 MB
    await until(() => gate.turns.get(Number.parseInt(turnId, 36))?.visible === 40 * 33_000);
    const reader = await admin.events();
    for (let i = 0; i < 20; i++) bot.write({ id: turnId }, `+${i}`);
    bot.end({ id: turnId }, "done");
    const final = await reader.find((event) => event.type === "message" && event.message.id === turnId, 10_000);
    const first = of(reader.events, "turn")[0]!;
    expect(first.content.length).toBeLessThanOrEqual(256 * 1024);
    for (const chunk of of(reader.events, "chunk")) expect(chunk.content.length).toBeLessThanOrEqual(256 * 1024);
    const whole = (final.data as { message: { content: string } }).message.content;
    expect(whole.startsWith(textOf(reader.events, turnId))).toBe(true);
    expect(whole.length).toBe(40 * 33_000 + Array.from({ length: 20 }, (_, i) => `+${i}`).join("").length + 4);
    await reader.leave();
  }, 20_000);
});

describe("time", () => {
  test("ends a GET stream within 30 min ± 25 %, cleanly; a POST stream lives as long as its turn (L4)", async () => {
    const { admin, bot, clock, sweep, url } = await start({ limits: { sendsPerMinute: 0, streamsPerUser: 0 } });
    const { turnId } = (await admin.send(await admin.conversation(), "q")).body;
    await bot.waitFor("chat", (chat) => chat.id === turnId);
    const posted = readSse<TurnEvent>(await admin.call.stream("/api/chat/stream", { message: "posted" }));
    await posted.find(({ type }) => type === "start");
    const readers = await Promise.all(
      Array.from({ length: 40 }, async (_, i) =>
        i % 2
          ? await admin.events()
          : readSse<UserEvent>(await api(url, admin.token).stream(`/api/turns/${turnId}/stream`)),
      ),
    );
    for (const reader of readers) await reader.next();
    const ends = new Map<number, string>();
    for (const [i, reader] of readers.entries()) void reader.ended.then((how) => ends.set(i, how));
    const at = async (minutes: number): Promise<number> => {
      clock.at = began + minutes * MINUTE;
      sweep();
      await Bun.sleep(30);
      return ends.size;
    };
    const began = clock.at;
    expect(await at(22.4)).toBe(0);
    const half = await at(30);
    expect(half).toBeGreaterThan(4);
    expect(half).toBeLessThan(36);
    expect(await at(37.6)).toBe(40);
    expect(new Set(ends.values())).toEqual(new Set(["end"]));
    // The posted one goes on, and still brings its answer.
    const chat = await bot.waitFor("chat", ({ content }) => content === "posted");
    bot.end(chat, "late");
    expect((await posted.all()).at(-1)!.data).toEqual({ type: "end", finish: "stop" });
  });

  test("that passes in silence brings a comment at least every 15 s, which no reader takes for an event", async () => {
    const { admin, clock, sweep } = await start();
    const reader = await admin.events();
    await reader.find(({ type }) => type === "bots");
    const events = reader.events.length;
    for (let i = 1; i <= 4; i++) {
      for (let s = 0; s < 15; s += 5) {
        clock.at += 5_000;
        sweep();
      }
      await until(() => reader.comments.length >= i);
    }
    expect(reader.events).toHaveLength(events);
    await reader.leave();
  });
});

describe("within a second the streams end of", () => {
  const openAll = async (who: Awaited<ReturnType<typeof person>>, bot: Awaited<ReturnType<typeof v2Bot>>) => {
    const { turnId } = (await who.send(await who.conversation(), "q")).body;
    await bot.waitFor("chat", (chat) => chat.id === turnId);
    return [await who.events(), readSse(await who.call.stream(`/api/turns/${turnId}/stream`))];
  };
  const endedSoon = (readers: { ended: Promise<string> }[]) =>
    within(Promise.all(readers.map(({ ended }) => ended)), 1000, "the streams to end");

  test("a session that signs out, and of no other session (S14)", async () => {
    const { admin, bot, url } = await start();
    const again = await person(url);
    const mine = await openAll(admin, bot);
    const other = await again.events();
    expect((await admin.call("POST", "/api/logout")).body).toEqual({ success: true });
    await endedSoon(mine);
    await again.conversation({ title: "still here" });
    await other.find((event) => event.type === "conversation" && event.conversation.title === "still here");
    expect((await admin.call("GET", "/api/me")).status).toBe(401);
    await other.leave();
  });

  test("a user who is removed, or whose password changes, when the config is applied (S14)", async () => {
    const { bot, url, reload } = await start();
    const user = await person(url, "user1");
    const admin = await person(url);
    const theirs = await openAll(user, bot);
    const kept = await admin.events();
    const { users } = testConfig({}, true) as { users: Record<string, object> };
    reload({ users: { admin: users.admin, user1: { ...users.user1, password: "another password of theirs" } } });
    await endedSoon(theirs);
    expect((await user.call("GET", "/api/me")).status).toBe(401);
    const back = await person(url, "user1", "another password of theirs");
    const again = await openAll(back, bot);
    reload({ users: { admin: users.admin } });
    await endedSoon(again);
    expect((await api(url)("POST", "/api/login", { username: "user1", password: PASSWORD })).status).toBe(401);
    await admin.conversation({ title: "undisturbed" });
    await kept.find((event) => event.type === "conversation" && event.conversation.title === "undisturbed");
    await kept.leave();
  });

  test("a key that is revoked or whose time is over (S14)", async () => {
    const { admin, bot, url, clock, gateway } = await start();
    for (const how of ["revoked", "over"]) {
      const expiresAt = clock.at + 3600_000;
      const key = (
        await admin.call<{ id: string; key: string }>("POST", "/api/keys", { name: how, scope: "all", expiresAt })
      ).body;
      const script = { ...admin, token: key.key, call: api(url, key.key) };
      const { turnId } = (await admin.send(await admin.conversation(), "q")).body;
      await bot.waitFor("chat", (chat) => chat.id === turnId);
      const readers = [
        readSse(await script.call.stream("/api/events")),
        readSse(await script.call.stream(`/api/turns/${turnId}/stream`)),
      ];
      await readers[0]!.next();
      if (how === "revoked") expect((await admin.call("DELETE", `/api/keys/${key.id}`)).status).toBe(200);
      else {
        clock.at = expiresAt;
        gateway.sweeps.minute();
      }
      await endedSoon(readers);
      expect((await script.call("GET", "/api/bots")).status).toBe(401);
    }
  });
});
