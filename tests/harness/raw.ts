/** HTTP by hand, for what a client library will not send or will not stop reading: both length framings, a paused reader. */
import { connect, type Socket } from "node:net";
import { sseParser } from "./sse.ts";
import { within } from "./wait.ts";

export type RawRequest = {
  token?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array;
  /** How the length of the body is told. Default: Content-Length. */
  framing?: "length" | "chunked";
};

const CHUNK = 30_000;

const headOf = (port: number, method: string, path: string, request: RawRequest, length: number): string => {
  const { token, headers = {}, framing = "length", body } = request;
  const lines = [`${method} ${path} HTTP/1.1`, `Host: 127.0.0.1:${port}`];
  if (token !== undefined) lines.push(`Authorization: Bearer ${token}`);
  if (body !== undefined) {
    if (headers["Content-Type"] === undefined) lines.push("Content-Type: application/json");
    lines.push(framing === "chunked" ? "Transfer-Encoding: chunked" : `Content-Length: ${length}`);
  }
  for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`);
  return `${lines.join("\r\n")}\r\n\r\n`;
};

const open = (port: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => resolve(socket));
    socket.once("error", reject);
  });

const framed = (body: Buffer, framing: RawRequest["framing"]): Buffer[] => {
  if (framing !== "chunked") return [body];
  const pieces: Buffer[] = [];
  for (let at = 0; at < body.length; at += CHUNK) {
    const piece = body.subarray(at, at + CHUNK);
    pieces.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from("\r\n"));
  }
  return [...pieces, Buffer.from("0\r\n\r\n")];
};

/** One request on a socket of its own, read to its end. Throws when no answer came within 10 s. */
export const rawHttp = async (
  port: number,
  method: string,
  path: string,
  request: RawRequest = {},
): Promise<{ status: number; head: string; body: string }> => {
  const socket = await open(port);
  const pieces: Buffer[] = [];
  const ended = new Promise<void>((resolve) => {
    socket.on("data", (data) => pieces.push(Buffer.from(data)));
    socket.on("close", () => resolve());
    socket.on("error", () => resolve()); // a refused body may be answered by a reset after the answer
  });
  const body = Buffer.from(request.body ?? "");
  socket.write(
    headOf(port, method, path, { ...request, headers: { ...request.headers, Connection: "close" } }, body.length),
  );
  for (const piece of framed(body, request.framing))
    if (request.body !== undefined && !socket.destroyed) socket.write(piece);
  await within(ended, 10_000, `the answer to ${method} ${path}`);
  const text = Buffer.concat(pieces).toString();
  const at = text.indexOf("\r\n\r\n");
  return { status: Number(text.slice(9, 12)), head: text.slice(0, at), body: text.slice(at + 4) };
};

/** Takes the head and the chunk sizes away: calls back with the text of the body as it comes. */
const bodyReader = (onText: (text: string) => void) => {
  const decoder = new TextDecoder();
  let rest: Buffer = Buffer.alloc(0);
  let state: "head" | "size" | "data" = "head";
  let left = 0;
  let ended = false;
  const line = (mark: string): string | undefined => {
    const at = rest.indexOf(mark);
    if (at < 0) return undefined;
    const text = rest.toString("latin1", 0, at);
    rest = rest.subarray(at + mark.length);
    return text;
  };
  const step = (): boolean => {
    if (state === "head") {
      if (line("\r\n\r\n") === undefined) return false;
      state = "size";
      return true;
    }
    if (state === "size") {
      const size = line("\r\n");
      if (size === undefined) return false;
      if (size === "") return true; // the end of the chunk before
      left = Number.parseInt(size, 16);
      ended = left === 0;
      state = "data";
      return !ended;
    }
    if (rest.length === 0) return false;
    const piece = rest.subarray(0, left);
    rest = rest.subarray(piece.length);
    left -= piece.length;
    onText(decoder.decode(piece, { stream: true }));
    if (left === 0) state = "size";
    return true;
  };
  return {
    push: (data: Buffer): void => {
      rest = rest.length === 0 ? data : Buffer.concat([rest, data]);
      while (step());
    },
    ended: () => ended,
  };
};

/** A GET of server-sent events whose reader can stop: nothing is taken from the socket while it is paused. */
export const rawEvents = async <T>(port: number, path: string, request: RawRequest = {}) => {
  const socket = await open(port);
  const events: { id: string; data: T }[] = [];
  const parser = sseParser({ event: ({ id, text }) => events.push({ id, data: JSON.parse(text) as T }) });
  const body = bodyReader((text) => parser.push(text));
  const { promise: ended, resolve } = Promise.withResolvers<"end" | "cut">();
  socket.on("data", (data) => body.push(Buffer.from(data)));
  socket.on("close", () => resolve(body.ended() ? "end" : "cut"));
  socket.on("error", () => resolve("cut"));
  socket.write(headOf(port, "GET", path, { ...request, headers: { ...request.headers, Connection: "close" } }, 0));
  return {
    /** Every event that came whole. */
    events,
    ended,
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    close: () => socket.destroy(),
  };
};
