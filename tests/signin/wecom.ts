/** A WeCom that answers as its documents say: facts A.3. Errors come in HTTP 200; the app token must be cached. */
import { consent, createOnce, json, page, redirect, startVendor } from "./vendor.ts";

export type WeComPerson = { userid?: string; name?: string; openid?: string };

const CODE_MS = 5 * 60_000;
const TOKEN_MS = 7_200_000;
const CORP = { id: "ww0123456789abcdef", secret: "wecom-app-secret", agent: "1000002" };

export const startWeCom = ({ trusted, now = Date.now }: { trusted: string; now?: () => number }) => {
  const codes = createOnce<WeComPerson>(now, CODE_MS, "");
  const tokens = createOnce<true>(now, TOKEN_MS, "");
  const state: {
    person: WeComPerson;
    refuses: boolean;
    ipAllowed: boolean;
    lastAuthorize: string;
    /** As older private deployments answer. */
    isOld: boolean;
    takesNoToken: boolean;
  } = {
    person: { userid: "ZhangSan", name: "张三" },
    refuses: false,
    ipAllowed: true,
    lastAuthorize: "",
    isOld: false,
    takesNoToken: false,
  };
  const fault = (errcode: number, errmsg: string) => json({ errcode, errmsg });

  const grant = (url: URL): Response => {
    const back = url.searchParams.get("redirect_uri")!;
    const echoed = url.searchParams.get("state") ?? "";
    // A refusal comes back with nothing but the state.
    return state.refuses
      ? redirect(back, { state: echoed })
      : redirect(back, { code: codes.make(state.person), state: echoed });
  };
  const isTrusted = (url: URL): boolean => {
    const back = url.searchParams.get("redirect_uri") ?? "";
    return URL.canParse(back) && new URL(back).host === trusted;
  };
  const badState = (url: URL): boolean => !/^[A-Za-z0-9]{0,128}$/.test(url.searchParams.get("state") ?? "");

  /** Every call with the app's token begins so. */
  const tokenFault = (url: URL): Response | undefined => {
    const held = state.takesNoToken ? "unknown" : tokens.peek(url.searchParams.get("access_token"));
    if (held === "unknown") return fault(40014, "invalid access_token");
    if (held === "old") return fault(42001, "access_token expired");
    if (!state.ipAllowed)
      return fault(60020, "not allow to access from your ip, hint: [1], from ip: 203.0.113.7, more info");
    return undefined;
  };

  const vendor = startVendor({
    "GET /connect/oauth2/authorize": (request, url) => {
      state.lastAuthorize = url.search;
      if (!/wxwork/.test(request.headers.get("user-agent") ?? "")) return page("请在企业微信客户端打开链接", 400);
      // The documents insist on this order.
      const order = [...url.searchParams.keys()].join(" ");
      if (order !== "appid redirect_uri response_type scope state agentid") return page("参数错误", 400);
      if (url.searchParams.get("appid") !== CORP.id || url.searchParams.get("scope") !== "snsapi_base")
        return page("参数错误", 400);
      if (badState(url)) return page("state 参数错误", 400);
      if (!isTrusted(url)) return page("redirect_uri 与配置的授权完成回调域名不一致，50001", 400);
      return grant(url);
    },
    "GET /wwlogin/sso/login": (_, url) => {
      const q = url.searchParams;
      if (q.get("login_type") !== "CorpApp" || q.get("appid") !== CORP.id || q.get("agentid") !== CORP.agent)
        return page("参数错误", 400);
      if (badState(url) || !isTrusted(url)) return page("redirect_uri 50001", 400);
      return consent(`/confirm${url.search}`);
    },
    "GET /confirm": (_, url) => grant(url),
    "GET /cgi-bin/gettoken": (_, url) => {
      if (url.searchParams.get("corpid") !== CORP.id) return fault(40013, "invalid corpid");
      if (url.searchParams.get("corpsecret") !== CORP.secret) return fault(40001, "invalid credential");
      return json({ errcode: 0, errmsg: "ok", access_token: tokens.make(true), expires_in: 7200 });
    },
    "GET /cgi-bin/auth/getuserinfo": (_, url) => {
      const wrong = tokenFault(url);
      if (wrong) return wrong;
      const person = codes.use(url.searchParams.get("code"));
      if (typeof person === "string") return fault(40029, "invalid code");
      if (person.userid === undefined) return json({ errcode: 0, errmsg: "ok", openid: person.openid });
      return json({ errcode: 0, errmsg: "ok", [state.isOld ? "UserId" : "userid"]: person.userid });
    },
    "GET /cgi-bin/user/get": (_, url) => {
      const wrong = tokenFault(url);
      if (wrong) return wrong;
      if (url.searchParams.get("userid") !== state.person.userid) return fault(60111, "userid not found");
      return json({ errcode: 0, errmsg: "ok", userid: state.person.userid, name: state.person.name, department: [1] });
    },
  });

  return {
    ...vendor,
    state,
    /** As when the vendor takes the app's tokens back. */
    forgetTokens: tokens.clear,
    expireTokens: tokens.expire,
    signIn: (more: Record<string, unknown> = {}) => ({
      corpId: CORP.id,
      agentId: CORP.agent,
      secret: CORP.secret,
      hosts: { open: vendor.url, login: vendor.url, api: vendor.url },
      ...more,
    }),
  };
};
