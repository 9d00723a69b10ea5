/**
 * The bot client against a scripted gateway on a real socket: turns. Holds the client's promise: whole, in order, once,
 * whatever is cut or killed. The connection itself: client-link.test.ts; files, messages, limits: client-files.test.ts.
 */
import { expect, test } from "bun:test";
import type { Turn } from "../plugin/client.ts";
import { createPair, until } from "./openclaw/pair.ts";

const { gatewayFor, botFor, online } = createPair();

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
