/**
 * The disk and the process fail for real: a full disk and a folder that cannot be written (F3), kill -9 at any moment (D1).
 *
 * Linux: the small disk is a tmpfs in a mount namespace of the gateway's own, reached from here through /proc, gone with it.
 */
import { expect, test } from "bun:test";
import { chmodSync, chownSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { api, BOT_TOKEN, ROOT, startProcess, tempDir, until, v2Bot, within, type RunningProcess } from "../harness.ts";
import { upload } from "../harness/files.ts";
import { person, type Person } from "../harness/person.ts";
import { messagesOf } from "./storm.ts";

/** What stands in a conversation and is not being written, oldest first. */
const contentsOf = async (url: string, admin: Person, id: string): Promise<string[]> =>
  (await messagesOf(url, admin.token, id)).filter(({ state }) => state !== "streaming").map(({ content }) => content);

const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;
const SERVER = [process.execPath, join(ROOT, "server.ts")];

/** A gateway whose data lie on a disk of `size`. */
const onSmallDisk = async (
  size: string,
): Promise<{ run: RunningProcess; disk: string; remove: () => Promise<void> }> => {
  const folder = await tempDir("full");
  const data = join(folder.path, "disk");
  const mount = `mkdir -p ${data} && mount -t tmpfs -o size=${size} none ${data} && exec ${SERVER.join(" ")}`;
  // Who is not root becomes it in a user namespace, which is enough to mount a tmpfs there.
  const unshare = isRoot ? ["unshare", "--mount"] : ["unshare", "--user", "--map-root-user", "--mount"];
  const run = await startProcess({
    run: [...unshare, "sh", "-c", mount],
    cwd: join(folder.path, "home"),
    config: { dataDir: data, language: "en", limits: { sendsPerMinute: 0, turnsPerUser: 0 } },
  });
  const remove = async () => {
    await run.stop();
    await folder.remove();
  };
  return { run, disk: `/proc/${run.pid}/root${data}`, remove };
};

test("a full disk: storage_failed, no crash, nothing accepted that is not stored; all is well when there is room again (F3)", async () => {
  // What is freed below must hold the whole write-ahead log once more, or the database cannot be folded into its file.
  const { run, disk, remove } = await onSmallDisk("46m");
  try {
    const bot = await v2Bot(run.wsUrl, { register: { token: BOT_TOKEN } });
    const admin = await person(run.url);
    const id = await admin.conversation();
    const ballast = join(disk, "ballast");
    writeFileSync(ballast, Buffer.alloc(40_000_000));

    const accepted = new Map<string, string>();
    const refused: string[] = [];
    const send = async (content: string): Promise<number> => {
      const answer = await admin.send(id, content);
      if (answer.status === 202) accepted.set(answer.body.turnId, content);
      else {
        refused.push(content);
        expect([answer.status, (answer.body as unknown as { code: string }).code]).toEqual([503, "storage_failed"]);
      }
      return answer.status;
    };
    let failures = 0;
    for (let i = 0; i < 3000 && failures < 20; i++)
      if ((await send(`before ${i} ${"x".repeat(2000)}`)) !== 202) failures++;
    expect(failures).toBe(20);
    expect(accepted.size).toBeGreaterThan(50);
    expect((await upload(admin, Buffer.alloc(300_000, "y"))).status).toBe(503);
    // What needs little may still fit into the log the database has already; what does not fit is refused by name.
    const small: [path: string, body: object, good: number][] = [
      ["/api/keys", { name: "k" }, 201],
      ["/api/login", { username: "admin", password: "correct horse" }, 200],
      ["/api/chat", { message: "sync ".repeat(10_000) }, 200],
      ["/api/chat/stream", { message: "stream ".repeat(10_000) }, 200],
    ];
    // Not awaited yet: a question that was stored waits for room for its answer.
    const asked = small.map(async ([path, body, good]) => {
      const { status, text } = await admin.call("POST", path, body);
      expect(`${path} ${status}`).toBe(`${path} ${status === good ? good : 503}`);
      if (status === 503) expect(text).toContain("storage_failed");
    });
    await Bun.sleep(100);
    expect((await fetch(`${run.url}/health`)).status).toBe(200);
    expect((await admin.call("GET", "/api/me")).status).toBe(200);

    rmSync(ballast);
    await until(async () => (await send(`after ${"x".repeat(100)}`)) === 202, 10_000, "a send to be stored again");
    await within(Promise.all(asked), 15_000, "the answers that waited for room");
    // Ends that could not be stored are, within their retry; a question that was refused was never asked.
    const wanted = [...accepted.values()].flatMap((content) => [content, `echo: ${content}`]).sort();
    const stored = await until(
      async () => {
        const all = await contentsOf(run.url, admin, id);
        return all.length >= wanted.length && all;
      },
      15_000,
      "every answer to be stored",
    );
    expect(stored.toSorted()).toEqual(wanted);
    for (const content of refused) expect(stored).not.toContain(content);
    expect((await upload(admin, Buffer.alloc(30_000, "y"))).status).toBe(201);
    await bot.close();
    run.kill("SIGTERM");
    expect(await within(run.exited, 10_000, "a clean stop")).toBe(0);
    expect(run.stdout()).toContain("storage_failed");
  } finally {
    await remove();
  }
}, 60_000);

test("a folder that cannot be written, as somebody who is not root: one sentence, exit 1, the file as it was (F3)", async () => {
  const folder = await tempDir("readonly");
  const data = join(folder.path, "data");
  const first = await startProcess({ cwd: folder.path, config: { dataDir: data, language: "en" } });
  await person(first.url).then((admin) => admin.conversation({ title: "kept" }));
  first.kill("SIGTERM");
  await first.exited;
  const file = join(data, "nexus.db");
  const before = readFileSync(file);
  chmodSync(folder.path, 0o755);
  chmodSync(data, 0o555);
  chmodSync(join(folder.path, "config.json"), 0o644);
  chmodSync(file, 0o444);
  if (isRoot) for (const path of [data, file]) chownSync(path, NOBODY, NOBODY);
  const asNobody = isRoot ? ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"] : [];
  try {
    const run = await startProcess({ cwd: folder.path, run: [...asNobody, ...SERVER], config: null, wait: false });
    expect(await within(run.exited, 10_000, "the refusal")).toBe(1);
    expect(run.stderr()).toContain(data);
    expect(run.stderr()).toMatch(/Cannot write|permission/i);
    expect(run.stderr()).not.toContain("damaged");
    expect(run.stderr()).not.toMatch(/\n\s+at /);
    expect(readFileSync(file).equals(before)).toBe(true);
  } finally {
    chmodSync(data, 0o755);
    await first.stop();
    await folder.remove();
  }
}, 20_000);

/** A seeded generator, so that a failing run can be repeated: NEXUS_SEED=n. */
const random = (seed: number) => (): number => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
};

const ROUNDS = 200;

test(`kill -9 at any moment, ${ROUNDS} times: every accepted message is in the history, none twice (D1)`, async () => {
  const seed = Number(process.env.NEXUS_SEED ?? Date.now() % 1_000_000);
  console.log(`seed ${seed}`);
  const next = random(seed);
  const folder = await tempDir("kill");
  const data = join(folder.path, "data");
  const config = {
    dataDir: data,
    limits: { sendsPerMinute: 0, turnsPerUser: 0, streamsPerUser: 0 },
    sessionTTL: 86_400_000,
  };
  const accepted = new Map<string, Set<string>>();
  /** Answers a caller was shown whole: `POST /api/chat` came back with 200. */
  const shown = new Map<string, Set<string>>();
  /** Sent, and cut before an answer came: may be there or not, but once. */
  const unknown: { clientId: string; content: string; conversation: string }[] = [];
  let token = "";

  const check = async (url: string, admin: Person, id: string): Promise<void> => {
    const stored = await contentsOf(url, admin, id);
    const missing = [...(accepted.get(id) ?? []), ...(shown.get(id) ?? [])].filter(
      (content) => !stored.includes(content),
    );
    const questions = stored.filter((content) => !content.startsWith("echo: "));
    const twice = questions.filter((content, i) => questions.indexOf(content) !== i);
    if (missing.length + twice.length > 0)
      throw new Error(`seed ${seed}, ${id}: missing ${missing.join(" | ")}; twice ${twice.join(" | ")}`);
  };

  let conversation = "";
  let sent = 0;
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const run = await startProcess({ cwd: folder.path, config });
      const admin = token === "" ? await person(run.url) : await personWith(run.url, token);
      token = admin.token;
      if (conversation !== "") await check(run.url, admin, conversation);
      // What was cut is sent again, as a page would: the same clientId is the same message.
      for (const { clientId, content, conversation: id } of unknown.splice(0)) {
        const again = await admin.send(id, content, { clientId });
        if (again.status === 202) accepted.get(id)!.add(content);
        await check(run.url, admin, id);
      }
      conversation = await admin.conversation();
      accepted.set(conversation, new Set());
      shown.set(conversation, new Set());
      const bot = await v2Bot(run.wsUrl, { register: { token: BOT_TOKEN } });
      let killed = false;
      const id = conversation;
      const senders = Array.from({ length: 4 }, async (_, sender) => {
        for (let i = 0; !killed; i++) {
          const content = `r${round} s${sender} m${i}`;
          const clientId = crypto.randomUUID();
          sent++;
          try {
            if (sender === 0) {
              const answer = await admin.call("POST", "/api/chat", { message: content, conversationId: id });
              if (answer.status !== 200) continue;
              accepted.get(id)!.add(content);
              shown.get(id)!.add(`echo: ${content}`);
            } else if ((await admin.send(id, content, { clientId })).status === 202) accepted.get(id)!.add(content);
          } catch {
            if (sender > 0) unknown.push({ clientId, content, conversation: id });
            return;
          }
        }
      });
      await Bun.sleep(next() * 60);
      run.kill("SIGKILL");
      killed = true;
      await run.exited;
      await Promise.all(senders);
      bot.cut();
      await run.stop();
    }
    const run = await startProcess({ cwd: folder.path, config });
    const admin = await personWith(run.url, token);
    for (const id of accepted.keys()) await check(run.url, admin, id);
    const total = [...accepted.values()].reduce((sum, set) => sum + set.size, 0);
    console.log(`${sent} sent, ${total} accepted, all there`);
    expect(total).toBeGreaterThan(ROUNDS);
    await run.stop();
  } finally {
    await folder.remove();
  }
}, 280_000);

/** Somebody who is signed in already: sessions survive the kill. */
const personWith = async (url: string, token: string): Promise<Person> => {
  const call = api(url, token);
  expect((await call("GET", "/api/me")).status).toBe(200);
  const made = await person(url);
  return { ...made, token, call };
};
