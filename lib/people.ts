/**
 * Who exists: the users of config.json and the people that sign-in (or an admin) made, in one Map.
 *
 * Owns that Map and is the only code that writes it. What must stay true: config.json comes first, so nobody made by
 * sign-in can take or shadow a user of the file; an identity belongs to one person; a person whose way in was taken out of
 * the config does not exist until it comes back. Refuses to know how anybody proves who they are.
 */
import type { Config, UserEntry } from "./config.ts";
import { opensTo } from "./config/signin.ts";
import type { UserInfo } from "./protocol.ts";
import { attachmentUrl } from "./store/rows.ts";
import { NO_LIMIT } from "./config/defaults.ts";
import type { Store } from "./store.ts";
import type { PersonRow } from "./store/people.ts";

/** `avatar`: attachment id. */
export type Person = UserEntry & { avatar?: number };

export type NewPerson = { username: string; displayName: string; password?: string; role?: "admin" };

/** WeCom compares user ids without case, so two spellings must not become two people. */
const foldIdentity = (key: string): string => (key.startsWith("wecom:") ? key.toLowerCase() : key);

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

  // Made once per config, because a reload replaces the object.
  let madeFor: Config | undefined;
  let people = new Map<string, Person>();
  let owners = new Map<string, string>();
  let version = 0;

  const exists = (row: PersonRow): boolean =>
    !people.has(row.username) && !owners.has(foldIdentity(row.username)) && opensTo(config().signIn, row.username);

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
    version++;
    return people;
  };

  const keep = async (row: Omit<PersonRow, "updated_at">): Promise<void> => {
    const stored = await store.people.put(row);
    rows.set(stored.username, stored);
    madeFor = undefined;
  };

  const get = (username: string): Person | undefined => current().get(username);

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
        display_name: change.displayName ?? row?.display_name ?? username,
        password: row?.password ?? null,
        role: row?.role ?? null,
        avatar: change.avatar?.id ?? row?.avatar ?? null,
        avatar_source: change.avatar?.source ?? row?.avatar_source ?? null,
        created_at: row?.created_at ?? now(),
      });
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
