/** The npm package `oidc-provider` as an OpenID provider on a free port: somebody else's reading of the specifications. */
import { createServer } from "node:http";
import { type Configuration, Provider } from "oidc-provider";
import { freePort } from "../harness.ts";
import type { Browser, Stop } from "./browser.ts";

export type OidcAccount = Record<string, unknown> & { sub: string };

const CLIENT = { id: "nexus", secret: "oidc-client-secret with spaces/+&" };

export const startOidc = async ({
  redirects,
  alg = "RS256",
  configuration = {},
  client = {},
}: {
  redirects: string[];
  alg?: "RS256" | "PS256" | "ES256" | "EdDSA";
  configuration?: Configuration;
  client?: Record<string, unknown>;
}) => {
  const port = freePort();
  const url = `http://127.0.0.1:${port}`;
  const accounts = new Map<string, OidcAccount>();
  const keyParams = {
    RS256: {
      name: "RSASSA-PKCS1-v1_5",
      modulusLength: 2048,
      publicExponent: new Uint8Array([1, 0, 1]),
      hash: "SHA-256",
    },
    PS256: { name: "RSA-PSS", modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" },
    ES256: { name: "ECDSA", namedCurve: "P-256" },
    EdDSA: { name: "Ed25519" },
  }[alg];
  const pair = (await crypto.subtle.generateKey(keyParams as never, true, ["sign", "verify"])) as unknown as {
    privateKey: CryptoKey;
  };
  const exported = (await crypto.subtle.exportKey("jwk", pair.privateKey)) as Record<string, unknown>;
  const { key_ops: _ops, ext: _ext, ...jwk } = exported;
  const provider = new Provider(url, {
    clients: [
      {
        client_id: CLIENT.id,
        client_secret: CLIENT.secret,
        redirect_uris: redirects,
        grant_types: ["authorization_code"],
        response_types: ["code"],
        id_token_signed_response_alg: alg,
        ...client,
      },
    ],
    jwks: { keys: [{ ...jwk, alg, use: "sig", kid: "k1" }] as never },
    enabledJWA: { idTokenSigningAlgValues: [alg] },
    claims: { openid: ["sub"], profile: ["name", "picture", "preferred_username"], groups: ["groups"] },
    scopes: ["openid", "profile", "groups"],
    pkce: { required: () => true },
    cookies: { keys: ["one"] },
    findAccount: (_: unknown, id: string) => ({ accountId: id, claims: async () => accounts.get(id) ?? { sub: id } }),
    ...configuration,
  } as Configuration);
  const server = createServer(provider.callback());
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", () => resolve()));

  /** Signs `account` in on the provider's own pages, starting at its login form. */
  const signInThere = async (browser: Browser, at: Stop, account: OidcAccount): Promise<Stop> => {
    accounts.set(account.sub, account);
    let page = at;
    for (const fields of [{ prompt: "login", login: account.sub, password: "x" }, { prompt: "consent" }]) {
      const action = /<form[^>]*action="([^"]*)"/.exec(page.text)?.[1];
      if (!action) break;
      const sent = await browser.once(new URL(action, page.url).href, {
        method: "POST",
        headers: { "Content-Type": "application/x-www-form-urlencoded" },
        body: new URLSearchParams(fields as Record<string, string>).toString(),
      });
      page = await browser.go(new URL(sent.headers.get("location")!, page.url).href);
    }
    return page;
  };

  return {
    url,
    provider,
    signInThere,
    entry: (more: Record<string, unknown> = {}) => ({
      id: "corp",
      name: "公司账号",
      issuer: url,
      clientId: CLIENT.id,
      clientSecret: CLIENT.secret,
      ...more,
    }),
    stop: () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
};
