import { beforeAll, describe, expect, test } from "bun:test";
import {
  checkOrigin,
  clearCookie,
  cookieName,
  corsHeaders,
  digest,
  isOneOf,
  newSecret,
  ownOrigin,
  preflightHeaders,
  readCookie,
  sameSecret,
  serialiseCookie,
} from "../lib/auth.ts";
import { parseConfig, type UserEntry } from "../lib/config.ts";
import { createPasswordCheck, hashPassword } from "../lib/passwords.ts";
import { Reject } from "../lib/protocol.ts";

const user = (password?: string): UserEntry => ({
  ...(password === undefined ? {} : { password }),
  displayName: "x",
  identities: [],
  messagesPerDay: 0,
});

describe("secrets", () => {
  test("a secret has its prefix and 256 random bits", () => {
    const secrets = new Set(Array.from({ length: 1000 }, () => newSecret("nxs_")));
    expect(secrets.size).toBe(1000);
    for (const secret of secrets) expect(secret).toMatch(/^nxs_[\w-]{43}$/);
    expect(Buffer.from(newSecret("nxb_").slice(4), "base64url").length).toBe(32);
  });

  test("a digest is SHA-256 in hex", () => {
    expect(digest("abc")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  });

  test("secrets compare by content, whatever their length", () => {
    expect(sameSecret("a", "a")).toBe(true);
    expect(sameSecret("a", "b")).toBe(false);
    expect(sameSecret("", "x".repeat(10_000))).toBe(false);
    expect(isOneOf("b", ["a", "b", "c"])).toBe(true);
    expect(isOneOf("d", ["a", "b", "c"])).toBe(false);
    expect(isOneOf("", [])).toBe(false);
  });
});

describe("the cookie (S2)", () => {
  test("on https it is __Host- and Secure, on http neither, always HttpOnly, Lax and for /", () => {
    expect(serialiseCookie("nxs_x", true, 86_400_000)).toBe(
      "__Host-nexus=nxs_x; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax; Secure",
    );
    expect(serialiseCookie("nxs_x", false, 1_999)).toBe("nexus=nxs_x; Path=/; Max-Age=1; HttpOnly; SameSite=Lax");
    expect(clearCookie(true)).toBe("__Host-nexus=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure");
    expect([cookieName(true), cookieName(false)]).toEqual(["__Host-nexus", "nexus"]);
  });

  test("it is read by its exact name, for its own scheme only", () => {
    const header = "a=1; nexus=plain; __Host-nexus=secure; xnexus=no; nexus=second";
    expect(readCookie(header, false)).toBe("plain");
    expect(readCookie(header, true)).toBe("secure");
    expect(readCookie("__Host-nexus=secure", false)).toBeUndefined();
    expect(readCookie("nexus=plain", true)).toBeUndefined();
    for (const header of [null, "", "nexus", "nexus=", "NEXUS=x", "xnexus=1"])
      expect(readCookie(header, false)).toBeUndefined();
  });
});

describe("our own origin", () => {
  const own = (headers: Record<string, string>, publicUrl?: string, proxy = false) =>
    ownOrigin(new Headers(headers), publicUrl, "http", proxy);
  test("it is publicUrl, else scheme and Host", () => {
    expect(own({ host: "nexus.lan:17392" })).toMatchObject({ origin: "http://nexus.lan:17392", secure: false });
    expect(own({ host: "nexus.lan:80" }).origin).toBe("http://nexus.lan");
    expect(own({ host: "evil.example" }, "https://nexus.example.com")).toMatchObject({
      origin: "https://nexus.example.com",
      secure: true,
    });
  });
  test("X-Forwarded-Proto counts from a trusted proxy only", () => {
    const headers = { host: "a.example", "x-forwarded-proto": "https" };
    expect(own(headers)).toMatchObject({ origin: "http://a.example", secure: false });
    expect(own(headers, undefined, true)).toMatchObject({ origin: "https://a.example", secure: true });
    expect(own({ ...headers, "x-forwarded-proto": "gopher" }, undefined, true).secure).toBe(false);
    expect(own({ ...headers, "x-forwarded-proto": "http" }, "https://a.example", true).secure).toBe(false);
  });
  test("a Host that is none makes no origin", () => {
    for (const host of ["", "a b", "a/b", "user@a", "a?b", "a#b"]) expect(own(host ? { host } : {}).origin).toBe("");
  });
});

describe("the origin rule (S3)", () => {
  const OWN = ownOrigin(new Headers({ host: "nexus.example.com" }), undefined, "https", false);
  const LISTED = "https://page.example.com";
  const check = (method: string, headers: Record<string, string | undefined>, own = OWN) => {
    const given = Object.entries(headers).filter((pair): pair is [string, string] => pair[1] !== undefined);
    return checkOrigin(method, new Headers(given), own, [LISTED]);
  };

  // 2 methods × 3 body types × 4 values of Sec-Fetch-Site, with the Origin a browser sends along: 24 combinations.
  const ORIGINS: Record<string, string | undefined> = {
    "same-origin": "https://nexus.example.com",
    "same-site": "https://evil.example.com",
    "cross-site": "https://evil.example",
    none: undefined,
  };
  for (const method of ["POST", "DELETE"])
    for (const type of ["application/json", "text/plain", "application/x-www-form-urlencoded"])
      for (const [site, origin] of Object.entries(ORIGINS))
        test(`${method} of ${type} with Sec-Fetch-Site ${site} and a cookie`, () => {
          const got = check(method, { "content-type": type, "sec-fetch-site": site, origin, "content-length": "2" });
          if (site === "same-site" || site === "cross-site") expect(got).toEqual({ verdict: "forbidden" });
          else
            expect(got).toEqual({
              verdict: "allowed",
              cookies: site === "same-origin" && type === "application/json" ? "use" : "refuse",
            });
        });

  test("without Sec-Fetch-Site (plain http on a LAN) the Origin decides", () => {
    const own = ownOrigin(new Headers({ host: "192.168.1.5:17392" }), undefined, "http", false);
    const json = { "content-type": "application/json" };
    expect(check("POST", { ...json, origin: "http://192.168.1.5:17392" }, own)).toEqual({
      verdict: "allowed",
      cookies: "use",
    });
    expect(check("POST", { ...json, origin: "http://192.168.1.5:8080" }, own)).toEqual({ verdict: "forbidden" });
    expect(check("POST", { ...json, origin: "null" }, own)).toEqual({ verdict: "forbidden" });
    expect(check("POST", json, own)).toEqual({ verdict: "allowed", cookies: "refuse" });
  });

  test("a foreign Origin is refused whatever Sec-Fetch-Site claims, and a cross-site claim whatever the Origin", () => {
    const json = { "content-type": "application/json" };
    for (const site of ["same-origin", "none", undefined])
      expect(check("POST", { ...json, origin: "https://evil.example", "sec-fetch-site": site }).verdict).toBe(
        "forbidden",
      );
    for (const origin of ["https://nexus.example.com", undefined])
      expect(check("POST", { ...json, origin, "sec-fetch-site": "cross-site" }).verdict).toBe("forbidden");
  });

  test("our page behind a proxy that tells neither scheme nor port is recognised by the browser's word", () => {
    const behind = ownOrigin(new Headers({ host: "nexus.example.com" }), undefined, "http", false);
    const headers = { "content-type": "application/json", origin: "https://nexus.example.com:8443" };
    expect(check("POST", { ...headers, "sec-fetch-site": "same-origin" }, behind)).toEqual({
      verdict: "allowed",
      cookies: "use",
    });
    expect(check("POST", headers, behind)).toEqual({ verdict: "forbidden" });
  });

  test("a listed origin is answered, but its cookies are neither read nor set and credentials never allowed", () => {
    for (const method of ["GET", "POST"])
      expect(check(method, { origin: LISTED, "sec-fetch-site": "cross-site" })).toEqual({
        verdict: "allowed",
        cookies: "ignore",
        cors: LISTED,
      });
    expect(corsHeaders(LISTED)).toMatchObject({ "Access-Control-Allow-Origin": LISTED, Vary: "Origin" });
    expect(JSON.stringify(corsHeaders(LISTED)).toLowerCase()).not.toContain("credentials");
  });

  test("reading needs no proof, and a foreign page's request is read as if it had no cookie", () => {
    expect(check("GET", {})).toEqual({ verdict: "allowed", cookies: "use" });
    expect(check("GET", { "sec-fetch-site": "cross-site" })).toEqual({ verdict: "allowed", cookies: "use" });
    expect(check("GET", { origin: "https://evil.example" })).toEqual({ verdict: "allowed", cookies: "ignore" });
  });

  test("bodies: JSON, multipart, octets and files are ours, what a form can send is not, no body needs no type", () => {
    const cookies = (headers: Record<string, string>) => {
      const got = check("POST", { "sec-fetch-site": "same-origin", ...headers });
      return got.verdict === "allowed" ? got.cookies : "forbidden";
    };
    for (const type of [
      "application/json; charset=utf-8",
      "multipart/form-data; boundary=x",
      "application/octet-stream",
      "image/png",
    ])
      expect(cookies({ "content-type": type, "content-length": "5" }), type).toBe("use");
    for (const type of ["text/plain", "text/html", "application/x-www-form-urlencoded; charset=utf-8", "", "evil"])
      expect(cookies({ "content-type": type, "content-length": "5" }), type).toBe("refuse");
    expect(cookies({})).toBe("use");
    expect(cookies({ "content-length": "0" })).toBe("use");
    expect(cookies({ "content-length": "5" })).toBe("refuse");
    expect(cookies({ "transfer-encoding": "chunked" })).toBe("refuse");
  });

  test("a preflight is always answered, and allows something only to a listed origin", () => {
    const ask = (origin: string) =>
      preflightHeaders(
        "OPTIONS",
        new Headers({
          origin,
          "access-control-request-method": "POST",
          "access-control-request-headers": "authorization,x-y",
        }),
        [LISTED],
      );
    expect(ask(LISTED)).toMatchObject({
      "Access-Control-Allow-Origin": LISTED,
      "Access-Control-Allow-Headers": "authorization,x-y",
    });
    expect(JSON.stringify(ask(LISTED)).toLowerCase()).not.toContain("credentials");
    expect(ask("https://evil.example")).toEqual({ Vary: "Origin" });
    expect(preflightHeaders("OPTIONS", new Headers({ origin: LISTED }), [LISTED])).toBeUndefined();
    expect(
      preflightHeaders("POST", new Headers({ origin: LISTED, "access-control-request-method": "POST" }), []),
    ).toBeUndefined();
  });
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
    const { check } = gate();
    const samples: Record<string, number[]> = { admin: [], ghost: [], plain: [] };
    const names = Object.keys(samples);
    for (let i = 0; i < 16; i++)
      for (const name of [...names.slice(i % 3), ...names.slice(0, i % 3)]) {
        const began = performance.now();
        expect(await check(name, "wrong", `${name} ${i}`)).toBe(false);
        samples[name]!.push(performance.now() - began);
      }
    const median = (list: number[]): number => list.toSorted((a, b) => a - b)[list.length >> 1]!;
    const medians = names.map((name) => median(samples[name]!));
    expect(Math.max(...medians) - Math.min(...medians)).toBeLessThan(10);
  }, 30_000);

  test("a hash that cannot be verified is a wrong password and one line in the log", async () => {
    const lines: string[] = [];
    const { check } = createPasswordCheck({
      users: () => new Map([["a", user("$argon2id$v=19$m=19456,t=2,p=1$YWJj$YWJj")]]),
      now: () => 0,
      log: (level, event) => lines.push(`${level} ${event}`),
    });
    expect(await check("a", "x", "a")).toBe(false);
    expect(lines).toEqual(["error password_hash_unusable"]);
  });
});
