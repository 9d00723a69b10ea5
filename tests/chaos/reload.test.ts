/** config.json is edited again and again, well and badly, while people chat: nobody who is still allowed notices. */
import { expect, test } from "bun:test";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { api, BOT_TOKEN, login, PASSWORD, readSse, startProcess, testConfig, until, v2Bot } from "../harness.ts";
import type { Said } from "../harness/rig.ts";

const SECONDS = 6;
const PEOPLE = 20;

test("config reloads under load: every message is answered, nobody is dropped, broken files change nothing, who is removed is out", async () => {
  const users = (testConfig() as { users: Record<string, { password: string }> }).users;
  const names = Array.from({ length: PEOPLE }, (_, i) => `p${i}`);
  // Plain passwords, so that twenty sign-ins are quick.
  const people = Object.fromEntries(names.map((name) => [name, { password: PASSWORD }]));
  const limits = { sendsPerMinute: 0 };
  const config = { ...testConfig(), users: { ...users, ...people }, limits };
  const run = await startProcess({ config });
  try {
    const path = join(run.cwd, "config.json");
    const applied = (): number => run.stdout().split('"event":"config_applied"').length - 1;
    const bots = await Promise.all(
      ["a", "b"].map((botId) => v2Bot(run.wsUrl, { register: { botId, token: BOT_TOKEN } })),
    );
    const calls: ReturnType<typeof api>[] = [];
    for (const name of names) calls.push(api(run.url, await login(run.url, name))); // more than 18 at once are told to wait
    const readers = await Promise.all(calls.map(async (call) => readSse<Said>(await call.stream("/api/events"))));
    let going = true;
    let answered = 0;
    const wrong: string[] = [];
    const chat = async (call: (typeof calls)[number], i: number): Promise<void> => {
      for (let n = 0; going; n++) {
        const message = `p${i} ${n}`;
        const { status, text, body } = await call<{ content: string }>("POST", "/api/chat", { message });
        if (status !== 200 || body.content !== `echo: ${message}`) wrong.push(`${message}: ${status} ${text}`);
        else answered++;
      }
    };
    const chats = Promise.all(calls.map(chat));

    const began = performance.now();
    let edits = 0;
    const write = async (text: string): Promise<void> => {
      // In place and by a rename, as editors do it.
      if (edits++ % 2) await writeFile(path, text);
      else {
        await writeFile(`${path}.new`, text);
        await rename(`${path}.new`, path);
      }
    };
    while (performance.now() - began < SECONDS * 1000) {
      const extra = { [`guest${edits}`]: { password: PASSWORD } };
      const next = { ...config, users: { ...config.users, ...extra }, language: edits % 2 ? "en" : "zh" };
      const good = JSON.stringify({ ...next, port: run.port });
      const bad = [good.slice(0, 200), JSON.stringify({ ...next, port: "x" }), "", '{"users": []}'];
      await write(edits % 3 === 2 ? bad[edits % bad.length]! : good);
      await Bun.sleep(60);
    }
    // The last word: one of them is gone.
    const { p0: _, ...left } = config.users as Record<string, object>;
    const before = applied();
    await write(JSON.stringify({ ...config, port: run.port, users: left }));
    await until(() => applied() > before, 5_000, "the last config");
    const ended = performance.now();
    expect(await readers[0]!.ended).toBeOneOf(["end", "cut"]);
    expect(performance.now() - ended).toBeLessThan(1_000);
    going = false;
    await chats;
    const others = wrong.filter((line) => !line.startsWith("p0 "));
    expect(others).toEqual([]);
    expect(wrong.every((line) => line.includes("401") || line.includes("unauthorized"))).toBe(true);
    expect(calls.length * 5).toBeLessThan(answered);
    expect(applied()).toBeGreaterThan(10);
    expect(run.stdout()).toContain('"event":"config_refused"');
    for (const bot of bots) expect(bot.ws.readyState).toBe(WebSocket.OPEN);
    // The streams of everybody else are the ones from the beginning.
    await calls[1]!("POST", "/api/conversations", { title: "still here" });
    await readers[1]!.find((event) => JSON.stringify(event).includes("still here"));
    expect((await calls[0]!("GET", "/api/me")).status).toBe(401);
    expect(JSON.parse(await readFile(path, "utf8")).users.p0).toBeUndefined();
    console.log(`${edits} edits, ${applied()} applied, ${answered} chats answered meanwhile`);
    for (const reader of readers.slice(1)) await reader.leave();
    for (const bot of bots) await bot.close();
  } finally {
    await run.stop();
  }
}, 60_000);
