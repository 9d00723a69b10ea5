/**
 * DingTalk: in the app the vendor's script gives a code without a question; elsewhere its login page, which asks.
 *
 * Both end at the same identity, the member's userid in our corp, so a person is the same by either way. The gate is
 * membership (60121) and, where the login page lets people choose an organisation, the corp of the token.
 */
import type { DingTalkSettings } from "../config/signin.ts";
import { createAppToken } from "./apptoken.ts";
import type { Answer, Ask } from "./ask.ts";
import { codeOf, fetchesFrom, type Identity, type Provider, refusal, textOf } from "./provider.ts";
import { DINGTALK, sentence } from "./sentences.ts";

/** 88 is the old gateway's envelope; what went wrong is in sub_code. */
const errorOf = (body: Record<string, unknown>): unknown =>
  body.errcode === 88 ? Number(body.sub_code) || 88 : body.errcode;
const isBad = ({ body }: Answer): boolean => [40014, 42001].includes(errorOf(body) as number);

export const createDingTalk = (
  settings: DingTalkSettings,
  ask: Ask,
  name: Provider["name"],
  now: () => number,
): Provider => {
  const { clientId, clientSecret, corpId, hosts } = settings;
  const refuse = (body: Record<string, unknown>) =>
    sentence(DINGTALK, name, errorOf(body) ?? body.code, body.sub_msg ?? body.errmsg ?? body.message);
  const appToken = createAppToken({
    now,
    fetchToken: async () => {
      const { body } = await ask(`${hosts.api}/v1.0/oauth2/accessToken`, {
        json: { appKey: clientId, appSecret: clientSecret },
      });
      const token = textOf(body.accessToken);
      if (!token) throw refuse(body);
      return { token, expiresInS: Number(body.expireIn) || 7200 };
    },
  });
  const post = async (path: string, json: unknown): Promise<Record<string, unknown>> => {
    const { body } = await appToken.use(
      (token) => ask(`${hosts.oapi}/topapi/${path}?${new URLSearchParams({ access_token: token })}`, { json }),
      isBad,
    );
    return body;
  };
  const resultOf = (body: Record<string, unknown>): Record<string, unknown> => {
    if (body.errcode !== 0 || typeof body.result !== "object" || body.result === null) throw refuse(body);
    return body.result as Record<string, unknown>;
  };

  /** Name and picture as the organisation has them, else as the person calls themselves. */
  const member = async (userId: unknown, own: { name?: string; avatar?: string }): Promise<Identity> => {
    const id = textOf(userId);
    if (!id) throw refusal("钉钉没有告诉网关你是谁，请重试", "DingTalk did not say who you are; try again");
    const body = await post("v2/user/get", { userid: id });
    const result = (body.errcode === 0 ? body.result : undefined) as Record<string, unknown> | undefined;
    const avatar = textOf(result?.avatar) ?? own.avatar;
    return {
      key: `dingtalk:${corpId}:${id}`,
      name: textOf(result?.name) ?? own.name ?? id,
      ...(avatar && { avatar }),
    };
  };

  const optional = (key: "name" | "avatar", value: unknown): { name?: string; avatar?: string } => {
    const text = textOf(value);
    return text ? { [key]: text } : {};
  };

  return {
    id: "dingtalk",
    name,
    app: "dingtalk",
    create: settings.create,
    mayFetch: fetchesFrom(hosts),

    leave: async ({ state, redirectUri }) => {
      const query = new URLSearchParams({
        client_id: clientId,
        redirect_uri: redirectUri,
        response_type: "code",
        scope: "openid corpid",
        state,
        prompt: "consent", // the vendor refuses without it
      });
      return `${hosts.login}/oauth2/auth?${query}`;
    },

    identify: async ({ params }) => {
      const code = codeOf(params, name, ["authCode", "code"]);
      const { body: token } = await ask(`${hosts.api}/v1.0/oauth2/userAccessToken`, {
        json: { clientId, clientSecret, code, grantType: "authorization_code" },
      });
      const access = textOf(token.accessToken);
      if (!access) throw refuse(token);
      if (token.corpId !== undefined && token.corpId !== corpId)
        throw refusal(
          "你在钉钉登录页选择的组织不是这家企业；请重试并选择正确的组织",
          "The organisation chosen on DingTalk's page is not this company; try again and choose the right one",
        );
      const { body: me } = await ask(`${hosts.api}/v1.0/contact/users/me`, {
        headers: { "x-acs-dingtalk-access-token": access },
      });
      const union = textOf(me.unionId);
      if (!union) throw refuse(me);
      const { userid } = resultOf(await post("user/getbyunionid", { unionid: union }));
      return member(userid, { ...optional("name", me.nick), ...optional("avatar", me.avatarUrl) });
    },

    script: {
      url: hosts.script + settings.scriptPath,
      corpId,
      clientId,
      identify: async (code) => {
        const { userid, name: own } = resultOf(await post("v2/user/getuserinfo", { code }));
        return member(userid, optional("name", own));
      },
    },
  };
};
