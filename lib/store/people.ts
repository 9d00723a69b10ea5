/**
 * People made by sign-in (and by admins), on disk, and how often sign-in was used per month.
 * Refuses to judge: people.ts decides who of these rows exists.
 */
import type { StoreBase } from "./base.ts";

export type PersonRow = {
  username: string;
  display_name: string;
  /** argon2id, for people who may also type a password; null: signs in by identity only. */
  password: string | null;
  role: "admin" | null;
  /** Attachment id of the picture kept here. */
  avatar: number | null;
  /** Where the picture came from: the same address is not fetched again. */
  avatar_source: string | null;
  created_at: number;
  updated_at: number;
};

/** What one provider was used for in one month; `month` is `2026-11`. */
export type SignInCount = { month: string; provider: string; sign_ins: number; refused: number; calls: number };

export const createPeopleStore = ({ db, write, now }: StoreBase) => {
  const all = db.prepare<PersonRow, []>("SELECT * FROM people");
  const put = db.prepare(
    `INSERT INTO people (username, display_name, password, role, avatar, avatar_source, created_at, updated_at)
     VALUES ($username, $display_name, $password, $role, $avatar, $avatar_source, $created_at, $updated_at)
     ON CONFLICT (username) DO UPDATE SET display_name = $display_name, password = $password, role = $role,
       avatar = $avatar, avatar_source = $avatar_source, updated_at = $updated_at`,
  );
  const drop = db.prepare("DELETE FROM people WHERE username = ?");
  const count = db.prepare(
    `INSERT INTO sign_ins (month, provider, sign_ins, refused, calls) VALUES ($month, $provider, $sign_ins, $refused, $calls)
     ON CONFLICT (month, provider) DO UPDATE SET sign_ins = sign_ins + $sign_ins, refused = refused + $refused,
       calls = calls + $calls`,
  );
  const counts = db.prepare<SignInCount, [string]>("SELECT * FROM sign_ins WHERE month = ? ORDER BY provider");

  return {
    all: (): PersonRow[] => all.all(),
    /** Adds the person or replaces what is known of them. Resolves once committed. */
    put: async (row: Omit<PersonRow, "updated_at">): Promise<PersonRow> => {
      const whole = { ...row, updated_at: now() };
      await write(() => {
        put.run(whole);
      });
      return whole;
    },
    drop: (username: string): Promise<void> =>
      write(() => {
        drop.run(username);
      }),
    count: (add: SignInCount): Promise<void> =>
      write(() => {
        count.run(add);
      }),
    counts: (month: string): SignInCount[] => counts.all(month),
  };
};

export type PeopleStore = ReturnType<typeof createPeopleStore>;
