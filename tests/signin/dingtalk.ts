/**
 * A DingTalk that answers as its documents say: facts A.2. Two kinds of code that do not replace each other (the login page's
 * authCode, the script's code), old calls with their errors in HTTP 200, and the vendor's own script served as its CDN does.
 */
import { join } from "node:path";
import { consent, createOnce, json, page, PNG, redirect, startVendor } from "./vendor.ts";

export type DingTalkPerson = { userid?: string; unionid: string; name: string; nick?: string; corp?: string };

const CODE_MS = 5 * 60_000;
const TOKEN_MS = 7_200_000;
const APP = { id: "dingabc123", secret: "dingtalk-app-secret" };
const CORP = "ding0123456789";
const SCRIPT = "/dingding/dingtalk-jsapi/3.0.25/dingtalk.open.js";

/** The vendor's package as one script with a global `dd`, which is what its CDN serves. */
const buildScript = async (): Promise<string> => {
  const entry = join(import.meta.dir, "../../node_modules/dingtalk-jsapi/index.js");
  const built = await Bun.build({
    entrypoints: ["/dingtalk.open.js"],
    files: { "/dingtalk.open.js": `import dd from ${JSON.stringify(entry)}; window.dd = dd;` },
    target: "browser",
    format: "iife",
    throw: true,
  });
  return built.outputs[0]!.text();
};

export const startDingTalk = ({ redirects, now = Date.now }: { redirects: string[]; now?: () => number }) => {
  const pageCodes = createOnce<{ person: DingTalkPerson; redirectUri: string }>(now, CODE_MS, "");
  const appCodes = createOnce<DingTalkPerson>(now, CODE_MS, "");
  const userTokens = createOnce<DingTalkPerson>(now, TOKEN_MS, "");
  const appTokens = createOnce<true>(now, TOKEN_MS, "");
  const first: DingTalkPerson = { userid: "manager01", unionid: "uni1", name: "李四", nick: "小李" };
  const state = { person: first, refuses: false, ipAllowed: true, mayReadMembers: true, takesNoToken: false };
  let script: Promise<string> | undefined;

  const apiFault = (code: string, message: string, status = 400) =>
    json({ code, requestid: crypto.randomUUID(), message }, status);
  const fault = (errcode: number, errmsg: string) => json({ errcode, errmsg, request_id: crypto.randomUUID() });
  const tokenFault = (url: URL): Response | undefined => {
    const held = state.takesNoToken ? "unknown" : appTokens.peek(url.searchParams.get("access_token"));
    // The old gateway wraps it.
    if (held === "unknown")
      return json({
        errcode: 88,
        sub_code: "40014",
        sub_msg: "不合法的access_token",
        errmsg: "ding talk error[subcode=40014]",
      });
    if (held === "old") return fault(42001, "access_token过期");
    if (!state.ipAllowed) return fault(60020, "访问ip不在白名单之中,request ip=203.0.113.7");
    return undefined;
  };
  const withToken =
    (handle: (body: Record<string, string>) => Response) =>
    async (request: Request, url: URL): Promise<Response> =>
      tokenFault(url) ?? handle((await request.json()) as Record<string, string>);

  const vendor = startVendor({
    "GET /oauth2/auth": (_, url) => {
      const q = url.searchParams;
      if (q.get("client_id") !== APP.id) return page("参数错误：client_id", 400);
      if (!redirects.includes(q.get("redirect_uri") ?? "")) return page("参数错误：redirect_uri", 400);
      if (q.get("prompt") !== "consent" || q.get("response_type") !== "code") return page("参数错误", 400);
      if (!/^openid( corpid)?$/.test(q.get("scope") ?? "")) return page("参数错误：scope", 400);
      return consent(`/confirm${url.search}`);
    },
    "GET /confirm": (_, url) => {
      const back = url.searchParams.get("redirect_uri")!;
      const echoed = url.searchParams.get("state") ?? "";
      if (state.refuses) return redirect(back, { error: "access_denied", state: echoed });
      const code = pageCodes.make({ person: state.person, redirectUri: back });
      return redirect(back, { code, authCode: code, state: echoed });
    },
    "POST /v1.0/oauth2/userAccessToken": async (request) => {
      const body = (await request.json()) as Record<string, string>;
      if (body.clientId !== APP.id || body.clientSecret !== APP.secret)
        return apiFault("invalidClientIdOrSecret", "无效的clientId或者clientSecret");
      if (body.grantType !== "authorization_code") return apiFault("invalidParameter.grantType", "不合法的grantType");
      const got = pageCodes.use(body.code);
      if (typeof got === "string") return apiFault("invalidParameter.authCode.notFound", "不合法的临时授权码");
      return json({
        accessToken: userTokens.make(got.person),
        refreshToken: "r",
        expireIn: 7200,
        corpId: got.person.corp ?? CORP,
      });
    },
    "GET /v1.0/contact/users/me": (request) => {
      const person = userTokens.peek(request.headers.get("x-acs-dingtalk-access-token"));
      if (typeof person === "string") return apiFault("InvalidAuthentication", "不合法的access_token", 401);
      return json({
        nick: person.nick,
        unionId: person.unionid,
        openId: "o",
        avatarUrl: `${vendor.url}/avatar.png`,
        stateCode: "86",
      });
    },
    "POST /v1.0/oauth2/accessToken": async (request) => {
      const body = (await request.json()) as Record<string, string>;
      if (body.appKey !== APP.id || body.appSecret !== APP.secret)
        return apiFault("invalidClientIdOrSecret", "无效的clientId或者clientSecret");
      return json({ accessToken: appTokens.make(true), expireIn: 7200 });
    },
    "POST /topapi/user/getbyunionid": withToken((body) =>
      body.unionid === state.person.unionid && state.person.userid !== undefined
        ? json({ errcode: 0, errmsg: "ok", result: { contact_type: 0, userid: state.person.userid } })
        : fault(60121, "找不到该用户"),
    ),
    "POST /topapi/v2/user/getuserinfo": withToken((body) => {
      const person = appCodes.use(body.code);
      if (typeof person === "string") return fault(40078, "不存在的临时授权码");
      return json({
        errcode: 0,
        errmsg: "ok",
        result: {
          userid: person.userid,
          unionid: person.unionid,
          name: person.name,
          device_id: "d",
          sys: false,
          sys_level: 0,
        },
      });
    }),
    "POST /topapi/v2/user/get": withToken((body) => {
      if (!state.mayReadMembers) return fault(60011, "没有调用该接口的权限");
      if (body.userid !== state.person.userid) return fault(60121, "找不到该用户");
      return json({
        errcode: 0,
        errmsg: "ok",
        result: {
          userid: body.userid,
          name: state.person.name,
          avatar: `${vendor.url}/avatar.png`,
          unionid: state.person.unionid,
        },
      });
    }),
    "GET /avatar.png": () => new Response(PNG),
    [`GET ${SCRIPT}`]: async () => {
      script ??= buildScript();
      return new Response(await script, { headers: { "Content-Type": "application/javascript" } });
    },
  });

  return {
    ...vendor,
    state,
    corp: CORP,
    app: APP.id,
    /** What the app's native side hands to the vendor's script. */
    appCode: (person = state.person) => appCodes.make(person),
    pageCode: (redirectUri: string, person = state.person) => pageCodes.make({ person, redirectUri }),
    forgetTokens: appTokens.clear,
    expireTokens: appTokens.expire,
    signIn: (more: Record<string, unknown> = {}) => ({
      clientId: APP.id,
      clientSecret: APP.secret,
      corpId: CORP,
      hosts: { login: vendor.url, api: vendor.url, oapi: vendor.url, script: vendor.url },
      ...more,
    }),
  };
};
