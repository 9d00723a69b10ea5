/**
 * Who is online, told to everyone who watches: each person hears of the bots they may use, when that list has changed.
 * Owns one timer. Refuses to decide who may see a bot.
 */
import type { Bots } from "./bots.ts";
import type { Streams } from "./streams.ts";

/** "Who is online" goes out at most this often. */
const BOTS_EVENT_MS = 100;

export const createOnline = ({ bots, streams }: { bots: () => Bots; streams: Streams }) => {
  let timer: ReturnType<typeof setTimeout> | undefined;

  const tell = (): void => {
    timer = undefined;
    for (const user of streams.users()) streams.botsToUser(user, bots().list(user));
  };

  return {
    /** Something about the bots changed; told soon, together with what else changes until then. */
    changed: (): void => {
      timer ??= setTimeout(tell, BOTS_EVENT_MS);
    },
    stop: (): void => clearTimeout(timer),
  };
};
