/**
 * What admins set about bots on the page, on disk. Only the SHA-256 of a token is stored.
 * Refuses to judge: botsettings.ts decides what of it holds.
 */
import type { StoreBase } from "./base.ts";

export type BotSettingsRow = {
  bot: string;
  /** null: as the bot or config.json says. */
  name: string | null;
  /** JSON list of usernames; null: everybody. */
  users: string | null;
  /** JSON list; null: as config.json or the bot says. */
  pools: string | null;
  max_concurrency: number | null;
  /** SHA-256 of a token of its own. */
  token: string | null;
  disabled: number;
  /** Digest of the entry of config.json it was set over, "" for none. */
  over: string;
  created_at: number;
  updated_at: number;
};

export const createBotSettingsStore = ({ db, write, now }: StoreBase) => {
  const all = db.prepare<BotSettingsRow, []>("SELECT * FROM bot_settings");
  const put = db.prepare(
    `INSERT INTO bot_settings (bot, name, users, pools, max_concurrency, token, disabled, over, created_at, updated_at)
     VALUES ($bot, $name, $users, $pools, $max_concurrency, $token, $disabled, $over, $created_at, $updated_at)
     ON CONFLICT (bot) DO UPDATE SET name = $name, users = $users, pools = $pools, max_concurrency = $max_concurrency,
       token = $token, disabled = $disabled, over = $over, updated_at = $updated_at`,
  );
  const drop = db.prepare("DELETE FROM bot_settings WHERE bot = ?");

  return {
    all: (): BotSettingsRow[] => all.all(),
    /** Resolves once committed. */
    put: async (row: Omit<BotSettingsRow, "updated_at">): Promise<BotSettingsRow> => {
      const whole = { ...row, updated_at: now() };
      await write(() => {
        put.run(whole);
      });
      return whole;
    },
    drop: (bot: string): Promise<void> =>
      write(() => {
        drop.run(bot);
      }),
  };
};

export type BotSettingsStore = ReturnType<typeof createBotSettingsStore>;
