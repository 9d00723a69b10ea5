/**
 * People made by sign-in (and by admins), on disk, and how often sign-in was used per month.
 * Refuses to judge: people.ts decides who of these rows exists.
 */
import type { StoreBase } from "./base.ts";

export type PersonRow = {
  username: string;
  /** `config`: a user of config.json, of whom only the picture is kept here. */
  made_by: "sign-in" | "page" | "config";
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

/** What an admin set about a person, of config.json or made. */
export type PersonSettingsRow = {
  username: string;
  disabled_at: number | null;
  /** 0: no limit; null: as the person's entry says. */
  messages_per_day: number | null;
  messages_over: number | null;
  turns_at_once: number | null;
  /** argon2id, for users of config.json. */
  password: string | null;
  password_over: string | null;
  updated_at: number;
};

/** What one provider was used for in one month; `month` is `2026-11`. */
export type SignInCount = { month: string; provider: string; sign_ins: number; refused: number; calls: number };

export const createPeopleStore = ({ db, write, now }: StoreBase) => {
  const all = db.prepare<PersonRow, []>("SELECT * FROM people");
  const put = db.prepare(
    `INSERT INTO people (username, made_by, display_name, password, role, avatar, avatar_source, created_at, updated_at)
     VALUES ($username, $made_by, $display_name, $password, $role, $avatar, $avatar_source, $created_at, $updated_at)
     ON CONFLICT (username) DO UPDATE SET display_name = $display_name, password = $password, role = $role,
       avatar = $avatar, avatar_source = $avatar_source, updated_at = $updated_at`,
  );
  const drop = db.prepare("DELETE FROM people WHERE username = ?");
  const allSettings = db.prepare<PersonSettingsRow, []>("SELECT * FROM person_settings");
  const putSettings = db.prepare(
    `INSERT INTO person_settings (username, disabled_at, messages_per_day, messages_over, turns_at_once, password,
       password_over, updated_at)
     VALUES ($username, $disabled_at, $messages_per_day, $messages_over, $turns_at_once, $password, $password_over,
       $updated_at)
     ON CONFLICT (username) DO UPDATE SET disabled_at = $disabled_at, messages_per_day = $messages_per_day,
       messages_over = $messages_over, turns_at_once = $turns_at_once, password = $password,
       password_over = $password_over, updated_at = $updated_at`,
  );
  const dropSettings = db.prepare("DELETE FROM person_settings WHERE username = ?");
  const dropKeys = db.prepare("DELETE FROM api_keys WHERE user = ?");
  const dropSessions = db.prepare("DELETE FROM sessions WHERE user = ?");
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
    /** Everything that would let somebody of this name in again goes with the person. */
    drop: (username: string): Promise<void> =>
      write(() => {
        drop.run(username);
        dropSettings.run(username);
        dropKeys.run(username);
        dropSessions.run(username);
      }),
    settings: (): PersonSettingsRow[] => allSettings.all(),
    putSettings: async (row: Omit<PersonSettingsRow, "updated_at">): Promise<PersonSettingsRow> => {
      const whole = { ...row, updated_at: now() };
      await write(() => {
        putSettings.run(whole);
      });
      return whole;
    },
    count: (add: SignInCount): Promise<void> =>
      write(() => {
        count.run(add);
      }),
    counts: (month: string): SignInCount[] => counts.all(month),
  };
};

export type PeopleStore = ReturnType<typeof createPeopleStore>;
