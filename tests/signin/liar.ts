/** An OpenID provider that is right in everything but what a test asks it to get wrong. */
import { startVendor, json, redirect } from "./vendor.ts";

type Lies = {
  claims?: Record<string, unknown>;
  header?: Record<string, unknown>;
  sign?: "other" | "none" | "hmac" | "changed" | "missing";
  answer?: Record<string, string>;
  discovery?: Record<string, unknown>;
  userinfo?: Record<string, unknown>;
  /** Instead of its keys. */
  jwks?: () => Response;
  now?: () => number;
};

const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const makeKey = () => crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);

export const startLiar = async (lies: Lies) => {
  let key = await makeKey();
  let kid = "k1";
  const other = await makeKey();
  let nonce = "";

  const sign = async (url: string): Promise<string | undefined> => {
    const seconds = Math.floor((lies.now ?? Date.now)() / 1000);
    const claims = {
      iss: url,
      sub: "liar-sub",
      aud: "nexus",
      exp: seconds + 300,
      iat: seconds,
      nonce,
      name: "Liar",
      ...lies.claims,
    };
    const alg = lies.sign === "none" ? "none" : lies.sign === "hmac" ? "HS256" : "ES256";
    const signed = `${part({ alg, kid, ...lies.header })}.${part(claims)}`;
    const bytes = new TextEncoder().encode(signed);
    const by = lies.sign === "other" ? other.privateKey : key.privateKey;
    const jwk = await crypto.subtle.exportKey("jwk", key.publicKey);
    const signature =
      alg === "none"
        ? ""
        : alg === "HS256"
          ? new Bun.CryptoHasher("sha256", JSON.stringify(jwk)).update(signed).digest("base64url")
          : Buffer.from(await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, by, bytes)).toString("base64url");
    if (lies.sign === "missing") return undefined;
    if (lies.sign === "changed") return `${part({ alg, kid })}.${part({ ...claims, sub: "admin" })}.${signature}`;
    return `${signed}.${signature}`;
  };

  const vendor = startVendor({
    "GET /.well-known/openid-configuration": () =>
      json({
        issuer: vendor.url,
        authorization_endpoint: `${vendor.url}/auth`,
        token_endpoint: `${vendor.url}/token`,
        userinfo_endpoint: `${vendor.url}/me`,
        jwks_uri: `${vendor.url}/jwks`,
        ...lies.discovery,
      }),
    "GET /auth": (_, url) => {
      nonce = url.searchParams.get("nonce") ?? "";
      return redirect(url.searchParams.get("redirect_uri")!, {
        code: "one",
        state: url.searchParams.get("state") ?? "",
        ...lies.answer,
      });
    },
    "POST /token": async () =>
      json({ access_token: "at", token_type: "Bearer", expires_in: 60, id_token: await sign(vendor.url) }),
    "GET /me": () => json(lies.userinfo ?? { sub: "liar-sub" }),
    "GET /jwks": async () =>
      lies.jwks?.() ??
      json({ keys: [{ ...(await crypto.subtle.exportKey("jwk", key.publicKey)), kid, use: "sig", alg: "ES256" }] }),
  });
  return {
    ...vendor,
    rotate: async () => {
      key = await makeKey();
      kid = "k2";
    },
    entry: (more: Record<string, unknown> = {}) => ({
      id: "corp",
      name: "Liar",
      issuer: vendor.url,
      clientId: "nexus",
      clientSecret: "s",
      ...more,
    }),
  };
};
