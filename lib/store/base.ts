/** What every part of the store is given: the database, the group commit, the clock and the revision counter. */
import type { Database } from "bun:sqlite";
import type { Committer } from "./commit.ts";

export type StoreBase = {
  db: Database;
  write: Committer["write"];
  now: () => number;
  /** The next revision; call it inside a write. */
  nextRev: () => number;
};
