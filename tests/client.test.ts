/**
 * The bot client against a scripted gateway on a real socket. Holds the client's promise: whole, in order, once,
 * whatever is cut or killed, and memory bounded.
 */
import { afterEach, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { createServer, type Socket } from "node:net";
import {
  connectBot,
  fromBase64,
  gatewayUrls,
  toBase64,
  type Bot,
  type BotOptions,
  type BotState,
  type Turn,
} from "../plugin/client.ts";
import {
  createScriptedGateway,
  until,
  type ScriptedGateway,
  type ScriptedOptions,
} from "./openclaw/scripted-gateway.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const gatewayFor = (options: ScriptedOptions = {}): ScriptedGateway => {
  const gateway = createScriptedGateway(options);
  cleanups.push(() => gateway.stop());
  return gateway;
};
const botFor = (gateway: ScriptedGateway, options: Partial<BotOptions> & Pick<BotOptions, "onTurn">): Bot => {
  const bot = connectBot({ url: gateway.url, botId: "bot", reconnect: { minMs: 10, maxMs: 50 }, ...options });
  cleanups.push(() => bot.close());
  return bot;
};
const online = (bot: Bot) => until("the bot to be online", () => bot.state.state === "online");

test("a turn is acked, streamed with seq from 1, ended once and settled by the gateway's ack", async () => {
  const gateway = gatewayFor();
  const seen: Turn[] = [];
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      seen.push(turn);
      for (const word of ["你好", ", ", "world"]) {
        turn.write(word);
        await Bun.sleep(5);
      }
      await turn.end({ usage: { total_tokens: 3 } });
    },
  });
  await online(bot);
  const turn = gateway.chat("hi", { conversationId: "c9", userId: "bob", userName: "Bob" });
  await until("the end", () => turn.done && bot.openTurns === 0);
  expect(turn.text).toBe("你好, world");
  expect(turn.frames.map((frame) => frame.seq)).toEqual([1, 2, 3, 4]);
  expect(turn.done?.usage).toEqual({ total_tokens: 3 });
  expect([seen[0]?.userId, seen[0]?.userName, seen[0]?.conversationId, seen[0]?.text]).toEqual([
    "bob",
    "Bob",
    "c9",
    "hi",
  ]);
  expect(gateway.faults).toEqual([]);
});

test("a gateway killed in the middle of an answer gets the rest and nothing twice", async () => {
  const gateway = gatewayFor({ ackMs: 15 });
  const words = Array.from({ length: 120 }, (_, i) => `w${i} `);
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      for (const word of words) {
        turn.write(word);
        await Bun.sleep(3);
      }
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  for (let round = 0; round < 3; round++) {
    const had = turn.seq;
    await until("some text", () => turn.seq > had + 5);
    await gateway.kill();
    gateway.start();
  }
  await until("the end", () => turn.done && bot.openTurns === 0);
  expect(turn.text).toBe(words.join(""));
  expect(gateway.faults).toEqual([]);
});

test("any mix of writes and replacements survives kills at random moments", async () => {
  const gateway = gatewayFor({ ackMs: 4 });
  let seed = 20261122;
  const random = (below: number) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  const wanted = new Map<string, string>();
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      let text = "";
      for (let i = 0; i < 60; i++) {
        const word = `${turn.id}:${i}😀 `;
        if (random(12) === 0) {
          text = word;
          turn.replace(word);
        } else {
          text += word;
          turn.write(word);
        }
        wanted.set(turn.id, text);
        if (random(3) > 0) await Bun.sleep(random(6));
      }
    },
  });
  await online(bot);
  const turns = Array.from({ length: 8 }, () => gateway.chat("go"));
  for (let kill = 0; kill < 6; kill++) {
    await Bun.sleep(20 + random(40));
    await gateway.kill();
    gateway.start();
    await until("the bot to be back", () => gateway.online === 1);
  }
  await until("every end", () => turns.every((turn) => turn.done) && bot.openTurns === 0);
  for (const turn of turns) expect(turn.text).toBe(wanted.get(turn.id) ?? "");
  expect(gateway.faults).toEqual([]);
});

test("writes of one tick are one frame, and a last write goes with the end", async () => {
  const gateway = gatewayFor();
  const bot = botFor(gateway, {
    onTurn: (turn) => {
      turn.write("a");
      turn.write("b");
      turn.replace("c");
      turn.write("d");
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the end", () => turn.done);
  expect(turn.frames.map(({ content, mode, done }) => ({ content, mode, done }))).toEqual([
    { content: "cd", mode: "replace", done: true },
  ]);
});

test("cancel aborts the signal and nothing more is said", async () => {
  const gateway = gatewayFor();
  const reasons: unknown[] = [];
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      turn.write("part");
      await new Promise<void>((resolve) => turn.signal.addEventListener("abort", () => resolve()));
      reasons.push((turn.signal.reason as { reason: string }).reason);
      turn.write("late");
      await turn.end();
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the part", () => turn.text === "part");
  gateway.cancel(turn, "user");
  await until("the abort", () => reasons.length === 1);
  gateway.push({ type: "ping" });
  await until("the pong", () => gateway.raw.at(-1)?.type === "pong");
  expect(reasons).toEqual(["user"]);
  expect(turn.frames.length).toBe(1);
  expect(bot.openTurns).toBe(0);
});

test("a handler that throws fails its turn with a plain sentence, the log gets the rest", async () => {
  const gateway = gatewayFor();
  const logged: string[] = [];
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      turn.write("so far");
      throw new Error("/etc/secret-path");
    },
    log: (_level, event, fields) => logged.push(`${event} ${JSON.stringify(fields)}`),
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the end", () => turn.done);
  expect(turn.text).toBe("so far");
  expect(turn.done?.error).toEqual({ code: "bot_failed", message: "The bot failed to answer", retryable: false });
  expect(JSON.stringify(gateway.raw)).not.toContain("secret-path");
  expect(logged.join()).toContain("secret-path");
});

test("a turn that the gateway no longer lists on return is over", async () => {
  const gateway = gatewayFor();
  let aborted = false;
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      turn.write("part");
      await new Promise<void>((resolve) => turn.signal.addEventListener("abort", () => resolve()));
      aborted = true;
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the part to be stored", () => turn.stored.text === "part");
  await Bun.sleep(20); // the ack must have reached the bot
  await gateway.kill();
  turn.over = true;
  gateway.start();
  await until("the abort", () => aborted);
  expect(bot.openTurns).toBe(0);
});

test("a chat that comes again after a lost acceptance is acked, not run twice, and its text comes from the start", async () => {
  const gateway = gatewayFor({ ackMs: 100_000 });
  let runs = 0;
  const attempts: number[] = [];
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      runs++;
      turn.write("one ");
      await until("the second attempt", () => turn.attempt === 2);
      attempts.push(turn.attempt);
      turn.write("two");
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("some text", () => turn.text === "one ");
  await gateway.kill();
  turn.accepted = false;
  gateway.start();
  await until("the end", () => turn.done);
  expect([runs, turn.text, turn.accepted]).toEqual([1, "one two", true]);
  expect(attempts).toEqual([2]);
  expect(gateway.faults).toEqual([]);
});

test("a turn that was answered and stored is not run again when its chat is repeated", async () => {
  const gateway = gatewayFor();
  let runs = 0;
  const bot = botFor(gateway, { onTurn: (turn) => turn.write(`run ${++runs}`) });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the end to be stored", () => turn.done && bot.openTurns === 0);
  const again = gateway.chat("go", { id: turn.id, attempt: 2 });
  await until("an answer", () => again.done);
  expect([runs, again.done?.error?.code]).toEqual([1, "already_answered"]);
});

test("a turn that failed as retryable runs again when the gateway tries it again", async () => {
  const gateway = gatewayFor();
  const bot = botFor(gateway, {
    onTurn: (turn) =>
      turn.attempt === 1 ? turn.fail({ code: "warming_up", message: "later", retryable: true }) : turn.write("ok"),
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the failure", () => turn.done && bot.openTurns === 0);
  const again = gateway.chat("go", { id: turn.id, attempt: 2 });
  await until("the answer", () => again.done);
  expect([turn.done?.error?.retryable, again.text]).toEqual([true, "ok"]);
});

test("a retryable failure that was not acked yet gives way to the further attempt", async () => {
  const gateway = gatewayFor({ ackMs: 100_000 });
  const bot = botFor(gateway, {
    onTurn: (turn) =>
      turn.attempt === 1 ? turn.fail({ code: "warming_up", message: "later", retryable: true }) : turn.write("ok"),
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the failure", () => turn.done);
  const again = gateway.chat("go", { id: turn.id, attempt: 2 });
  await until("the answer", () => again.done);
  expect([again.text, again.done?.error]).toEqual(["ok", undefined]);
});

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

test("events go out between the text around them and only while the turn is open", async () => {
  const gateway = gatewayFor();
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      turn.write("a");
      turn.event({ kind: "tool", tool: { id: "t1", name: "ls", phase: "start" } });
      turn.write("b");
      await turn.end();
      turn.event({ kind: "typing" });
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the end", () => turn.done && bot.openTurns === 0);
  expect(turn.events).toEqual([
    { type: "event", replyTo: turn.id, kind: "tool", tool: { id: "t1", name: "ls", phase: "start" } },
  ]);
  const order = gateway.raw
    .filter((frame) => frame.type === "reply" || frame.type === "event")
    .map((frame) => frame.type);
  expect(order).toEqual(["reply", "event", "reply"]);
});

test("files go in line up to 1 MiB, larger ones are uploaded, in order and before the end", async () => {
  const gateway = gatewayFor();
  const small = new Uint8Array(1024 * 1024).fill(7);
  const large = new Uint8Array(1024 * 1024 + 1).fill(8);
  const bot = botFor(gateway, {
    onTurn: (turn) => {
      turn.write("see: ");
      void turn.attach({ name: "small.bin", mime: "application/x-a", data: small });
      void turn.attach({ name: "大.bin", mime: "application/x-b", data: large });
      turn.write("done");
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the end", () => turn.done);
  const [first, second] = turn.files;
  expect(first).toMatchObject({ name: "small.bin", mime: "application/x-a" });
  expect(first && "data" in first && fromBase64(first.data).length).toBe(small.length);
  const stored = gateway.uploads.get(second && "id" in second ? second.id : "");
  expect([stored?.name, stored?.mime, stored?.data.length, stored?.turnId]).toEqual([
    "大.bin",
    "application/x-b",
    large.length,
    turn.id,
  ]);
  expect([turn.text, turn.files.length, gateway.faults]).toEqual(["see: done", 2, []]);
});

test("an upload outlives a gateway that is killed and comes back", async () => {
  const gateway = gatewayFor();
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      turn.write("text ");
      await until("the kill", () => bot.state.state !== "online", 2000).catch(() => {});
      await turn.attach({ name: "big.bin", mime: "application/x-b", data: new Uint8Array(1_100_000) });
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the text to be stored", () => turn.stored.text === "text ");
  await gateway.kill();
  await until("the upload to have failed once", () => Bun.sleep(100).then(() => true));
  gateway.start();
  await until("the end", () => turn.done, 8000);
  expect([turn.files.length, gateway.uploads.size, gateway.faults]).toEqual([1, 1, []]);
}, 15_000);

test("a small file that comes while the gateway is away goes in line when it is back", async () => {
  const gateway = gatewayFor();
  let cut = () => {};
  const wasCut = new Promise<void>((resolve) => {
    cut = resolve;
  });
  const bot = botFor(gateway, {
    reconnect: { minMs: 100, maxMs: 100 },
    onState: (state) => state.state === "waiting" && cut(),
    onTurn: async (turn) => {
      turn.write("text");
      await wasCut;
      await turn.attach({ name: "a.txt", mime: "text/plain", data: new Uint8Array([65]) });
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the text to be stored", () => turn.stored.text === "text");
  gateway.closeBots(1001);
  await until("the end", () => turn.done);
  expect([turn.files, gateway.uploads.size]).toEqual([[{ name: "a.txt", mime: "text/plain", data: "QQ==" }], 0]);
});

test("a file the gateway would refuse rejects, and the answer goes on without it", async () => {
  const gateway = gatewayFor({ attachmentBytes: 2_000_000 });
  const codes: string[] = [];
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      await turn
        .attach({ name: "x", mime: "a/b", data: new Uint8Array(2_000_001) })
        .catch((error) => codes.push(error.code));
      turn.write("without");
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the end", () => turn.done);
  expect([codes, turn.text, turn.files]).toEqual([["too_large"], "without", []]);
});

test("attachments of a message are read from the frame or over http with the session", async () => {
  const gateway = gatewayFor();
  gateway.downloads.set("f2", { mime: "text/plain", data: new TextEncoder().encode("over http") });
  const read: string[] = [];
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      for (const file of turn.attachments) read.push(new TextDecoder().decode(await turn.fetchAttachment(file)));
      read.push(await turn.fetchAttachment("f3").then(String, (error) => error.code));
    },
  });
  await online(bot);
  const file = { mime: "text/plain", size: 9, url: "https://elsewhere.example/steal" };
  const turn = gateway.chat("go", {
    attachments: [
      { ...file, id: "f1", name: "a.txt", data: btoa("in line") },
      { ...file, id: "f2", name: "b.txt" },
    ],
  });
  await until("the end", () => turn.done);
  expect(read).toEqual(["in line", "over http", "not_found"]);
});

test("a message resolves when stored, is told when seen, and the same id is sent once", async () => {
  const gateway = gatewayFor();
  const seen: string[] = [];
  const bot = botFor(gateway, { onTurn: () => {}, onSeen: (id) => seen.push(id) });
  await online(bot);
  const file = { name: "a.txt", mime: "text/plain", data: new TextEncoder().encode("hi") };
  const sends = [1, 2].map(() => bot.send("alice", "news", { id: "m1", title: "Title", attachments: [file] }));
  expect(await Promise.all(sends)).toEqual([{ id: "m1" }, { id: "m1" }]);
  await bot.send({ conversationId: "c7" }, "more");
  gateway.push({ type: "ack", id: "m1", state: "seen" });
  await until("seen", () => seen.length === 1);
  expect(gateway.raw.filter((frame) => frame.type === "message").length).toBe(2);
  expect(gateway.messages.get("m1")).toEqual({
    type: "message",
    id: "m1",
    to: { userId: "alice" },
    content: "news",
    title: "Title",
    attachments: [{ name: "a.txt", mime: "text/plain", data: btoa("hi") }],
  });
  expect([...gateway.messages.values()][1]?.to).toEqual({ conversationId: "c7" });
});

test("a message that was not confirmed is sent again with its id after the return", async () => {
  let silent = true;
  const gateway = gatewayFor({ onMessage: () => (silent ? "silent" : undefined) });
  const bot = botFor(gateway, { onTurn: () => {} });
  const sent = bot.send("alice", "news", { id: "m1" }); // also: queued before the first connection
  await until("the message", () => gateway.raw.some((frame) => frame.type === "message"));
  silent = false;
  await gateway.kill();
  gateway.start();
  expect(await sent).toEqual({ id: "m1" });
  expect([gateway.messages.size, gateway.raw.filter((frame) => frame.type === "message").length]).toEqual([1, 2]);
});

test("a message that is refused, late, too large or one too many rejects with its code", async () => {
  const gateway = gatewayFor({
    frameBytes: 10_000,
    onMessage: (message) => (message.id === "m1" ? { code: "not_found", message: "no such user" } : "silent"),
  });
  const bot = botFor(gateway, { onTurn: () => {}, limits: { queuedMessages: 2, queuedChars: 20_000 } });
  await online(bot);
  const codes = await Promise.all(
    [
      bot.send("alice", "x", { attachments: [{ name: "x", mime: "a/b", data: new Uint8Array(8000) }] }),
      bot.send("nobody", "x", { id: "m1" }),
      bot.send("alice", "x", { timeoutMs: 30 }),
      bot.send("alice", "third in the queue"),
    ].map((sent) =>
      sent.then(
        () => "stored",
        (error) => error.code,
      ),
    ),
  );
  expect(codes).toEqual(["too_large", "not_found", "timeout", "queue_full"]);
  await expect(bot.send("alice", "y".repeat(20_001))).rejects.toMatchObject({ code: "queue_full" });
});

test("long text is split below the gateway's frame size and never inside a character", async () => {
  const gateway = gatewayFor({ frameBytes: 4096 });
  const text = `a${"😀\u0000".repeat(3000)}`;
  const bot = botFor(gateway, {
    onTurn: async (turn) => {
      turn.write(text);
      await Bun.sleep(5);
      turn.write("\ud83d");
      await Bun.sleep(5);
      turn.write("\ude00");
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the end", () => turn.done);
  expect(turn.text).toBe(`${text}😀`);
  expect(turn.frames.length).toBeGreaterThan(10);
  for (const frame of turn.frames) {
    expect(frame.content.isWellFormed()).toBe(true);
    expect(JSON.stringify(frame).length).toBeLessThan(4096);
  }
});

test("a reply beyond the turn's limit fails by name and the handler is told", async () => {
  const gateway = gatewayFor();
  let aborted = false;
  const bot = botFor(gateway, {
    limits: { turnChars: 10_000 },
    onTurn: async (turn) => {
      turn.signal.addEventListener("abort", () => {
        aborted = true;
      });
      for (let i = 0; i < 100 && !turn.signal.aborted; i++) {
        turn.write("x".repeat(500));
        await Bun.sleep(1);
      }
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the end", () => turn.done);
  expect([turn.done?.error?.code, aborted]).toEqual(["too_large", true]);
  expect(turn.text.length).toBeLessThan(11_000);
});

test("a bot that answers while the gateway is away keeps one frame's worth, not one per write", async () => {
  const gateway = gatewayFor();
  let cut = () => {};
  const wasCut = new Promise<void>((resolve) => {
    cut = resolve;
  });
  const bot = botFor(gateway, {
    reconnect: { minMs: 200, maxMs: 200 },
    onState: (state) => state.state === "waiting" && cut(),
    onTurn: async (turn) => {
      turn.write("start ");
      await wasCut;
      for (let i = 0; i < 50; i++) {
        turn.write(`${i} `);
        await Bun.sleep(1);
      }
    },
  });
  await online(bot);
  const turn = gateway.chat("go");
  await until("the start to be stored", () => turn.stored.text === "start ");
  gateway.closeBots(1001);
  await until("the end", () => turn.done);
  expect(turn.text).toBe(`start ${Array.from({ length: 50 }, (_, i) => `${i} `).join("")}`);
  expect(turn.frames.length).toBeLessThan(20);
});

test("a gateway that does not read is not fed more than the socket's share", async () => {
  const sockets: WebSocket[] = [];
  const Real = globalThis.WebSocket;
  globalThis.WebSocket = class extends Real {
    constructor(url: string) {
      super(url);
      sockets.push(this);
    }
  } as typeof WebSocket;
  cleanups.push(() => {
    globalThis.WebSocket = Real;
  });
  // A hand-made server: it answers the upgrade, registers, gives one turn, and reads nothing more until told.
  let paused: Socket | undefined;
  let received = 0;
  const server = createServer((socket) => {
    const frame = (value: object) => {
      const body = Buffer.from(JSON.stringify(value));
      socket.write(Buffer.concat([Buffer.from([0x81, 126, body.length >> 8, body.length & 255]), body]));
    };
    socket.once("data", (head) => {
      const key = /sec-websocket-key: (.*)\r\n/i.exec(String(head))?.[1] ?? "";
      const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
      );
      socket.once("data", () => {
        frame({ type: "registered", success: true, proto: 2, session: "s", pending: [], padding: "x".repeat(200) });
        frame({ type: "chat", id: "t1", content: "go", from: "a", timestamp: 1, padding: "x".repeat(200) });
        socket.pause();
        paused = socket;
      });
    });
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => server.close());
  const total = 12 * 1024 * 1024;
  const bot = connectBot({
    url: `ws://127.0.0.1:${(server.address() as { port: number }).port}/bot-ws`,
    botId: "bot",
    onTurn: async (turn) => {
      for (let i = 0; i < total / 65536; i++) {
        turn.write("x".repeat(65536));
        await Bun.sleep(0);
      }
    },
  });
  cleanups.push(() => bot.close());
  await until("the socket to be full", () => (sockets[0]?.bufferedAmount ?? 0) > 1024 * 1024);
  await Bun.sleep(200);
  expect(sockets[0]?.bufferedAmount).toBeLessThan(2 * 1024 * 1024);
  paused?.on("data", (bytes) => {
    received += bytes.length;
  });
  paused?.resume();
  await until("all of it", () => received > total);
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

test("base64 is exact for every length and byte", () => {
  for (const length of [0, 1, 2, 3, 255, 32_767, 32_768, 32_769, 100_001]) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 31) & 255);
    expect(toBase64(bytes)).toBe(Buffer.from(bytes).toString("base64"));
    expect(fromBase64(toBase64(bytes))).toEqual(bytes);
  }
});
