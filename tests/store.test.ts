/** The store's file: opened, refused and left alone, migrated, backed up, restored (F4, F7). */
import { afterEach, describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { openStore, StoreRefused } from "../lib/store.ts";
import { backupStore } from "../lib/store/backup.ts";
import { MIGRATIONS } from "../lib/store/schema.ts";
import { schemaOf, schemaOfVersion } from "./golden/make.ts";
import { ROOT, startProcess } from "./harness.ts";
import { bytesOf, testStore, type TestStore } from "./harness/store.ts";
import { tempDir } from "./harness/wait.ts";

const GOLDEN = join(import.meta.dir, "golden");
const golden = readdirSync(GOLDEN).filter((name) => name.endsWith(".db.gz"));

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const folder = async (): Promise<string> => {
  const made = await tempDir("store");
  undo.push(made.remove);
  return made.path;
};
const open = async (options: Parameters<typeof testStore>[0] = {}): Promise<TestStore> => {
  const made = await testStore(options);
  undo.push(made.stop);
  return made;
};
const refusal = (dir: string): StoreRefused => {
  try {
    openStore({ dir, synchronous: "normal", now: Date.now, log: () => {} }).close();
  } catch (error) {
    if (error instanceof StoreRefused) return error;
    throw error;
  }
  throw new Error("the store was opened");
};
const unpack = (name: string, dir: string): string => {
  const file = join(dir, "nexus.db");
  writeFileSync(file, Bun.gunzipSync(readFileSync(join(GOLDEN, name))));
  return file;
};
const sha = (file: string): string => new Bun.CryptoHasher("sha256").update(readFileSync(file)).digest("hex");

describe("a file of an older schema", () => {
  test.each(golden)("%s opens, and everything in it is there", async (name) => {
    const dir = await folder();
    unpack(name, dir);
    const made = await open({ dir, at: Date.UTC(2026, 10, 22, 9) });
    const { store } = made;
    expect(store.epoch).toBe("golden-epoch");

    const { conversations } = await store.conversations.list("admin", 10);
    expect(conversations.map(({ title, pinned, unread }) => ({ title, pinned, unread }))).toEqual([
      { title: "磁盘清理", pinned: true, unread: 2 },
    ]);
    const id = Number.parseInt(conversations[0]!.id, 36);
    const { messages } = await store.conversations.messages("admin", id, 10);
    expect(messages.map(({ role, content, state }) => [role, content, state])).toEqual([
      ["user", "磁盘快满了怎么办？", "sent"],
      ["bot", "先看 `df -h`，再清理 /var/log。", "done"],
      ["user", "看这张图", "sent"],
      ["bot", "", "failed"],
    ]);
    expect(messages[2]!.attachments).toEqual([
      expect.objectContaining({ name: "图.png", mime: "image/png", width: 2, height: 3 }),
    ]);
    expect(messages[3]!.error).toEqual({ code: "bot_disconnected", message: "gone" });
    expect(() => store.turns.again("admin", { id: "client-1", hash: "another" })).toThrow("different body");

    const open1 = store.turns.open();
    expect(open1.map(({ row, text }) => [row.user, row.text, row.seq, text])).toEqual([
      ["user1", "seen by the bot", 2, "half of an answer"],
    ]);
    expect(store.access.sessions().map(({ hash, user, mark }) => [hash, user, mark])).toEqual([["h1", "admin", "m1"]]);
    expect(store.access.keys().map((key) => [key.name, key.scope, key.bots])).toEqual([["ci", "chat", '["bot"]']]);
    expect(store.access.botSession("bot", "")?.hash).toBe("h3");
    expect(store.inbox.deadLetters(10).map(({ reason }) => reason)).toEqual(["unknown turn"]);
    expect((await store.search.search("admin", "清理", 10)).length).toBe(2);
    // The message, and the title that was made of it.
    expect((await store.search.search("user1", "世界", 10)).length).toBe(2);

    // And it can be written: the next ids and revisions are beyond all that is there.
    const rev = store.rev();
    const asked = await made.ask("admin", "后来的问题", { conversation: id });
    expect(asked.question).toBeGreaterThan(Number.parseInt(messages[3]!.id, 36));
    expect(store.rev()).toBeGreaterThan(rev);
  });

  test.each(golden)("%s has the schema its migrations still make: a released one never changes", async (name) => {
    const file = unpack(name, await folder());
    const db = new Database(file, { readonly: true });
    const version = Number(/^v(\d+)\./.exec(name)![1]);
    expect(schemaOf(db)).toEqual(schemaOfVersion(version));
    db.close();
  });

  test("there is one of the first schema", () => expect(golden).toContain("v1.db.gz"));
});

describe("a file that must not be opened", () => {
  const filled = async (): Promise<{ dir: string; file: string }> => {
    const dir = await folder();
    const made = await testStore({ dir });
    for (let i = 0; i < 60; i++) await made.exchange("admin", `question ${i} `.repeat(40), `answer ${i} `.repeat(40));
    await made.index();
    await made.stop();
    return { dir, file: join(dir, "nexus.db") };
  };

  test("of a newer schema is refused with a sentence, and not a byte of it changes", async () => {
    const { dir, file } = await filled();
    const db = new Database(file);
    db.run(`PRAGMA user_version = ${MIGRATIONS.length + 1}`);
    db.close();
    const before = sha(file);
    const { say } = refusal(dir);
    expect(say.en).toContain(file);
    expect(say.en).toContain("newer");
    expect(say.zh).toContain(file);
    expect(sha(file)).toBe(before);
  });

  test("of a newer schema is refused also when a killed process left that in the WAL", async () => {
    const { dir } = await filled();
    const db = new Database(join(dir, "nexus.db"));
    db.run("PRAGMA journal_mode = WAL");
    db.run(`PRAGMA user_version = ${MIGRATIONS.length + 1}`);
    const killed = await folder();
    for (const name of ["nexus.db", "nexus.db-wal"]) copyFileSync(join(dir, name), join(killed, name));
    db.close();
    const before = ["nexus.db", "nexus.db-wal"].map((name) => sha(join(killed, name)));
    expect(refusal(killed).say.en).toContain("newer");
    expect(["nexus.db", "nexus.db-wal"].map((name) => sha(join(killed, name)))).toEqual(before);
  });

  test("with a flipped byte at the head of any page is refused, named, and left as it is", async () => {
    const { dir, file } = await filled();
    const whole = readFileSync(file);
    const pages = whole.length / 4096;
    expect(pages).toBeGreaterThan(30);
    for (let page = 0; page < pages; page++) {
      const flipped = Buffer.from(whole);
      flipped[page === 0 ? 100 : page * 4096]! ^= 0xff;
      writeFileSync(file, flipped);
      const { say } = refusal(dir);
      expect(`page ${page}: ${say.en}`).toContain(`${file} is damaged`);
      expect(readFileSync(file).equals(flipped)).toBe(true);
    }
  });

  test("cut short, of another kind, or with a broken head is refused and left as it is", async () => {
    const { dir, file } = await filled();
    const whole = readFileSync(file);
    const headFlipped = Buffer.from(whole);
    headFlipped[3]! ^= 0x20;
    const pageSize = Buffer.from(whole);
    pageSize[16]! ^= 0xff;
    for (const bytes of [
      whole.subarray(0, 40),
      whole.subarray(0, whole.length / 2),
      Buffer.from("hello, I am a text file and no database at all".repeat(10)),
      headFlipped,
      pageSize,
    ]) {
      writeFileSync(file, bytes);
      expect(refusal(dir).say.en).toContain(file);
      expect(readFileSync(file).equals(bytes)).toBe(true);
    }
  });

  test("in use by another Nexus is refused; the first goes on, and the next may have it", async () => {
    const first = await testStore({ dir: await folder() });
    expect(refusal(first.dir).say.en).toContain("Another Nexus");
    await first.exchange("admin", "still", "there");
    await first.stop();
    const second = await open({ dir: first.dir });
    expect((await second.store.conversations.list("admin", 10)).conversations).toHaveLength(1);
  });

  test("makes the program say so in one sentence and exit with 1", async () => {
    const { dir, file } = await filled();
    const bytes = readFileSync(file);
    bytes[100]! ^= 0xff;
    writeFileSync(file, bytes);
    const run = await startProcess({ config: { dataDir: dir, language: "en" }, wait: false });
    undo.push(run.stop);
    expect(await run.exited).toBe(1);
    expect(run.stderr()).toContain(`${file} is damaged`);
    expect(run.stderr()).not.toMatch(/\n\s+at /);
    expect(readFileSync(file).equals(bytes)).toBe(true);
  });

  test("an empty file, left by a start that was killed at once, is filled", async () => {
    const dir = await folder();
    writeFileSync(join(dir, "nexus.db"), "");
    const made = await open({ dir });
    await made.exchange("admin", "a", "b");
    expect((await made.store.conversations.list("admin", 10)).conversations).toHaveLength(1);
  });
});

describe("a backup", () => {
  test("taken while writes go on is whole, and a store restored from it has all that was there before", async () => {
    const made = await open();
    const file = await made.store.attachments.add({
      user: "admin",
      name: "a.txt",
      mime: "text/plain",
      bytes: bytesOf("the bytes of a file"),
      turn: null,
    });
    const asked = await made.ask("admin", "with a file", { files: [file.id] });
    await made.answer(asked.turn, "seen");
    await made.exchange("admin", "火山 is here", "yes");
    await made.index();

    let stop = false;
    const writing = (async () => {
      for (let i = 0; !stop; i++) await made.exchange("admin", `later ${i}`, "x");
    })();
    const out = await folder();
    const copy = join(out, "backup.db");
    const { bytes, files } = await backupStore(made.dir, copy);
    stop = true;
    await writing;
    expect(bytes).toBe(statSync(copy).size);
    expect(files).toBe(1);
    expect(statSync(copy).mode & 0o777).toBe(0o600);

    const restored = await folder();
    copyFileSync(copy, join(restored, "nexus.db"));
    await cp(`${copy}.files`, join(restored, "files"), { recursive: true });
    const again = await open({ dir: restored });
    const page = await again.store.conversations.messages("admin", asked.conversation, 10);
    expect(page.messages.map(({ content }) => content)).toEqual(["with a file", "seen"]);
    const row = again.store.attachments.get(file.id)!;
    expect(new TextDecoder().decode(await again.store.attachments.bytes(row))).toBe("the bytes of a file");
    expect(await again.store.search.search("admin", "火山", 5)).toHaveLength(2);
    // Who followed the original further than the copy goes must start over, so the copy is told apart.
    expect(again.store.epoch).not.toBe(made.store.epoch);
  });

  test("restored twice makes two stores, each told apart from the other and the original, and the same after a restart", async () => {
    const made = await open();
    const copy = join(await folder(), "backup.db");
    await backupStore(made.dir, copy);
    const epochs = [made.store.epoch];
    for (let i = 0; i < 2; i++) {
      const dir = await folder();
      copyFileSync(copy, join(dir, "nexus.db"));
      const first = await testStore({ dir });
      epochs.push(first.store.epoch);
      await first.stop();
      expect((await open({ dir })).store.epoch).toBe(first.store.epoch);
    }
    expect(new Set(epochs).size).toBe(3);
  });

  test("goes on without the files that are swept away meanwhile, and counts those it has", async () => {
    const made = await open();
    const add = (_: unknown, i: number) =>
      made.store.attachments.add({ user: "admin", name: "a", mime: "", bytes: bytesOf(`file ${i}`), turn: null });
    await Promise.all(Array.from({ length: 300 }, add));
    const out = await folder();
    const filesIn = (dir: string): string[] =>
      readdirSync(dir, { recursive: true, withFileTypes: true })
        .filter((one) => one.isFile())
        .map(({ parentPath, name }) => join(parentPath, name));
    const going = backupStore(made.dir, join(out, "b.db"));
    while (filesIn(out).length < 5) await Bun.sleep(0);
    for (const path of filesIn(join(made.dir, "files"))) unlinkSync(path);
    const { files } = await going;
    expect(files).toBeLessThan(300);
    expect(filesIn(join(out, "b.db.files"))).toHaveLength(files);
  });

  test("that finds no room for the database or for a file leaves nothing behind, and can be tried again at once", async () => {
    const cwd = await folder();
    writeFileSync(join(cwd, "config.json"), "{}");
    const made = await testStore({ dir: join(cwd, "data") });
    const bytes = new Uint8Array(2_000_000);
    await made.store.attachments.add({ user: "admin", name: "a", mime: "text/plain", bytes, turn: null });
    await made.stop();
    const before = readdirSync(cwd).sort();
    const backup = async (limit: string) => {
      const command = `trap "" XFSZ; ulimit -f ${limit}; exec ${process.execPath} ${join(ROOT, "server.ts")} backup b.db`;
      const child = Bun.spawn(["sh", "-c", command], { cwd, stdout: "ignore", stderr: "pipe", env: { LANG: "en" } });
      return { code: await child.exited, err: await new Response(child.stderr).text() };
    };
    // Blocks of 512 or 1024 bytes: some pages fit; the database fits, the attachment does not.
    for (const blocks of ["40", "1000"]) {
      expect(await backup(blocks)).toEqual({ code: 1, err: expect.stringContaining("cannot back up to") });
      expect(readdirSync(cwd).sort()).toEqual(before);
    }
    expect(await backup("unlimited")).toEqual({ code: 0, err: "" });
    expect(readdirSync(cwd).sort()).toEqual(["b.db", "b.db.files", ...before].sort());
  });

  test("that is stopped leaves nothing behind; a folder that is not there is named", async () => {
    const cwd = await folder();
    writeFileSync(join(cwd, "config.json"), "{}");
    const made = await testStore({ dir: join(cwd, "data") });
    for (let i = 0; i < 40; i++) {
      const bytes = crypto.getRandomValues(new Uint8Array(60_000));
      await made.store.attachments.add({ user: "admin", name: "a", mime: "text/plain", bytes, turn: null });
    }
    await made.stop();
    const before = readdirSync(cwd).sort();
    const stop = new AbortController();
    const copying = backupStore(join(cwd, "data"), join(cwd, "b.db"), stop.signal);
    expect(readdirSync(cwd)).not.toEqual(before);
    stop.abort(new Error("stopped"));
    await expect(copying).rejects.toThrow("stopped");
    expect(readdirSync(cwd).sort()).toEqual(before);
    const nowhere = join(cwd, "nope", "b.db");
    await expect(backupStore(join(cwd, "data"), nowhere)).rejects.toThrow(`${join(cwd, "nope")} does not exist`);
  });

  test("is for its owner only from its first byte", async () => {
    const made = await open();
    for (let i = 0; i < 40; i++) await made.exchange("admin", "q".repeat(100_000), "a".repeat(100_000));
    const out = await folder();
    // Another process, because this one copies without a break: every mode of whatever appears in the folder.
    const looking = Bun.spawn(
      [
        process.execPath,
        "-e",
        `const { readdirSync, statSync } = require("node:fs");
         const seen = new Set();
         process.stdout.write("looking\\n");
         for (let names = []; !names.includes("end"); )
           for (const name of (names = readdirSync(process.argv[1]))) {
             const found = statSync(process.argv[1] + "/" + name, { throwIfNoEntry: false });
             if (found && name !== "end") seen.add((found.mode & 0o777).toString(8));
           }
         process.stdout.write([...seen].join(" "));`,
        out,
      ],
      { stdout: "pipe" },
    );
    undo.push(() => looking.kill("SIGKILL"));
    const said = looking.stdout.getReader();
    const next = async (): Promise<string> => new TextDecoder().decode((await said.read()).value);
    expect(await next()).toBe("looking\n");
    await backupStore(made.dir, join(out, "b.db"));
    writeFileSync(join(out, "end"), "");
    const modes = (await next()).split(" ");
    expect(modes).toContain("600");
    expect(modes.filter((mode) => !mode.endsWith("00"))).toEqual([]);
  });

  test("never mixes with the attachments of an older one", async () => {
    const made = await open();
    const out = await folder();
    mkdirSync(join(out, "b.db.files"));
    await expect(backupStore(made.dir, join(out, "b.db"))).rejects.toThrow("b.db.files exists; choose another name");
    expect(readdirSync(out)).toEqual(["b.db.files"]);
  });

  test("never overwrites a file, and says so when there is no store", async () => {
    const made = await open();
    const out = await folder();
    const copy = join(out, "b.db");
    await backupStore(made.dir, copy);
    const before = sha(copy);
    expect(backupStore(made.dir, copy)).rejects.toThrow("exists");
    expect(sha(copy)).toBe(before);
    expect(backupStore(join(out, "nothing"), join(out, "c.db"))).rejects.toThrow("does not exist");
    expect(existsSync(join(out, "c.db"))).toBe(false);
  });
});

test("the folder and the file are for their owner only", async () => {
  const parent = await folder();
  const dir = join(parent, "data");
  await open({ dir });
  expect(statSync(dir).mode & 0o777).toBe(0o700);
  expect(statSync(join(dir, "nexus.db")).mode & 0o777).toBe(0o600);
});
