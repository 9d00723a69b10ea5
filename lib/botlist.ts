/** The bots people see: connections grouped by bot, and the names a mention may call. */
import type { Connection } from "./bots.ts";
import type { Config } from "./config.ts";
import type { BotInfo } from "./protocol.ts";

const group = (list: Connection[]): BotInfo => {
  const first = list[0]!;
  const { description, avatar, suggestions } = first;
  return {
    id: first.botId,
    name: first.name,
    connectedAt: new Date(Math.min(...list.map((one) => one.connectedAt))).toISOString(),
    instances: list.length,
    busy: list.every((one) => one.inFlight >= one.maxConcurrency),
    caps: [...first.caps],
    ...(description !== undefined && { description }),
    ...(avatar !== undefined && { avatar }),
    ...(suggestions !== undefined && { suggestions }),
  };
};

/** One entry per online bot, oldest first. */
export const listBots = (connections: Iterable<Connection>, allowed: (botId: string) => boolean): BotInfo[] => {
  const groups = new Map<string, Connection[]>();
  for (const one of connections) {
    if (!allowed(one.botId)) continue;
    const list = groups.get(one.botId);
    if (list) list.push(one);
    else groups.set(one.botId, [one]);
  }
  return [...groups.values()].map(group);
};

/** Names of bots that were online are kept for mentions; the oldest goes, so that invented ids cannot fill the memory. */
const MAX_NAMES = 10_000;

/** Everyone configured and everyone seen since the start: tells "offline" from "never heard of". */
export const createBotNames = (config: () => Config) => {
  const seen = new Map<string, string>();
  return {
    remember: ({ botId, name }: Pick<Connection, "botId" | "name">): void => {
      seen.delete(botId);
      seen.set(botId, name);
      if (seen.size > MAX_NAMES) seen.delete(seen.keys().next().value!);
    },
    /** id → name, for mentions. */
    all: (): Map<string, string> =>
      new Map([...[...config().bots].map(([id, entry]) => [id, entry.name ?? id] as const), ...seen]),
  };
};
