/**
 * Who exists: the users of config.json and the people that sign-in (or an admin) made, in one Map, with what admins set
 * about them.
 *
 * Owns that Map and is the only code that writes it. What must stay true: config.json comes first, so nobody made by
 * sign-in can take or shadow a user of the file; an identity belongs to one person; a person whose way in was taken out of
 * the config does not exist until it comes back, and neither does who is disabled; a quota or password set on the page
 * holds until the value in config.json that it replaced changes. Refuses to know how anybody proves who they are.
 */
import type { Config, UserEntry } from "./config.ts";
import { foldIdentity, opensTo } from "./config/signin.ts";
import type { UserInfo } from "./protocol.ts";
import { attachmentUrl } from "./store/rows.ts";
import { NO_LIMIT } from "./config/defaults.ts";
import type { Store } from "./store.ts";
import { digest } from "./auth.ts";
import type { PersonRow, PersonSettingsRow } from "./store/people.ts";

/** `avatar`: attachment id. `turnsAtOnce`: where an admin set another limit than limits.turnsPerUser. */
export type Person = UserEntry & { avatar?: number; turnsAtOnce?: number };

/** Where a person comes from: the file, an admin, or signing in with an identity. */
export type Source = "config" | "page" | "sign-in";

/** Also somebody who is disabled. `messagesPerDay` and `turnsAtOnce` only where an admin set them; 0: no limit. */
export type Listed = {
  username: string;
  person: Person;
  source: Source;
  disabledAt?: number;
  set: { messagesPerDay?: number; turnsAtOnce?: number };
  createdAt?: number;
};

/** null: as config.json says. `password`: argon2id. */
export type PersonChange = {
  displayName?: string | undefined;
  role?: "admin" | "user" | undefined;
  password?: string | undefined;
  disabled?: boolean | undefined;
  messagesPerDay?: number | null | undefined;
  turnsAtOnce?: number | null | undefined;
};

export type NewPerson = { username: string; displayName: string; password?: string; role?: "admin" };

/** Tells whether a password is still the one that was replaced, and little else about it. */
const markOf = (password: string | undefined): string => digest(`over:${password ?? ""}`).slice(0, 8);
const none = (limit: number): number => (limit === 0 ? NO_LIMIT : limit);

const personOf = (row: PersonRow): Person => ({
  displayName: row.display_name,
  ...(row.password !== null && { password: row.password }),
  ...(row.role !== null && { role: row.role }),
  ...(row.avatar !== null && { avatar: row.avatar }),
  identities: [],
  messagesPerDay: NO_LIMIT,
});

export const createPeople = ({ config, store, now }: { config: () => Config; store: Store; now: () => number }) => {
  const rows = new Map<string, PersonRow>();
  for (const row of store.people.all()) rows.set(row.username, row);
  const settings = new Map<string, PersonSettingsRow>();
  for (const row of store.people.settings()) settings.set(row.username, row);

  // Made once per config, because a reload replaces the object.
  let madeFor: Config | undefined;
  let people = new Map<string, Person>();
  let owners = new Map<string, string>();
  /** Those who are disabled too. */
  let everyone = new Map<string, Person>();
  let version = 0;

  const withSettings = (person: Person, row: PersonSettingsRow): Person => ({
    ...person,
    ...(row.messages_per_day !== null &&
      row.messages_over === person.messagesPerDay && { messagesPerDay: none(row.messages_per_day) }),
    ...(row.turns_at_once !== null && { turnsAtOnce: none(row.turns_at_once) }),
    ...(row.password !== null && row.password_over === markOf(person.password) && { password: row.password }),
  });

  const exists = (row: PersonRow): boolean =>
    row.made_by !== "config" &&
    !config().users.has(row.username) &&
    !owners.has(foldIdentity(row.username)) &&
    opensTo(config().signIn, row.username);

  const current = (): Map<string, Person> => {
    if (madeFor === config()) return people;
    madeFor = config();
    people = new Map(madeFor.users);
    owners = new Map();
    for (const [name, { identities }] of madeFor.users)
      for (const identity of identities) owners.set(foldIdentity(identity), name);
    for (const [name, row] of rows) {
      const avatar = row.avatar === null ? undefined : row.avatar;
      const inConfig = madeFor.users.get(name);
      // A user of the file may have a picture from signing in; everything else about them is the file's.
      if (inConfig) people.set(name, avatar === undefined ? inConfig : { ...inConfig, avatar });
      else if (exists(row)) people.set(name, personOf(row));
    }
    everyone = new Map(people);
    for (const [name, row] of settings) {
      const person = people.get(name);
      if (!person) continue;
      const changed = withSettings(person, row);
      everyone.set(name, changed);
      if (row.disabled_at === null) people.set(name, changed);
      else people.delete(name);
    }
    version++;
    return people;
  };

  const keep = async (row: Omit<PersonRow, "updated_at">): Promise<void> => {
    const stored = await store.people.put(row);
    rows.set(stored.username, stored);
    madeFor = undefined;
  };

  const get = (username: string): Person | undefined => current().get(username);

  const keepSettings = async (username: string, change: Partial<PersonSettingsRow>): Promise<void> => {
    const before = settings.get(username);
    const row = await store.people.putSettings({
      username,
      disabled_at: before?.disabled_at ?? null,
      messages_per_day: before?.messages_per_day ?? null,
      messages_over: before?.messages_over ?? null,
      turns_at_once: before?.turns_at_once ?? null,
      password: before?.password ?? null,
      password_over: before?.password_over ?? null,
      ...change,
    });
    settings.set(username, row);
    madeFor = undefined;
  };

  /** What config.json says of them, without what was set over it. */
  const inFile = (username: string): UserEntry | undefined => config().users.get(username);

  const sourceOf = (username: string): Source =>
    inFile(username) ? "config" : username.includes(":") ? "sign-in" : "page";

  return {
    get,
    has: (username: string): boolean => current().has(username),
    /** Everybody by username; the Map is replaced when anything changes. */
    all: (): ReadonlyMap<string, Person> => current(),
    /** Changes whenever `all` does, for what is computed of everybody. */
    version: (): number => {
      current();
      return version;
    },

    /** The person this identity signs in: the config user that lists it, else the one it made. Undefined: nobody yet. */
    identity: (key: string): string | undefined => {
      const made = current().has(key) && !madeFor!.users.has(key) ? key : undefined;
      return owners.get(foldIdentity(key)) ?? made;
    },

    /** Makes a person. Resolves once stored; does nothing to one who exists. */
    add: async ({ username, displayName, password, role }: NewPerson): Promise<void> => {
      if (current().has(username)) return;
      await keep({
        username,
        made_by: username.includes(":") ? "sign-in" : "page",
        display_name: displayName,
        password: password ?? null,
        role: role ?? null,
        avatar: null,
        avatar_source: null,
        created_at: now(),
      });
    },

    /** Takes over what the identity provider says today. For users of config.json only the picture counts. */
    update: async (
      username: string,
      change: { displayName?: string; avatar?: { id: number; source: string } },
    ): Promise<void> => {
      const row = rows.get(username);
      if (!get(username)) return;
      await keep({
        username,
        made_by: row?.made_by ?? "config",
        display_name: change.displayName ?? row?.display_name ?? username,
        password: row?.password ?? null,
        role: row?.role ?? null,
        avatar: change.avatar?.id ?? row?.avatar ?? null,
        avatar_source: change.avatar?.source ?? row?.avatar_source ?? null,
        created_at: row?.created_at ?? now(),
      });
    },

    /** Everybody, those who are disabled too, for admins. */
    list: (): Listed[] => {
      current();
      return [...everyone].map(([username, person]) => {
        const row = settings.get(username);
        const made = rows.get(username);
        return {
          username,
          person,
          source: sourceOf(username),
          ...(row && row.disabled_at !== null && { disabledAt: row.disabled_at }),
          set: {
            ...(row && row.messages_per_day !== null && { messagesPerDay: row.messages_per_day }),
            ...(row && row.turns_at_once !== null && { turnsAtOnce: row.turns_at_once }),
          },
          ...(made && !inFile(username) && { createdAt: made.created_at }),
        };
      });
    },

    /** Somebody of `list`; undefined: nobody. */
    find: (username: string): Person | undefined => {
      current();
      return everyone.get(username);
    },
    source: sourceOf,

    /** What an admin changes, or the person their password. Only for those `find` knows. Resolves once stored. */
    change: async (username: string, change: PersonChange): Promise<void> => {
      const file = inFile(username);
      const row = rows.get(username);
      if (!file && row && (change.displayName ?? change.role ?? change.password) !== undefined)
        await keep({
          ...row,
          display_name: change.displayName ?? row.display_name,
          role: change.role === undefined ? row.role : change.role === "admin" ? "admin" : null,
          password: change.password ?? row.password,
        });
      const { disabled, messagesPerDay, turnsAtOnce } = change;
      const more: Partial<PersonSettingsRow> = {
        ...(disabled !== undefined && {
          disabled_at: disabled ? (settings.get(username)?.disabled_at ?? now()) : null,
        }),
        ...(messagesPerDay !== undefined && {
          messages_per_day: messagesPerDay,
          messages_over: file?.messagesPerDay ?? NO_LIMIT,
        }),
        ...(turnsAtOnce !== undefined && { turns_at_once: turnsAtOnce }),
        ...(file &&
          change.password !== undefined && {
            password: change.password,
            password_over: markOf(file.password),
          }),
      };
      if (Object.keys(more).length > 0) await keepSettings(username, more);
    },

    /** Takes out a person who is not in config.json, with their keys and sessions. Resolves once stored. */
    remove: async (username: string): Promise<void> => {
      await store.people.drop(username);
      rows.delete(username);
      settings.delete(username);
      madeFor = undefined;
    },

    /** Where the picture of this person came from. */
    avatarSource: (username: string): string | undefined => rows.get(username)?.avatar_source ?? undefined,

    /** As the wire has it; also for somebody who is gone. */
    info: (username: string): UserInfo => {
      const person = get(username);
      return {
        username,
        displayName: person?.displayName ?? username,
        ...(person?.role === "admin" && { role: "admin" as const }),
        ...(person?.avatar !== undefined && { avatar: attachmentUrl(person.avatar) }),
      };
    },
  };
};

export type People = ReturnType<typeof createPeople>;
