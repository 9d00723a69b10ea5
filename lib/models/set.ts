/**
 * The models of a gateway's config, each a bot on its own socket, started and stopped as the config says.
 *
 * Owns the running bots. What must stay true: an entry that did not change keeps running over a reload.
 */
import type { Bot } from "../../plugin/client.ts";
import type { Config } from "../config.ts";
import type { ModelEntry } from "../config/models.ts";
import type { Log } from "../log.ts";
import { startModelBot } from "./bot.ts";

type Running = { bot: Bot; as: string };

/** The token this gateway accepts for the bot. */
const tokenOf = ({ bots, botTokens }: Config, { id }: ModelEntry): string =>
  bots.get(id)?.tokens[0] ?? botTokens[0] ?? "";

export const createModels = ({ log, env }: { log: Log; env: Record<string, string | undefined> }) => {
  const running = new Map<string, Running>();
  let known: string | undefined;

  return {
    /** Starts what is new, stops what is gone, replaces what changed. `url`: this gateway's own address, once it listens. */
    apply: (config: Config, url = known): void => {
      if (url === undefined) return;
      known = url;
      const wanted = new Map(config.models.map((entry) => [entry.id, entry]));
      const asOf = (entry: ModelEntry): string => JSON.stringify([entry, tokenOf(config, entry), url]);
      for (const [id, { bot, as }] of running) {
        const entry = wanted.get(id);
        if (entry && asOf(entry) === as) continue;
        running.delete(id);
        void bot.close();
      }
      for (const [id, entry] of wanted) {
        if (running.has(id)) continue;
        const bot = startModelBot({ entry, url, token: tokenOf(config, entry), log, env });
        running.set(id, { bot, as: asOf(entry) });
      }
    },

    close: async (): Promise<void> => {
      const bots = [...running.values()];
      running.clear();
      await Promise.all(bots.map(({ bot }) => bot.close()));
    },
  };
};

export type Models = ReturnType<typeof createModels>;
