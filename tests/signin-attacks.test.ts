/** What somebody else might do to a sign-in: replay, steal or plant a state, send people elsewhere, mix providers, keep them in a loop. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createAttempts } from "../lib/signin/attempts.ts";
import { returnPath } from "../lib/signin/flow.ts";
import { challengeOf } from "../lib/signin/provider.ts";
import { freePort, startGateway, until } from "./harness.ts";
import { BLANK } from "./signin/blank.ts";
import { type Browser, createBrowser } from "./signin/browser.ts";
import { startLiar } from "./signin/liar.ts";
import { type Rig, startRig } from "./signin/rig.ts";

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig.stop());

/** Where the vendor would send this browser back to, not asked yet. */
const returning = async (browser: Browser, path = "/sign-in/feishu"): Promise<string> =>
  (await browser.go(rig.url + path, (url) => url.includes("/callback"))).url;
const isRefused = async (browser: Browser, url: string): Promise<boolean> => {
  const end = await browser.once(url);
  return end.status === 403 && end.headers.getSetCookie().length === 0 && (await browser.me(rig.url)) === undefined;
};

describe("the state", () => {
  test("is letters and digits, 256 bits, and never the same", async () => {
    const states = new Set<string>();
    for (let i = 0; i < 5; i++)
      states.add(new URL(await returning(createBrowser("feishu"))).searchParams.get("state")!);
    expect(states.size).toBe(5);
    for (const state of states) expect(state).toMatch(/^[0-9a-f]{64}$/);
  });

  test("works once: the same return, sent again, signs nobody in", async () => {
    const browser = createBrowser("feishu");
    const url = await returning(browser);
    expect((await browser.once(url)).status).toBe(302);
    expect((await browser.once(url)).status).toBe(403);
    expect(rig.feishu.asked("/open-apis/authen/v2/oauth/token")).toBe(1);
  });

  test("stolen with its code, it opens nothing in another browser, and is spent for the first one too", async () => {
    const victim = createBrowser("feishu");
    const thief = createBrowser("feishu");
    await returning(thief); // has a cookie of its own
    const url = await returning(victim);
    const asked = rig.feishu.asked("/open-apis/authen/v2/oauth/token");
    expect(await isRefused(thief, url)).toBe(true);
    expect(await isRefused(createBrowser(), url)).toBe(true);
    expect(await isRefused(victim, url)).toBe(true);
    expect(rig.feishu.asked("/open-apis/authen/v2/oauth/token")).toBe(asked); // the code went nowhere
  });

  test("of two windows that open at once both come through, and nothing of an attempt stays in the browser", async () => {
    const browser = createBrowser("feishu");
    // Both ask before either has an answer, so neither knows of the other's cookie.
    const begun = await Promise.all([1, 2].map(() => browser.once(`${rig.url}/sign-in/feishu`)));
    const kept = () => [...browser.cookies(rig.url).keys()].filter((name) => name.startsWith("nexus-browser"));
    expect(kept()).toHaveLength(2);
    for (const { headers } of begun) {
      const back = await browser.go(headers.get("location")!, (url) => url.includes("/callback"));
      expect((await browser.once(back.url)).status).toBe(302);
    }
    expect(kept()).toEqual([]);
    // Whoever sends a browser here again and again does not fill its cookies.
    for (let i = 0; i < 12; i++) {
      await browser.once(`${rig.url}/sign-in/feishu`);
      expect(kept().length).toBeLessThanOrEqual(5);
    }
  });

  test("planted by somebody else (login CSRF), it does not sign the victim in as them", async () => {
    const attacker = createBrowser("feishu");
    const planted = await returning(attacker);
    expect(await isRefused(createBrowser(), planted)).toBe(true);
    for (const made of ["", "?state=", `?code=x&state=${"0".repeat(64)}`, "?code=x&state=__proto__", "?code=x"])
      expect(await isRefused(createBrowser(), `${rig.url}/sign-in/feishu/callback${made}`)).toBe(true);
  });

  test("ends after five minutes", async () => {
    let at = Date.UTC(2026, 10, 22);
    const mine = await startRig({ now: () => at });
    const come = async (wait: number) => {
      const browser = createBrowser("feishu");
      const { url } = await browser.go(`${mine.url}/sign-in/feishu`, (next) => next.includes("/callback"));
      at += wait;
      return (await browser.once(url)).status;
    };
    expect(await come(5 * 60_000 - 1_000)).toBe(302);
    expect(await come(5 * 60_000)).toBe(403);
    await mine.stop();
  });

  test("attempts in memory are bounded, and the old ones are swept", () => {
    let at = 0;
    const attempts = createAttempts({ now: () => at });
    const of = { provider: "p", browser: "b", redirectUri: "r", to: "/" };
    const first = attempts.begin(of);
    for (let i = 0; i < 20_000; i++) attempts.begin(of);
    expect(attempts.size()).toBe(20_000);
    expect(() => attempts.take(first.state, "p", "b")).toThrow();
    at = 6 * 60_000;
    attempts.sweep();
    expect(attempts.size()).toBe(0);
  });
});

describe("a flood from one address", () => {
  test("is stopped after a thousand requests, goes on with ten a second, and leaves room in the audit log", async () => {
    let at = Date.UTC(2026, 10, 22);
    const mine = await startRig({ now: () => at });
    const knock = async () => {
      const { status } = await fetch(`${mine.url}/sign-in/feishu/callback?code=x&state=${"0".repeat(64)}`);
      return status;
    };
    const statuses: number[] = [];
    for (let i = 0; i < 52; i++) statuses.push(...(await Promise.all(Array.from({ length: 20 }, knock))));
    expect(statuses.filter((status) => status === 403)).toHaveLength(1000);
    expect(statuses.filter((status) => status === 429)).toHaveLength(40);
    at += 1000;
    expect((await Promise.all(Array.from({ length: 12 }, knock))).filter((status) => status === 403)).toHaveLength(10);
    const { audit } = mine.gateway.gate.store;
    const written = () => audit.list(2000, Number.MAX_SAFE_INTEGER, "sign_in_failed", "").length;
    await until(() => written() === 100 || undefined);
    at += 61_000;
    await knock();
    await until(() => written() === 101 || undefined);
    await mine.stop();
  });
});

describe("the way back", () => {
  test("is an address of the page, whatever is asked for", async () => {
    const asked = [
      "https://evil.example/",
      "//evil.example",
      "/\\evil.example",
      "/%5cevil.example",
      "/c/../../evil",
      "/c/a?x=1",
      "/c/a#b",
      "/api/logout",
      "/sign-in/feishu",
      "javascript:alert(1)",
      "/c/a\r\nLocation: //evil.example",
    ];
    for (const to of asked) {
      expect(returnPath(to)).toBe("/");
      const browser = createBrowser("feishu");
      const end = await browser.once(await returning(browser, `/sign-in/feishu?to=${encodeURIComponent(to)}`));
      expect(end.headers.get("location")).toBe("/");
    }
    expect(returnPath("/c/Ab_9-")).toBe("/c/Ab_9-");
  });

  test("is not taken from the return's own address", async () => {
    const browser = createBrowser("feishu");
    const url = await returning(browser, "/sign-in/feishu?to=/c/mine");
    expect((await browser.once(`${url}&to=/c/other&redirect=https://evil.example`)).headers.get("location")).toBe(
      "/c/mine",
    );
  });

  test("goes through publicUrl, whatever Host the request names", async () => {
    const port = Number(new URL(rig.url).port);
    const moved = await fetch(`http://127.0.0.1:${port}/sign-in/feishu?to=/c/a`, {
      headers: { Host: "nexus.lan" },
      redirect: "manual",
    });
    expect(moved.headers.get("location")).toBe(`${rig.url}/sign-in/feishu?to=%2Fc%2Fa&moved=1`);
    const begun = await fetch(`http://127.0.0.1:${port}/sign-in/feishu?moved=1`, {
      headers: { Host: "evil.example" },
      redirect: "manual",
    });
    const left = new URL(begun.headers.get("location")!);
    expect(left.searchParams.get("redirect_uri")).toBe(`${rig.url}/sign-in/feishu/callback`);
  });
});

describe("mixing providers", () => {
  test("a state made for one provider is nothing at another's address", async () => {
    for (const other of ["wecom", "dingtalk", "nobody"]) {
      const browser = createBrowser("feishu");
      const url = (await returning(browser)).replace("/sign-in/feishu/", `/sign-in/${other}/`);
      const end = await browser.once(url);
      expect([403, 404]).toContain(end.status);
      expect(await browser.me(rig.url)).toBeUndefined();
    }
    expect(rig.wecom.asked("/cgi-bin/auth/getuserinfo")).toBe(0);
  });

  test("a code from an honest provider is not handed to a dishonest one", async () => {
    const port = freePort();
    const url = `http://127.0.0.1:${port}`;
    const honest = await startLiar({});
    const evil = await startLiar({});
    const oidc = [
      honest.entry({ require: { iss: honest.url } }),
      evil.entry({ id: "evil", require: { iss: evil.url } }),
    ];
    const gateway = await startGateway({ port, publicUrl: url, signIn: { oidc } }, { assets: BLANK });
    const browser = createBrowser();
    const back = await browser.go(`${url}/sign-in/corp`, (next) => next.includes("/callback"));
    expect((await browser.once(back.url.replace("/corp/", "/evil/"))).status).toBe(403);
    expect(evil.asked("/token")).toBe(0);
    await gateway.stop();
    await Promise.all([honest.stop(), evil.stop()]);
  });
});

describe("DingTalk's two ways", () => {
  const open = async (browser: Browser) => {
    const page = await browser.go(`${rig.url}/sign-in/dingtalk`);
    return { page, state: /data-state="([0-9a-f]{64})"/.exec(page.text)![1]! };
  };
  const send = (browser: Browser, body: unknown, headers: Record<string, string> = {}) =>
    browser.post(`${rig.url}/sign-in/dingtalk/code`, body, headers);

  test("the codes of the login page and of the app do not replace each other", async () => {
    const inApp = createBrowser("dingtalk");
    const { state } = await open(inApp);
    const pageCode = rig.dingtalk.pageCode(`${rig.url}/sign-in/dingtalk/callback`);
    expect((await send(inApp, { code: pageCode, state })).status).toBe(403);
    const desk = createBrowser();
    const begun = await desk.once(`${rig.url}/sign-in/dingtalk`);
    const away = new URL(begun.headers.get("location")!).searchParams.get("state");
    const end = await desk.once(
      `${rig.url}/sign-in/dingtalk/callback?authCode=${rig.dingtalk.appCode()}&state=${away}`,
    );
    expect(end.status).toBe(403);
  });

  test("the login page's code counts under either of its names", async () => {
    for (const name of ["code", "authCode"]) {
      const desk = createBrowser();
      const begun = await desk.once(`${rig.url}/sign-in/dingtalk`);
      const state = new URL(begun.headers.get("location")!).searchParams.get("state");
      const code = rig.dingtalk.pageCode(`${rig.url}/sign-in/dingtalk/callback`);
      expect((await desk.once(`${rig.url}/sign-in/dingtalk/callback?${name}=${code}&state=${state}`)).status).toBe(302);
    }
  });

  test("a code posted with a stolen state, no state, from another origin, as a form, or twice is refused", async () => {
    const victim = createBrowser("dingtalk");
    const { state } = await open(victim);
    const code = rig.dingtalk.appCode;
    const attacker = createBrowser("dingtalk");
    await open(attacker);
    expect((await send(attacker, { code: code(), state })).status).toBe(403);
    expect((await send(victim, { code: code(), state })).status).toBe(403); // spent by the try above
    const next = await open(victim);
    expect((await send(victim, { code: code(), state: next.state }, { Origin: "https://evil.example" })).status).toBe(
      403,
    );
    expect((await send(victim, { code: code() })).status).toBe(400);
    expect((await send(victim, "code=x")).status).toBe(400);
    const once = code();
    expect((await send(victim, { code: once, state: next.state })).status).toBe(200);
    expect((await send(victim, { code: once, state: next.state })).status).toBe(403);
  });

  test("the vendor's script is allowed on that page alone, and that page runs nothing else of others", async () => {
    const { page } = await open(createBrowser("dingtalk"));
    const policy = page.headers.get("content-security-policy")!;
    const origin = new URL(rig.dingtalk.url).origin;
    expect(policy).toContain(`script-src 'self' ${origin};`);
    expect(policy).not.toMatch(/unsafe|\*/);
    expect(page.headers.get("cache-control")).toBe("no-store");
    const others = ["/", "/c/a", "/?password", "/sign-in/feishu/callback", "/sign-in/nobody", "/api/sign-in"];
    for (const path of others) {
      const answer = await createBrowser().once(rig.url + path);
      expect(answer.headers.get("content-security-policy")).not.toContain(origin);
    }
    const scripts = [...page.text.matchAll(/<script[^>]*src="([^"]*)"[^>]*>([^<]*)</g)].map((found) => found.slice(1));
    expect(scripts).toEqual([
      [`${origin}/dingding/dingtalk-jsapi/3.0.25/dingtalk.open.js`, ""],
      ["/sign-in/dingtalk.js", ""],
    ]);
  });
});

describe("in-app browsers", () => {
  test("that fail are left on the page after two tries, which offers every other way", async () => {
    const mine = await startRig();
    mine.feishu.state.refuses = true;
    const browser = createBrowser("feishu");
    const visits = [];
    for (let i = 0; i < 4; i++) visits.push((await browser.go(`${mine.url}/`)).url);
    expect(visits.map((url) => new URL(url).pathname)).toEqual([
      "/sign-in/feishu/callback",
      "/sign-in/feishu/callback",
      "/",
      "/",
    ]);
    await mine.stop();
  });

  test("that do not keep the session's cookie are left on the page too", async () => {
    const browser = createBrowser("feishu");
    const visits = [];
    for (let i = 0; i < 3; i++) {
      const end = await browser.go(`${rig.url}/`, (url) => {
        browser.cookies(rig.url).delete("nexus");
        return url === `${rig.url}/`;
      });
      visits.push(`${end.status} ${browser.hops.filter((hop) => hop.includes("/callback")).length}`);
      browser.cookies(rig.url).delete("nexus");
    }
    expect(visits).toEqual(["302 1", "302 2", "200 2"]);
  });

  test("can ask for the password form, and are left alone when signed in, when the setting says so, and on other addresses", async () => {
    const browser = createBrowser("feishu");
    expect((await browser.once(`${rig.url}/?password`)).status).toBe(200);
    for (const path of ["/api/me", "/health", "/icon.svg", "/api/sign-in"])
      expect((await browser.once(rig.url + path)).status).not.toBe(302);
    await browser.go(`${rig.url}/`);
    expect((await browser.once(`${rig.url}/`)).status).toBe(200);
    const mine = await startRig({ signIn: { direct: false } });
    expect((await createBrowser("feishu").once(`${mine.url}/`)).status).toBe(200);
    await mine.stop();
  });

  test("with a session that has ended are signed in again by themselves", async () => {
    let at = Date.UTC(2026, 10, 22);
    const mine = await startRig({ now: () => at });
    const browser = createBrowser("feishu");
    await browser.go(`${mine.url}/`);
    const first = browser.cookies(mine.url).get("nexus");
    expect(first).toMatch(/^nxs_/);
    at += 86_400_000;
    const end = await browser.go(`${mine.url}/c/again`);
    expect(end.url).toBe(`${mine.url}/c/again`);
    expect(browser.cookies(mine.url).get("nexus")).not.toBe(first);
    await mine.stop();
  });

  test("of other apps, and ordinary ones, get the page", async () => {
    expect((await createBrowser("desktop").once(`${rig.url}/`)).status).toBe(200);
    const wechat = await fetch(`${rig.url}/`, {
      headers: { "User-Agent": "Mozilla/5.0 MicroMessenger/8.0" },
      redirect: "manual",
    });
    expect(wechat.status).toBe(200);
  });
});

test("what is answered before the page carries the same headers as everything else", async () => {
  const away = await createBrowser("feishu").once(`${rig.url}/`);
  expect(away.status).toBe(302);
  for (const name of [
    "content-security-policy",
    "x-content-type-options",
    "referrer-policy",
    "cross-origin-opener-policy",
  ])
    expect(`${name}: ${away.headers.get(name) !== null}`).toBe(`${name}: true`);
  expect(away.headers.get("content-security-policy")).toContain("frame-ancestors 'self'");
});

test("the cookies of an attempt are HttpOnly, Lax and short, and __Host- on https", async () => {
  const plain = await createBrowser("feishu").once(`${rig.url}/sign-in/feishu`);
  expect(plain.headers.getSetCookie().map((one) => one.replace(/-[0-9a-f]{8}=[0-9a-f]{64}/, "-…=…"))).toEqual([
    "nexus-browser-…=…; Path=/; Max-Age=600; HttpOnly; SameSite=Lax",
    "nexus-tries=1; Path=/; Max-Age=120; HttpOnly; SameSite=Lax",
  ]);
  const secure = await startGateway(
    { publicUrl: "https://nexus.example.com", signIn: { feishu: rig.feishu.signIn() } },
    { assets: BLANK },
  );
  const answer = await fetch(`${secure.url}/sign-in/feishu?moved=1`, { redirect: "manual" });
  for (const cookie of answer.headers.getSetCookie()) expect(cookie).toMatch(/^__Host-nexus-[\w-]+=.*; Secure$/);
  await secure.stop();
});

test("RFC 7636 appendix B: the challenge of its verifier", () => {
  expect(challengeOf("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")).toBe(
    "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
  );
});

test("nothing secret stands in any line that was logged", () => {
  const told = JSON.stringify(rig.logs);
  expect(told.length).toBeGreaterThan(1000);
  expect(told).not.toMatch(/app-secret|[0-9a-f]{64}|nxs_/);
  expect(told).not.toContain("access_token=");
});
