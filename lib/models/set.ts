/**
 * The models of a gateway's config, each a bot on its own socket, started and stopped as the config says.
 *
 * Owns the running bots. What must stay true: an entry that did not change keeps running over a reload, whatever became of
 * tokens; one that changed or went away finishes what it is saying, beside its successor; when the gateway stops, what is not
 * finished is left to its next start.
 */
import type { Bot, BotState } from "../../plugin/client.ts";
import type { Config } from "../config.ts";
import type { ModelEntry } from "../config/models.ts";
import type { Log } from "../log.ts";
import { startModelBot } from "./bot.ts";

type Running = { bot: Bot; as: string; instanceId: string };

/**
 * Another for an entry that was edited, so that both can be connected; the same one after a restart, so that it takes its
 * turns back. Secrets do not count: this is shown to admins.
 */
const instanceOf = ({ key: _key, token: _token, ...shown }: ModelEntry): string =>
  new Bun.CryptoHasher("sha256").update(JSON.stringify(shown)).digest("hex").slice(0, 8);

/** `token`: the secret by which the gateway knows its own; that of an entry is for `nexus bots`. */
export const createModels = (deps: {
  log: Log;
  env: Record<string, string | undefined>;
  token: string;
  /** What their programs write to their standard error. */
  stderr: (text: string) => void;
}) => {
  const { log, env, token, stderr } = deps;
  const running = new Map<string, Running>();
  /** They finish what they are saying. */
  const leaving = new Set<Bot>();
  let known: string | undefined;

  const leave = async (bot: Bot): Promise<void> => {
    leaving.add(bot);
    await bot.drain();
    await bot.close();
    leaving.delete(bot);
  };

  /** The one before goes when this one is there, so that there is always somebody to ask. */
  const start = (entry: ModelEntry, url: string, as: string, before: Running | undefined): void => {
    const instanceId = instanceOf(entry);
    let old = before?.bot;
    if (old) leaving.add(old);
    const onState = ({ state }: BotState): void => {
      if (!old || state === "connecting") return;
      const going = old;
      old = undefined;
      if (before?.instanceId !== instanceId) return void leave(going);
      // Only its key changed: it is the same instance, and the successor is given its turns.
      void going.close({ keepTurns: true }).then(() => leaving.delete(going));
    };
    const bot = startModelBot({ entry, url, token, log, env, stderr, instanceId, onState });
    running.set(entry.id, { bot, as, instanceId });
  };

  return {
    /** Starts what is new, lets go what is gone, replaces what changed. `url`: this gateway's own address, once it listens. */
    apply: (config: Config, url = known): void => {
      if (url === undefined) return;
      known = url;
      const wanted = new Set(config.models.map(({ id }) => id));
      for (const [id, { bot }] of running) {
        if (wanted.has(id)) continue;
        running.delete(id);
        void leave(bot);
      }
      for (const { token: _token, ...entry } of config.models) {
        const as = JSON.stringify([entry, url]);
        const before = running.get(entry.id);
        if (before?.as !== as) start(entry, url, as, before);
      }
    },

    close: async (): Promise<void> => {
      const bots = [...[...running.values()].map(({ bot }) => bot), ...leaving];
      running.clear();
      await Promise.all(bots.map((bot) => bot.close({ keepTurns: true })));
    },
  };
};

export type Models = ReturnType<typeof createModels>;
