/**
 * How much sign-in is used: sign-ins, refusals and requests to each provider, per month, in the store.
 *
 * Counted where they happen. Sign-in calls are exempt from the bot quotas of all three platforms; the free quotas are shown
 * beside the counts so that an admin sees what is not being spent. Their sources are the vendors' documents, named in
 * docs/sign-in/ too.
 */
import type { Log } from "../log.ts";
import type { FreeQuota, SignInCounts } from "../protocol/admin.ts";
import type { Store } from "../store.ts";

/** The vendors' months are China's, which has no summer time. */
const CHINA_MS = 8 * 3600_000;

/** `2026-11`. */
export const monthOf = (at: number): string => new Date(at + CHINA_MS).toISOString().slice(0, 7);

/** The published free quota of bot messages, which sign-in does not touch. */
export const FREE_QUOTA: Readonly<Record<string, FreeQuota>> = {
  feishu: { calls: 10_000, per: "month", asOf: "2024-11-13", source: "custom-app-api-call-limit" },
  dingtalk: { calls: 5_000, per: "month", asOf: "2025-11-19", source: "61815766949" },
  wecom: { calls: 200, per: "member_day", source: "path/90236" },
};

export const createMeter = ({ store, now, log }: { store: Store; now: () => number; log: Log }) => {
  const add = (provider: string, what: "sign_ins" | "refused" | "calls"): void => {
    const count = { month: monthOf(now()), provider, sign_ins: 0, refused: 0, calls: 0, [what]: 1 };
    store.people.count(count).catch((error: unknown) => log("warn", "count_lost", { provider, error: String(error) }));
  };
  return {
    add,
    /** This month's counts of the providers named, zeros included. */
    read: (providers: readonly { id: string; name: string }[]): SignInCounts => {
      const month = monthOf(now());
      const rows = store.people.counts(month);
      return {
        month,
        providers: providers.map(({ id, name }) => {
          const row = rows.find(({ provider }) => provider === id);
          return {
            id,
            name,
            signIns: row?.sign_ins ?? 0,
            refused: row?.refused ?? 0,
            calls: row?.calls ?? 0,
            ...(FREE_QUOTA[id] && { freeBotQuota: { ...FREE_QUOTA[id], spentBySignIn: 0 } }),
          };
        }),
      };
    },
  };
};

export type Meter = ReturnType<typeof createMeter>;
