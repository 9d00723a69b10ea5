/**
 * The bot socket at the level of bytes, where it is ours: limits, close codes, fragments, bad UTF-8, frames cut anywhere.
 * The rest of RFC 6455 is Bun's. Whatever is sent: the gateway goes on, and a turn that was open ends or waits as usual.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { CLOSE } from "../lib/protocol.ts";
import { api, BOT_TOKEN, login, startGateway, until, v2Bot } from "./harness.ts";
import { FRAMES } from "./harness/fuzz.ts";
import { textFrame, type WireBot, wireBot } from "./harness/wire.ts";

const FRAME_BYTES = 70_000;

let rig: Awaited<ReturnType<typeof startGateway>>;
let bot: WireBot;
const said = (): { type: string; message?: string; content?: string; id?: string }[] =>
  bot.texts.map((text) => JSON.parse(text));
const errors = () => said().filter(({ type }) => type === "error");

beforeAll(async () => {
  const none = { sendsPerMinute: 0, turnsPerUser: 0, connectionsPerAddress: 0 };
  rig = await startGateway({ limits: { ...none, frameBytes: FRAME_BYTES } });
});
afterAll(() => rig.stop());
let n = 0;
beforeEach(async () => {
  bot = await wireBot(rig.port, { botId: `wire${++n}`, proto: 2, caps: ["ack", "seq"] });
});
afterEach(async () => {
  bot.cut();
  // Nothing a bot sends may be taken for a fault of ours.
  expect(rig.logs.filter(({ event }) => /failed|uncaught/.test(event))).toEqual([]);
  expect((await fetch(`${rig.url}/health`)).status).toBe(200);
});

/** A frame by hand. The mask is all zero, which is a mask like any other. */
const raw = (
  payload: string | Uint8Array,
  {
    opcode = 1,
    fin = true,
    masked = true,
    rsv = 0,
    claim = -1,
  }: Partial<Record<"opcode" | "rsv" | "claim", number>> & {
    fin?: boolean;
    masked?: boolean;
  } = {},
): Uint8Array => {
  const bytes = typeof payload === "string" ? Buffer.from(payload) : payload;
  const size = claim < 0 ? bytes.length : claim;
  const head = size < 126 ? 2 : size < 65_536 ? 4 : 10;
  const out = Buffer.alloc(head + (masked ? 4 : 0) + bytes.length);
  out[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  out[1] = (masked ? 0x80 : 0) | (size < 126 ? size : size < 65_536 ? 126 : 127);
  if (head === 4) out.writeUInt16BE(size, 2);
  if (head === 10) out.writeBigUInt64BE(BigInt(size), 2);
  out.set(bytes, out.length - bytes.length);
  return out;
};

const UNKNOWN = JSON.stringify({ type: "nobody-knows-this" });
/** Answered by `error` each time, so its arrival can be seen. */
const arrived = async (count = 1): Promise<void> => {
  await until(() => errors().length >= count || bot.closed(), 3000, "the frame to be answered");
  expect(errors().map(({ message }) => message)).toEqual(Array(count).fill("Unknown frame type"));
};
/** 1006 where the connection ends without a word. */
const ended = async (): Promise<number> => {
  await until(() => bot.over(), 8000, "the end");
  return bot.closed()?.code ?? 1006;
};

/** Asks this bot something and returns the turn's id. */
const asked = async (): Promise<{ id: string; answer: Promise<{ status: number; body: { content?: string } }> }> => {
  const token = await login(rig.url);
  const answer = api(rig.url, token)<{ content: string }>("POST", "/api/chat", { message: "hi", target: `wire${n}` });
  const chat = await until(() => said().find(({ type }) => type === "chat"), 3000, "the chat");
  return { id: chat.id!, answer };
};

describe("a frame that comes in pieces", () => {
  test("is the same frame wherever TCP cuts it in two", async () => {
    const bytes = raw(UNKNOWN);
    for (let at = 1; at < bytes.length; at++) {
      bot.write(bytes.subarray(0, at));
      await Bun.sleep(0);
      bot.write(bytes.subarray(at));
      await until(() => errors().length === at, 3000, `the frame cut at ${at}`);
    }
    expect(bot.closed()).toBeUndefined();
  });

  test("is the same frame byte by byte, and several in one read are several", async () => {
    for (const byte of raw(UNKNOWN)) {
      bot.write(new Uint8Array([byte]));
      await Bun.sleep(0);
    }
    await arrived(1);
    bot.write(Buffer.concat([raw(UNKNOWN), raw(UNKNOWN), raw(UNKNOWN)]));
    await arrived(4);
  });

  test("is the same frame in fragments, also of no bytes, with a ping between them", async () => {
    const text = Buffer.from(`{"type":"nobody-knows-🙂"}`);
    for (let at = 0; at <= text.length; at++) {
      const before = bot.bytesIn();
      bot.write(raw(text.subarray(0, at), { fin: false }));
      bot.write(raw("are you there", { opcode: 9 }));
      bot.write(raw(new Uint8Array(0), { opcode: 0, fin: false }));
      bot.write(raw(text.subarray(at), { opcode: 0 }));
      await until(() => errors().length === at + 1 && bot.bytesIn() > before, 3000, `fragments cut at ${at}`);
    }
  });
});

describe("a connection that ends inside a frame", () => {
  test("of any type, at any byte, leaves nothing: no frame, no bot, no turn of it", async () => {
    const before = rig.logs.length;
    const whole = [...Object.values(FRAMES).map(textFrame), textFrame({ type: "ping" })];
    const cuts = whole.flatMap((bytes) => Array.from({ length: bytes.length }, (_, at) => bytes.subarray(0, at)));
    const all = rig.gateway.gate.bots;
    for (let i = 0; i < cuts.length; i += 50)
      await Promise.all(
        cuts.slice(i, i + 50).map(async (bytes) => {
          const one = await wireBot(rig.port);
          one.write(bytes);
          await Bun.sleep(1);
          one.cut();
        }),
      );
    await until(() => all.count() === 1, 3000, "only the bot of this test to be left");
    const joined = rig.logs.slice(before).filter(({ event }) => event === "bot_joined" || event === "bot_refused");
    expect(joined).toEqual([]);
    expect(cuts.length).toBeGreaterThan(800);
  });

  test("of a reply ends its turn as if the bot had gone; what came whole before is kept", async () => {
    const { id, answer } = await asked();
    bot.send({ type: "ack", id });
    bot.send({ type: "reply", replyTo: id, content: "whole ", done: false, seq: 1 });
    await until(() => said().some(({ type }) => type === "ack"), 3000, "the ack");
    const last = textFrame({ type: "reply", replyTo: id, content: "cut", done: true, seq: 2 });
    bot.write(last.subarray(0, last.length - 1));
    bot.cut();
    const back = await v2Bot(rig.wsUrl, { register: { botId: `wire${n}`, token: BOT_TOKEN } });
    // It came without its session: the turn is over, with the text that was whole.
    expect((await answer).status).toBe(502);
    await back.close();
  });
});

describe("limits", () => {
  test("a text of frameBytes is read, one byte more is closed with 1009, in one frame and in fragments", async () => {
    const text = (size: number): string => {
      const empty = JSON.stringify({ type: "x", pad: "" });
      return JSON.stringify({ type: "x", pad: "p".repeat(size - empty.length) });
    };
    bot.write(raw(text(FRAME_BYTES)));
    await arrived(1);
    const half = Buffer.from(text(FRAME_BYTES));
    bot.write(raw(half.subarray(0, 40_000), { fin: false }));
    bot.write(raw(half.subarray(40_000), { opcode: 0 }));
    await arrived(2);
    const more = Buffer.from(text(FRAME_BYTES + 1));
    bot.write(raw(more.subarray(0, 40_000), { fin: false }));
    bot.write(raw(more.subarray(40_000), { opcode: 0 }));
    expect(await ended()).toBe(1009);
    bot = await wireBot(rig.port, { botId: `wire${++n}`, proto: 2 });
    bot.write(raw(more));
    expect(await ended()).toBe(1009);
  });

  test("a frame that only claims to be huge is closed at once, without waiting for its bytes", async () => {
    for (const claim of [FRAME_BYTES + 1, 2 ** 31, 2 ** 40]) {
      bot = await wireBot(rig.port, { botId: `wire${++n}`, proto: 2 });
      bot.write(raw("", { claim }));
      expect(await ended()).toBe(1009);
    }
  });
});

describe("what no bot sends", () => {
  test.each<[string, () => Uint8Array, number[]]>([
    ["text that is not UTF-8", () => raw(new Uint8Array([0x22, 0xc3, 0x28, 0x22])), [1007]],
    ["half a character", () => raw(new Uint8Array([0xf0, 0x9f, 0x99])), [1007]],
    ["an encoded surrogate", () => raw(new Uint8Array([0xed, 0xa0, 0x80])), [1007]],
    ["reserved bits", () => raw(UNKNOWN, { rsv: 4 }), [1002, 1006]],
    ["an opcode that is none", () => raw("x", { opcode: 3 }), [1002, 1006]],
    ["a continuation of nothing", () => raw("x", { opcode: 0 }), [1002, 1006]],
    ["a ping of 126 bytes", () => raw("x".repeat(126), { opcode: 9 }), [1002, 1006]],
    ["a ping in fragments", () => raw("x", { opcode: 9, fin: false }), [1002, 1006]],
  ])("%s ends the connection and nothing else", async (_, bytes, codes) => {
    bot.write(bytes());
    expect(codes).toContain(await ended());
    const gone = rig.gateway.gate.bots;
    await until(() => !gone.isOnline(`wire${n}`), 3000, "the bot to be gone");
  });

  test("binary is a bad frame like any other: answered ten times, then 4500", async () => {
    for (let i = 1; i <= 10; i++) {
      bot.sendBinary(new Uint8Array([1, 2, 3]));
      await until(() => errors().length === i, 3000, "an error");
    }
    bot.sendBinary(new Uint8Array([1]));
    expect(await ended()).toBe(CLOSE.bad_frames);
  });

  test("bytes that are no WebSocket at all, before and after the upgrade, end that connection alone", async () => {
    bot.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await ended();
    for (const line of ["\x16\x03\x01\x02\x00\x01", "GET /bot-ws HTTP/1.1\r\n\r\n", "\r\n\r\n\r\n", "\0".repeat(500)]) {
      const one = await Bun.connect({ hostname: "127.0.0.1", port: rig.port, socket: { data() {} } });
      one.write(line);
      await Bun.sleep(5);
      one.terminate();
    }
  });
});

describe("closing", () => {
  test.each([
    ["1000", [0x03, 0xe8]],
    ["a code and a reason", [0x03, 0xe9, ...Buffer.from("再见")]],
    ["no code", []],
    ["half a code", [0x03]],
    ["a code nobody may send", [0x03, 0xed]],
    ["a reason that is not UTF-8", [0x03, 0xe8, 0xff]],
  ] as [string, number[]][])("with %s ends the connection, and the bot is gone", async (_, payload) => {
    bot.write(raw(new Uint8Array(payload), { opcode: 8 }));
    await ended();
    await until(() => !rig.gateway.gate.bots.isOnline(`wire${n}`), 3000, "the bot to be gone");
    expect(rig.logs.findLast(({ event }) => event === "bot_left")?.fields.bot).toBe(`wire${n}`);
  });
});
