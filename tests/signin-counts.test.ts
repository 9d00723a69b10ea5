/** What sign-in costs, and what is said about it: calls to the platforms counted, tokens shared, the free quotas beside. */
import { describe, expect, test } from "bun:test";
import { api, login } from "./harness.ts";
import { createBrowser } from "./signin/browser.ts";
import { startRig } from "./signin/rig.ts";

describe("what it costs", () => {
  test("an app token is fetched once for many people, and once more when the vendor calls it bad (40014) or old (42001)", async () => {
    const mine = await startRig();
    for (let i = 0; i < 3; i++) await createBrowser("wecom").go(`${mine.url}/`);
    await Promise.all([1, 2, 3].map(() => createBrowser("wecom").go(`${mine.url}/`)));
    expect(mine.wecom.asked("/cgi-bin/gettoken")).toBe(1);
    mine.wecom.forgetTokens();
    const browser = createBrowser("wecom");
    await browser.go(`${mine.url}/`);
    expect(await browser.me(mine.url)).toBeDefined();
    expect(mine.wecom.asked("/cgi-bin/gettoken")).toBe(2);
    mine.wecom.expireTokens();
    const third = createBrowser("wecom");
    await third.go(`${mine.url}/`);
    expect(await third.me(mine.url)).toBeDefined();
    expect(mine.wecom.asked("/cgi-bin/gettoken")).toBe(3);

    const ding = async () => {
      const one = createBrowser();
      await one.click(await one.go(`${mine.url}/sign-in/dingtalk`), "agree");
      return one.me(mine.url);
    };
    expect(await ding()).toBeDefined();
    mine.dingtalk.forgetTokens();
    expect(await ding()).toBeDefined();
    expect(mine.dingtalk.asked("/v1.0/oauth2/accessToken")).toBe(2);
    mine.dingtalk.expireTokens();
    expect(await ding()).toBeDefined();
    expect(mine.dingtalk.asked("/v1.0/oauth2/accessToken")).toBe(3);

    // Whoever calls the new one bad too is not asked for ever.
    mine.wecom.state.takesNoToken = true;
    mine.dingtalk.state.takesNoToken = true;
    const last = createBrowser("wecom");
    expect((await last.go(`${mine.url}/`)).text).toMatch(/try again later.*WeCom 40014/);
    expect(await ding()).toBeUndefined();
    expect(mine.wecom.asked("/cgi-bin/gettoken")).toBe(4);
    expect(mine.dingtalk.asked("/v1.0/oauth2/accessToken")).toBe(4);
    await mine.stop();
  });

  test("tokens are renewed before they end", async () => {
    let at = Date.UTC(2026, 10, 22);
    const mine = await startRig({ now: () => at });
    await createBrowser("wecom").go(`${mine.url}/`);
    at += 7200_000 - 60_000;
    const browser = createBrowser("wecom");
    await browser.go(`${mine.url}/`);
    expect(await browser.me(mine.url)).toBeDefined();
    expect(mine.wecom.asked("/cgi-bin/gettoken")).toBe(2);
    expect(mine.wecom.asked("/cgi-bin/auth/getuserinfo")).toBe(2);
    await mine.stop();
  });

  test("admins see sign-ins and calls of this month per provider, equal to what the vendors were asked", async () => {
    let at = Date.UTC(2026, 9, 31, 16, 0, 1); // 1 November, one second past midnight in China
    const mine = await startRig({ now: () => at });
    await createBrowser("feishu").go(`${mine.url}/`);
    mine.feishu.state.refuses = true;
    await createBrowser("feishu").go(`${mine.url}/`);
    await createBrowser("wecom").go(`${mine.url}/`);
    const read = async () =>
      (
        await api(mine.url, await login(mine.url))<{ month: string; providers: Record<string, unknown>[] }>(
          "GET",
          "/api/admin/sign-ins",
        )
      ).body;
    const first = await read();
    expect(first.month).toBe("2026-11");
    expect(first.providers).toMatchObject([
      { id: "feishu", signIns: 1, refused: 1, calls: 2, freeBotQuota: { calls: 10_000, spentBySignIn: 0 } },
      { id: "dingtalk", signIns: 0, refused: 0, calls: 0, freeBotQuota: { calls: 5_000, spentBySignIn: 0 } },
      { id: "wecom", signIns: 1, refused: 0, calls: 3, freeBotQuota: { calls: 200, per: "member_day" } },
    ]);
    const asked = (calls: { path: string }[]) =>
      calls.filter(({ path }) => /cgi-bin|token|user_info/.test(path)).length;
    expect([asked(mine.feishu.calls), asked(mine.wecom.calls)]).toEqual([2, 3]);
    at = Date.UTC(2026, 10, 30, 16, 0, 0);
    expect(await read()).toMatchObject({ month: "2026-12", providers: [{ calls: 0 }, { calls: 0 }, { calls: 0 }] });
    expect((await api(mine.url, await login(mine.url, "user1"))("GET", "/api/admin/sign-ins")).status).toBe(403);
    expect((await api(mine.url)("GET", "/api/admin/sign-ins")).status).toBe(401);
    await mine.stop();
  });
});
