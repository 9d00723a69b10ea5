/**
 * Days as people count them: the calendar of one time zone. Pure but for a cache of the day it is.
 *
 * What must stay true: a day ends at the moment the date changes in that zone, also where clocks are set forward over
 * midnight. Asking costs two comparisons as long as the day lasts, because every message asks.
 */

const HOUR_MS = 3_600_000;
/** Clocks are set by at most an hour or three, and some zones skipped a date: the next one begins within this. */
const LONGEST_DAY_MS = 50 * HOUR_MS;

/** `2026-11-22` of a moment in this zone. */
const dateIn = (timeZone: string | undefined): ((at: number) => string) => {
  // Sweden writes dates as ISO 8601 does.
  const format = new Intl.DateTimeFormat("sv-SE", {
    ...(timeZone !== undefined && { timeZone }),
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
  });
  return (at) => format.format(at);
};

/** The time zone of this machine. */
export const ownTimeZone = (): string => new Intl.DateTimeFormat().resolvedOptions().timeZone;

export const isTimeZone = (name: string): boolean => {
  try {
    dateIn(name);
    return true;
  } catch {
    return false;
  }
};

/** `timeZone` is asked each time, so that a reloaded config counts at once; undefined: this machine's. */
export const createDays = ({ now, timeZone }: { now: () => number; timeZone: () => string | undefined }) => {
  let zone: string | undefined;
  let date = dateIn(undefined);
  let known = { name: "", from: 1, until: 0 };

  const look = (): typeof known => {
    const at = now();
    const asked = timeZone();
    if (asked === zone && at >= known.from && at < known.until) return known;
    if (asked !== zone) date = dateIn(asked);
    zone = asked;
    const name = date(at);
    let same = at;
    let next = at + LONGEST_DAY_MS;
    while (next - same > 1) {
      const middle = Math.floor((same + next) / 2);
      if (date(middle) === name) same = middle;
      else next = middle;
    }
    known = { name, from: at, until: next };
    return known;
  };

  return {
    /** `2026-11-22`. */
    today: (): string => look().name,
    /** The first moment of tomorrow, in milliseconds. */
    tomorrowAt: (): number => look().until,
    /** The day `days` before today. */
    daysAgo: (days: number): string => {
      const noon = new Date(`${look().name}T12:00:00Z`);
      noon.setUTCDate(noon.getUTCDate() - days);
      return noon.toISOString().slice(0, 10);
    },
    zone: (): string => timeZone() ?? ownTimeZone(),
  };
};

export type Days = ReturnType<typeof createDays>;
