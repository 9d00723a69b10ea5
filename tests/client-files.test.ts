/** The bot client's files both ways, its proactive messages, and what bounds its memory. */
import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { createServer, type Socket } from "node:net";
import { connectBot, fromBase64, toBase64 } from "../plugin/client.ts";
import { createPair, until } from "./openclaw/pair.ts";

const { after, gatewayFor, botFor, online } = createPair();

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
        if (i % 10 === 0) await Bun.sleep(1); // over before it is back, also on a busy machine
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
  after(() => {
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
  after(() => server.close());
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
  after(() => bot.close());
  await until("the socket to be full", () => (sockets[0]?.bufferedAmount ?? 0) > 1024 * 1024);
  await Bun.sleep(200);
  expect(sockets[0]?.bufferedAmount).toBeLessThan(2 * 1024 * 1024);
  paused?.on("data", (bytes) => {
    received += bytes.length;
  });
  paused?.resume();
  await until("all of it", () => received > total);
});

test("base64 is exact for every length and byte", () => {
  for (const length of [0, 1, 2, 3, 255, 32_767, 32_768, 32_769, 100_001]) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 31) & 255);
    expect(toBase64(bytes)).toBe(Buffer.from(bytes).toString("base64"));
    expect(fromBase64(toBase64(bytes))).toEqual(bytes);
  }
});
