/**
 * JSON in which long ASCII texts stand: pictures as base64, megabytes of them beside a few words.
 *
 * The runtime keeps a text in one byte per character until a single one needs two, and then all of it takes two: 看图 beside
 * a picture made the whole body wide, and making a frame of it took 125 ms for 14 MB instead of 1 (docs/benchmarks.md). So a long
 * text is read and written by itself, and what is around it apart. What must stay true: `parseJson` gives what JSON.parse
 * would give of the same bytes, or throws where that throws.
 */
import { isAscii } from "node:buffer";

/** Shorter texts are not worth a second look. */
const LONG = 64 * 1024;
/** Quotes looked at before giving up: a body of nothing but short texts is read at once instead. */
const MOST_QUOTES = 10_000;
/** Values looked at to put the texts back: some milliseconds. A body with more is parsed once more, as a whole. */
const MOST_VALUES = 100_000;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Stands for the n-th long text while the rest is parsed. Nobody can send it: it is made anew for each body. */
const stand = (mark: string, n: number): string => `${mark}:${n}`;

const isEscaped = (bytes: Buffer, at: number): boolean => {
  let before = at;
  while (bytes[before - 1] === BACKSLASH) before--;
  return (at - before) % 2 === 1;
};

type Span = { from: number; to: number };

/** Where long ASCII texts stand, quotes included. Outside of texts JSON has no quotes, so they come in pairs from the front. */
const longTexts = (bytes: Buffer): Span[] => {
  const found: Span[] = [];
  let from = -1;
  let at = -1;
  for (let n = 0; n < MOST_QUOTES; n++) {
    at = bytes.indexOf(QUOTE, at + 1);
    if (at < 0) break;
    if (from < 0) from = at;
    else if (!isEscaped(bytes, at)) {
      const to = at + 1;
      if (to - from > LONG && isAscii(bytes.subarray(from, to))) found.push({ from, to });
      from = -1;
    }
  }
  return found;
};

type Node = Record<string | number, unknown>;

/**
 * Puts each text where its stand-in is. False when one was not found: it is a name, was overruled by a later one of the same
 * name, or there is too much to look at.
 */
const putBack = (holder: Node, texts: Map<string, unknown>): boolean => {
  let left = texts.size;
  let looks = MOST_VALUES;
  const nodes: Node[] = [holder];
  const look = (node: Node, key: string | number): boolean => {
    const value = node[key];
    if (typeof value === "object" && value !== null) nodes.push(value as Node);
    else if (typeof value === "string" && texts.has(value)) {
      node[key] = texts.get(value);
      left--;
    }
    return --looks > 0 && left > 0;
  };
  for (let node = nodes.pop(); node; node = nodes.pop())
    if (Array.isArray(node)) {
      for (let i = 0; i < node.length; i++) if (!look(node, i)) return left === 0;
    } else for (const key in node) if (Object.hasOwn(node, key) && !look(node, key)) return left === 0;
  return left === 0;
};

/** UTF-8 JSON, as `JSON.parse` of its text. Throws SyntaxError. */
export const parseJson = (body: Uint8Array<ArrayBuffer>): unknown => {
  const whole = (): unknown => JSON.parse(new TextDecoder().decode(body));
  if (body.length <= LONG) return whole();
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const spans = longTexts(bytes);
  if (spans.length === 0) return whole();
  const mark = crypto.randomUUID();
  const texts = new Map<string, unknown>();
  let rest = "";
  let done = 0;
  for (const { from, to } of spans) {
    const name = stand(mark, texts.size);
    texts.set(name, JSON.parse(bytes.toString("latin1", from, to)));
    // A byte order mark counts at the very beginning only.
    rest += `${new TextDecoder("utf-8", { ignoreBOM: done > 0 }).decode(bytes.subarray(done, from))}"${name}"`;
    done = to;
  }
  rest += new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(done));
  const holder = { body: JSON.parse(rest) as unknown };
  return putBack(holder, texts) ? holder.body : whole();
};

/** The same JSON in ASCII, every other character as `\uXXXX`; copied, because pieces of a wide text stay wide. */
const toAscii = (json: string): string =>
  Buffer.from(
    json.replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`),
    "latin1",
  ).toString("latin1");

/** The JSON of `head`, which has a field, with one more whose JSON is there already; ASCII where that is. */
export const jsonWith = (head: object, name: string, json: string): string =>
  `${toAscii(JSON.stringify(head)).slice(0, -1)},"${name}":${json}}`;

/** The same for a text, in one byte per character where that is ASCII. */
export const jsonWithText = (head: object, name: string, text: string): string =>
  jsonWith(head, name, JSON.stringify(text));
