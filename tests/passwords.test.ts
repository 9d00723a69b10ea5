/** The password check: hashes (S8), throttling and the gate (B3), and times that tell nothing (S9). */
import { beforeAll, describe, expect, test } from "bun:test";
import { parseConfig, type UserEntry } from "../lib/config.ts";
import { createPasswordCheck, hashPassword } from "../lib/passwords.ts";
import { Reject } from "../lib/protocol.ts";

const user = (password?: string): UserEntry => ({
  ...(password === undefined ? {} : { password }),
  displayName: "x",
  identities: [],
  messagesPerDay: 0,
});

describe("passwords", () => {
  const RIGHT = "correct horse 正确";
  let hash = "";
  beforeAll(async () => {
    hash = await hashPassword(RIGHT);
  });

  const gate = (
    options: { users?: Map<string, UserEntry>; verify?: (password: string, hash: string) => Promise<boolean> } = {},
  ) => {
    let at = 1_800_000_000_000;
    const users =
      options.users ??
      new Map([
        ["admin", user(hash)],
        ["plain", user("plain text 🔑")],
        ["nobody", user()],
      ]);
    const { check } = createPasswordCheck({
      users: () => users,
      now: () => at,
      log: () => {},
      ...(options.verify ? { verify: options.verify } : {}),
    });
    const refused = async (name: string, password = "wrong", address = "192.0.2.1"): Promise<number | boolean> => {
      try {
        return await check(name, password, address);
      } catch (error) {
        if (!(error instanceof Reject) || error.code !== "rate_limited") throw error;
        return error.retryAfter!;
      }
    };
    return { check, attempt: refused, pass: (ms: number) => (at += ms), users };
  };

  test("a hash is argon2id of at least 19 MiB and two passes, and the config accepts it (S8)", () => {
    const [, name, , parameters] = hash.split("$");
    expect(name).toBe("argon2id");
    const [, m, t] = /^m=(\d+),t=(\d+),p=1$/.exec(parameters!)!;
    expect(Number(m)).toBeGreaterThanOrEqual(19 * 1024);
    expect(Number(t)).toBeGreaterThanOrEqual(2);
    expect(parseConfig({ users: { a: { password: hash } } }).ok).toBe(true);
  });

  test("the right password is accepted, hashed or plain, and nothing else is", async () => {
    const { check } = gate();
    expect(await check("admin", RIGHT, "a")).toBe(true);
    expect(await check("plain", "plain text 🔑", "a")).toBe(true);
    expect(await check("admin", RIGHT.toUpperCase(), "a")).toBe(false);
    expect(await check("admin", hash, "a")).toBe(false);
    expect(await check("plain", "plain text", "a")).toBe(false);
    expect(await check("nobody", "", "a")).toBe(false);
    expect(await check("ghost", RIGHT, "a")).toBe(false);
    expect(await check("__proto__", RIGHT, "a")).toBe(false);
  });

  test("passwords of 256 bytes and of emoji can be hashed and checked, longer ones are wrong (S8)", async () => {
    const long = `${"界".repeat(85)}x`;
    expect(Buffer.byteLength(long)).toBe(256);
    const emoji = "👩‍👩‍👧‍👦🔑é";
    const users = new Map([
      ["long", user(await hashPassword(long))],
      ["emoji", user(await hashPassword(emoji))],
    ]);
    const { check } = gate({ users });
    expect(await check("long", long, "a")).toBe(true);
    expect(await check("long", long.slice(1), "a")).toBe(false);
    expect(await check("emoji", emoji, "a")).toBe(true);
    expect(await check("emoji", "x".repeat(100_000), "a")).toBe(false);
  });

  test("five failures of a name from an address, then one a minute, before any hash is made (B3)", async () => {
    let hashes = 0;
    const { attempt, pass } = gate({
      verify: async () => {
        hashes++;
        return false;
      },
    });
    for (let i = 0; i < 5; i++) expect(await attempt("admin")).toBe(false);
    expect(await attempt("admin")).toBe(60);
    expect(await attempt("admin", RIGHT)).toBe(60);
    expect(hashes).toBe(5);
    pass(59_000);
    expect(await attempt("admin")).toBe(1);
    pass(1_000);
    expect(await attempt("admin")).toBe(false);
    expect(await attempt("admin")).toBe(60);
    expect(hashes).toBe(6);
  });

  test("a locked name can still sign in from another address, and another name from this one (B3)", async () => {
    const { attempt } = gate({ verify: async (password, against) => password === RIGHT && against === hash });
    for (let i = 0; i < 5; i++) await attempt("admin");
    expect(await attempt("admin", RIGHT)).toBe(60);
    expect(await attempt("admin", RIGHT, "192.0.2.2")).toBe(true);
    expect(await attempt("plain", "plain text 🔑")).toBe(true);
  });

  test("thirty failures of an address over many names lock that address, for unknown names too (B3)", async () => {
    let hashes = 0;
    const { attempt } = gate({
      verify: async () => {
        hashes++;
        return false;
      },
    });
    for (let i = 0; i < 30; i++) expect(await attempt(`name ${i}`)).toBe(false);
    expect(await attempt("name 30")).toBe(60);
    expect(await attempt("admin", RIGHT)).toBe(60);
    expect(hashes).toBe(30);
    expect(await attempt("admin", "wrong", "192.0.2.2")).toBe(false);
  });

  test("a success forgets the failures of that name and costs the address nothing", async () => {
    const { attempt } = gate({ verify: async (password) => password === RIGHT });
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < (round < 5 ? 4 : 0); i++) expect(await attempt("admin")).toBe(false);
      expect(await attempt("admin", RIGHT)).toBe(true);
    }
  });

  test("two hashes at once, sixteen wait, more are told to come back; attempts in parallel cannot outrun the throttle (B3)", async () => {
    let running = 0;
    let most = 0;
    let hashes = 0;
    const release: (() => void)[] = [];
    const { attempt } = gate({
      verify: async () => {
        hashes++;
        most = Math.max(most, ++running);
        await new Promise<void>((resolve) => release.push(resolve));
        running--;
        return false;
      },
    });
    const different = Array.from({ length: 30 }, (_, i) => attempt(`name ${i}`, "wrong", `192.0.2.${i}`));
    const late = await Promise.all(different.slice(18));
    expect(late).toEqual(Array(12).fill(1));
    while (hashes < 18 || release.length > 0) {
      release.shift()?.();
      await Bun.sleep(0);
    }
    expect(await Promise.all(different.slice(0, 18))).toEqual(Array(18).fill(false));
    expect([hashes, most]).toEqual([18, 2]);

    hashes = 0;
    const same = Array.from({ length: 18 }, () => attempt("admin"));
    let open = true;
    const all = Promise.all(same).finally(() => {
      open = false;
    });
    while (open) {
      release.shift()?.();
      await Bun.sleep(0);
    }
    const answers = await all;
    expect(answers.filter((answer) => answer === false).length).toBe(5);
    expect(answers.filter((answer) => typeof answer === "number").length).toBe(13);
    expect(hashes).toBe(5);
  });

  test("eighteen sign-ins of one person at once all succeed", async () => {
    const { attempt } = gate({ verify: async (password) => password === RIGHT });
    expect(await Promise.all(Array.from({ length: 18 }, () => attempt("admin", RIGHT)))).toEqual(Array(18).fill(true));
  });

  test("unknown user, wrong password, plain user and person without a password cost exactly one hash of the same cost (S9)", async () => {
    const costs: string[] = [];
    const { check } = gate({
      verify: async (_, against) => {
        costs.push(against.split("$").slice(0, 4).join("$"));
        return false;
      },
    });
    for (const name of ["admin", "plain", "nobody", "ghost", "__proto__", ""]) await check(name, "wrong", name);
    expect(costs).toEqual(Array(6).fill("$argon2id$v=19$m=19456,t=2,p=1"));
  });

  test("where users' hashes differ in cost, an unknown name costs what some user costs, always the same", async () => {
    const dear = hash.replace("m=19456,t=2", "m=65536,t=3");
    const costs: string[] = [];
    const { check } = gate({
      users: new Map([
        ["a", user(hash)],
        ["b", user(dear)],
      ]),
      verify: async (_, against) => {
        costs.push(against.split("$")[3]!);
        return false;
      },
    });
    for (let i = 0; i < 40; i++) for (let j = 0; j < 2; j++) await check(`ghost ${i}`, "wrong", `${i}`);
    for (let i = 0; i < 80; i += 2) expect(costs[i]).toBe(costs[i + 1]!);
    expect(new Set(costs)).toEqual(new Set(["m=19456,t=2,p=1", "m=65536,t=3,p=1"]));
  });

  test("unknown user and wrong password take the same time: medians within 10 ms (S9)", async () => {
    const { check, pass } = gate();
    const names = ["admin", "ghost", "plain"];
    const median = (list: number[]): number => list.toSorted((a, b) => a - b)[list.length >> 1]!;
    const spread = async (round: number): Promise<number> => {
      const samples: Record<string, number[]> = { admin: [], ghost: [], plain: [] };
      for (let i = 0; i < 16; i++)
        for (const name of [...names.slice(i % 3), ...names.slice(0, i % 3)]) {
          const began = performance.now();
          expect(await check(name, "wrong", `${name} ${round} ${i}`)).toBe(false);
          samples[name]!.push(performance.now() - began);
        }
      const medians = names.map((name) => median(samples[name]!));
      pass(3_600_000);
      return Math.max(...medians) - Math.min(...medians);
    };
    // A busy machine can move one median; a leak moves it every time.
    let least = Infinity;
    for (let round = 0; round < 3 && least >= 10; round++) least = Math.min(least, await spread(round));
    expect(least).toBeLessThan(10);
  }, 60_000);
});
