/**
 * Who used what: messages sent per person and day, turns that ended per person, bot and day.
 *
 * What must stay true: a message is counted in the commit that stores it and a turn in the commit that ends it, so the
 * figures are exact after any kill; on the hot path each costs one addition in memory, written once per person and commit.
 * Counting outlives conversations that are deleted: deleting one's messages frees no quota. Refuses to judge: quota.ts does.
 */
import type { Usage } from "../protocol.ts";
import type { StoreBase } from "./base.ts";

export type Outcome = "done" | "failed" | "cancelled";

/** A sum; `chars`, UTF-16 units of answers. */
export type UsageFigures = {
  messages: number;
  done: number;
  failed: number;
  cancelled: number;
  chars: number;
  prompt_tokens: number;
  completion_tokens: number;
};
export type UsageRow = UsageFigures & { day: string; user: string; bot: string };

/** Kept long enough to compare a month with the same one a year before. */
const KEEP_DAYS = 400;

type Ended = Omit<UsageRow, "messages">;

/** What one transaction has counted so far; given to the committer, which calls these around each transaction. */
export type Tally = { reset(): void; store(): void };

/** `today`: the name of the day it is (days.ts). */
export const createUsageStore = ({ db, write }: Pick<StoreBase, "db" | "write">, today: () => string) => {
  let sent = new Map<string, number>();
  let ended = new Map<string, Ended>();

  const addSent = db.prepare(
    `INSERT INTO usage_sent (day, user, messages) VALUES (?, ?, ?)
     ON CONFLICT (day, user) DO UPDATE SET messages = messages + excluded.messages`,
  );
  const addEnded = db.prepare(
    `INSERT INTO usage_turns (day, user, bot, done, failed, cancelled, chars, prompt_tokens, completion_tokens)
     VALUES ($day, $user, $bot, $done, $failed, $cancelled, $chars, $prompt_tokens, $completion_tokens)
     ON CONFLICT (day, user, bot) DO UPDATE SET done = done + $done, failed = failed + $failed,
       cancelled = cancelled + $cancelled, chars = chars + $chars, prompt_tokens = prompt_tokens + $prompt_tokens,
       completion_tokens = completion_tokens + $completion_tokens`,
  );
  const sentOn = db.prepare<{ messages: number }, [string, string]>(
    "SELECT messages FROM usage_sent WHERE day = ? AND user = ?",
  );
  const allSentOn = db.prepare<{ user: string; messages: number }, [string]>(
    "SELECT user, messages FROM usage_sent WHERE day = ? ORDER BY user",
  );
  const endedOn = db.prepare<Ended, [string]>("SELECT * FROM usage_turns WHERE day = ? ORDER BY user, bot");
  const sentSum = db.prepare<{ messages: number; people: number }, [string]>(
    "SELECT coalesce(sum(messages), 0) AS messages, count(*) AS people FROM usage_sent WHERE day = ? AND messages > 0",
  );
  const endedSum = db.prepare<{ done: number; failed: number; cancelled: number }, [string]>(
    `SELECT coalesce(sum(done), 0) AS done, coalesce(sum(failed), 0) AS failed, coalesce(sum(cancelled), 0) AS cancelled
     FROM usage_turns WHERE day = ?`,
  );
  const dropSent = db.prepare("DELETE FROM usage_sent WHERE day < ?");
  const dropEnded = db.prepare("DELETE FROM usage_turns WHERE day < ?");

  return {
    /** For the committer. */
    tally: {
      reset: () => {
        if (sent.size > 0) sent = new Map();
        if (ended.size > 0) ended = new Map();
      },
      store: () => {
        if (sent.size === 0 && ended.size === 0) return;
        const day = today();
        for (const [user, messages] of sent) addSent.run(day, user, messages);
        for (const row of ended.values()) {
          row.day = day;
          addEnded.run(row);
        }
      },
    } satisfies Tally,

    /** A message of this person is being stored; call it inside a write. */
    sent: (user: string): void => {
      sent.set(user, (sent.get(user) ?? 0) + 1);
    },
    /** A turn is being ended; call it inside a write. */
    ended: (turn: { user: string; bot: string; state: Outcome; chars: number; usage: Usage | null }): void => {
      const key = `${turn.user}\n${turn.bot}`;
      let row = ended.get(key);
      if (!row) {
        row = {
          day: "",
          user: turn.user,
          bot: turn.bot,
          done: 0,
          failed: 0,
          cancelled: 0,
          chars: 0,
          prompt_tokens: 0,
          completion_tokens: 0,
        };
        ended.set(key, row);
      }
      row[turn.state]++;
      row.chars += turn.chars;
      row.prompt_tokens += turn.usage?.prompt_tokens ?? 0;
      row.completion_tokens += turn.usage?.completion_tokens ?? 0;
    },

    /** Messages this person has sent today. */
    sentToday: (user: string): number => sentOn.get(today(), user)?.messages ?? 0,
    /** The same of everybody who sent any. */
    allSentToday: (): Map<string, number> =>
      new Map(allSentOn.all(today()).map(({ user, messages }) => [user, messages])),
    /** What was counted on one day. Messages stand in rows whose bot is "". */
    on: (day: string): UsageRow[] => [
      ...allSentOn.all(day).map(({ user, messages }) => ({
        day,
        user,
        bot: "",
        messages,
        done: 0,
        failed: 0,
        cancelled: 0,
        chars: 0,
        prompt_tokens: 0,
        completion_tokens: 0,
      })),
      ...endedOn.all(day).map((row) => ({ ...row, messages: 0 })),
    ],
    /** The same summed over everybody; `people`: who sent something. */
    totals: (day: string) => ({ ...sentSum.get(day)!, ...endedSum.get(day)! }),

    /** `before`: of days KEEP_DAYS ago; asked by the caller, who knows the calendar. */
    keepDays: KEEP_DAYS,
    sweep: (before: string): Promise<void> =>
      write(() => {
        dropSent.run(before);
        dropEnded.run(before);
      }),
  };
};

export type UsageStore = ReturnType<typeof createUsageStore>;
