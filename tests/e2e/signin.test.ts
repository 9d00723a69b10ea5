/**
 * Silent sign-in in a real Chromium: a cold browser with each app's User-Agent opens the page and is chatting as the right
 * person, with no keystroke. DingTalk's page runs the vendor's own script (the npm package dingtalk-jsapi) under our policy;
 * only the app's native side is played.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { AGENTS } from "../signin/browser.ts";
import { type Rig, startRig } from "../signin/rig.ts";
import {
  bot,
  type Browser,
  type BrowserContext,
  DESK,
  finished,
  launch,
  openPage,
  PHONE,
  send,
  textOf,
  violations,
  until,
  waitFor,
} from "./rig.ts";

let browser: Browser;
let rig: Rig;
let helper: Awaited<ReturnType<typeof bot>>;
beforeAll(async () => {
  browser = await launch();
  rig = await startRig({ page: true });
  helper = await bot(rig, "helper", (turn) => {
    turn.write(`你好，${turn.userName} <${turn.userId}>`);
    return turn.end();
  });
});
afterAll(async () => {
  helper.close();
  await browser.close();
  await rig.stop();
});

/** What DingTalk's Android client offers the vendor's script: one function, called with plugin, action and arguments. */
const NATIVE = `Object.assign(window, {
  nuva: { isReady: true, require: () => (success, fail, plugin, action, args) => {
    window.__asked = [plugin, action, args.corpId, args.clientId];
    window.dingtalkCode(action).then((code) => code ? success({ code }) : fail({ errorCode: 1, errorMessage: "no" }));
  } },
});`;

/** The same of its iOS client: a bridge with named handlers. */
const NATIVE_IOS = `window.WebViewJavascriptBridge = {
  init: () => {},
  callHandler: (name, args, answer) => {
    const action = name.split(".").pop();
    window.dingtalkCode(action).then((code) =>
      answer(code ? { errorCode: "0", result: { code } } : { errorCode: "1", errorMessage: "no" }));
  },
};`;

/**
 * The same of its desktop client: the window carries the container's name and host, and what the script posts to that host
 * the client takes out and answers as a message from it.
 */
const NATIVE_DESK = `{
  const host = "https://im.dingtalk.com";
  window.name = JSON.stringify({ hostOrigin: host, containerId: "7", hostVersion: "7.6.30", language: "zh-CN" });
  window.dingtalk = { platform: { invokeAPI() {} } };
  const post = window.postMessage.bind(window);
  window.postMessage = (asked, to, ...more) => {
    if (to !== host) return post(asked, to, ...more);
    const { corpId, clientId } = asked.body;
    const answer = (body, success) => window.dispatchEvent(
      new MessageEvent("message", { origin: host, data: { type: "response", msgId: asked.msgId, success, body } }));
    window.dingtalkCode(asked.methodName.split(".").pop(), corpId, clientId).then((code) =>
      code ? answer({ code }, true) : answer({ errorCode: 1, errorMessage: "no" }, false));
  };
}`;

const cold = async (agent: keyof typeof AGENTS): Promise<BrowserContext> =>
  browser.newContext({ ...(/^desktop$|Desk$/.test(agent) ? DESK : PHONE), userAgent: AGENTS[agent] });

/** The signed-in page, ready to type into. */
const ready = async (page: Awaited<ReturnType<typeof openPage>>["page"]): Promise<void> => {
  await page.waitForSelector("#composer");
  await page.waitForSelector('.status[data-link="online"]');
};

test.each([
  ["feishu", "feishu:tenant1:on_1", "张三"],
  ["wecom", "wecom:ww0123456789abcdef:zhangsan", "张三"],
  ["dingtalk", "dingtalk:ding0123456789:manager01", "李四"],
] as const)("%s: a cold browser opens the page and chats as the right person", async (agent, username, name) => {
  const context = await cold(agent);
  const { page, watch } = await openPage(context, rig.url);
  const vendor = rig[agent].url;
  if (agent === "dingtalk") {
    await page.addInitScript(NATIVE);
    await page.exposeFunction("dingtalkCode", () => rig.dingtalk.appCode());
  }
  await page.goto(rig.url);
  await ready(page);
  expect(new URL(page.url()).pathname).toBe("/");
  const me = await page.evaluate<{ user: { username: string; displayName: string } }>(
    `fetch("/api/me").then((answer) => answer.json())`,
  );
  expect(me.user).toMatchObject({ username, displayName: name });
  await send(page, "在吗");
  await finished(page);
  // The first answer of a cold page waits for what draws it.
  await waitFor(page, `document.querySelector(".msg.bot").textContent.includes(${JSON.stringify(username)})`);
  expect(watch.foreign.filter((url) => !url.startsWith(vendor))).toEqual([]);
  expect(watch.errors).toEqual([]);
  expect(await violations(page, watch)).toEqual([]);
  // A second visit asks the platform nothing.
  const asked = rig[agent].calls.length;
  await page.reload();
  await ready(page);
  expect(rig[agent].calls.length).toBe(asked);
  await context.close();
});

test("dingtalk: the vendor's script was asked for our app, and an old client without the new call signs in too", async () => {
  const context = await cold("dingtalk");
  const { page } = await openPage(context, rig.url);
  await page.addInitScript(NATIVE);
  const actions: string[] = [];
  await page.exposeFunction("dingtalkCode", (action: string) => {
    actions.push(action);
    return action === "requestAuthCode" ? rig.dingtalk.appCode() : "";
  });
  await page.goto(rig.url);
  await ready(page);
  expect(actions).toEqual(["requestAuthCodeV2", "requestAuthCode"]);
  await context.close();
});

test("dingtalk on iOS: the vendor's script finds its other bridge under the same policy", async () => {
  const context = await cold("dingtalkIos");
  const { page, watch } = await openPage(context, rig.url);
  await page.addInitScript(NATIVE_IOS);
  const actions: string[] = [];
  await page.exposeFunction("dingtalkCode", (action: string) => {
    actions.push(action);
    return rig.dingtalk.appCode();
  });
  await page.goto(rig.url);
  await ready(page);
  expect(actions).toEqual(["requestAuthCodeV2"]);
  expect(await violations(page, watch)).toEqual([]);
  await context.close();
});

test.each([
  ["the new call", ["requestAuthCodeV2"]],
  ["an old client, which knows the old call only", ["requestAuthCodeV2", "requestAuthCode"]],
] as const)("dingtalk on a desktop: the vendor's script finds its client, %s", async (_, expected) => {
  const context = await cold("dingtalkDesk");
  const { page, watch } = await openPage(context, rig.url);
  await page.addInitScript(NATIVE_DESK);
  const asked: [string, string, string | undefined][] = [];
  await page.exposeFunction("dingtalkCode", (action: string, corp: string, app?: string) => {
    asked.push([action, corp, app]);
    return action === expected.at(-1) ? rig.dingtalk.appCode() : "";
  });
  await page.goto(rig.url);
  await ready(page);
  expect(asked.map(([action]) => action)).toEqual([...expected]);
  expect(asked[0]).toEqual([expected[0], rig.dingtalk.corp, rig.dingtalk.app]);
  expect(await violations(page, watch)).toEqual([]);
  await context.close();
});

test("dingtalk: without the script or a code the page says so and offers the other ways", async () => {
  const context = await cold("dingtalk");
  const { page } = await openPage(context, rig.url);
  await page.addInitScript(NATIVE);
  await page.exposeFunction("dingtalkCode", () => "");
  await page.goto(`${rig.url}/sign-in/dingtalk`);
  await page.waitForSelector("#failed:not([hidden])");
  expect(await textOf(page, "#why")).toContain("钉钉没有给出登录码");
  await page.click("#failed a.main");
  await page.click("#agree");
  await ready(page);
  await context.close();
});

test("a desktop browser gets a button per platform and comes back signed in", async () => {
  const context = await cold("desktop");
  const { page } = await openPage(context, rig.url);
  await page.goto(`${rig.url}/c/abc123`);
  await page.waitForSelector("#sign-in-more a");
  const names = await page.evaluate<string[]>(
    `[...document.querySelectorAll("#sign-in-more a")].map((link) => link.textContent)`,
  );
  expect(names).toEqual(["用飞书登录", "用钉钉登录", "用企业微信登录"]);
  await page.click("#sign-in-more a");
  await page.click("#agree");
  await page.waitForSelector("#composer");
  expect(await page.evaluate<number>(`fetch("/api/me").then((answer) => answer.status)`)).toBe(200);
  await context.close();
});

test("in the app a refusal is a sentence, and one tap leads to the password form", async () => {
  const context = await cold("feishu");
  const { page } = await openPage(context, rig.url);
  rig.feishu.state.person = { ...rig.feishu.state.person, visible: false };
  await page.goto(rig.url);
  await page.waitForSelector('[role="alert"]');
  rig.feishu.state.person = { ...rig.feishu.state.person, visible: true };
  expect(await textOf(page, '[role="alert"]')).toContain("可用范围");
  await page.click('a[href="/?password"]');
  await page.waitForSelector("#login-form");
  await page.waitForSelector("#sign-in-more a");
  await context.close();
});

test("in the app a session that ends under an open page is renewed by itself, and the draft is still there", async () => {
  const context = await cold("feishu");
  const { page } = await openPage(context, rig.url);
  await page.goto(rig.url);
  await ready(page);
  await page.fill("#composer", "还没写完");
  const cookie = (await context.cookies(rig.url)).find(({ name }) => name === "nexus")!.value;
  const { sessions } = rig.gateway.gate;
  await sessions.drop(sessions.find(cookie)!);
  await until(
    async () => {
      const now = (await context.cookies(rig.url)).find(({ name }) => name === "nexus")?.value;
      return now !== undefined && now !== cookie;
    },
    10_000,
    "the session to be renewed",
  );
  await ready(page);
  expect(await page.inputValue("#composer")).toBe("还没写完");
  await context.close();
});
