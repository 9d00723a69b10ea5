/**
 * Makes the golden file of the first schemas: `bun tests/golden/make.ts 1` writes v1.db.gz. Run once per released schema,
 * before its release; a file that is here is never made again, because it stands for what people have on their disks.
 */
import { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { MIGRATIONS } from "../../lib/store/schema.ts";
import { bytesOf, testStore } from "../harness/store.ts";
import { tempDir } from "../harness/wait.ts";

const AT = Date.UTC(2026, 10, 22, 8);

const fill = async (dir: string): Promise<void> => {
  const made = await testStore({ dir, at: AT });
  const { store, clock } = made;
  const first = await made.exchange("admin", "磁盘快满了怎么办？", "先看 `df -h`，再清理 /var/log。");
  await store.conversations.patch("admin", first.conversation, { title: "磁盘清理", pinned: true });
  clock.at += 60_000;
  const picture = await store.attachments.add({
    user: "admin",
    name: "图.png",
    mime: "image/png",
    bytes: Buffer.from(
      "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAIAAAA2iEnWAAAAEUlEQVR4nGNgYGD4z8DAAAAGAAEBr9ySpQAAAABJRU5ErkJggg==",
      "base64",
    ),
    turn: null,
  });
  const second = await made.ask("admin", "看这张图", {
    conversation: first.conversation,
    files: [picture.id],
    client: { id: "client-1", hash: "hash-1" },
  });
  await made.answer(second.turn, "", { state: "failed", error: { code: "bot_disconnected", message: "gone" } });
  const deleted = await made.exchange("admin", "deleted question", "deleted answer");
  await store.conversations.delete("admin", deleted.conversation);
  clock.at += 60_000;
  await made.exchange("user1", "hello 世界", "你好", undefined);
  const open = await made.ask("user1", "still being answered", { text: "seen by the bot" });
  await store.turns.log([{ turn: open.turn, generation: 0, seq: 1, text: "half of an " }]);
  await store.turns.log([{ turn: open.turn, generation: 0, seq: 2, text: "answer" }]);
  await store.access.addSession({ hash: "h1", user: "admin", mark: "m1", created_at: AT, expires_at: AT + 1e12 });
  await store.access.addKey({
    user: "admin",
    hash: "h2",
    name: "ci",
    scope: "chat",
    bots: '["bot"]',
    created_at: AT,
    expires_at: null,
  });
  await store.access.putBotSession({ bot: "bot", instance: "", hash: "h3", previous: null, updated_at: AT });
  await store.inbox.add({
    bot: "bot",
    botName: "Bot",
    id: "note-1",
    to: { user: "user1" },
    content: "备份完成",
    files: [],
    title: null,
  });
  await store.inbox.addDead("bot", "unknown turn", '{"type":"reply"}');
  await store.attachments.add({ user: "user1", name: "a.txt", mime: "", bytes: bytesOf("text"), turn: null });
  await made.index();
  await made.stop();
};

/** What a schema is: every table and index by its SQL. */
export const schemaOf = (db: Database): string[] =>
  db
    .query<{ sql: string }, []>("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
    .all()
    .map(({ sql }) => sql);

export const schemaOfVersion = (version: number): string[] => {
  const db = new Database(":memory:");
  for (const sql of MIGRATIONS.slice(0, version)) db.run(sql);
  const schema = schemaOf(db);
  db.close();
  return schema;
};

/** Takes from a store of today what came after schema `version`; throws when more than whole tables came. */
const takeBack = (file: string, version: number): void => {
  const db = new Database(file);
  const known = new Set(schemaOfVersion(version));
  db.run("PRAGMA foreign_keys = OFF");
  const tables = db
    .query<{ name: string; sql: string }, []>("SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
    .all();
  for (const { name, sql } of tables) if (!known.has(sql)) db.run(`DROP TABLE "${name}"`);
  db.run(`PRAGMA user_version = ${version}`);
  db.run("UPDATE meta SET value = 'golden-epoch' WHERE key = 'epoch'");
  db.run("PRAGMA journal_mode = DELETE");
  db.run("VACUUM");
  if (schemaOf(db).join() !== [...known].join()) throw new Error("more than whole tables came after this schema");
  db.close();
};

if (import.meta.main) {
  const version = Number(Bun.argv[2] ?? 1);
  const target = join(import.meta.dir, `v${version}.db.gz`);
  if (existsSync(target)) throw new Error(`${target} is there; it stands for files that people have`);
  const folder = await tempDir("golden");
  await fill(folder.path);
  // A copy: the connection that wrote the store lives until its statements are collected.
  const file = join(folder.path, "copy.db");
  await Bun.write(file, Bun.file(join(folder.path, "nexus.db")));
  takeBack(file, version);
  await Bun.write(target, Bun.gzipSync(await Bun.file(file).bytes(), { level: 9 }));
  await folder.remove();
}
