/**
 * What the sign-in flow and the platforms agree on. A provider turns a returned code into an identity; it refuses to know of
 * accounts, sessions, cookies and states.
 */
import type { Create } from "../config/signin.ts";
import { Reject, type Say } from "../protocol.ts";

/** Apps with a browser of their own in which sign-in needs nothing of the person. */
export type App = "feishu" | "lark" | "dingtalk" | "wecom";

/** `key` becomes the username of a person made by sign-in; it never holds an e-mail address, a number or a name. */
export type Identity = { key: string; name: string; avatar?: string };

/** What is sent along; `state` and `nonce` are random, `challenge` belongs to the verifier that comes back in `Returned`. */
export type Departure = {
  state: string;
  nonce: string;
  challenge: string;
  redirectUri: string;
  /** The request comes from this provider's own app. */
  inApp: boolean;
  lang: "zh" | "en";
};

export type Returned = { params: URLSearchParams; redirectUri: string; verifier: string; nonce: string };

export type Provider = {
  /** In addresses and counts: feishu, lark, dingtalk, wecom or the id of an OIDC entry. */
  id: string;
  name: Say;
  app?: App;
  create: Create;
  /** Where the browser is sent. Rejects with a sentence for people. */
  leave: (departure: Departure) => Promise<string>;
  /** Who came back. Rejects with a sentence for people. */
  identify: (returned: Returned) => Promise<Identity>;
  /** In-app sign-in by the vendor's script instead of a redirect. */
  script?: { url: string; corpId: string; clientId: string; identify: (code: string) => Promise<Identity> };
  /** Whether a picture at this address may be fetched by the server. */
  mayFetch: (picture: URL) => boolean;
};

/** A sign-in that is refused for a reason a person can act on. */
export const refusal = (zh: string, en: string): Reject => new Reject("forbidden", { zh, en });

/** RFC 7636: what travels openly; the verifier stays here. */
export const challengeOf = (verifier: string): string =>
  new Bun.CryptoHasher("sha256").update(verifier).digest().toBase64({ alphabet: "base64url", omitPadding: true });

/** `value` as non-empty text, else undefined: JSON of others has no types. */
export const textOf = (value: unknown): string | undefined =>
  typeof value === "string" && value !== "" ? value : undefined;

/** Pictures are fetched over https, or from a host that the config itself names. */
export const fetchesFrom =
  (hosts: Record<string, string>) =>
  (picture: URL): boolean =>
    picture.protocol === "https:" || Object.values(hosts).includes(picture.origin);

/** The code of a return, or a sentence for why there is none. */
export const codeOf = (params: URLSearchParams, name: Say, names: readonly string[] = ["code"]): string => {
  const code = names.map((key) => params.get(key)).find((value) => value !== null && value !== "");
  if (code && code.length <= 4_096) return code;
  const error = params.get("error") ?? "";
  if (error === "" || error === "access_denied")
    throw refusal(
      `${name.zh}登录被取消了；可以再试一次，或用密码登录`,
      `Signing in with ${name.en} was cancelled; try again, or use a password`,
    );
  throw refusal(
    `${name.zh}没有让你登录（${error.slice(0, 100)}）；请把这句话告诉管理员`,
    `${name.en} did not sign you in (${error.slice(0, 100)}); tell your administrator`,
  );
};
