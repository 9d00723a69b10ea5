/**
 * The least that keeps a chat as the gateway promises: the question is on disk before a bot sees it, the answer before anybody
 * is told. One table without an index, one transaction per turn of the event loop, SQLite set as in lib/store.ts.
 */
import { Database } from "bun:sqlite";

/** Returns a function whose promise resolves when the row is committed. */
export const createStoring = (file: string): ((role: string, content: string) => Promise<void>) => {
  const db = new Database(file, { create: true, strict: true });
  db.run("PRAGMA journal_mode = WAL");
  db.run("PRAGMA synchronous = NORMAL");
  db.run("PRAGMA cache_size = -4000");
  db.run("PRAGMA wal_autocheckpoint = 1500");
  db.run(
    "CREATE TABLE messages (id INTEGER PRIMARY KEY, conversation INTEGER, role TEXT, content TEXT, at INTEGER) STRICT",
  );
  const insert = db.prepare("INSERT INTO messages (conversation, role, content, at) VALUES (?, ?, ?, ?)");
  const [begin, commit] = [db.prepare("BEGIN IMMEDIATE"), db.prepare("COMMIT")];
  let waiting: { role: string; content: string; resolve: () => void }[] = [];
  const flush = (): void => {
    const batch = waiting;
    waiting = [];
    begin.run();
    for (const { role, content } of batch) insert.run(1, role, content, Date.now());
    commit.run();
    for (const { resolve } of batch) resolve();
  };
  return (role, content) =>
    new Promise((resolve) => {
      waiting.push({ role, content, resolve });
      if (waiting.length === 1) setImmediate(flush);
    });
};
