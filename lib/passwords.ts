/**
 * Passwords: hashing them, and the gate in front of every password check.
 *
 * What must stay true (PROMISES B3, S8, S9): whoever asks, for whatever name, a check costs exactly one argon2id
 * verification, so its time tells nothing; throttling comes before hashing; at most HASHES run at once and QUEUE wait.
 * Refuses to know of sessions and of HTTP.
 */
import { digest, newSecret, sameSecret } from "./auth.ts";
import type { UserEntry } from "./config.ts";
import { FLOOR, hashCost, type HashCost, isHash, PASSWORD_CHARS } from "./config/secrets.ts";
import { createBuckets } from "./limits.ts";
import type { Log } from "./log.ts";
import { Reject } from "./protocol.ts";

const COST = { algorithm: "argon2id", memoryCost: FLOOR.memoryKiB, timeCost: FLOOR.passes } as const;

/** A PHC string of argon2id at the OWASP minimum: about 55 ms, so that two at once leave the machine responsive. */
export const hashPassword = (plain: string): Promise<string> => Bun.password.hash(plain, COST);

const unpadded = (bytes: number): string =>
  crypto.getRandomValues(new Uint8Array(bytes)).toBase64({ omitPadding: true });

/** A well-formed hash of nothing: verifying against it costs what `cost` says and is never true. */
const emptyHash = ({ memoryKiB, passes, lanes }: HashCost): string =>
  `$argon2id$v=19$m=${memoryKiB},t=${passes},p=${lanes}$${unpadded(16)}$${unpadded(32)}`;

/** B3. Failures of one name from one address: then one a minute. */
const NAME_FAILURES = 5;
/** Failures of one address over all names. */
const ADDRESS_FAILURES = 30;
const MINUTE_MS = 60_000;
/** Each takes 19 MiB and a core for 55 ms; the runtime's thread pool is shared with file access. */
const HASHES = 2;
/** At two at a time the last of 16 waits half a second; a person waits that long, a flood does not get to. */
const QUEUE = 16;

const tooMany = (waitMs: number): Reject =>
  new Reject(
    "rate_limited",
    { zh: "登录尝试太频繁，请稍后再试", en: "Too many sign-in attempts, try again later" },
    Math.max(1, Math.ceil(waitMs / 1000)),
  );

/** At most HASHES run at once, at most QUEUE wait; beyond that undefined. */
const createGate = () => {
  let running = 0;
  const waiting: (() => void)[] = [];
  return {
    enter(): Promise<void> | undefined {
      if (running < HASHES) {
        running++;
        return Promise.resolve();
      }
      if (waiting.length >= QUEUE) return undefined;
      return new Promise((resolve) => waiting.push(resolve));
    },
    leave(): void {
      const next = waiting.shift();
      // The place is handed over, so nobody can slip in between.
      if (next) next();
      else running--;
    },
  };
};

/**
 * The password check of a gateway. `users` is asked each time, so a reloaded config counts at once; `verify` is for tests
 * that count hashes.
 */
export const createPasswordCheck = ({
  users,
  now,
  log,
  verify = Bun.password.verify,
}: {
  users: () => ReadonlyMap<string, UserEntry>;
  now: () => number;
  log: Log;
  verify?: (password: string, hash: string) => Promise<boolean>;
}) => {
  const byName = createBuckets({ burst: () => NAME_FAILURES, refillMs: () => MINUTE_MS, now });
  const byAddress = createBuckets({ burst: () => ADDRESS_FAILURES, refillMs: () => MINUTE_MS, now });
  const gate = createGate();
  // Which user's cost an unknown name imitates must not be for an attacker to compute.
  const seed = newSecret("nxs_");
  const floor: HashCost = { memoryKiB: FLOOR.memoryKiB, passes: FLOOR.passes, lanes: 1 };
  const empties = new Map<string, string>();

  const empty = (cost: HashCost): string => {
    const key = `${cost.memoryKiB} ${cost.passes} ${cost.lanes}`;
    const had = empties.get(key) ?? emptyHash(cost);
    empties.set(key, had);
    return had;
  };

  /** What checking this user costs; plain passwords and people without one cost the floor. */
  const costOf = (user: UserEntry): HashCost =>
    (user.password === undefined ? undefined : hashCost(user.password)) ?? floor;

  let costs: { of: ReadonlyMap<string, UserEntry>; list: HashCost[] } | undefined;
  /** An unknown name costs what some user costs, always the same one: names cannot be told apart by their time. */
  const costOfNobody = (name: string): HashCost => {
    const known = users();
    // Once per config: walking 100,000 users for unknown names only would be a difference to measure.
    if (costs?.of !== known || costs.list.length !== known.size)
      costs = { of: known, list: Array.from(known.values(), costOf) };
    return costs.list[Number(Bun.hash(seed + name) % BigInt(Math.max(1, known.size)))] ?? floor;
  };

  const matches = async (username: string, password: string): Promise<boolean> => {
    const user = users().get(username);
    const stored = user?.password;
    const hash = stored !== undefined && isHash(stored) ? stored : empty(user ? costOf(user) : costOfNobody(username));
    // No password is that long, but saying so at once would tell of a check that was not made.
    const asked = password.length <= PASSWORD_CHARS ? password : seed;
    let verified = false;
    try {
      verified = await verify(asked, hash);
    } catch (error) {
      log("error", "password_hash_unusable", { user: user ? username : undefined, error });
    }
    // Also computed where it does not count, so that all kinds take the same time.
    const equal = sameSecret(asked, stored ?? "");
    return hash === stored ? verified : stored !== undefined && equal;
  };

  /**
   * Whether this is the user's password. Throws Reject("rate_limited") with `retryAfter` before any hashing when this name
   * from this address, or this address, failed too often, or too many checks wait. `address` is a limiter key
   * (limits.ts `addressKey`).
   */
  const check = async (username: string, password: string, address: string): Promise<boolean> => {
    const nameKey = `${address} ${digest(username)}`;
    const refuse = (): void => {
      const waitMs = Math.max(byName.waitMs(nameKey), byAddress.waitMs(address));
      if (waitMs > 0) throw tooMany(waitMs);
    };
    refuse();
    const turn = gate.enter();
    if (!turn) throw tooMany(1_000);
    await turn;
    try {
      // Once more: those in front may have failed by now. From here to the answer the attempt counts as a failure, so
      // that attempts in parallel cannot all pass before the first is counted.
      refuse();
      byName.take(nameKey);
      byAddress.take(address);
      const right = await matches(username, password);
      if (right) {
        byName.forget(nameKey);
        byAddress.giveBack(address);
      }
      return right;
    } finally {
      gate.leave();
    }
  };

  return { check };
};

export type PasswordCheck = ReturnType<typeof createPasswordCheck>;
