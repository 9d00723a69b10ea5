/**
 * The gateway as a process, killed and stopped for real, with bots on the client library and readers behind a network that
 * delays, cuts and half-opens. CHAOS_SECONDS and CHAOS_SEED repeat or lengthen a run.
 */
import { afterEach, describe, expect, test } from "bun:test";
import { connectBot } from "../../plugin/client.ts";
import { api, BOT_TOKEN, type ConfigJson, login, readSse, until, v1Bot, v2Bot, within } from "../harness.ts";
import { faultProxy, NO_FAULTS, seeded } from "../harness/proxy.ts";
import type { Said } from "../harness/rig.ts";
import { killable, messagesOf, storm } from "./storm.ts";

const SECONDS = Number(process.env.CHAOS_SECONDS ?? 120);
const SEED = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000);
const KILL_EVERY_MS = 3_000;
const STREAMS = 50;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const gateway = (config: ConfigJson = {}) => killable(closers, config);

describe("an answer is never lost", () => {
  test(
    `killed every ${KILL_EVERY_MS / 1000} s for ${SECONDS} s under ${STREAMS} streams, over a bad network: every text whole, once, in order (D3)`,
    async () => {
      console.log(`seed ${SEED}`);
      const report = await storm({ seed: SEED, seconds: SECONDS, streams: STREAMS, killEveryMs: KILL_EVERY_MS });
      console.log(JSON.stringify({ ...report, wrong: report.wrong.length }));
      expect(report.wrong).toEqual([]);
      expect(report.kills + report.stops).toBeGreaterThanOrEqual(Math.floor(SECONDS / 8));
      expect(report.answers).toBeGreaterThanOrEqual(STREAMS);
      for (const { cut, dribbled, twice } of [report.bots, report.people])
        expect(Math.min(cut, dribbled, twice)).toBeGreaterThan(0);
      expect(report.bots.late + report.people.late).toBeGreaterThan(0);
    },
    (SECONDS + 120) * 1000,
  );

  test("killed at the moment an end is shown, it is in the history afterwards, thirty times (D4)", async () => {
    const server = await gateway();
    const token = await login(server.url, "user1");
    for (let round = 0; round < 30; round++) {
      const bot = await v2Bot(server.wsUrl, { register: { botId: "a", token: BOT_TOKEN }, onChat: () => {} });
      const watching = round % 2 === 1;
      const events = watching ? readSse<Said>(await api(server.url, token).stream("/api/events")) : undefined;
      await events?.find(({ type }) => type === "bots");
      const sse = readSse<Said>(await api(server.url, token).stream("/api/chat/stream", { message: `round ${round}` }));
      const chat = await bot.waitFor("chat");
      const text = `answer ${round} ${"x".repeat((round * 997) % 9000)}`;
      const half = Math.floor(text.length / 2);
      bot.write(chat, text.slice(0, half));
      if (round % 3 === 0) await bot.waitFor("ack");
      bot.end(chat, text.slice(half));
      const start = (await sse.find(({ type }) => type === "start")).data;
      if (events) await events.find(({ message }) => message?.role === "bot");
      else await sse.find(({ type }) => type === "end");
      await server.kill();
      await server.start();
      const stored = await messagesOf(server.url, token, start.conversationId!);
      const mine = stored.filter(({ turnId }) => turnId === start.turnId).map(({ content, state }) => [content, state]);
      expect(mine).toEqual([
        [`round ${round}`, "sent"],
        [text, "done"],
      ]);
    }
  }, 120_000);
});

describe("a network that says nothing (L1)", () => {
  test("a black hole under a bot is noticed within botTimeout, its turn ends, and the bot is back when the hole is gone", async () => {
    const server = await gateway({ pingInterval: 1_000, botTimeout: 4_000 });
    const proxy = faultProxy(server.port, NO_FAULTS, seeded(1));
    closers.push(proxy.stop);
    const old = await v1Bot(`ws://127.0.0.1:${proxy.port}/bot-ws`, {
      botId: "old",
      token: BOT_TOKEN,
      onChat: () => {},
    });
    const states: string[] = [];
    let answers = 0;
    const modern = connectBot({
      url: `ws://127.0.0.1:${proxy.port}`,
      botId: "modern",
      token: BOT_TOKEN,
      reconnect: { minMs: 100, maxMs: 500 },
      onState: ({ state }) => states.push(state),
      onTurn: async (turn) => {
        turn.write("before the hole, ");
        await until(() => answers > 0, 30_000, "the end of the hole");
        turn.write("after it");
      },
    });
    closers.push(() => modern.close());
    await until(() => modern.state.state === "online", 5_000, "the modern bot");
    const token = await login(server.url);
    const call = api(server.url, token);
    const waiting = call("POST", "/api/chat", { message: "hi", target: "old" });
    const reader = readSse<Said>(await call.stream("/api/chat/stream", { message: "hi", target: "modern" }));
    await reader.find(({ type }) => type === "chunk");
    await old.waitFor("chat");

    const began = performance.now();
    proxy.blackHole(true);
    const health = async () => (await call<{ bots: number }>("GET", "/health")).body.bots;
    await until(async () => (await health()) === 0, 10_000, "both bots to be missed");
    const noticedMs = performance.now() - began;
    expect(noticedMs).toBeLessThan(4_000 + 1_500); // botTimeout and one sweep
    const answer = await within(waiting, 10_000, "the answer of the call that waited");
    expect([answer.status, answer.body.code]).toEqual([502, "bot_disconnected"]);
    expect(performance.now() - began).toBeLessThan(4_000 + 1_500 + 2_000 + 1_500);

    proxy.blackHole(false);
    await until(
      () => modern.state.state === "online" && states.filter((one) => one === "online").length > 1,
      15_000,
      "its return",
    );
    answers++;
    const events = await reader.all(10_000);
    expect(events.map(({ data }) => data.content ?? "").join("")).toBe("before the hole, after it");
    expect(events.at(-1)?.data.type).toBe("end");
  }, 60_000);
});

describe("a service that is stopped (F5)", () => {
  const busy = async () => {
    const server = await gateway();
    const token = await login(server.url);
    const bot = await v2Bot(server.wsUrl, { register: { botId: "a", token: BOT_TOKEN }, onChat: () => {} });
    const idle = await v1Bot(server.wsUrl, { botId: "b", token: BOT_TOKEN });
    const call = api(server.url, token);
    const events = readSse<Said>(await call.stream("/api/events"));
    await events.find(({ type }) => type === "bots");
    const turn = readSse<Said>(await call.stream("/api/chat/stream", { message: "hi", target: "a" }));
    const { turnId } = (await turn.find(({ type }) => type === "start")).data;
    const chat = await bot.waitFor("chat");
    bot.write(chat, "so far ");
    await turn.find(({ type }) => type === "chunk");
    return { server, token, bot, idle, call, events, turn, turnId: turnId!, chat };
  };

  test("open turns finish, streams end with a spread retry, bots get 1001, exit code 0", async () => {
    const { server, bot, idle, call, events, turn, chat } = await busy();
    server.now().kill("SIGTERM");
    await until(async () => (await call("GET", "/health")).status === 503, 2_000, "health to say draining");
    expect((await call("GET", "/health")).body).toEqual({ status: "draining" });
    const refused = await call("POST", "/api/chat", { message: "new" });
    expect([refused.status, refused.body.code]).toEqual([503, "shutting_down"]);
    await Bun.sleep(1_000);
    expect(bot.ws.readyState).toBe(WebSocket.OPEN);
    bot.end(chat, "and done");
    const said = await turn.all();
    expect(said.map(({ data }) => data.content ?? "").join("")).toBe("so far and done");
    expect(said.at(-1)?.data).toEqual({ type: "end", finish: "stop" });
    expect(await within(events.ended, 5_000, "the events to end")).toBe("end");
    expect(events.retries).toHaveLength(1);
    for (const one of [bot, idle]) expect((await within(one.closed, 5_000, "the bots to be closed")).code).toBe(1001);
    expect(await within(server.now().exited, 5_000, "the exit")).toBe(0);
    expect(server.now().stdout()).toContain("draining");
  }, 30_000);

  test("an open turn gets 25 s and no more; it is there after the next start and goes on", async () => {
    const { server, token, bot, turn, turnId, chat } = await busy();
    const began = performance.now();
    server.now().kill("SIGTERM");
    expect(await within(turn.ended, 30_000, "the stream to end")).toBe("end");
    expect(await within(server.now().exited, 5_000, "the exit")).toBe(0);
    const tookMs = performance.now() - began;
    expect(tookMs).toBeGreaterThan(24_000);
    expect(tookMs).toBeLessThan(29_000);
    expect(turn.events.some(({ data }) => data.type === "end" || data.type === "error")).toBe(false);
    await server.start();
    const back = await v2Bot(server.wsUrl, {
      register: { botId: "a", token: BOT_TOKEN, session: bot.registered.session! },
      onChat: () => {},
    });
    expect(back.registered.pending).toEqual([{ id: turnId, seq: 1 }]);
    back.end(chat, "and done", { seq: 2 });
    const again = readSse<Said>(await api(server.url, token).stream(`/api/turns/${turnId}/stream`));
    expect((await again.all()).map(({ data }) => data.content ?? "").join("")).toBe("so far and done");
  }, 60_000);

  test("a second signal ends it within a second, with code 1", async () => {
    const { server, call } = await busy();
    server.now().kill("SIGTERM");
    await until(async () => (await call("GET", "/health")).status === 503, 2_000, "health to say draining");
    const began = performance.now();
    server.now().kill("SIGTERM");
    expect(await within(server.now().exited, 5_000, "the exit")).toBe(1);
    expect(performance.now() - began).toBeLessThan(1_000);
  }, 30_000);
});
