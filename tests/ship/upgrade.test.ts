/**
 * Upgrades and backups with the binary: a store of the first schema, left by `kill -9` in the middle of an answer, is
 * started with today's program (F7); and the steps of docs/upgrade.md, in their order, bring a backup back.
 */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { chmod, mkdir, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { schemaOf, schemaOfVersion } from "../golden/make.ts";
import { v2Bot } from "../harness/bots.ts";
import { api, login, PASSWORD } from "../harness/client.ts";
import { BOT_TOKEN, testConfig } from "../harness/config.ts";
import { blocksOf } from "../harness/markdown.ts";
import { type ProcessOptions, type RunningProcess, ROOT, startProcess } from "../harness/process.ts";
import { tempDir, until, within } from "../harness/wait.ts";
import { own, sh, unpack, useIt } from "./kit.ts";

type Facts = {
  schema: number;
  token: string;
  key: string;
  conversationId: string;
  answered: { turnId: string; question: string; content: string };
  attachment: { id: string; text: string };
  open: {
    turnId: string;
    question: string;
    text: string;
    seq: number;
    bot: { botId: string; instanceId: string; session: string };
  };
  files: Record<string, string>;
};
type Listed = { messages: { id: string; content: string; state: string; attachments: { id: string }[] }[] };

let folder: Awaited<ReturnType<typeof tempDir>>;
let program: string[];
beforeAll(async () => {
  folder = await tempDir("upgrade");
  program = own ? [join(await unpack(own, folder.path), own.executable)] : [process.execPath, join(ROOT, "server.ts")];
}, 240_000);
afterAll(async () => {
  for (const running of started) await running.stop();
  await folder.remove();
});

/** Every gateway of this file, so that a test that fails half-way leaves none behind. */
const started: RunningProcess[] = [];
const start = async (options: ProcessOptions): Promise<RunningProcess> => {
  const running = await startProcess({ run: program, ...options });
  started.push(running);
  return running;
};

/** Of the README of 1.x. */
const OF_V1 = `{
  "port": 17392,
  "sessionTTL": 86400000,
  "pingInterval": 30000,
  "botTimeout": 90000,
  "botToken": "your-secret-token",
  "users": {
    "admin": {
      "password": "admin123",
      "displayName": "管理员"
    },
    "user1": {
      "password": "password1",
      "displayName": "用户1"
    }
  }
}
`;

const GOLDEN = join(ROOT, "tests/ship/golden");

/** A folder as the old version left it a moment ago: only the moments are moved to now, since everything ends one day. */
const restoreGolden = async (name: string): Promise<{ cwd: string; facts: Facts }> => {
  const facts: Facts = await Bun.file(join(GOLDEN, `${name}.json`)).json();
  const cwd = join(folder.path, name);
  const data = join(cwd, "data");
  await mkdir(data, { recursive: true });
  const packed = await Bun.file(join(GOLDEN, `${name}.db.gz`)).bytes();
  await Bun.write(join(data, "nexus.db"), Bun.gunzipSync(packed), { mode: 0o600 });
  for (const [path, text] of Object.entries(facts.files)) {
    await mkdir(dirname(join(data, "files", path)), { recursive: true });
    await Bun.write(join(data, "files", path), text);
  }
  const db = new Database(join(data, "nexus.db"));
  db.query("UPDATE turns SET created_at = ? WHERE ended_at IS NULL").run(Date.now() - 5_000);
  db.query("UPDATE sessions SET expires_at = ?").run(Date.now() + 3_600_000);
  db.close();
  await Bun.write(join(cwd, "config.json"), JSON.stringify(testConfig()), { mode: 0o600 });
  return { cwd, facts };
};

const versionOf = (cwd: string): number => {
  const db = new Database(join(cwd, "data", "nexus.db"), { readonly: true });
  const { user_version } = db.query("PRAGMA user_version").get() as { user_version: number };
  db.close();
  return user_version;
};

const stop = async (running: RunningProcess): Promise<void> => {
  running.kill("SIGTERM");
  expect(await within(running.exited, 30_000, "the exit")).toBe(0);
  await running.stop();
};

describe("upgrading", () => {
  test("the old store has the schema that its entry of MIGRATIONS still makes: a released one never changes", async () => {
    const { schema }: Facts = await Bun.file(join(GOLDEN, "schema-1.json")).json();
    const file = join(folder.path, "as-it-was.db");
    await Bun.write(file, Bun.gunzipSync(await Bun.file(join(GOLDEN, "schema-1.db.gz")).bytes()));
    const db = new Database(file, { readonly: true });
    expect(schemaOf(db)).toEqual(schemaOfVersion(schema));
    db.close();
  });

  test("a store of schema 1 is migrated; sessions, keys, files and conversations stay, and an open answer goes on", async () => {
    const { cwd, facts } = await restoreGolden("schema-1");
    expect(versionOf(cwd)).toBe(facts.schema);
    const running = await start({ cwd });
    try {
      const call = api(running.url, facts.token);
      expect((await call("GET", "/api/me")).status).toBe(200);
      expect((await api(running.url, facts.key)("GET", "/api/bots")).status).toBe(200);
      expect((await call("GET", `/api/attachments/${facts.attachment.id}`)).text).toBe(facts.attachment.text);
      const path = `/api/conversations/${facts.conversationId}/messages`;
      const messages = async () => (await call<Listed>("GET", path)).body.messages;
      const before = await messages();
      expect(before.map(({ content, state }) => `${state}: ${content}`)).toEqual([
        `sent: ${facts.answered.question}`,
        `done: ${facts.answered.content}`,
        `sent: ${facts.open.question}`,
        `streaming: ${facts.open.text}`,
      ]);
      expect(before[2]?.attachments.map(({ id }) => id)).toEqual([facts.attachment.id]);

      const { botId, instanceId, session } = facts.open.bot;
      const seqs = new Map([[facts.open.turnId, facts.open.seq]]);
      const bot = await v2Bot(running.wsUrl, { register: { botId, instanceId, session, token: BOT_TOKEN }, seqs });
      expect(bot.registered.pending).toEqual([{ id: facts.open.turnId, seq: facts.open.seq }]);
      bot.end({ id: facts.open.turnId }, "and the second.");
      const last = await until(
        async () => (await messages()).find(({ id, state }) => id === facts.open.turnId && state === "done"),
        5000,
        "the whole answer",
      );
      expect(last.content).toBe(`${facts.open.text}and the second.`);
      await bot.close();
      const found = await until(
        async () => {
          const { body } = await call<{ hits: unknown[] }>("GET", `/api/search?q=${encodeURIComponent("季度")}`);
          return body.hits.length > 0 && body.hits;
        },
        10_000,
        "the search to know the old messages",
      );
      expect(found.length).toBeGreaterThan(0);
    } finally {
      await stop(running);
    }
    expect(versionOf(cwd)).toBeGreaterThan(facts.schema);
  }, 60_000);

  test("the config.json of 1.x, as its README printed it, is all that 1.x leaves: people and bots come in, passwords can be hashed", async () => {
    const cwd = join(folder.path, `of-1.x-${crypto.randomUUID()}`); // a folder for each try
    await mkdir(cwd);
    await Bun.write(join(cwd, "config.json"), OF_V1);
    const running = await start({ cwd, config: null, args: ["--port", "0"] });
    try {
      const { content } = await useIt(running.url, { password: "admin123", botToken: "your-secret-token" });
      expect(content).toBe("echo: hello");
      expect(await login(running.url, "user1", "password1")).toStartWith("nxs_");
      expect(running.stdout()).toContain("nexus user passwd");
      await sh([...program, "user", "passwd", "user1"], { cwd, env: {}, stdin: "a longer password\n" });
      // Trying it until it counts would meet the limit of wrong passwords.
      await until(() => running.stdout().includes("config_applied"), 10_000, "the new password to count");
      expect(await login(running.url, "user1", "a longer password")).toStartWith("nxs_");
      expect(await Bun.file(join(cwd, "config.json")).text()).not.toContain("password1");
      // The other person's still counts, and so do the settings of the file.
      expect(await login(running.url, "admin", "admin123")).toStartWith("nxs_");
    } finally {
      await stop(running);
    }
  }, 30_000);

  test("the older program's successor refuses a store that is newer than itself, and leaves it as it is", async () => {
    const { cwd } = await restoreGolden("schema-1");
    const file = join(cwd, "data", "nexus.db");
    const db = new Database(file);
    db.run("PRAGMA user_version = 9999");
    db.close();
    const before = await Bun.file(file).bytes();
    const said = await sh([...program, "serve"], { cwd, env: {} }).catch(String);
    expect(said).toContain("ended with 1");
    expect(said).toContain("9999");
    expect(Buffer.compare(await Bun.file(file).bytes(), before)).toBe(0);
  });
});

describe("nexus backup, and back", () => {
  const secrets = { password: PASSWORD, botToken: BOT_TOKEN };

  test.each(["docs/upgrade.md", "docs/upgrade.en.md"])(
    "the steps of %s, as printed, bring everything back",
    async (file) => {
      const steps = blocksOf(await Bun.file(join(ROOT, file)).text()).filter(({ lang }) => lang === "bash");
      expect(steps.length).toBe(2);
      const [backUp, putBack] = steps.map(({ text }) => `set -eu\n${text}`);
      const bin = join(folder.path, `bin-${file.replaceAll("/", "-")}`);
      await mkdir(bin);
      await Bun.write(join(bin, "nexus"), `#!/bin/sh\nexec ${program.join(" ")} "$@"\n`);
      await chmod(join(bin, "nexus"), 0o755);
      const env = { PATH: `${bin}:${process.env.PATH}` };

      const cwd = join(folder.path, `of-${file.replaceAll("/", "-")}`);
      const running = await start({ cwd, config: {} });
      const { token } = await useIt(running.url, secrets);
      const call = api(running.url, token);
      const headers = { "content-type": "text/plain", "x-filename": "kept.txt" };
      const { id } = (await call("POST", "/api/attachments", new TextEncoder().encode("kept\n"), { headers })).body;
      const list = async (url: string) => {
        const listed = await api(url, token)<{ conversations: { id: string; title: string }[] }>(
          "GET",
          "/api/conversations",
        );
        return listed.body.conversations.map((one) => `${one.id} ${one.title}`);
      };
      const before = await list(running.url);
      expect(before.length).toBe(1);

      await sh(["bash", "-c", backUp!], { cwd, env });
      expect((await Bun.file(join(cwd, "backup/nexus.db")).stat()).mode & 0o777).toBe(0o600);
      // A second one under the same name is refused, and the first stays.
      expect(await sh(["bash", "-c", backUp!], { cwd, env }).catch(String)).toContain("ended with 1");
      await call("POST", "/api/conversations", { title: "after the backup" });
      expect((await list(running.url)).length).toBe(2);
      await stop(running);

      await sh(["bash", "-c", putBack!], { cwd, env });
      const restored = await start({ cwd });
      expect(await list(restored.url)).toEqual(before);
      expect((await api(restored.url, token)("GET", `/api/attachments/${id}`)).text).toBe("kept\n");
      expect((await useIt(restored.url, secrets)).content).toBe("echo: hello");
      await stop(restored);

      // Another machine: nothing but the backup.
      const elsewhere = `${cwd}-elsewhere`;
      await mkdir(elsewhere);
      await rename(join(cwd, "backup"), join(elsewhere, "backup"));
      await rename(join(elsewhere, "backup/config.json"), join(elsewhere, "config.json"));
      await sh(["bash", "-c", putBack!], { cwd: elsewhere, env });
      const moved = await start({ cwd: elsewhere });
      expect(await list(moved.url)).toEqual(before);
      expect((await api(moved.url, token)("GET", `/api/attachments/${id}`)).text).toBe("kept\n");
      await stop(moved);
    },
    90_000,
  );

  test("a damaged store is refused with its name and stays as it is; the backup in its place starts", async () => {
    const cwd = join(folder.path, "damaged");
    const running = await start({ cwd, config: {} });
    const { token } = await useIt(running.url, secrets);
    await sh([...program, "backup", "../damaged.backup"], { cwd, env: {} });
    await stop(running);
    const data = join(cwd, "data");
    await Bun.write(join(data, "nexus.db"), "not a database any more");
    expect(await sh([...program, "serve"], { cwd, env: {} }).catch(String)).toContain(join(data, "nexus.db"));
    expect(await Bun.file(join(data, "nexus.db")).text()).toBe("not a database any more");
    for (const name of await readdir(data)) if (name.startsWith("nexus.db")) await rm(join(data, name));
    await rename(join(folder.path, "damaged.backup"), join(data, "nexus.db"));
    expect(existsSync(join(folder.path, "damaged.backup.files"))).toBe(false);
    const again = await start({ cwd });
    try {
      expect((await api(again.url, token)("GET", "/api/me")).status).toBe(200);
    } finally {
      await stop(again);
    }
  }, 60_000);
});
