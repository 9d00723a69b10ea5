/** OpenID Connect against the npm package oidc-provider, and ID tokens that must not pass, against a provider that lies. */
import { afterEach, describe, expect, test } from "bun:test";
import { api, type ConfigJson, freePort, startGateway } from "./harness.ts";
import { fakeClock } from "./harness/clock.ts";
import { isSignedBy, type Jwk } from "../lib/signin/jwt.ts";
import { BLANK } from "./signin/blank.ts";
import { createBrowser } from "./signin/browser.ts";
import { type OidcAccount, startOidc } from "./signin/oidc.ts";
import { startLiar } from "./signin/liar.ts";

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

const ann: OidcAccount = { sub: "ann|1", name: "安妮", groups: ["staff", "nexus"] };

const start = async (
  entries: (url: string) => Promise<ConfigJson[]> | ConfigJson[],
  config: ConfigJson = {},
  clock: { now?: () => number; steady?: () => number } = {},
): Promise<Awaited<ReturnType<typeof startGateway>> & { url: string }> => {
  const port = freePort();
  const url = `http://127.0.0.1:${port}`;
  const gateway = await startGateway(
    { port, publicUrl: url, signIn: { oidc: await entries(url) }, ...config },
    { assets: BLANK, ...clock },
  );
  closing.push(() => gateway.stop());
  return { ...gateway, url };
};
const callback = (url: string, id = "corp") => `${url}/sign-in/${id}/callback`;

describe("with oidc-provider", () => {
  test.each(["RS256", "PS256", "ES256", "EdDSA"] as const)(
    "%s: code, PKCE, keys, userinfo: the right person is signed in",
    async (alg) => {
      let there!: Awaited<ReturnType<typeof startOidc>>;
      const gateway = await start(async (url) => {
        there = await startOidc({ redirects: [callback(url)], alg });
        return [there.entry({ require: { groups: "nexus" }, scopes: ["openid", "profile", "groups"] })];
      });
      closing.push(() => there.stop());
      const browser = createBrowser();
      const end = await there.signInThere(browser, await browser.go(`${gateway.url}/sign-in/corp?to=/c/q1`), ann);
      expect(end.url).toBe(`${gateway.url}/c/q1`);
      expect(await browser.me(gateway.url)).toMatchObject({ username: "oidc:corp:ann|1", displayName: "安妮" });
    },
  );

  test("client_secret_post, for providers that have no other, and a public client", async () => {
    for (const method of ["client_secret_post", "none"]) {
      let there!: Awaited<ReturnType<typeof startOidc>>;
      const gateway = await start(async (url) => {
        there = await startOidc({
          redirects: [callback(url)],
          client: {
            token_endpoint_auth_method: method,
            ...(method === "none" && { client_secret: undefined }),
          },
          configuration: { clientAuthMethods: [method as "none"] },
        });
        return [there.entry({ require: { iss: there.url }, ...(method === "none" && { clientSecret: undefined }) })];
      });
      closing.push(() => there.stop());
      const browser = createBrowser();
      await there.signInThere(browser, await browser.go(`${gateway.url}/sign-in/corp`), ann);
      expect(await browser.me(gateway.url)).toMatchObject({ username: "oidc:corp:ann|1" });
    }
  });

  test("without a required claim only listed people come in; with one, only those who have it", async () => {
    let there!: Awaited<ReturnType<typeof startOidc>>;
    let url = "";
    const gateway = await start(
      async (own) => {
        url = own;
        there = await startOidc({ redirects: [callback(own)] });
        return [there.entry()];
      },
      { users: { ann: { displayName: "Ann", identities: ["oidc:corp:ann|1"] } } },
    );
    closing.push(() => there.stop());
    const enter = async (account: OidcAccount) => {
      const browser = createBrowser();
      const end = await there.signInThere(browser, await browser.go(`${url}/sign-in/corp`), account);
      return (await browser.me(url))?.username ?? /role="alert">([^<]*)</.exec(end.text)?.[1];
    };
    expect(await enter(ann)).toBe("ann");
    expect(await enter({ sub: "mallory" })).toMatch(/not open here yet; give oidc:corp:mallory/);
    const { port } = new URL(url);
    gateway.reload({
      port: Number(port),
      publicUrl: url,
      signIn: { oidc: [there.entry({ require: { groups: ["nexus", "admins"] }, scopes: ["openid", "groups"] })] },
    });
    expect(await enter({ sub: "bob", groups: ["admins"] })).toBe("oidc:corp:bob");
    expect(await enter({ sub: "eve", groups: ["others"] })).toMatch(/not among those let in \(groups\)/);
    expect(await enter({ sub: "eve2" })).toMatch(/not among those let in/);
  });
});

describe("an ID token that is not for us", () => {
  const cases: [string, Parameters<typeof startLiar>[0], RegExp][] = [
    ["another issuer", { claims: { iss: "https://other.example" } }, /\(iss\)/],
    ["another audience", { claims: { aud: "other-client" } }, /\(aud\)/],
    ["several audiences and no azp", { claims: { aud: ["nexus", "other"] } }, /\(azp\)/],
    ["an azp of another", { claims: { azp: "other" } }, /\(azp\)/],
    ["expired", { claims: { exp: 1_000 } }, /\(exp\)/],
    ["no expiry", { claims: { exp: undefined } }, /\(exp\)/],
    ["from the future", { claims: { iat: 99_999_999_999 } }, /\(iat\)/],
    ["another nonce", { claims: { nonce: "stolen" } }, /\(nonce\)/],
    ["no nonce", { claims: { nonce: undefined } }, /\(nonce\)/],
    ["no subject", { claims: { sub: undefined } }, /\(sub\)/],
    ["signed by a key that is not published", { sign: "other" }, /\(signature\)/],
    ["alg none", { sign: "none" }, /\(signature\)/],
    ["an HMAC with the public key", { sign: "hmac" }, /\(signature\)/],
    ["changed after signing", { sign: "changed" }, /\(signature\)/],
    ["a critical header we do not know", { header: { crit: ["exp"] } }, /\(format\)/],
    ["no token at all", { sign: "missing" }, /refused the sign-in/],
    [
      "another provider's name in its answer (RFC 9207)",
      { answer: { iss: "https://other.example" } },
      /\(iss parameter\)/,
    ],
    [
      "discovery by another issuer",
      { discovery: { issuer: "https://other.example" } },
      /calls itself by another issuer/,
    ],
    ["a sub that is no text", { claims: { sub: "\ud800x" } }, /\(sub\)/],
    ["discovery without keys", { discovery: { jwks_uri: undefined } }, /publishes no jwks_uri/],
    [
      "userinfo of another person",
      { claims: { name: undefined }, userinfo: { sub: "somebody else", name: "Admin" } },
      /^oidc:corp:liar-sub$/,
    ],
  ];
  test.each(cases)("%s", async (_, how, told) => {
    const liar = await startLiar(how);
    closing.push(() => liar.stop());
    const gateway = await start(() => [liar.entry({ require: { iss: liar.url } })]);
    const browser = createBrowser();
    const end = await browser.go(`${gateway.url}/sign-in/corp`);
    const me = await browser.me(gateway.url);
    // The last case is let in, as itself and without the other's name.
    expect(me ? me.displayName && me.username : /role="alert">([^<]*)</.exec(end.text)?.[1]).toMatch(told);
    if (me) expect(me.displayName).toBe("liar-sub");
  });

  test("the same token without any of that passes, so the cases above fail for their own reasons", async () => {
    const liar = await startLiar({});
    closing.push(() => liar.stop());
    const gateway = await start(() => [liar.entry({ require: { iss: liar.url } })]);
    const browser = createBrowser();
    await browser.go(`${gateway.url}/sign-in/corp`);
    expect(await browser.me(gateway.url)).toMatchObject({ username: "oidc:corp:liar-sub", displayName: "Liar" });
  });

  test("an issuer that does not match, by a slash or altogether, leaves a line in the log as an unreachable one does", async () => {
    const liar = await startLiar({ discovery: { issuer: "https://other.example/?key=CANARY" } });
    const honest = await startLiar({});
    closing.push(
      () => liar.stop(),
      () => honest.stop(),
    );
    const gateway = await start(() => [
      liar.entry({ id: "other", clientSecret: "CANARY" }),
      honest.entry({ id: "slash", clientSecret: "CANARY", issuer: `${honest.url}/` }),
    ]);
    for (const id of ["other", "slash"]) {
      const page = await createBrowser().go(`${gateway.url}/sign-in/${id}`);
      expect(page.text).toContain("calls itself by another issuer than the configured one (a slash at the end counts)");
    }
    expect(gateway.logs.filter(({ event }) => event === "sign_in_refused")).toMatchObject([
      { level: "warn", fields: { provider: "other", why: expect.stringContaining("another issuer") } },
      { level: "warn", fields: { provider: "slash", why: expect.stringContaining("another issuer") } },
    ]);
    expect(JSON.stringify(gateway.logs)).not.toContain("CANARY");
  });

  test("a changed key is fetched once, and invented key names do not make a request each", async () => {
    const liar = await startLiar({});
    closing.push(() => liar.stop());
    const gateway = await start(() => [liar.entry({ require: { iss: liar.url } })]);
    await createBrowser().go(`${gateway.url}/sign-in/corp`);
    expect(liar.asked("/jwks")).toBe(1);
    await liar.rotate();
    for (let i = 0; i < 3; i++) await createBrowser().go(`${gateway.url}/sign-in/corp`);
    expect(liar.asked("/jwks")).toBe(1); // not within a minute of the last
    expect(liar.asked("/.well-known/openid-configuration")).toBe(1);
    const { body } = await api(gateway.url)("GET", "/api/sign-in");
    expect(body).toEqual({ providers: [{ id: "corp", name: "Liar", url: "/sign-in/corp" }] });
  });
});

describe("keys that change", () => {
  test("an answer without any costs nobody those that were good", async () => {
    const lies: Parameters<typeof startLiar>[0] = {};
    const liar = await startLiar(lies);
    closing.push(() => liar.stop());
    const clock = fakeClock();
    lies.now = clock.now;
    const gateway = await start(
      () => [liar.entry({ require: { iss: liar.url } })],
      {},
      { now: clock.now, steady: Date.now },
    );
    const signedIn = async () => {
      const browser = createBrowser();
      const end = await browser.go(`${gateway.url}/sign-in/corp`);
      return (await browser.me(gateway.url)) ? "in" : /role="alert">[^<]*?([a-z ]+ \(\w+\))/.exec(end.text)?.[1];
    };
    expect(await signedIn()).toBe("in");
    clock.pass(120_000);
    lies.jwks = () => Response.json({ error: "temporarily unavailable" }, { status: 503 });
    lies.header = { kid: "of another" };
    lies.sign = "other";
    expect(await signedIn()).toBe(" it gives no keys (503)");
    delete lies.header;
    delete lies.sign;
    expect(await signedIn()).toBe("in");
    // And a clock that was ahead is no reason to keep old ones, nor to count the attempts of then as those of now.
    delete lies.jwks;
    clock.pass(6 * 3_600_000);
    await liar.rotate();
    expect(await signedIn()).toBe("in");
    clock.pass(-5 * 3_600_000);
    await liar.rotate();
    expect(await signedIn()).toBe("in");
  });
});

describe("public vectors", () => {
  // RFC 7515 A.2 and A.3: the same payload, signed by RSA and by P-256.
  const payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
  const rsa: Jwk = {
    kty: "RSA",
    n: "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    e: "AQAB",
  };
  const rs256 =
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
  const p256: Jwk = {
    kty: "EC",
    crv: "P-256",
    x: "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    y: "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
  };
  const es256 = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
  const rsToken = `eyJhbGciOiJSUzI1NiJ9.${payload}.${rs256}`;
  const esToken = `eyJhbGciOiJFUzI1NiJ9.${payload}.${es256}`;

  test("RFC 7515 A.2 (RS256) and A.3 (ES256) verify, by their own key only and not when changed", async () => {
    expect(await isSignedBy(rsToken, [rsa])).toBe(true);
    expect(await isSignedBy(esToken, [rsa, p256])).toBe(true);
    expect(await isSignedBy(rsToken, [p256])).toBe(false);
    expect(await isSignedBy(rsToken.replace("eyJpc3Mi", "eyJpc3Nj"), [rsa])).toBe(false);
    expect(await isSignedBy(rsToken, [{ ...rsa, use: "enc" }])).toBe(false);
    expect(await isSignedBy(rsToken, [{ ...rsa, alg: "RS512" }])).toBe(false);
    for (const broken of ["", "a.b", "..", `${rsToken}.x`, `!${rsToken}`, `${rsToken}!`])
      expect(await isSignedBy(broken, [rsa])).toBe(false);
  });

  test("RFC 7515 A.5: an unsecured token is signed by nobody", async () => {
    expect(await isSignedBy(`eyJhbGciOiJub25lIn0.${payload}.`, [rsa, p256])).toBe(false);
  });

  test("an RSA key below 2048 bits signs nothing", async () => {
    const { privateKey, publicKey } = await crypto.subtle.generateKey(
      { name: "RSASSA-PKCS1-v1_5", modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" },
      true,
      ["sign", "verify"],
    );
    const signed = `eyJhbGciOiJSUzI1NiJ9.${payload}`;
    const bytes = await crypto.subtle.sign("RSASSA-PKCS1-v1_5", privateKey, new TextEncoder().encode(signed));
    const jwk = (await crypto.subtle.exportKey("jwk", publicKey)) as Jwk;
    expect(await isSignedBy(`${signed}.${Buffer.from(bytes).toString("base64url")}`, [jwk])).toBe(false);
  });
});
