/**
 * API keys of a store, and who is in it, for a command beside the gateway that owns it (or while none runs).
 *
 * What must stay true: one statement per change, so the gateway never waits for us; the gateway sees a new key at its first
 * use and a removed one within a second (sessions.ts). Refuses a store of another version.
 */
import { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createIds } from "../ids.ts";
import { openStore, StoreRefused } from "../store.ts";
import type { KeyRow } from "./access.ts";
import { MIGRATIONS } from "./schema.ts";

const versionOf = (file: string): number => {
  if (!existsSync(file)) return -1;
  const db = new Database(file, { readonly: true });
  try {
    return (db.query("PRAGMA user_version").get() as { user_version: number }).user_version;
  } catch (error) {
    throw new StoreRefused({
      zh: `无法读取 ${file}（${(error as Error).message}）`,
      en: `${file} cannot be read (${(error as Error).message})`,
    });
  } finally {
    db.close();
  }
};

/** How somebody came into the store in `dir` who stands in no config. Undefined: not there, or nothing that can be read. */
export const madeBy = (dir: string, user: string): "page" | "sign-in" | undefined => {
  const file = join(dir, "nexus.db");
  if (!existsSync(file)) return undefined;
  let db: Database | undefined;
  try {
    db = new Database(file, { readonly: true });
    const row = db.query("SELECT made_by FROM people WHERE username = ? AND made_by <> 'config'").get(user);
    return (row as { made_by: "page" | "sign-in" } | null)?.made_by;
  } catch {
    return undefined;
  } finally {
    db?.close();
  }
};

/** Opens the keys of the store in `dir`, making or migrating the store first where no gateway runs. Throws StoreRefused. */
export const openKeyFile = (dir: string, now: () => number) => {
  const file = join(dir, "nexus.db");
  if (versionOf(file) !== MIGRATIONS.length) openStore({ dir, synchronous: "normal", now, log: () => {} }).close();
  const db = new Database(file, { readwrite: true, create: false, strict: true });
  db.run("PRAGMA busy_timeout = 5000");
  const { n } = db.query("SELECT max(id) AS n FROM api_keys").get() as { n: number | null };
  const ids = createIds(now, n ?? 0);

  return {
    /** All, or those of one person; oldest first. */
    list: (user?: string): KeyRow[] =>
      db
        .query<KeyRow, [string | null]>("SELECT * FROM api_keys WHERE ?1 IS NULL OR user = ?1 ORDER BY id")
        .all(user ?? null),
    add: (row: Omit<KeyRow, "id" | "last_used_at">): number => {
      const id = ids.next();
      db.query(
        `INSERT INTO api_keys (id, user, hash, name, scope, bots, created_at, expires_at)
         VALUES ($id, $user, $hash, $name, $scope, $bots, $created_at, $expires_at)`,
      ).run({ ...row, id });
      return id;
    },
    /** False when there is none with this id. */
    remove: (id: number): boolean => db.query("DELETE FROM api_keys WHERE id = ?").run(id).changes > 0,
    /** Somebody who signed in from elsewhere and stands in no config. */
    knows: (user: string): boolean => db.query("SELECT 1 FROM people WHERE username = ?").get(user) !== null,
    close: (): void => db.close(),
  };
};

export type KeyFile = ReturnType<typeof openKeyFile>;
