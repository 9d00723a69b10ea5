/**
 * The store: one SQLite file (nexus.db) and a folder of attachments in dataDir.
 *
 * Owns opening, refusing (newer, damaged, unwritable, in use), migrating, backing up and closing. Writes return promises
 * that settle at their commit (store/commit.ts). Reads are plain and see only what is committed. One process owns a
 * folder: the second one is refused.
 */
import { Database } from "bun:sqlite";
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readSync, statSync } from "node:fs";
import { join } from "node:path";
import { createIds } from "./ids.ts";
import type { Log } from "./log.ts";
import type { Say } from "./protocol.ts";
import { createAccessStore } from "./store/access.ts";
import { createAttachmentStore } from "./store/attachments.ts";
import { createAuditStore } from "./store/audit.ts";
import { createBotSettingsStore } from "./store/bots.ts";
import { createCommitter } from "./store/commit.ts";
import { createConversationStore } from "./store/conversations.ts";
import { createInboxStore } from "./store/inbox.ts";
import { createPeopleStore } from "./store/people.ts";
import type { StoreBase } from "./store/base.ts";
import { createMessageWriter } from "./store/messages.ts";
import { MIGRATIONS } from "./store/schema.ts";
import { createSearchStore } from "./store/search.ts";
import { createThreadStore } from "./store/threads.ts";
import { createTurnStore } from "./store/turns.ts";
import { createUsageStore } from "./store/usage.ts";

/** Why the store could not be opened; `say` names the file and what to do. The process ends with exit code 1. */
export class StoreRefused extends Error {
  readonly say: Say;
  constructor(say: Say) {
    super(say.en);
    this.say = say;
  }
}

/** Files up to this size are checked whole at each start (about 60 ms); larger ones by their header and schema. */
const QUICK_CHECK_BYTES = 32 * 1024 * 1024;
const MAGIC = "SQLite format 3\0";

/** Looks without opening: a file that is not ours, or of a newer version, must stay untouched. */
const inspect = (file: string): void => {
  const header = Buffer.alloc(100);
  const fd = openSync(file, "r");
  const length = readSync(fd, header, 0, 100, 0);
  closeSync(fd);
  if (length === 0) return; // created by a start that was killed before its first write
  if (length < 100 || header.toString("latin1", 0, 16) !== MAGIC)
    throw new StoreRefused({
      zh: `${file} 不是 Nexus 的数据库，或已损坏；请用备份替换它，或移走它以新建`,
      en: `${file} is not a Nexus database or is damaged; put a backup in its place, or move it away to start anew`,
    });
  refuseNewer(file, header.readUInt32BE(60)); // user_version, sqlite.org/fileformat2.html 1.3
};

const refuseNewer = (file: string, version: number): void => {
  if (version > MIGRATIONS.length)
    throw new StoreRefused({
      zh: `${file} 是更新版本的 Nexus 写的（结构 ${version}，本程序支持到 ${MIGRATIONS.length}）；请使用新版本`,
      en: `${file} was written by a newer Nexus (schema ${version}, this one knows ${MIGRATIONS.length}); use the newer version`,
    });
};

const damaged = (file: string, why: string): StoreRefused =>
  new StoreRefused({
    zh: `${file} 已损坏（${why}）；请用备份替换它`,
    en: `${file} is damaged (${why}); put a backup in its place`,
  });

/** What a failed statement means for the person who starts the gateway. */
const refusal = (file: string, error: unknown): StoreRefused => {
  if (error instanceof StoreRefused) return error;
  const { code, message } = error as { code?: string; message: string };
  if (code && /CORRUPT|NOTADB/.test(code)) return damaged(file, message);
  return new StoreRefused({
    zh: `无法写入 ${file}（${message}）；请检查 dataDir 的权限和磁盘空间`,
    en: `Cannot write ${file} (${message}); check the permissions of dataDir and the disk space`,
  });
};

const versionOf = (db: Database): number =>
  (db.query("PRAGMA user_version").get() as { user_version: number }).user_version;

/** The same question again, to SQLite: what a killed process wrote last stands in the WAL beside the file. */
const examine = (file: string): void => {
  const db = new Database(file, { readonly: true });
  try {
    refuseNewer(file, versionOf(db));
    if (statSync(file).size > QUICK_CHECK_BYTES) return;
    const verdict = Object.values(db.query("PRAGMA quick_check(1)").get() as Record<string, string>)[0] ?? "";
    if (verdict !== "ok") throw damaged(file, verdict);
  } finally {
    db.close();
  }
};

/** A lock the system takes back when its process ends, however it ends. Throws StoreRefused when somebody has it. */
const lockFolder = (dir: string): (() => void) => {
  const lock = new Database(join(dir, "nexus.lock"), { create: true });
  try {
    lock.run("BEGIN EXCLUSIVE");
  } catch (error) {
    lock.close();
    if (!/BUSY|LOCKED/.test(String((error as { code?: unknown }).code))) throw error;
    throw new StoreRefused({
      zh: `另一个 Nexus 正在使用 ${dir}；请先停止它，或换一个 dataDir`,
      en: `Another Nexus is using ${dir}; stop it first, or choose another dataDir`,
    });
  }
  return () => lock.close();
};

const migrate = (db: Database): void => {
  for (let at = versionOf(db); at < MIGRATIONS.length; at++)
    db.transaction(() => {
      db.run(MIGRATIONS[at]!);
      db.run(`PRAGMA user_version = ${at + 1}`);
    }).immediate();
};

const openDatabase = (file: string, synchronous: "normal" | "full"): Database => {
  const fresh = !existsSync(file);
  try {
    if (!fresh) inspect(file);
    if (!fresh) examine(file);
    const db = new Database(file, { create: true, strict: true });
    if (fresh) chmodSync(file, 0o600);
    // WAL: readers never wait for the writer, a commit is one append. NORMAL survives kill -9, FULL also power loss.
    db.run("PRAGMA journal_mode = WAL");
    db.run(`PRAGMA synchronous = ${synchronous === "full" ? "FULL" : "NORMAL"}`);
    db.run("PRAGMA foreign_keys = ON");
    db.run("PRAGMA busy_timeout = 5000");
    // 4 MB of pages: appends touch few, the system's own cache holds the rest (16 MB saved nothing per chat, and filling them
    // looked like 0.3 kB per held stream).
    db.run("PRAGMA cache_size = -4000");
    db.run("PRAGMA temp_store = MEMORY");
    // 6 MB of log before it is folded into the file: a busy page is copied once for many commits. 16 MB saved a fifth of their
    // cost, but folding it stopped everything for 60 ms; this takes 18.
    db.run("PRAGMA wal_autocheckpoint = 1500");
    migrate(db);
    return db;
  } catch (error) {
    throw refusal(file, error);
  }
};

const makeDir = (dir: string): void => {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new StoreRefused({
      zh: `无法创建目录 ${dir}（${(error as Error).message}）；请修改 dataDir 或其权限`,
      en: `Cannot create the folder ${dir} (${(error as Error).message}); change dataDir or its permissions`,
    });
  }
};

const randomEpoch = (): string => crypto.getRandomValues(new Uint8Array(9)).toBase64({ alphabet: "base64url" });

export type StoreOptions = {
  dir: string;
  synchronous: "normal" | "full";
  now: () => number;
  log: Log;
  /** The name of the day it is (days.ts), by which use is counted; default: in UTC. */
  today?: () => string;
};

/** Opens (or makes) the store in `dir`. Throws StoreRefused with a sentence when it must not or cannot be used. */
export const openStore = ({
  dir,
  synchronous,
  now,
  log,
  today = () => new Date(now()).toISOString().slice(0, 10),
}: StoreOptions) => {
  makeDir(dir);
  const file = join(dir, "nexus.db");
  let unlock: () => void;
  try {
    unlock = lockFolder(dir);
  } catch (error) {
    throw refusal(file, error);
  }
  let db: Database;
  try {
    db = openDatabase(file, synchronous);
  } catch (error) {
    unlock();
    throw error;
  }
  const meta = db.prepare<{ value: string }, [string]>("SELECT value FROM meta WHERE key = ?");
  const putMeta = db.prepare(
    "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
  );
  if (!meta.get("epoch")) putMeta.run("epoch", randomEpoch());
  const epoch = meta.get("epoch")!.value;
  const top = (sql: string): number => (db.query(sql).get() as { n: number | null }).n ?? 0;

  const counter = { value: Number(meta.get("rev")?.value ?? 0) };
  const floor = Math.max(
    ...["conversations", "messages", "turns", "attachments", "api_keys", "dead_letters", "audit"].map((table) =>
      top(`SELECT max(id) AS n FROM ${table}`),
    ),
    // Every turn before it is over, so no new one may come before it (store/turns.ts).
    Number(meta.get("open_from")?.value ?? 0) - 1,
  );
  const ids = createIds(now, floor);
  const usage = createUsageStore({ db, write: (op) => committer.write(op) }, today);
  const nextRev = (): number => ++counter.value;
  const messages = createMessageWriter({ db, ids, now, nextRev, note: (...change) => search.note(...change) });
  const { settle, reset } = messages.settling;
  let storedRev = counter.value;
  const committer = createCommitter(db, log, counter, {
    reset: () => {
      reset();
      usage.tally.reset();
      storedRev = counter.value;
    },
    store: () => {
      settle();
      usage.tally.store();
      if (counter.value !== storedRev) putMeta.run("rev", String(counter.value));
    },
  });
  const write: StoreBase["write"] = (op) =>
    committer.write(() => {
      settle();
      return op();
    });
  const base: StoreBase = { db, write, now, nextRev };

  const search = createSearchStore(base, () => counter.value);
  const turns = createTurnStore({ ...base, ids, usage, messages, writeTogether: committer.write });
  const attachments = createAttachmentStore(base, ids, join(dir, "files"), log);
  attachments.clean();

  return {
    epoch,
    /** The revision of the last commit. */
    rev: (): number => counter.value,
    turns,
    attachments,
    conversations: createConversationStore(base, turns, attachments, search.note),
    access: createAccessStore(base, ids),
    inbox: createInboxStore(base, ids, turns),
    people: createPeopleStore(base),
    search,
    threads: createThreadStore(base),
    audit: createAuditStore(base, ids),
    botSettings: createBotSettingsStore(base),
    usage,
    /** Bytes of the database on disk, its write-ahead log included. */
    bytes: (): number =>
      [file, `${file}-wal`].reduce((sum, path) => sum + (statSync(path, { throwIfNoEntry: false })?.size ?? 0), 0),
    write,
    stats: committer.stats,
    flush: committer.flush,
    /** Commits what waits, folds the WAL into the file and closes it. */
    close: (): void => {
      committer.close();
      try {
        db.run("PRAGMA wal_checkpoint(TRUNCATE)");
      } catch (error) {
        // A full disk: nothing is lost, the next start reads the WAL.
        log("warn", "checkpoint_failed", { error: (error as Error).message });
      }
      db.close();
      unlock();
    },
  };
};

export type Store = ReturnType<typeof openStore>;
