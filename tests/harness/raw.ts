/** HTTP by hand, for what a client library will not send or will not stop reading: both length framings, a paused reader. */
import { connect, type Socket } from "node:net";
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

/** A GET whose reader can stop: `read` is what came so far; nothing more is taken from the socket while it is paused. */
export const rawStream = async (port: number, path: string, request: RawRequest = {}) => {
  const socket = await open(port);
  let text = "";
  let over: "end" | "cut" | undefined;
  const ended = new Promise<"end" | "cut">((resolve) => {
    const finish = (how: "end" | "cut") => {
      over ??= how;
      resolve(over);
    };
    socket.on("end", () => finish(text.endsWith("0\r\n\r\n") ? "end" : "cut"));
    socket.on("error", () => finish("cut"));
    socket.on("close", () => finish("cut"));
  });
  socket.on("data", (data) => {
    text += data.toString();
  });
  socket.write(headOf(port, "GET", path, request, 0));
  return {
    read: () => text,
    over: () => over,
    ended,
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    close: () => socket.destroy(),
  };
};
