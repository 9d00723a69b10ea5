/**
 * The audit log on disk: who did what, newest kept. Refuses to know what the actions mean: audit.ts does.
 */
import type { Ids } from "../ids.ts";
import type { StoreBase } from "./base.ts";

export type AuditRow = {
  id: number;
  /** Username; "" for somebody who is not signed in. */
  actor: string;
  action: string;
  /** The person, bot, turn, … it was done to; "" for none. */
  target: string;
  /** What changed, as JSON without secrets; "" for nothing more. */
  detail: string;
  address: string;
  created_at: number;
};

/** About 20 MB; a flood of failed sign-ins pushes out old entries, it does not fill the disk. */
const MOST_ROWS = 100_000;

export const createAuditStore = ({ db, write, now }: StoreBase, ids: Ids) => {
  const insert = db.prepare(
    `INSERT INTO audit (id, actor, action, target, detail, address, created_at)
     VALUES ($id, $actor, $action, $target, $detail, $address, $created_at)`,
  );
  const page = db.prepare<AuditRow, [{ before: number; action: string; who: string; limit: number }]>(
    `SELECT * FROM audit WHERE id < $before AND ($action = '' OR action = $action)
     AND ($who = '' OR actor = $who OR target = $who) ORDER BY id DESC LIMIT $limit`,
  );
  const trim = db.prepare("DELETE FROM audit WHERE id <= (SELECT id FROM audit ORDER BY id DESC LIMIT 1 OFFSET ?)");

  return {
    /** Resolves once committed. */
    add: (entry: Omit<AuditRow, "id" | "created_at">): Promise<void> =>
      write(() => {
        insert.run({ ...entry, id: ids.next(), created_at: now() });
      }),
    /** Newest first, before `before`; `action` and `who` (actor or target) narrow it, "" does not. */
    list: (limit: number, before: number, action: string, who: string): AuditRow[] =>
      page.all({ before, action, who, limit }),
    sweep: (): Promise<void> =>
      write(() => {
        trim.run(MOST_ROWS);
      }),
  };
};

export type AuditStore = ReturnType<typeof createAuditStore>;
