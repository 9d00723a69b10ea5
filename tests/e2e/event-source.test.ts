/** The streams read by the browser's own EventSource, which knows only what the HTML standard says (P3). */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { bot, type Browser, DESK, type Gateway, gateway, launch, PASSWORD, type Turn } from "./rig.ts";
import { api, login } from "../harness.ts";

const LONG = `${"长 line 🙂 ".repeat(100_000).slice(0, 1024 * 1024 - 2)}\n.`;
/** Every line end, nothing, what looks like the framing itself, and lines of a megabyte. */
const TEXTS = [
  "a\rb\r\nc\nd\n\ne\r\r\nf",
  "",
  "\n",
  "\r",
  "data: x\n\nid: 9:9\nevent: end\nretry: 1\n: comment\n\n",
  "\u2028\u2029\u0085\ufeff\u0000\t\b",
  LONG,
];

let browser: Browser;
let gate: Gateway;
const ends: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  gate = await gateway();
  const say = async (turn: Turn): Promise<void> => {
    const text = TEXTS[Number(turn.text)]!;
    for (let at = 0; at < text.length; at += 200_000) {
      turn.write(text.slice(at, at + 200_000));
      await Bun.sleep(20);
    }
  };
  const made = await bot(gate, "helper", say);
  ends.push(() => made.close());
  browser = await launch();
});
afterAll(async () => {
  await browser?.close();
  for (const end of ends) await end();
  await gate?.stop();
});

/** Runs in the page: reads a turn to its end, coming back by itself like any EventSource. */
const READ = `(path) => new Promise((resolve, reject) => {
  const source = new EventSource(path);
  let text = "", events = 0, ids = [];
  source.onmessage = ({ data, lastEventId }) => {
    const said = JSON.parse(data);
    events++;
    if (lastEventId) ids.push(lastEventId);
    if (said.type === "chunk") text += said.content;
    if (said.type === "replace") text = said.content;
    if (said.type === "end" || said.type === "error") { source.close(); resolve({ text, events, end: said, id: ids.at(-1) }); }
  };
  setTimeout(() => { source.close(); reject(new Error("no end; " + events + " events, " + text.length + " characters")); }, 20000);
})`;

test("any text arrives to the letter, live and replayed: line ends, nothing, words of the framing, lines of 1 MiB (P3)", async () => {
  const context = await browser.newContext(DESK);
  const page = await context.newPage();
  await page.goto(gate.url);
  const token = await login(gate.url);
  await page.evaluate(`fetch("/api/login", { method: "POST", headers: { "content-type": "application/json" },
    body: JSON.stringify({ username: "admin", password: ${JSON.stringify(PASSWORD)} }) }).then((r) => r.json())`);
  const call = api(gate.url, token);
  for (const [n, text] of TEXTS.entries()) {
    const conversation = (await call<{ id: string }>("POST", "/api/conversations", {})).body.id;
    const sent = await call<{ turnId: string }>("POST", `/api/conversations/${conversation}/messages`, {
      clientId: crypto.randomUUID(),
      content: `${n}`,
    });
    const path = `/api/turns/${sent.body.turnId}/stream`;
    for (const how of ["live", "replayed"]) {
      const got = (await page.evaluate(`(${READ})(${JSON.stringify(path)})`)) as {
        text: string;
        end: { type: string; finish: string };
        id: string;
      };
      expect([how, n, got.text.length, got.text === text]).toEqual([how, n, text.length, true]);
      expect(got.end).toEqual({ type: "end", finish: "stop" });
      expect(got.id).toBe(`0:${text.length}`);
    }
  }
  await context.close();
});
