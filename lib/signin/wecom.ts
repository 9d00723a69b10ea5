/**
 * WeCom: in the app a silent redirect (snsapi_base), on a desktop the vendor's QR page; then the app's token names the member.
 *
 * The gate is membership: a stranger comes back with `openid` instead of `userid` and is refused. User ids are compared
 * without case, so the key holds the lower-case form. Self-built apps get no picture.
 */
import type { WeComSettings } from "../config/signin.ts";
import { createAppToken } from "./apptoken.ts";
import type { Answer, Ask } from "./ask.ts";
import { codeOf, type Provider, refusal, textOf } from "./provider.ts";
import { sentence, WECOM } from "./sentences.ts";

const isBad = ({ body }: Answer): boolean => [40014, 42001].includes(body.errcode as number);

export const createWeCom = (settings: WeComSettings, ask: Ask, name: Provider["name"], now: () => number): Provider => {
  const { corpId, agentId, secret, hosts } = settings;
  const refuse = (body: Record<string, unknown>) => sentence(WECOM, name, body.errcode, body.errmsg);
  const appToken = createAppToken({
    now,
    fetchToken: async () => {
      const query = new URLSearchParams({ corpid: corpId, corpsecret: secret });
      const { body } = await ask(`${hosts.api}/cgi-bin/gettoken?${query}`);
      const token = textOf(body.access_token);
      if ((body.errcode ?? 0) !== 0 || !token) throw refuse(body);
      return { token, expiresInS: Number(body.expires_in) || 7200 };
    },
  });
  const get = async (path: string, query: Record<string, string>): Promise<Record<string, unknown>> => {
    const { body } = await appToken.use(
      (token) => ask(`${hosts.api}/cgi-bin/${path}?${new URLSearchParams({ access_token: token, ...query })}`),
      isBad,
    );
    return body;
  };
  /** The name is worth a call, not a refusal: without it the user id is shown. */
  const nameOf = async (userId: string): Promise<string> => {
    const body = await get("user/get", { userid: userId });
    return (body.errcode === 0 ? textOf(body.name) : undefined) ?? userId;
  };

  return {
    id: "wecom",
    name,
    app: "wecom",
    create: settings.create,
    mayFetch: () => false,

    leave: async ({ state, redirectUri, inApp, lang }) => {
      const to = encodeURIComponent(redirectUri);
      // The order and the fragment are part of the vendor's contract.
      if (inApp)
        return `${hosts.open}/connect/oauth2/authorize?appid=${corpId}&redirect_uri=${to}&response_type=code&scope=snsapi_base&state=${state}&agentid=${agentId}#wechat_redirect`;
      return `${hosts.login}/wwlogin/sso/login?login_type=CorpApp&appid=${corpId}&agentid=${agentId}&redirect_uri=${to}&state=${state}&lang=${lang}`;
    },

    identify: async ({ params }) => {
      const body = await get("auth/getuserinfo", { code: codeOf(params, name) });
      if (body.errcode !== 0) throw refuse(body);
      // Private deployments of old versions write it the old way.
      const userId = textOf(body.userid) ?? textOf(body.UserId);
      if (!userId)
        throw refusal(
          "你不是这家企业的成员，不能登录；请让企业微信管理员把你加入通讯录",
          "You are not a member of this company; ask the WeCom administrator to add you to the contacts",
        );
      return { key: `wecom:${corpId}:${userId.toLowerCase()}`, name: await nameOf(userId) };
    },
  };
};
