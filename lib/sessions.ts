/**
 * Who is signed in: login sessions and API keys, looked up by the digest of what a request brings.
 *
 * Owns both Maps and is the only code that writes them; the store holds the same, so an update signs nobody out. What must
 * stay true: a session ends with its time, its user, and the password it was made with. Caching digests gained nothing
 * (throwaway measurement), so each request hashes its token.
 */
import { digest, newSecret } from "./auth.ts";
import type { Config } from "./config.ts";
import { decodeId, encodeId } from "./ids.ts";
import type { People } from "./people.ts";
import { Reject, type ApiKey } from "./protocol.ts";
import type { Store } from "./store.ts";
import type { KeyRow } from "./store/access.ts";

export type Session = { hash: string; user: string; mark: string; createdAt: number; expiresAt: number };
export type Key = { row: KeyRow; bots: Set<string> | undefined };

/** Keys of one person: enough for every tool, few enough to look through. */
const MAX_KEYS = 50;

/** What a session is bound to: changes with the password, tells nothing about it. */
const markOf = (password: string | undefined): string => digest(`mark:${password ?? ""}`).slice(0, 16);

export const createSessions = (deps: {
  config: () => Config;
  store: Store;
  people: People;
  now: () => number;
  ended: (access: string) => void;
}) => {
  const { config, store, people, now, ended } = deps;
  const sessions = new Map<string, Session>();
  const keys = new Map<string, Key>();
  const used = new Map<number, number>();

  const addKey = (row: KeyRow): Key => {
    const key = { row, bots: row.bots === null ? undefined : new Set(JSON.parse(row.bots) as string[]) };
    keys.set(row.hash, key);
    return key;
  };

  for (const row of store.access.sessions())
    sessions.set(row.hash, {
      hash: row.hash,
      user: row.user,
      mark: row.mark,
      createdAt: row.created_at,
      expiresAt: row.expires_at,
    });
  for (const row of store.access.keys()) addKey(row);

  const isCurrent = ({ user, mark }: Session): boolean => {
    const entry = people.get(user);
    return entry !== undefined && markOf(entry.password) === mark;
  };

  /** One that `nexus key add` made while we run. */
  const fromStore = (hash: string): Key | undefined => {
    const row = store.access.keyByHash(hash);
    return row && addKey(row);
  };

  const dropSessions = (gone: Session[]): Promise<void> => {
    for (const { hash } of gone) {
      sessions.delete(hash);
      ended(hash);
    }
    return gone.length === 0 ? Promise.resolve() : store.access.dropSessions(gone.map(({ hash }) => hash));
  };

  const toApiKey = ({ row }: Key): ApiKey => ({
    id: encodeId(row.id),
    name: row.name,
    scope: row.scope,
    ...(row.bots !== null && { bots: JSON.parse(row.bots) as string[] }),
    createdAt: row.created_at,
    ...(row.expires_at !== null && { expiresAt: row.expires_at }),
    ...(row.last_used_at !== null && { lastUsedAt: row.last_used_at }),
  });

  /** After a config change, and at the start, since the config may have changed meanwhile: nobody stays who must not. */
  const recheck = (): void => {
    const gone = [...sessions.values()].filter((session) => !isCurrent(session));
    void dropSessions(gone).catch(() => {}); // ended here; what stays on disk is found again at the next start
    for (const { row } of keys.values()) if (!people.has(row.user)) ended(`key:${row.id}`);
  };
  recheck();

  return {
    /** Resolves once the session would survive a restart. Rejects `storage_failed`. */
    create: async (user: string): Promise<{ token: string; session: Session }> => {
      const token = newSecret("nxs_");
      const createdAt = now();
      const session = {
        hash: digest(token),
        user,
        mark: markOf(people.get(user)?.password),
        createdAt,
        expiresAt: createdAt + config().sessionTTL,
      };
      await store.access.addSession({
        hash: session.hash,
        user,
        mark: session.mark,
        created_at: createdAt,
        expires_at: session.expiresAt,
      });
      sessions.set(session.hash, session);
      if (!isCurrent(session)) {
        // The password was changed while this one was being stored: `recheck` could not see it yet.
        await dropSessions([session]);
        throw new Reject("unauthorized");
      }
      return { token, session };
    },

    find: (token: string): Session | undefined => {
      const session = sessions.get(digest(token));
      return session && session.expiresAt > now() && people.has(session.user) ? session : undefined;
    },

    drop: (session: Session): Promise<void> => dropSessions([session]),

    findKey: (secret: string): Key | undefined => {
      const key = keys.get(digest(secret)) ?? fromStore(digest(secret));
      if (!key || !people.has(key.row.user)) return undefined;
      if (key.row.expires_at !== null && key.row.expires_at <= now()) return undefined;
      used.set(key.row.id, now());
      return key;
    },

    keysOf: (user: string): ApiKey[] => [...keys.values()].filter(({ row }) => row.user === user).map(toApiKey),

    /** The secret is in the answer and nowhere else. Rejects `conflict` over MAX_KEYS. */
    createKey: async (
      user: string,
      wanted: { name: string; scope: "chat" | "all"; bots?: string[]; expiresAt?: number },
    ): Promise<ApiKey & { key: string }> => {
      if ([...keys.values()].filter(({ row }) => row.user === user).length >= MAX_KEYS)
        throw new Reject("conflict", {
          zh: `最多 ${MAX_KEYS} 个密钥，请先删除不用的`,
          en: `At most ${MAX_KEYS} keys; delete one first`,
        });
      const secret = newSecret("nxk_");
      const row = await store.access.addKey({
        user,
        hash: digest(secret),
        name: wanted.name,
        scope: wanted.scope,
        bots: wanted.bots ? JSON.stringify(wanted.bots) : null,
        created_at: now(),
        expires_at: wanted.expiresAt ?? null,
      });
      return { ...toApiKey(addKey(row)), key: secret };
    },

    /** Rejects `not_found` for a key that is not this user's. */
    dropKey: async (user: string, id: string): Promise<void> => {
      const key = [...keys.values()].find(({ row }) => row.id === decodeId(id) && row.user === user);
      if (!key) throw new Reject("not_found");
      await store.access.dropKey(key.row.id);
      keys.delete(key.row.hash);
      ended(`key:${key.row.id}`);
    },

    recheck,

    /** Sessions of one person, newest first. */
    of: (user: string): Session[] =>
      [...sessions.values()].filter((one) => one.user === user).sort((a, b) => b.createdAt - a.createdAt),
    all: (): Iterable<Session> => sessions.values(),
    /** Ends these; their streams end with them. */
    end: dropSessions,
    /** How many API keys there are per person. */
    keyCounts: (): Map<string, number> => {
      const counts = new Map<string, number>();
      for (const { row } of keys.values()) counts.set(row.user, (counts.get(row.user) ?? 0) + 1);
      return counts;
    },
    /** Binds a session to the password as it is now, so that `recheck` keeps it. For who just changed their own. */
    keep: async (session: Session): Promise<void> => {
      session.mark = markOf(people.get(session.user)?.password);
      await store.access.markSession(session.hash, session.mark);
    },
    /** A person who is gone takes their keys along; the store has dropped the rows. */
    forgetKeys: (user: string): void => {
      for (const [hash, { row }] of keys)
        if (row.user === user) {
          keys.delete(hash);
          ended(`key:${row.id}`);
        }
    },

    /** Keys that `nexus key remove` took away while we run; call it about once a second. */
    refreshKeys: (): void => {
      if (!store.access.changedElsewhere()) return;
      const there = new Set(store.access.keys().map(({ hash }) => hash));
      for (const [hash, { row }] of keys)
        if (!there.has(hash)) {
          keys.delete(hash);
          ended(`key:${row.id}`);
        }
    },

    /** Expired sessions, and when keys were last used. */
    sweep: (): void => {
      const at = now();
      void dropSessions([...sessions.values()].filter(({ expiresAt }) => expiresAt <= at)).catch(() => {});
      for (const key of keys.values())
        if (key.row.expires_at !== null && key.row.expires_at <= at) ended(`key:${key.row.id}`);
      if (used.size === 0) return;
      const batch = [...used].map(([id, when]) => ({ id, at: when }));
      used.clear();
      for (const { row } of keys.values())
        row.last_used_at = batch.find(({ id }) => id === row.id)?.at ?? row.last_used_at;
      store.access.usedKeys(batch).catch(() => {}); // only a display value
    },
  };
};

export type Sessions = ReturnType<typeof createSessions>;
