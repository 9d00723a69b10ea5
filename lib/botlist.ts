/** The bots people see: connections grouped by bot. Pure. */
import type { Connection } from "./bots.ts";
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
