/** Signing in from Feishu, DingTalk and WeCom against their fakes: who one is afterwards, and what is said when not. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { api, BOT_TOKEN, until, v1Bot } from "./harness.ts";
import { AGENTS, type Browser, createBrowser, type Stop } from "./signin/browser.ts";
import { type Rig, startRig } from "./signin/rig.ts";
import { PNG, startVendor } from "./signin/vendor.ts";

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig.stop());

/** What the vendor's script does on DingTalk's page: it gets a code from the app and posts it. */
const runScript = (browser: Browser, page: Stop, code: string): Promise<Stop> =>
  browser.post(`${rig.url}/sign-in/dingtalk/code`, { code, state: /data-state="([0-9a-f]{64})"/.exec(page.text)?.[1] });

describe("inside the app nobody types anything", () => {
  test("Feishu: opening the page ends on the page, signed in, with name and a picture of ours", async () => {
    const browser = createBrowser("feishu");
    const end = await browser.go(`${rig.url}/c/abc`);
    expect(end.status).toBe(200);
    expect(end.url).toBe(`${rig.url}/c/abc`);
    expect(await browser.me(rig.url)).toMatchObject({ username: "feishu:tenant1:on_1", displayName: "张三" });
    const { avatar } = await until(async () => {
      const me = await browser.me(rig.url);
      return me?.avatar ? { avatar: me.avatar } : undefined;
    });
    const picture = await fetch(rig.url + avatar, {
      headers: { Cookie: `nexus=${browser.cookies(rig.url).get("nexus")}` },
    });
    expect(picture.headers.get("content-type")).toBe("image/png");
    expect(await picture.bytes()).toEqual(PNG);
  });

  test("WeCom: the vendor's parameters in the vendor's order, and the member is signed in", async () => {
    const browser = createBrowser("wecom");
    const end = await browser.go(`${rig.url}/`);
    expect(end).toMatchObject({ status: 200, url: `${rig.url}/` });
    expect(await browser.me(rig.url)).toMatchObject({
      username: "wecom:ww0123456789abcdef:zhangsan",
      displayName: "张三",
    });
  });

  test("DingTalk: one page runs the vendor's script, and its code signs in", async () => {
    const browser = createBrowser("dingtalk");
    const page = await browser.go(`${rig.url}/c/abc`);
    expect(page.url).toBe(`${rig.url}/sign-in/dingtalk?to=%2Fc%2Fabc`);
    expect(page.text).toContain(`data-corp="${rig.dingtalk.corp}"`);
    const answer = await runScript(browser, page, rig.dingtalk.appCode());
    expect({ ...answer, text: JSON.parse(answer.text).to }).toMatchObject({ status: 200, text: "/c/abc" });
    expect(await browser.me(rig.url)).toMatchObject({
      username: `dingtalk:${rig.dingtalk.corp}:manager01`,
      displayName: "李四",
    });
  });
});

describe("on a desktop there is a button per platform", () => {
  test("the page is told their names and nothing else", async () => {
    const { body, text } = await api(rig.url)("GET", "/api/sign-in", undefined, {
      headers: { "Accept-Language": "zh", "User-Agent": AGENTS.desktop },
    });
    expect(body).toEqual({
      providers: [
        { id: "feishu", name: "飞书", url: "/sign-in/feishu" },
        { id: "dingtalk", name: "钉钉", url: "/sign-in/dingtalk" },
        { id: "wecom", name: "企业微信", url: "/sign-in/wecom" },
      ],
    });
    expect(text).not.toMatch(/secret|cli_|ding0|ww01/);
  });

  test.each(["feishu", "dingtalk", "wecom"] as const)(
    "%s: its page, one click there, and the same person as in the app",
    async (id) => {
      const browser = createBrowser("desktop");
      const page = await browser.go(`${rig.url}/sign-in/${id}?to=/c/xyz`);
      const end = await browser.click(page, "agree");
      expect(end.url).toBe(`${rig.url}/c/xyz`);
      const names = {
        feishu: "feishu:tenant1:on_1",
        dingtalk: `dingtalk:${rig.dingtalk.corp}:manager01`,
        wecom: "wecom:ww0123456789abcdef:zhangsan",
      };
      expect((await browser.me(rig.url))?.username).toBe(names[id]);
    },
  );
});

describe("a refusal is a sentence that says whose setting to change", () => {
  const failing = async (agent: keyof typeof AGENTS, path: string): Promise<string> => {
    const browser = createBrowser(agent);
    let end = await browser.go(rig.url + path);
    if (end.text.includes('id="agree"')) end = await browser.click(end, "agree");
    expect(end.status).toBe(403);
    expect(end.headers.get("content-security-policy")).toContain("default-src 'none'; style-src 'self'");
    expect(end.text).toContain('href="/?password"');
    expect(await browser.me(rig.url)).toBeUndefined();
    return /role="alert">([^<]*)</.exec(end.text)![1]!;
  };

  test("Feishu: not visible, another tenant, refused by the person", async () => {
    const { state } = rig.feishu;
    const before = { ...state };
    state.person = { ...before.person, visible: false };
    expect(await failing("feishu", "/sign-in/feishu")).toMatch(/availability.*20010/);
    state.person = { ...before.person, tenant_key: "tenant2" };
    expect(await failing("feishu", "/sign-in/feishu")).toMatch(/tenant tenant2.*signIn\.feishu\.tenants/);
    state.person = before.person;
    state.refuses = true;
    expect(await failing("feishu", "/sign-in/feishu")).toMatch(/cancelled/);
    Object.assign(state, before);
  });

  test("DingTalk: not a member, another organisation chosen, the server's address, a missing permission is no obstacle", async () => {
    const { state } = rig.dingtalk;
    const before = { ...state };
    state.person = { unionid: "uni9", name: "外人", nick: "外人" };
    expect(await failing("desktop", "/sign-in/dingtalk")).toMatch(/not a member.*60121/);
    state.person = { ...before.person, corp: "dingother" };
    expect(await failing("desktop", "/sign-in/dingtalk")).toMatch(/organisation chosen/);
    state.person = before.person;
    state.ipAllowed = false;
    expect(await failing("desktop", "/sign-in/dingtalk")).toMatch(/Server egress IP.*60020/);
    state.ipAllowed = true;
    state.mayReadMembers = false;
    const browser = createBrowser();
    await browser.click(await browser.go(`${rig.url}/sign-in/dingtalk`), "agree");
    expect((await browser.me(rig.url))?.displayName).toBe("小李");
    Object.assign(state, before);
  });

  test("WeCom: not a member, the server's address, refused by the person, a domain that is not trusted", async () => {
    const { state } = rig.wecom;
    const before = { ...state };
    state.person = { openid: "o123" };
    expect(await failing("wecom", "/sign-in/wecom")).toMatch(/not a member/);
    state.person = before.person;
    state.ipAllowed = false;
    expect(await failing("wecom", "/sign-in/wecom")).toMatch(/Trusted IPs \(203\.0\.113\.7\).*60020/);
    state.ipAllowed = true;
    state.refuses = true;
    expect(await failing("wecom", "/sign-in/wecom")).toMatch(/cancelled/);
    Object.assign(state, before);
  });

  test("an unreachable platform, a wrong secret, and a way that is not configured", async () => {
    const other = await startRig({ feishu: { appSecret: "wrong" } });
    const why = (end: Stop) => `${end.status} ${/role="alert">([^<]*)</.exec(end.text)?.[1]}`;
    expect(why(await createBrowser("feishu").go(`${other.url}/`))).toMatch(/^403 .*appSecret.*20002/);
    expect(why(await createBrowser().go(`${other.url}/sign-in/nobody`))).toMatch(/^404 .*not configured/);
    const browser = createBrowser("wecom");
    const back = await browser.go(`${other.url}/`, (url) => url.includes("/callback"));
    await other.wecom.stop();
    const end = await browser.go(back.url);
    expect(why(end)).toMatch(/^403 The gateway cannot reach WeCom at 127\.0\.0\.1:\d+/);
    const told = JSON.stringify(other.logs);
    for (const secret of ["wecom-app-secret", "feishu-app-secret", new URL(back.url).searchParams.get("code")!])
      expect(told + end.text).not.toContain(secret);
    await other.stop();
  });

  test("the sentences are Chinese for who reads Chinese", async () => {
    rig.feishu.state.refuses = true;
    const end = await createBrowser("feishu").go(`${rig.url}/sign-in/feishu`);
    const zh = await fetch(`${rig.url}/sign-in/feishu/callback?error=access_denied&state=x`, {
      headers: { "Accept-Language": "zh-CN" },
    });
    rig.feishu.state.refuses = false;
    expect(end.text).toContain('<html lang="en">');
    expect(await zh.text()).toMatch(/<html lang="zh">[\s\S]*这次登录已过期/);
  });
});

describe("accounts", () => {
  test("a user of the config who lists identities is that user by every way in", async () => {
    const joined = await startRig({
      config: {
        users: {
          zhang: {
            displayName: "张老师",
            role: "admin",
            identities: ["feishu:tenant1:on_1", "wecom:ww0123456789abcdef:ZHANGSAN"],
          },
        },
      },
    });
    for (const agent of ["feishu", "wecom"] as const) {
      const browser = createBrowser(agent);
      await browser.go(`${joined.url}/`);
      expect(await browser.me(joined.url)).toMatchObject({ username: "zhang", displayName: "张老师", role: "admin" });
    }
    await joined.stop();
  });

  test("with create listed, and with no tenant named, only listed people come in and the others are told their key", async () => {
    const listed = await startRig({ signIn: { create: "listed" } });
    const open = await startRig({ feishu: { tenants: [] } });
    for (const one of [listed, open]) {
      const end = await createBrowser("feishu").go(`${one.url}/`);
      expect(end.status).toBe(403);
      expect(end.text).toContain("feishu:tenant1:on_1");
      expect(one.logs.some(({ event }) => event === "person_made")).toBe(false);
      await one.stop();
    }
  });

  test("names follow the platform, and a bot sees the username beside them", async () => {
    const bot = await v1Bot(rig.wsUrl, { token: BOT_TOKEN });
    rig.feishu.state.person = { ...rig.feishu.state.person, name: "管理员 (admin)" };
    const browser = createBrowser("feishu");
    await browser.go(`${rig.url}/`);
    const sent = await browser.post(`${rig.url}/api/chat`, { message: "你好" });
    rig.feishu.state.person = { ...rig.feishu.state.person, name: "张三" };
    await bot.close();
    expect(sent.status).toBe(200);
    expect(bot.chats.map(({ from }) => from)).toEqual(["管理员 admin (feishu:tenant1:on_1)"]);
  });

  test("taking a platform or a person out of the config ends their sessions at once, and putting it back is enough", async () => {
    const mine = await startRig();
    const browser = createBrowser("feishu");
    await browser.go(`${mine.url}/`);
    expect(await browser.me(mine.url)).toBeDefined();
    for (const change of [
      { signIn: { block: ["feishu:tenant1:on_1"] } },
      { signIn: { feishu: undefined } },
      { feishu: { tenants: ["tenant2"] } },
      { feishu: { create: "listed" } },
    ]) {
      mine.reload(change);
      expect(await browser.me(mine.url)).toBeUndefined();
      mine.reload({});
      await browser.go(`${mine.url}/sign-in/feishu`);
      expect(await browser.me(mine.url)).toMatchObject({ displayName: "张三" });
    }
    mine.reload({ signIn: { block: ["feishu:tenant1:on_1"] } });
    expect((await browser.go(`${mine.url}/sign-in/feishu`)).text).toContain("closed this account");
    await mine.stop();
  });

  test("a person whom an admin disabled stays out, as themselves and as a user of the config", async () => {
    const mine = await startRig({
      config: { users: { zhang: { identities: ["wecom:ww0123456789abcdef:zhangsan"] } } },
    });
    const { people } = mine.gateway.gate;
    for (const [agent, user] of [
      ["feishu", "feishu:tenant1:on_1"],
      ["wecom", "zhang"],
    ] as const) {
      const browser = createBrowser(agent);
      await browser.go(`${mine.url}/`);
      expect((await browser.me(mine.url))?.username).toBe(user);
      await people.change(user, { disabled: true });
      expect(await browser.me(mine.url)).toBeUndefined();
      expect((await browser.go(`${mine.url}/sign-in/${agent}`)).text).toContain("closed this account");
      await people.change(user, { disabled: false });
      await browser.go(`${mine.url}/sign-in/${agent}`);
      expect((await browser.me(mine.url))?.username).toBe(user);
    }
    await mine.stop();
  });

  test("a picture that is none, too far away or on another's network is not fetched", async () => {
    const inside = startVendor({ "GET /inside.png": () => new Response(PNG) });
    const mine = await startRig();
    for (const [i, avatar] of [
      `${inside.url}/inside.png`,
      `${mine.feishu.url}/avatar.html`,
      `${mine.feishu.url}/avatar-away.png`,
      "javascript:alert(1)",
      "not an address",
    ].entries()) {
      mine.feishu.state.person = { name: "x", union_id: `on_${i}`, tenant_key: "tenant1", avatar };
      const browser = createBrowser("feishu");
      await browser.go(`${mine.url}/`);
      expect((await browser.me(mine.url))?.username).toBe(`feishu:tenant1:on_${i}`);
      expect((await browser.me(mine.url))?.avatar).toBeUndefined();
    }
    await until(() => mine.logs.filter(({ event }) => event === "picture_refused").length === 2);
    expect(inside.calls).toEqual([]);
    await mine.stop();
    await inside.stop();
  });
});

describe("Feishu's two token addresses", () => {
  test("v3 is sent no PKCE, v2 is, and both sign in", async () => {
    for (const tokenApi of ["v2", "v3"] as const) {
      const mine = await startRig({ feishu: { tokenApi } });
      const browser = createBrowser("feishu");
      await browser.go(`${mine.url}/`);
      expect(await browser.me(mine.url)).toMatchObject({ username: "feishu:tenant1:on_1" });
      const left = browser.hops.find((hop) => hop.includes("/authen/v1/authorize"))!;
      expect(new URL(left).searchParams.has("code_challenge")).toBe(tokenApi === "v2");
      await mine.stop();
    }
  });
});

test("Lark is the same platform under a name of its own, in the app that calls itself either", async () => {
  const mine = await startRig();
  mine.reload({ signIn: { feishu: undefined, lark: mine.feishu.signIn() } });
  const browser = createBrowser("feishu");
  await browser.go(`${mine.url}/`);
  expect(await browser.me(mine.url)).toMatchObject({ username: "lark:tenant1:on_1", displayName: "张三" });
  await mine.stop();
});

test("a WeCom that writes the member's id as its older versions do signs in the same person", async () => {
  rig.wecom.state.isOld = true;
  const browser = createBrowser("wecom");
  await browser.go(`${rig.url}/`);
  rig.wecom.state.isOld = false;
  expect((await browser.me(rig.url))?.username).toBe("wecom:ww0123456789abcdef:zhangsan");
});

test("the proof files of WeCom are served from the config at the root, and no others", async () => {
  const mine = await startRig({ wecom: { verify: { "WW_verify_Abc123.txt": "Abc123" } } });
  const proof = await fetch(`${mine.url}/WW_verify_Abc123.txt`);
  expect([proof.status, await proof.text()]).toEqual([200, "Abc123"]);
  expect((await fetch(`${mine.url}/WW_verify_Other.txt`)).status).toBe(404);
  expect((await fetch(`${mine.url}/constructor`)).status).toBe(404);
  await mine.stop();
});
