/**
 * The fakes of tests/signin are held to what the vendors' own SDKs send and expect, so that fake and gateway cannot share a
 * misreading: Feishu's node SDK (v3 token, user_info), DingTalk's (user token, app token, the person) and WeCom's JSSDK (the
 * address of the QR page). Its counterpart for DingTalk's script in the apps is signin.test.ts.
 *
 * No vendor's SDK speaks the rest: Feishu's v2 token, DingTalk's old gateway (topapi) and WeCom's server calls are faked from
 * the documents. The SDKs are too big for devDependencies and live in a cached folder.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { installPackages } from "../harness/packages.ts";
import { createBrowser } from "../signin/browser.ts";
import { type Rig, startRig } from "../signin/rig.ts";
import { launch, until } from "./rig.ts";

const PACKAGES = ["@larksuiteoapi/node-sdk@1.74.0", "@alicloud/dingtalk@2.2.27", "@wecom/jssdk@2.4.4"];

let modules: string;
let rig: Rig;
beforeAll(async () => {
  modules = await installPackages("sign-in-sdks", [{ packages: PACKAGES }]);
  rig = await startRig();
}, 180_000);
afterAll(() => rig.stop());

/** The SDK prints every refusal, with the whole request. */
const SILENT = Object.fromEntries(["error", "warn", "info", "debug", "trace"].map((level) => [level, () => {}]));

const load = <T>(path: string): Promise<T> => import(join(modules, path));

/** The vendor's page that the gateway sends a browser to, and what its click brings back; the gateway is not asked again. */
const grant = async (id: "feishu" | "dingtalk"): Promise<{ left: URL; code: string; back: string }> => {
  const browser = createBrowser();
  const page = await browser.go(`${rig.url}/sign-in/${id}`);
  const returned = new URL((await browser.click(page, "agree", (url) => url.startsWith(rig.url))).url);
  const code = returned.searchParams.get("authCode") ?? returned.searchParams.get("code");
  return { left: new URL(page.url), code: code!, back: returned.origin + returned.pathname };
};

describe("Feishu's node SDK", () => {
  type Lark = {
    Client: new (options: Record<string, unknown>) => {
      accessToken: {
        retrieveByAuthorizationCode: (of: Record<string, unknown>) => Promise<Record<string, unknown>>;
      };
      authen: { v1: { userInfo: { get: (payload: object, token: unknown) => Promise<{ data?: unknown }> } } };
    };
    withUserAccessToken: (token: unknown) => unknown;
  };
  const client = async (appSecret = "feishu-app-secret") => {
    const lark = await load<Lark>("@larksuiteoapi/node-sdk/lib/index.js");
    const { url } = rig.feishu;
    const options = { appId: "cli_a1b2c3", appSecret, domain: url, oauthBaseUrl: url };
    return { lark, client: new lark.Client({ ...options, logger: SILENT }) };
  };
  /** Feishu's authorize page without PKCE, as it is asked when the setting is v3. */
  const codeWithoutPkce = async (): Promise<{ code: string; back: string }> => {
    rig.reload({ feishu: { tokenApi: "v3" } });
    const granted = await grant("feishu");
    expect(granted.left.searchParams.has("code_challenge")).toBe(false);
    rig.reload({});
    return granted;
  };

  test("takes the code of our authorize address, gets a token and the person", async () => {
    const { lark, client: feishu } = await client();
    const { code, back } = await codeWithoutPkce();
    const token = await feishu.accessToken.retrieveByAuthorizationCode({ code, redirectUri: back });
    expect(token).toMatchObject({ tokenType: "Bearer", expiresIn: 7200 });
    const { data } = await feishu.authen.v1.userInfo.get({}, lark.withUserAccessToken(token.accessToken));
    expect(data).toMatchObject({ name: "张三", union_id: "on_1", tenant_key: "tenant1" });
  });

  test("reads the fake's refusals as the errors they are", async () => {
    const right = (await client()).client;
    const { code, back } = await codeWithoutPkce();
    const ask = (of: typeof right, redirectUri: string, given = code) =>
      of.accessToken.retrieveByAuthorizationCode({ code: given, redirectUri }).catch((error: unknown) => error);
    expect(await ask((await client("wrong")).client, back)).toMatchObject({ code: 20002, error: "invalid_client" });
    expect(await ask(right, `${back}/other`)).toMatchObject({ code: 20071 });
    expect(await ask(right, back)).toMatchObject({ code: 20003, statusCode: 400 }); // spent by the try above
  });
});

describe("DingTalk's SDK", () => {
  type Body = { body: Record<string, unknown> };
  type Tea = {
    default: new (config: unknown) => {
      getUserToken: (request: unknown) => Promise<Body>;
      getAccessToken: (request: unknown) => Promise<Body>;
      getUserWithOptions: (unionId: string, headers: unknown, runtime: unknown) => Promise<Body>;
    };
    GetUserTokenRequest: new (of: object) => unknown;
    GetAccessTokenRequest: new (of: object) => unknown;
    GetUserHeaders: new (of: object) => unknown;
  };
  type OpenApi = { Config: new (of: object) => unknown };
  const runtime = () =>
    load<{ RuntimeOptions: new (of: object) => unknown }>("@alicloud/tea-util/dist/client.js").then(
      ({ RuntimeOptions }) => new RuntimeOptions({}),
    );
  const client = async (of: "oauth2_1_0" | "contact_1_0") => {
    const tea = await load<Tea>(`@alicloud/dingtalk/dist/${of}/client.js`);
    const { Config } = await load<OpenApi>("@alicloud/openapi-client/dist/client.js");
    const config = new Config({ protocol: "http", endpoint: new URL(rig.dingtalk.url).host });
    return { tea, client: new tea.default(config) };
  };
  const APP = { clientId: "dingabc123", clientSecret: "dingtalk-app-secret" };

  test("takes the code of our login address, gets the person's token with their company, and the person", async () => {
    const { tea, client: oauth } = await client("oauth2_1_0");
    const { code } = await grant("dingtalk");
    const request = new tea.GetUserTokenRequest({ ...APP, code, grantType: "authorization_code" });
    const { body: token } = await oauth.getUserToken(request);
    expect(token).toMatchObject({ corpId: rig.dingtalk.corp, expireIn: 7200 });
    const contact = await client("contact_1_0");
    const headers = new contact.tea.GetUserHeaders({ xAcsDingtalkAccessToken: token.accessToken });
    const { body: me } = await contact.client.getUserWithOptions("me", headers, await runtime());
    expect(me).toMatchObject({ nick: "小李", unionId: "uni1", stateCode: "86" });
    expect(me.avatarUrl).toStartWith("http");
    // The same code once more.
    const again = await oauth.getUserToken(request).catch((error: unknown) => error);
    expect(again).toMatchObject({ code: "invalidParameter.authCode.notFound" });
  });

  test("gets the app's token, and reads a wrong secret as the vendor's error", async () => {
    const { tea, client: oauth } = await client("oauth2_1_0");
    const ask = (appSecret: string) =>
      oauth.getAccessToken(new tea.GetAccessTokenRequest({ appKey: APP.clientId, appSecret }));
    const { body } = await ask(APP.clientSecret);
    expect(body.expireIn).toBe(7200);
    // The token it got is the one the old gateway takes.
    const url = `${rig.dingtalk.url}/topapi/v2/user/get?access_token=${body.accessToken}`;
    const member = await fetch(url, { method: "POST", body: JSON.stringify({ userid: "manager01" }) });
    expect(await member.json()).toMatchObject({ errcode: 0, result: { name: "李四" } });
    expect(await ask("wrong").catch((error: unknown) => error)).toMatchObject({ code: "invalidClientIdOrSecret" });
  });
});

test("WeCom's JSSDK asks for the QR page with the parameters that we send, and the fake takes its address", async () => {
  const begun = await createBrowser().once(`${rig.url}/sign-in/wecom`);
  const ours = new URL(begun.headers.get("location")!);
  const browser = await launch();
  try {
    const page = await browser.newPage();
    const asked: URL[] = [];
    await page.route("https://login.work.weixin.qq.com/**", (route) => {
      asked.push(new URL(route.request().url()));
      return route.fulfill({ status: 200, contentType: "text/html", body: "" });
    });
    await page.setContent('<div id="here"></div>');
    await page.addScriptTag({ path: join(modules, "@wecom/jssdk/dist/wecom.global.prod.js") });
    const params = Object.fromEntries(ours.searchParams);
    await page.evaluate(`ww.createWWLoginPanel({ el: "#here", params: ${JSON.stringify(params)} })`);
    const theirs = await until(() => asked[0], 10_000, "the SDK to ask for its page");
    expect(theirs.pathname).toBe(ours.pathname);
    theirs.searchParams.delete("version"); // the SDK's own
    expect(Object.fromEntries(theirs.searchParams)).toEqual(params);
    const qr = await createBrowser().go(rig.wecom.url + theirs.pathname + theirs.search);
    expect(qr).toMatchObject({ status: 200, text: expect.stringContaining('id="agree"') });
  } finally {
    await browser.close();
  }
});
