/**
 * Row ids: one sequence of 53-bit integers that grow with time, shared by every kind of row of one store.
 *
 * The SQLite rowid is the id itself, so no row needs a second unique index, rows of one time stand together on disk, and
 * "older" is "smaller". On the wire they are base36 text, opaque to clients. They are no secret: every read checks the owner.
 */

/** Ids per millisecond before the sequence runs ahead of the clock; 2^53 / 1000 ms reaches the year 2255. */
const PER_MS = 1000;

export type Ids = { next(): number };

/** `floor`: the largest id ever given (from the store), so a clock set back never repeats one. */
export const createIds = (now: () => number, floor = 0): Ids => {
  let last = floor;
  return {
    next: () => {
      last = Math.max(last + 1, now() * PER_MS);
      return last;
    },
  };
};

export const encodeId = (id: number): string => id.toString(36);

/** The id behind `text`, or 0 (which no row has) when it is not one. */
export const decodeId = (text: string): number => {
  if (text.length === 0 || text.length > 11) return 0;
  let id = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    const digit = code >= 48 && code <= 57 ? code - 48 : code >= 97 && code <= 122 ? code - 87 : -1;
    if (digit < 0) return 0;
    id = id * 36 + digit;
  }
  return Number.isSafeInteger(id) ? id : 0;
};
