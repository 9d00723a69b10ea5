/** The harness's own reader of SSE: the one helper clever enough to be wrong. */
import { expect, test } from "bun:test";
import { sseParser } from "./harness/sse.ts";

const TEXT =
  "\uFEFF: hello\r\nretry: 1500\nid: 1:2\ndata: one\r\n\r\ndata:two\rdata:  three\r\revent: x\ndata\n\nid: 9\n\ndata: last\n\ndata: unfinished\n";

const EXPECTED = [
  { id: "1:2", event: "message", text: "one" },
  { id: "1:2", event: "message", text: "two\n three" },
  { id: "1:2", event: "x", text: "" },
  { id: "9", event: "message", text: "last" },
];

const read = (pieces: string[]) => {
  const events: object[] = [];
  const comments: string[] = [];
  const retries: number[] = [];
  const parser = sseParser({
    event: (item) => events.push(item),
    comment: (text) => comments.push(text),
    retry: (ms) => retries.push(ms),
  });
  for (const piece of pieces) parser.push(piece);
  return { events, comments, retries };
};

test("the SSE reader gives the same events wherever the text is cut in two or three", () => {
  for (let a = 0; a <= TEXT.length; a++)
    for (let b = a; b <= TEXT.length; b++) {
      const got = read([TEXT.slice(0, a), TEXT.slice(a, b), TEXT.slice(b)]);
      expect(got).toEqual({ events: EXPECTED, comments: ["hello"], retries: [1500] });
    }
});
