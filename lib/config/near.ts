/** The name somebody probably meant. Used where an unknown field, user or command is refused. */

/** Edits (insert, delete, replace, swap of neighbours) between two short words. */
const distance = (a: string, b: string): number => {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        next[j] = Math.min(next[j]!, before[j - 2]! + 1);
    }
    before = row;
    row = next;
  }
  return row[b.length]!;
};

/** Longer words are not typing mistakes of ours, and comparing them costs. */
const LONGEST = 64;

/** The one of `known` nearest to `word` (case, `_` and `-` do not count), if it is near enough to be meant. */
export const nearest = (word: string, known: Iterable<string>): string | undefined => {
  if (word.length > LONGEST) return undefined;
  const plain = (text: string): string => text.toLowerCase().replace(/[_-]/g, "");
  let best: { name: string; edits: number } | undefined;
  for (const name of known) {
    if (name.length > LONGEST) continue;
    const edits = distance(plain(word), plain(name));
    if (!best || edits < best.edits) best = { name, edits };
  }
  // A third of the word may be wrong: "prot" is port, "cat" is not chat's neighbour's neighbour.
  return best && best.edits <= Math.max(1, Math.floor(Math.min(plain(word).length, 9) / 3)) ? best.name : undefined;
};
