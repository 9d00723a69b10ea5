/**
 * A bot socket at the level of bytes, for what a WebSocket of the platform does not let us do: stop reading, send half a
 * frame, keep half a connection. Understands just enough of RFC 6455 for what a gateway sends.
 */
import { BOT_TOKEN } from "./config.ts";
import { until } from "./wait.ts";

export type WireBot = {
  /** Every text frame that arrived whole. */
  texts: string[];
  /** The close frame, once it came. */
  closed: () => { code: number; reason: string } | undefined;
  /** The TCP connection is over, with or without a close frame. */
  over: () => boolean;
  bytesIn: () => number;
  send: (frame: object | string) => void;
  sendBinary: (bytes: Uint8Array) => void;
  /** As it is, without framing. */
  write: (bytes: Uint8Array | string) => void;
  pause: () => void;
  resume: () => void;
  /** Ends the TCP connection at once. */
  cut: () => void;
};

const frame = (opcode: number, payload: Uint8Array): Uint8Array => {
  const size = payload.length;
  const head = size < 126 ? 2 : size < 65536 ? 4 : 10;
  const out = new Uint8Array(head + 4 + size); // the mask is zero, so the payload stands as it is
  out[0] = 0x80 | opcode;
  out[1] = 0x80 | (size < 126 ? size : size < 65536 ? 126 : 127);
  const view = new DataView(out.buffer);
  if (head === 4) view.setUint16(2, size);
  if (head === 10) view.setBigUint64(2, BigInt(size));
  out.set(payload, head + 4);
  return out;
};

/** Text frame as bytes, for sending a part of it. */
export const textFrame = (json: object): Uint8Array => frame(1, Buffer.from(JSON.stringify(json)));

/** Opens `/bot-ws` and upgrades; with `register` it also registers and waits until that was answered. */
export const wireBot = async (port: number, register?: object): Promise<WireBot> => {
  const texts: string[] = [];
  let buffer = Buffer.alloc(0);
  let parts: Uint8Array[] = [];
  let upgraded = false;
  let bytesIn = 0;
  let over = false;
  let closed: { code: number; reason: string } | undefined;

  const take = (): boolean => {
    if (!upgraded) {
      const end = buffer.indexOf("\r\n\r\n");
      if (end < 0) return false;
      if (!buffer.toString("latin1", 0, 12).endsWith("101")) throw new Error(buffer.toString("latin1", 0, 200));
      upgraded = true;
      buffer = buffer.subarray(end + 4);
      return true;
    }
    if (buffer.length < 2) return false;
    const short = buffer[1]! & 127;
    const head = short < 126 ? 2 : short === 126 ? 4 : 10;
    if (buffer.length < head) return false;
    const size = short < 126 ? short : short === 126 ? buffer.readUInt16BE(2) : Number(buffer.readBigUInt64BE(2));
    if (buffer.length < head + size) return false;
    const payload = buffer.subarray(head, head + size);
    const opcode = buffer[0]! & 15;
    if (opcode === 1) texts.push(payload.toString("utf8"));
    if (opcode === 8) closed = { code: payload.readUInt16BE(0), reason: payload.toString("utf8", 2) };
    buffer = buffer.subarray(head + size);
    return true;
  };

  let waiting: Uint8Array[] = [];
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    allowHalfOpen: true,
    socket: {
      data: (_, bytes) => {
        bytesIn += bytes.length;
        parts.push(new Uint8Array(bytes));
        // Joined once per read and not per frame: frames of megabytes come in pieces of 64 KiB.
        buffer = Buffer.concat([buffer, ...parts]);
        parts = [];
        while (take());
      },
      drain: () => {
        const rest = waiting;
        waiting = [];
        for (const bytes of rest) write(bytes);
      },
      end: () => {
        over = true;
      },
      close: () => {
        over = true;
      },
      error: () => {
        over = true;
      },
    },
  });
  const write = (bytes: Uint8Array): void => {
    if (waiting.length > 0) return void waiting.push(bytes);
    const sent = socket.write(bytes);
    if (sent < bytes.length) waiting.push(bytes.subarray(Math.max(sent, 0)));
  };

  const bot: WireBot = {
    texts,
    closed: () => closed,
    over: () => over,
    bytesIn: () => bytesIn,
    send: (one) => write(frame(1, Buffer.from(typeof one === "string" ? one : JSON.stringify(one)))),
    sendBinary: (bytes) => write(frame(2, bytes)),
    write: (bytes) => write(typeof bytes === "string" ? Buffer.from(bytes) : bytes),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    cut: () => socket.terminate(),
  };
  bot.write(
    `GET /bot-ws HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
  );
  await until(() => upgraded, 5000, "the upgrade");
  if (register) {
    bot.send({ type: "register", token: BOT_TOKEN, ...register });
    await until(() => texts.some((text) => text.includes('"registered"')), 5000, "registered");
  }
  return bot;
};
