/**
 * The bot client against a scripted gateway on a real socket. Holds the client's promise: whole, in order, once,
 * whatever is cut or killed, and memory bounded.
 */
import { afterEach, expect, test } from "bun:test";
import { connectBot, type Bot, type BotOptions, type BotState, type Turn } from "../plugin/client.ts";
import {
  createScriptedGateway,
  until,
  type ScriptedGateway,
  type ScriptedOptions,
} from "./openclaw/scripted-gateway.ts";

let cleanups: (() => unknown)[] = [];
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
