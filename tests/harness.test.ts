/** The two helpers of the test tooling that are clever enough to be wrong: the reader of SSE, the counting of results. */
import { expect, test } from "bun:test";
import { tally } from "./harness/junit.ts";
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

const REPORT = `<testsuites tests="4"><testsuite name="tests/a.test.ts">
  <testcase name="good &lt;b&gt;" classname="" file="tests/a.test.ts" />
  <testcase name="bad" classname="d" file="tests/a.test.ts"><failure message="x">&lt;skipped</failure></testcase>
  <testcase name="later" classname="" file="tests/a.test.ts"><skipped message="TODO" /></testcase>
  <testcase name="good too" classname="" file="tests/b.test.ts" ></testcase>
</testsuite></testsuites>`;

test("the count of results takes failed and skipped tests, and files that ran nothing, as failed", () => {
  const got = tally(REPORT, ["tests/a.test.ts", "tests/b.test.ts", "tests/c.test.ts"], 1);
  expect(got).toEqual({
    passed: 2,
    failed: 3,
    faults: ["tests/a.test.ts: d > bad", "tests/a.test.ts: later (skipped)", "tests/c.test.ts: ran no test"],
  });
});

test("a runner that leaves no report, runs nothing or ends badly is a failure", () => {
  expect(tally("", [], 0).failed).toBe(1);
  expect(tally("", ["tests/a.test.ts"], 0).failed).toBe(1);
  const good = '<testcase name="x" file="tests/a.test.ts" />';
  expect(tally(good, ["tests/a.test.ts"], 0)).toEqual({ passed: 1, failed: 0, faults: [] });
  expect(tally(good, ["tests/a.test.ts"], 134).failed).toBe(1);
});
