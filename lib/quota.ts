/**
 * How much a person may send: messages per day and turns at once, as config.json or an admin set them.
 *
 * What must stay true: what was sent is what the store counted, so a restart or a deleted conversation gives nothing back;
 * two messages at the same moment never both take the last place. Who has no limit costs one comparison.
 */
import { NO_LIMIT } from "./config/defaults.ts";
import type { Config } from "./config.ts";
import type { Days } from "./days.ts";
import type { People } from "./people.ts";
import { Reject } from "./protocol.ts";
import type { Store } from "./store.ts";

/** Seconds after which somebody with too many open turns may look again. */
const OPEN_RETRY_S = 5;

export const createQuota = (deps: {
  config: () => Config;
  people: People;
  store: Store;
  days: Days;
  now: () => number;
  refused: (kind: "day" | "open") => void;
}) => {
  const { config, people, store, days, now, refused } = deps;
  /** Let through, and not yet counted by the store. */
  const starting = new Map<string, number>();

  const limitOf = (user: string): number => people.get(user)?.messagesPerDay ?? NO_LIMIT;

  const full = (limit: number): Reject => {
    refused("day");
    const waitMs = days.tomorrowAt() - now();
    const zone = days.zone();
    return new Reject(
      "rate_limited",
      {
        zh: `今天的 ${limit} 条消息已经用完，明天 0 点（${zone}）恢复`,
        en: `Today's ${limit} messages are used up; there will be more at midnight (${zone})`,
      },
      waitMs / 1000,
    );
  };

  return {
    limitOf,
    /** Open turns this person may have; NO_LIMIT for none. */
    openLimitOf: (user: string): number => people.get(user)?.turnsAtOnce ?? config().limits.turnsPerUser,

    /**
     * Takes a place of today's for a message that is about to be stored. The returned function is called when it is stored
     * or was refused. Rejects `rate_limited`, with the time until midnight.
     */
    take: (user: string): (() => void) => {
      const limit = limitOf(user);
      if (limit >= NO_LIMIT) return () => {};
      const before = starting.get(user) ?? 0;
      if (store.usage.sentToday(user) + before >= limit) throw full(limit);
      starting.set(user, before + 1);
      return () => {
        const left = (starting.get(user) ?? 1) - 1;
        if (left === 0) starting.delete(user);
        else starting.set(user, left);
      };
    },

    /** Rejects `rate_limited` when `open` turns are as many as this person may have. */
    checkOpen: (user: string, open: number): void => {
      const most = people.get(user)?.turnsAtOnce ?? config().limits.turnsPerUser;
      if (most <= 0 || open < most) return;
      refused("open");
      throw new Reject(
        "rate_limited",
        {
          zh: `同时进行的对话过多（上限 ${most}），请等前面的回答完成`,
          en: `Too many open turns (at most ${most}); wait for an answer`,
        },
        OPEN_RETRY_S,
      );
    },
  };
};

export type Quota = ReturnType<typeof createQuota>;
