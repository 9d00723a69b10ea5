/**
 * OpenID Connect: discovery, authorization code with PKCE, and the ID token checked (Core 3.1.3.7): issuer, audience, nonce,
 * times, signature by the provider's published keys.
 *
 * The identity is `sub` under this entry's id, never an e-mail address. Required claims are the gate; they and the name may
 * come from the ID token or from userinfo, whose `sub` must then be the same.
 */
import type { OidcSettings } from "../config/signin.ts";
import type { Ask } from "./ask.ts";
import { isSignedBy, type Jwk, readJwt } from "./jwt.ts";
import { codeOf, type Provider, refusal, textOf } from "./provider.ts";
import { sentence } from "./sentences.ts";

/** What a provider publishes changes with its releases; keys are asked for again when one is missing. */
const DISCOVERY_MS = 60 * 60_000;
/** A token with an invented `kid` must not make a request each. */
const KEYS_MS = 60_000;
/** The same after an answer without keys. */
const RETRY_MS = 5_000;
/** Clocks of two machines. */
const LEEWAY_S = 60;
/** A token made long ago is no sign-in of now; the state lives 5 minutes. */
const OLDEST_S = 3600;

type Discovered = {
  authorize: string;
  token: string;
  userinfo: string | undefined;
  jwks: string;
  basic: boolean;
  saysIssuer: boolean;
  at: number;
};

export const createOidc = (settings: OidcSettings, ask: Ask, now: () => number): Provider => {
  const { id, issuer, clientId, clientSecret, scopes, require } = settings;
  const name = { zh: settings.name, en: settings.name };
  let discovered: Discovered | undefined;
  let keys: { list: Jwk[]; at: number } | undefined;
  /** A moment still to come is of a clock that was ahead. */
  const isFresh = (at: number, ms: number): boolean => now() >= at && now() - at < ms;

  const misconfigured = (zh: string, en: string) =>
    refusal(
      `${name.zh}：${zh}；请管理员检查 signIn.oidc 的 ${id}`,
      `${name.en}: ${en}; ask the administrator to check ${id} in signIn.oidc`,
    );

  const discover = async (): Promise<Discovered> => {
    if (discovered && isFresh(discovered.at, DISCOVERY_MS)) return discovered;
    const { status, body } = await ask(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
    if (status !== 200)
      throw misconfigured(`找不到它的配置（${status}）`, `its configuration is not there (${status})`);
    // Another issuer's document would lend its keys to whoever can place one.
    if (body.issuer !== issuer)
      throw misconfigured(
        "它自称的 issuer 与配置的不一致（末尾有没有斜杠也算）",
        "it calls itself by another issuer than the configured one (a slash at the end counts)",
      );
    const address = (key: string): string => {
      const value = textOf(body[key]);
      if (!value || !URL.canParse(value) || !/^https?:/.test(value))
        throw misconfigured(`它没有公布 ${key}`, `it publishes no ${key}`);
      return value;
    };
    const methods = body.token_endpoint_auth_methods_supported;
    discovered = {
      authorize: address("authorization_endpoint"),
      token: address("token_endpoint"),
      userinfo: textOf(body.userinfo_endpoint),
      jwks: address("jwks_uri"),
      basic: !Array.isArray(methods) || methods.includes("client_secret_basic"),
      saysIssuer: body.authorization_response_iss_parameter_supported === true,
      at: now(),
    };
    return discovered;
  };

  const fetchKeys = async (jwks: string): Promise<Jwk[]> => {
    const { status, body } = await ask(jwks);
    if (status !== 200 || !Array.isArray(body.keys)) {
      // Those from before are as good as they were.
      if (keys) keys.at = now() - KEYS_MS + RETRY_MS;
      throw misconfigured(`它没有给出密钥（${status}）`, `it gives no keys (${status})`);
    }
    const list = (body.keys as Jwk[]).filter((key) => typeof key === "object" && key);
    keys = { list, at: now() };
    return list;
  };

  const isGenuine = async (token: string, jwks: string): Promise<boolean> => {
    if (keys && (await isSignedBy(token, keys.list))) return true;
    if (keys && isFresh(keys.at, KEYS_MS)) return false;
    return isSignedBy(token, await fetchKeys(jwks));
  };

  const invalid = (what: string) =>
    misconfigured(`身份令牌没有通过校验（${what}）`, `the ID token did not pass its checks (${what})`);

  /** The claims of an ID token that passed every check. */
  const check = async (token: string, nonce: string, jwks: string): Promise<Record<string, unknown>> => {
    const read = readJwt(token);
    if (!read) throw invalid("format");
    const { claims } = read;
    if (!(await isGenuine(token, jwks))) throw invalid("signature");
    if (claims.iss !== issuer) throw invalid("iss");
    const audience = Array.isArray(claims.aud) ? claims.aud : [claims.aud];
    if (!audience.includes(clientId)) throw invalid("aud");
    if ((audience.length > 1 || claims.azp !== undefined) && claims.azp !== clientId) throw invalid("azp");
    const seconds = now() / 1000;
    if (typeof claims.exp !== "number" || claims.exp + LEEWAY_S <= seconds) throw invalid("exp");
    if (typeof claims.iat !== "number" || claims.iat - LEEWAY_S > seconds || claims.iat + OLDEST_S < seconds)
      throw invalid("iat");
    if (typeof claims.nbf === "number" && claims.nbf - LEEWAY_S > seconds) throw invalid("nbf");
    if (claims.nonce !== nonce) throw invalid("nonce");
    const sub = textOf(claims.sub);
    if (!sub || sub.length > 255 || !sub.isWellFormed()) throw invalid("sub");
    return claims;
  };

  const has = (claim: unknown, accepted: readonly string[]): boolean => {
    const values = Array.isArray(claim) ? claim : [claim];
    return values.some(
      (value) => ["string", "boolean", "number"].includes(typeof value) && accepted.includes(String(value)),
    );
  };
  const missing = (claims: Record<string, unknown>): string | undefined =>
    Object.keys(require).find((claim) => !has(claims[claim], require[claim]!));
  const nameIn = (claims: Record<string, unknown>): string | undefined =>
    textOf(claims.name) ?? textOf(claims.nickname) ?? textOf(claims.preferred_username);

  const withUserinfo = async (
    claims: Record<string, unknown>,
    address: string | undefined,
    token: string | undefined,
  ): Promise<Record<string, unknown>> => {
    if (!address || !token || (nameIn(claims) && !missing(claims))) return claims;
    const { status, body } = await ask(address, { headers: { Authorization: `Bearer ${token}` } });
    // Core 5.3.2: another sub is another person's answer. The ID token, which is signed, has the last word.
    return status === 200 && body.sub === claims.sub ? { ...body, ...claims } : claims;
  };

  return {
    id,
    name,
    create: settings.create,
    // `picture` is what the person wrote there: only the provider's own host is asked.
    mayFetch: (picture) => picture.origin === new URL(issuer).origin,

    leave: async ({ state, nonce, challenge, redirectUri, lang }) => {
      const url = new URL((await discover()).authorize);
      for (const [key, value] of Object.entries({
        client_id: clientId,
        response_type: "code",
        redirect_uri: redirectUri,
        scope: scopes.join(" "),
        state,
        nonce,
        code_challenge: challenge,
        code_challenge_method: "S256",
        ui_locales: lang === "zh" ? "zh-CN" : "en",
      }))
        url.searchParams.set(key, value);
      return url.href;
    },

    identify: async ({ params, redirectUri, verifier, nonce }) => {
      const { token, userinfo, jwks, basic, saysIssuer } = await discover();
      // RFC 9207: a provider that names itself in its answers cannot be mixed up with another.
      const said = params.get("iss");
      if ((said !== null || saysIssuer) && said !== issuer) throw invalid("iss parameter");
      const form = new URLSearchParams({
        grant_type: "authorization_code",
        code: codeOf(params, name),
        redirect_uri: redirectUri,
        code_verifier: verifier,
      });
      const headers: Record<string, string> = {};
      if (clientSecret !== undefined && basic) {
        const formed = (text: string): string => encodeURIComponent(text).replace(/%20/g, "+");
        headers.Authorization = `Basic ${btoa(`${formed(clientId)}:${formed(clientSecret)}`)}`;
      } else {
        form.set("client_id", clientId);
        if (clientSecret !== undefined) form.set("client_secret", clientSecret);
      }
      const { status, body } = await ask(token, { form, headers });
      const idToken = textOf(body.id_token);
      if (status !== 200 || !idToken) throw sentence({}, name, body.error ?? status, body.error_description);
      const claims = await withUserinfo(await check(idToken, nonce, jwks), userinfo, textOf(body.access_token));
      const lacking = missing(claims);
      if (lacking !== undefined)
        throw refusal(
          `你的${name.zh}账号不在允许的范围内（${lacking}）；请管理员检查 signIn.oidc 中 ${id} 的 require`,
          `Your ${name.en} account is not among those let in (${lacking}); the administrator checks require of ${id} in signIn.oidc`,
        );
      const sub = encodeURIComponent(String(claims.sub)).replace(/%(?:7C|40|3A|2B)/gi, decodeURIComponent);
      const picture = textOf(claims.picture);
      return { key: `oidc:${id}:${sub}`, name: nameIn(claims) ?? sub, ...(picture && { avatar: picture }) };
    },
  };
};
