/** The bot client's connection: coming, going, coming back, staying away, the session, and gateways of version 1. */
import { expect, test } from "bun:test";
import { connectBot, gatewayUrls, type BotState, type Turn } from "../plugin/client.ts";
import { createPair, until } from "./openclaw/pair.ts";

const { gatewayFor, botFor, online } = createPair();

test("the session is kept by the hooks; a new process presents it and ends what the old one had open", async () => {
  const gateway = gatewayFor();
  const file: { session?: string } = {};
  const session = {
    load: () => file.session,
    save: (secret: string) => {
      file.session = secret;
    },
  };
  const first = connectBot({
    url: gateway.url,
    botId: "bot",
    session,
    onTurn: (turn) => {
      turn.write("half");
      return new Promise(() => {});
    },
  });
  await online(first);
  const turn = gateway.chat("go");
  await until("the half to be stored", () => turn.stored.text === "half");
  // The first process dies without a word: its socket goes, its timers with it.
  await gateway.kill();
  const dead = first.close();
  gateway.start();
  const second = botFor(gateway, { session, onTurn: () => {} });
  await until("the end", () => turn.done);
  await dead;
  expect(gateway.registers.at(-1)?.session).toBeString();
  expect([turn.text, turn.done?.error?.code, turn.done?.seq]).toEqual(["half", "bot_restarted", 2]);
  expect(second.state.state).toBe("online");
  expect(gateway.faults).toEqual([]);
});

test("a silent gateway is left after 2.5 ping intervals and found again", async () => {
  const gateway = gatewayFor({ pingInterval: 100 });
  const states: BotState[] = [];
  const bot = botFor(gateway, { onTurn: () => {}, onState: (state) => states.push(state) });
  await online(bot);
  await until("a pong", () => gateway.raw.some((frame) => frame.type === "pong"));
  gateway.goSilent();
  const silentAt = Date.now();
  await until("the bot to notice", () => bot.state.state !== "online");
  expect(Date.now() - silentAt).toBeLessThan(1000);
  await gateway.kill();
  gateway.start();
  await online(bot);
  expect(states.some((state) => state.state === "waiting" && /silent/.test(state.reason))).toBe(true);
});

test("a gateway that is not there is tried with growing, uneven pauses", async () => {
  const gateway = gatewayFor();
  await gateway.kill();
  const pauses: number[] = [];
  botFor(gateway, {
    onTurn: () => {},
    reconnect: { minMs: 16, maxMs: 64 },
    onState: (state) => {
      if (state.state === "waiting") pauses.push(Math.round(state.retryAt - Date.now()));
    },
  });
  await until("seven tries", () => pauses.length >= 7);
  expect(pauses[0]).toBeLessThanOrEqual(16);
  expect(Math.max(...pauses)).toBeLessThanOrEqual(64);
  expect(Math.min(...pauses.slice(3, 7))).toBeGreaterThanOrEqual(30);
  expect(new Set(pauses.slice(2, 7)).size).toBeGreaterThan(1);
});

test("close codes 4000 to 4499 come back, 4003 not before its pause, 4500 and above stop and say why", async () => {
  const gateway = gatewayFor();
  const bot = botFor(gateway, { onTurn: () => {}, reconnect: { minMs: 5, maxMs: 10, replacedMs: 300 } });
  await online(bot);
  gateway.closeBots(4002, "too slow");
  await until("the return", () => gateway.registers.length === 2 && bot.state.state === "online");
  const replacedAt = Date.now();
  gateway.closeBots(4003, "replaced");
  await until("the return", () => gateway.registers.length === 3);
  expect(Date.now() - replacedAt).toBeGreaterThanOrEqual(300);
  await online(bot);
  gateway.closeBots(4501, "token refused");
  await until("the stop", () => bot.state.state === "stopped");
  expect(bot.state).toEqual({ state: "stopped", reason: "token refused", code: 4501 });
  await expect(bot.send("alice", "x")).rejects.toThrow("token refused");
  await Bun.sleep(50);
  expect(gateway.registers.length).toBe(3);
});

test("a bot that is thrown out again and again comes back ever more slowly, one whose gateway restarts does not", async () => {
  const gateway = gatewayFor();
  const pauses: number[] = [];
  const bot = botFor(gateway, {
    onTurn: () => {},
    reconnect: { minMs: 20, maxMs: 1000 },
    onState: (state) => {
      if (state.state === "waiting") pauses.push(state.retryAt - Date.now());
    },
  });
  for (const code of [4002, 4002, 4002, 4002, 1001, 1001]) {
    await online(bot);
    const had = pauses.length;
    gateway.closeBots(code);
    await until("the close", () => pauses.length > had);
  }
  expect(pauses[3]).toBeGreaterThan(70);
  expect(pauses[5]).toBeLessThanOrEqual(20);
});

test("without its own setting a replaced bot waits at least a minute", async () => {
  const gateway = gatewayFor();
  const bot = botFor(gateway, { onTurn: () => {}, reconnect: {} });
  await online(bot);
  gateway.closeBots(4003, "replaced");
  const waiting = await until("the pause", () => (bot.state.state === "waiting" ? bot.state : undefined));
  expect(waiting.retryAt - Date.now()).toBeGreaterThan(59_000);
});

test("a refused token stops the bot with the gateway's words", async () => {
  const gateway = gatewayFor({ token: "right" });
  const bot = botFor(gateway, { token: "wrong", onTurn: () => {} });
  await until("the stop", () => bot.state.state === "stopped");
  expect(bot.state).toMatchObject({ state: "stopped", code: 4501, reason: "Invalid token" });
});

test("a v1 gateway gets the v1 form only", async () => {
  const gateway = gatewayFor({ proto: 1 });
  const got: Turn[] = [];
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      got.push(turn);
      turn.event({ kind: "typing" });
      turn.write("Hello");
      await Bun.sleep(5);
      turn.replace("Hello, world");
      await Bun.sleep(5);
      turn.replace("Bye");
      await turn.attach({ name: "p.png", mime: "image/png", data: new Uint8Array([1, 2, 3]) });
      await turn.attach({ name: "notes.pdf", mime: "application/pdf", data: new Uint8Array([1]) });
      await turn.fail({ code: "x", message: "sorry", retryable: false });
    },
  });
  await online(bot);
  const image = `data:image/png;base64,${btoa("bytes")}`;
  const turn = gateway.chat("hi", { image });
  await until("the end", () => turn.done && bot.openTurns === 0);
  expect(bot.state).toEqual({ state: "online", proto: 1 });
  expect(turn.text).toBe("Hello, world\n\nBye\n[notes.pdf]\n\n⚠️ sorry");
  expect(turn.frames.map((frame) => frame.image).filter(Boolean)).toEqual(["data:image/png;base64,AQID"]);
  expect([got[0]?.userId, got[0]?.userName, got[0]?.image]).toEqual([undefined, "Alice", image]);
  const file = got[0]?.attachments[0];
  expect(file).toMatchObject({ name: "image.png", mime: "image/png", size: 6 });
  expect(new TextDecoder().decode(await got[0]?.fetchAttachment(file ?? ""))).toBe("bytes");
  await expect(bot.send("alice", "x")).rejects.toMatchObject({ code: "unsupported" });
  expect(gateway.faults).toEqual([]);
});

test("a v1 gateway that cuts the line gets the rest of the answer after the return", async () => {
  const gateway = gatewayFor({ proto: 1 });
  let cut = () => {};
  const wasCut = new Promise<void>((resolve) => {
    cut = resolve;
  });
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      turn.write("one ");
      await wasCut;
      turn.write("two");
    },
    onState: (state) => state.state === "waiting" && cut(),
  });
  await online(bot);
  const turn = gateway.chat("hi");
  await until("some text", () => turn.text === "one ");
  gateway.closeBots(1001);
  await until("the end", () => turn.done);
  expect(turn.text).toBe("one two");
});

test("drain tells the gateway, refuses what still comes as retryable, and waits for what is open", async () => {
  const gateway = gatewayFor();
  let release = () => {};
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      turn.write("finished");
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the turn", () => bot.openTurns === 1);
  let drained = false;
  const draining = bot.drain().then(() => {
    drained = true;
  });
  await until("the notice", () => gateway.raw.some((frame) => frame.type === "event" && frame.kind === "draining"));
  const late = gateway.chat("too late");
  await until("the refusal", () => late.done);
  expect([late.done?.error, drained]).toEqual([
    { code: "draining", message: "The bot is going away", retryable: true },
    false,
  ]);
  release();
  await draining;
  expect(turn.text).toBe("finished");
});

test("close ends open turns by name, rejects what waits and stays closed", async () => {
  const gateway = gatewayFor({ onMessage: () => "silent" });
  let signal: AbortSignal | undefined;
  const bot = botFor(gateway, {
    onTurn: (turn) => {
      signal = turn.signal;
      turn.write("half");
      return new Promise(() => {});
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the half", () => turn.text === "half");
  const code = bot.send("alice", "x").catch((error) => error.code);
  await bot.close();
  await until("the end", () => turn.done);
  expect([await code, turn.text, turn.done?.error?.code, signal?.aborted]).toEqual([
    "stopped",
    "half",
    "bot_stopped",
    true,
  ]);
  expect([bot.state.state, gateway.online]).toEqual(["stopped", 0]);
});

test("urls are read as people write them", () => {
  expect(gatewayUrls("ws://host:17392/bot-ws")).toEqual({ socket: "ws://host:17392/bot-ws", api: "http://host:17392" });
  expect(gatewayUrls("https://a.example")).toEqual({ socket: "wss://a.example/bot-ws", api: "https://a.example" });
  expect(gatewayUrls("wss://a.example/nexus/bot-ws").api).toBe("https://a.example/nexus");
  expect(() => gatewayUrls("ftp://a.example")).toThrow("ws://");
  expect(() => connectBot({ url: "ws://a.example", botId: "a b", onTurn: () => {} })).toThrow("botId");
});
