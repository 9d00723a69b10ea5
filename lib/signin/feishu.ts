/**
 * Feishu and Lark: authorize → token → user_info. The same redirect in the app (silent) and on a desktop (QR page).
 *
 * v2 tokens go with PKCE; v3, its successor, was reported to answer PKCE with 20049, so it is sent none (state and the app
 * secret protect it). The gate is the tenant: `tenants` of the config. Tokens are thrown away.
 */
import type { FeishuSettings } from "../config/signin.ts";
import type { Ask } from "./ask.ts";
import { codeOf, fetchesFrom, type Provider, refusal, textOf } from "./provider.ts";
import { FEISHU, sentence } from "./sentences.ts";

export const createFeishu = (
  id: "feishu" | "lark",
  settings: FeishuSettings,
  ask: Ask,
  name: Provider["name"],
): Provider => {
  const { appId, appSecret, hosts, tenants, tokenApi } = settings;
  const refuse = (body: Record<string, unknown>) =>
    sentence(FEISHU, name, body.code ?? body.error, body.error_description ?? body.msg);

  return {
    id,
    name,
    app: id,
    create: settings.create,
    mayFetch: fetchesFrom(hosts),

    leave: async ({ state, challenge, redirectUri }) => {
      const query = new URLSearchParams({ client_id: appId, response_type: "code", redirect_uri: redirectUri, state });
      if (tokenApi === "v2") {
        query.set("code_challenge", challenge);
        query.set("code_challenge_method", "S256");
      }
      return `${hosts.accounts}/open-apis/authen/v1/authorize?${query}`;
    },

    identify: async ({ params, redirectUri, verifier }) => {
      const code = codeOf(params, name);
      const address =
        tokenApi === "v2" ? `${hosts.open}/open-apis/authen/v2/oauth/token` : `${hosts.accounts}/oauth/v3/token`;
      const { body: token } = await ask(address, {
        json: {
          grant_type: "authorization_code",
          client_id: appId,
          client_secret: appSecret,
          code,
          redirect_uri: redirectUri,
          ...(tokenApi === "v2" && { code_verifier: verifier }),
        },
      });
      const access = textOf(token.access_token);
      if ((token.code !== undefined && token.code !== 0) || !access) throw refuse(token);
      const { body } = await ask(`${hosts.open}/open-apis/authen/v1/user_info`, {
        headers: { Authorization: `Bearer ${access}` },
      });
      const person = body.data as Record<string, unknown> | undefined;
      if (body.code !== 0 || !person) throw refuse(body);
      const tenant = textOf(person.tenant_key);
      const union = textOf(person.union_id);
      if (!tenant || !union)
        throw refusal(
          `${name.zh}没有告诉网关你是谁；请管理员检查应用是否已发布`,
          `${name.en} did not say who you are; ask the administrator whether the app is published`,
        );
      if (tenants.length > 0 && !tenants.includes(tenant))
        throw refusal(
          `你所在的${name.zh}企业（租户 ${tenant}）不能使用这里；要允许它，请管理员把它写进 signIn.${id}.tenants`,
          `Your ${name.en} organisation (tenant ${tenant}) may not use this gateway; to allow it, the administrator adds it to signIn.${id}.tenants`,
        );
      const avatar = textOf(person.avatar_middle) ?? textOf(person.avatar_url);
      return {
        key: `${id}:${tenant}:${union}`,
        name: textOf(person.name) ?? textOf(person.en_name) ?? name.zh,
        ...(avatar && { avatar }),
      };
    },
  };
};
