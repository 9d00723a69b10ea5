/** Whatever is sent: a refusal or an answer, never another exception, never a hang (P1). A million of it is in tests/chaos. */
import { describe, expect, test } from "bun:test";
import { parseFrame } from "../lib/frames.ts";
import { BOT_TOKEN, login, startGateway } from "./harness.ts";
import { createFuzz, FRAMES, fuzzAll, onlyReject } from "./harness/fuzz.ts";
import { wireBot } from "./harness/wire.ts";

const SEED = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000);
const LIMITS = { textChars: 100_000 };

describe("parsers throw Reject and nothing else (P1)", () => {
  test("for frames, bodies, headers, resume places and configs damaged by a seed", () => {
    const refused = fuzzAll(SEED, { frame: 2_000, body: 500, header: 1_000, config: 150 });
    // Neither all nor nothing: the damage reaches beyond the first check, and is damage.
    expect(refused.frame).toBeGreaterThan(200);
    expect(refused.frame).toBeLessThan(1_970);
  }, 20_000);

  test("for each valid frame cut at every byte, alone and with another frame behind it", () => {
    for (const [type, frame] of Object.entries(FRAMES)) {
      const whole = Buffer.from(JSON.stringify(frame));
      expect(parseFrame(whole.toString(), LIMITS)?.type).toBe(type as never);
      for (let at = 0; at < whole.length; at++) {
        const cut = whole.subarray(0, at).toString();
        expect(`${type} cut at ${at}: ${onlyReject(() => parseFrame(cut, LIMITS))}`).toBe(`${type} cut at ${at}: true`);
        expect(onlyReject(() => parseFrame(cut + whole.toString(), LIMITS))).toBe(at > 0);
      }
    }
  });
});

describe("over real sockets (P1)", () => {
  test("damaged requests, heads and bodies, are refused or answered, never failed, and the next caller is served", async () => {
    const gateway = await startGateway({ limits: { connectionsPerAddress: 0, sendsPerMinute: 0 } });
    const token = await login(gateway.url);
    const fuzz = createFuzz(SEED);
    const request = (body: string): string =>
      `POST /api/chat?x=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\n` +
      `Cookie: nexus=${token}\r\nX-Forwarded-For: 1.2.3.4\r\nLast-Event-ID: 1:2\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
    const statuses = new Set<string>();
    const once = async (): Promise<void> => {
      const text = fuzz.damage(request(fuzz.body().slice(0, 2_000)));
      const socket = await Bun.connect({
        hostname: "127.0.0.1",
        port: gateway.port,
        socket: { data: (_, data) => void statuses.add(data.toString("latin1", 9, 12)), error: () => {} },
      });
      socket.write(Buffer.from(text, "latin1"));
      await Bun.sleep(20);
      socket.terminate();
    };
    for (let i = 0; i < 400; i += 50) await Promise.all(Array.from({ length: 50 }, once));
    expect(gateway.logs.filter(({ level }) => level === "error")).toEqual([]);
    // 503: no bot is online; 505: Bun's, to a version of HTTP that is none.
    expect([...statuses].filter((status) => /^5(?!0[35])/.test(status))).toEqual([]);
    expect(statuses.size).toBeGreaterThan(1);
    expect((await fetch(`${gateway.url}/health`)).status).toBe(200);
    await gateway.stop();
  }, 20_000);

  test("damaged frames are refused by name or ignored; the bot may stay as long as it may, and others do not notice", async () => {
    const gateway = await startGateway({ limits: { connectionsPerAddress: 0 } });
    const fuzz = createFuzz(SEED);
    for (let round = 0; round < 40; round++) {
      const bot = await wireBot(gateway.port, { botId: `fuzz${round % 4}`, proto: 2, token: BOT_TOKEN });
      for (let i = 0; i < 25 && !bot.closed(); i++) bot.send(fuzz.frame().slice(0, 5_000));
      await Bun.sleep(5);
      bot.cut();
    }
    const faults = gateway.logs.filter(({ level }) => level === "error");
    expect(faults).toEqual([]);
    expect((await fetch(`${gateway.url}/health`)).status).toBe(200);
    await gateway.stop();
  }, 20_000);
});
