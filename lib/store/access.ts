/**
 * Who may come in, on disk: login sessions, API keys, bot sessions. Only SHA-256 digests of secrets are stored.
 * Refuses to judge: sessions.ts, keys.ts and bots.ts decide what a row permits.
 */
import type { Ids } from "../ids.ts";
import type { StoreBase } from "./base.ts";

export type SessionRow = { hash: string; user: string; mark: string; created_at: number; expires_at: number };
export type KeyRow = {
  id: number;
  user: string;
  hash: string;
  name: string;
  scope: "chat" | "all";
  bots: string | null;
  created_at: number;
  expires_at: number | null;
  last_used_at: number | null;
};
export type BotSessionRow = {
  bot: string;
  instance: string;
  hash: string;
  previous: string | null;
  updated_at: number;
};

/** A bot that has not come back for this long starts fresh. */
const BOT_SESSION_MS = 30 * 86_400_000;

export const createAccessStore = ({ db, write, now }: StoreBase, ids: Ids) => {
  const sessions = db.prepare<SessionRow, [number]>("SELECT * FROM sessions WHERE expires_at > ?");
  const insertSession = db.prepare(
    "INSERT INTO sessions (hash, user, mark, created_at, expires_at) VALUES ($hash, $user, $mark, $created_at, $expires_at)",
  );
  const markSession = db.prepare("UPDATE sessions SET mark = ? WHERE hash = ?");
  const dropSession = db.prepare("DELETE FROM sessions WHERE hash = ?");
  const dropExpired = db.prepare("DELETE FROM sessions WHERE expires_at <= ?");
  const keys = db.prepare<KeyRow, []>("SELECT * FROM api_keys");
  const keyByHash = db.prepare<KeyRow, [string]>("SELECT * FROM api_keys WHERE hash = ?");
  // Counts commits of other connections: of `nexus key`, while this gateway runs.
  const dataVersion = db.prepare<{ data_version: number }, []>("PRAGMA data_version");
  let seenVersion = dataVersion.get()!.data_version;
  const insertKey = db.prepare(
    `INSERT INTO api_keys (id, user, hash, name, scope, bots, created_at, expires_at)
     VALUES ($id, $user, $hash, $name, $scope, $bots, $created_at, $expires_at)`,
  );
  const dropKey = db.prepare("DELETE FROM api_keys WHERE id = ?");
  const usedKey = db.prepare("UPDATE api_keys SET last_used_at = ? WHERE id = ?");
  const botSession = db.prepare<BotSessionRow, [string, string]>(
    "SELECT * FROM bot_sessions WHERE bot = ? AND instance = ?",
  );
  const botSessionByHash = db.prepare<BotSessionRow, [string]>("SELECT * FROM bot_sessions WHERE hash = ?");
  const putBotSession = db.prepare(
    `INSERT INTO bot_sessions (bot, instance, hash, previous, updated_at) VALUES ($bot, $instance, $hash, $previous, $updated_at)
     ON CONFLICT (bot, instance) DO UPDATE SET hash = $hash, previous = $previous, updated_at = $updated_at`,
  );
  const dropOldBotSessions = db.prepare("DELETE FROM bot_sessions WHERE updated_at < ?");

  return {
    sessions: (): SessionRow[] => sessions.all(now()),
    addSession: (row: SessionRow): Promise<void> =>
      write(() => {
        insertSession.run(row);
      }),
    markSession: (hash: string, mark: string): Promise<void> =>
      write(() => {
        markSession.run(mark, hash);
      }),
    dropSessions: (hashes: string[]): Promise<void> =>
      write(() => {
        for (const hash of hashes) dropSession.run(hash);
      }),

    keys: (): KeyRow[] => keys.all(),
    keyByHash: (hash: string): KeyRow | undefined => keyByHash.get(hash) ?? undefined,
    /** Another process wrote to the store since this was asked last. */
    changedElsewhere: (): boolean => {
      const version = dataVersion.get()!.data_version;
      const changed = version !== seenVersion;
      seenVersion = version;
      return changed;
    },
    addKey: (row: Omit<KeyRow, "id" | "last_used_at">): Promise<KeyRow> =>
      write(() => {
        const id = ids.next();
        insertKey.run({ ...row, id });
        return { ...row, id, last_used_at: null };
      }),
    dropKey: (id: number): Promise<void> =>
      write(() => {
        dropKey.run(id);
      }),
    usedKeys: (used: { id: number; at: number }[]): Promise<void> =>
      write(() => {
        for (const { id, at } of used) usedKey.run(at, id);
      }),

    botSession: (bot: string, instance: string): BotSessionRow | undefined =>
      botSession.get(bot, instance) ?? undefined,
    botSessionByHash: (hash: string): BotSessionRow | undefined => botSessionByHash.get(hash) ?? undefined,
    putBotSession: (row: BotSessionRow): Promise<void> =>
      write(() => {
        putBotSession.run(row);
      }),

    sweep: (): Promise<void> =>
      write(() => {
        dropExpired.run(now());
        dropOldBotSessions.run(now() - BOT_SESSION_MS);
      }),
  };
};

export type AccessStore = ReturnType<typeof createAccessStore>;
