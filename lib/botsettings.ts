/**
 * What admins set about bots on the page, laid over config.json: names, who may use them, tokens, disabled.
 *
 * Owns the Map of it and is the only code that writes it. What must stay true: what the page set holds until the entry of
 * config.json it was set over changes; then the file counts again, because somebody edited it later. Disabled holds until
 * it is lifted. Refuses to touch connections: bots.ts checks again after each change.
 */
import { digest, newSecret } from "./auth.ts";
import type { BotEntry, Config } from "./config.ts";
import { Reject } from "./protocol.ts";
import type { Store } from "./store.ts";
import type { BotSettingsRow } from "./store/bots.ts";

export type BotChange = {
  name?: string | null | undefined;
  users?: string[] | null | undefined;
  pools?: string[] | null | undefined;
  maxConcurrency?: number | null | undefined;
  disabled?: boolean | undefined;
  /** Makes a new token of its own; the ones before count no more. */
  newToken?: boolean | undefined;
};

/** Changes with anything in the entry; tells nothing of its tokens. */
const markOf = (entry: BotEntry | undefined): string =>
  entry === undefined
    ? ""
    : digest(JSON.stringify({ ...entry, users: entry.users && [...entry.users], tokens: entry.tokens })).slice(0, 16);

const listOf = (json: string | null): string[] | undefined =>
  json === null ? undefined : (JSON.parse(json) as string[]);

const merged = (entry: BotEntry | undefined, row: BotSettingsRow): BotEntry => {
  const off = row.disabled === 1 ? { disabled: true as const } : {};
  if (row.over !== markOf(entry)) return { tokens: [], ...entry, ...off };
  const users = listOf(row.users);
  const pools = listOf(row.pools);
  // The list of the file is not taken over: the row has it, changed or not, and none there means everybody.
  const { users: _, ...rest } = entry ?? { tokens: [] };
  return {
    ...rest,
    ...(users ? { users: new Set(users) } : {}),
    ...(row.token !== null ? { tokens: [], tokenDigests: [row.token] } : {}),
    ...(row.name !== null && { name: row.name }),
    ...(pools && { pools }),
    ...(row.max_concurrency !== null && { maxConcurrency: row.max_concurrency }),
    ...off,
  };
};

export const createBotSettings = ({ store, now }: { store: Store; now: () => number }) => {
  const rows = new Map<string, BotSettingsRow>();
  for (const row of store.botSettings.all()) rows.set(row.bot, row);

  return {
    /** config.json with the page's settings over it. */
    over: (file: Config): Config => {
      if (rows.size === 0) return file;
      const bots = new Map(file.bots);
      for (const row of rows.values()) bots.set(row.bot, merged(file.bots.get(row.bot), row));
      return { ...file, bots };
    },
    has: (bot: string): boolean => rows.has(bot),
    createdAt: (bot: string): number | undefined => rows.get(bot)?.created_at,
    /**
     * Changes what the page says of a bot. Resolves once stored, with the new token when one was asked for. Rejects
     * `conflict` when a bot without a token of its own would get users or pools, since others could take its name, and when
     * a model of the gateway would get a token, which would let nobody in.
     */
    change: async (file: Config, bot: string, change: BotChange): Promise<{ token?: string }> => {
      const entry = file.bots.get(bot);
      const isModel = file.models.some(({ id }) => id === bot);
      if (isModel && change.newToken)
        throw new Reject("conflict", {
          zh: "这是网关自己的模型（config.json 的 models）：它不需要令牌，别的机器人也不能用它的名字",
          en: "a model of the gateway itself (models in config.json): it needs no token, and no other bot may use its name",
        });
      const mark = markOf(entry);
      const had = rows.get(bot);
      const holds = had && had.over === mark ? had : undefined;
      const secret = change.newToken ? newSecret("nxb_") : undefined;
      const ofFile = entry?.users ? JSON.stringify([...entry.users].sort()) : null;
      const kept = <T>(given: T | null | undefined, before: T | null): T | null =>
        given === undefined ? before : given;
      const json = (list: string[] | null | undefined): string | null | undefined => list && JSON.stringify(list);
      const row: Omit<BotSettingsRow, "updated_at"> = {
        bot,
        name: kept(change.name, holds?.name ?? null),
        users: kept(json(change.users), holds ? holds.users : ofFile),
        pools: kept(json(change.pools), holds?.pools ?? null),
        max_concurrency: kept(change.maxConcurrency, holds?.max_concurrency ?? null),
        token: secret ? digest(secret) : (holds?.token ?? null),
        disabled: (change.disabled ?? had?.disabled === 1) ? 1 : 0,
        over: mark,
        created_at: had?.created_at ?? now(),
      };
      const own = row.token !== null || (entry?.tokens.length ?? 0) > 0;
      if (!own && !isModel && (row.users !== null || row.pools !== null))
        throw new Reject("conflict", {
          zh: "限定了用户或池的机器人必须有自己的令牌，否则任何机器人都能冒用这个名字；请先为它生成令牌",
          en: "a bot with users or pools needs a token of its own, or any bot could take its name; make one first",
        });
      rows.set(bot, await store.botSettings.put(row));
      return secret === undefined ? {} : { token: secret };
    },

    /** What the page said of it is forgotten; config.json and the shared token count again. */
    drop: async (bot: string): Promise<void> => {
      await store.botSettings.drop(bot);
      rows.delete(bot);
    },
  };
};

export type BotSettings = ReturnType<typeof createBotSettings>;
