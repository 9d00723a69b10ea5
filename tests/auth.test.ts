/** Secrets, the session cookie (S2), our own origin, and the origin rule (S3). */
import { describe, expect, test } from "bun:test";
import {
  checkOrigin,
  clearCookie,
  cookieName,
  corsHeaders,
  digest,
  isOneOf,
  newSecret,
  ownOrigin,
  preflightHeaders,
  readCookie,
  sameSecret,
  serialiseCookie,
} from "../lib/auth.ts";

describe("secrets", () => {
  test("a secret has its prefix and 256 random bits", () => {
    const secrets = new Set(Array.from({ length: 1000 }, () => newSecret("nxs_")));
    expect(secrets.size).toBe(1000);
    for (const secret of secrets) expect(secret).toMatch(/^nxs_[\w-]{43}$/);
    expect(Buffer.from(newSecret("nxb_").slice(4), "base64url").length).toBe(32);
  });

  test("a digest is SHA-256 in hex", () => {
    expect(digest("abc")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  });

  test("secrets compare by content, whatever their length", () => {
    expect(sameSecret("a", "a")).toBe(true);
    expect(sameSecret("a", "b")).toBe(false);
    expect(sameSecret("", "x".repeat(10_000))).toBe(false);
    expect(isOneOf("b", ["a", "b", "c"])).toBe(true);
    expect(isOneOf("d", ["a", "b", "c"])).toBe(false);
    expect(isOneOf("", [])).toBe(false);
  });
});

describe("the cookie (S2)", () => {
  test("on https it is __Host- and Secure, on http neither, always HttpOnly, Lax and for /", () => {
    expect(serialiseCookie("nxs_x", true, 86_400_000)).toBe(
      "__Host-nexus=nxs_x; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax; Secure",
    );
    expect(serialiseCookie("nxs_x", false, 1_999)).toBe("nexus=nxs_x; Path=/; Max-Age=1; HttpOnly; SameSite=Lax");
    expect(clearCookie(true)).toBe("__Host-nexus=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure");
    expect([cookieName(true), cookieName(false)]).toEqual(["__Host-nexus", "nexus"]);
  });

  test("it is read by its exact name, for its own scheme only", () => {
    const header = "a=1; nexus=plain; __Host-nexus=secure; xnexus=no; nexus=second";
    expect(readCookie(header, false)).toBe("plain");
    expect(readCookie(header, true)).toBe("secure");
    expect(readCookie("__Host-nexus=secure", false)).toBeUndefined();
    expect(readCookie("nexus=plain", true)).toBeUndefined();
    for (const header of [null, "", "nexus", "nexus=", "NEXUS=x", "xnexus=1"])
      expect(readCookie(header, false)).toBeUndefined();
  });
});

describe("our own origin", () => {
  const own = (headers: Record<string, string>, publicUrl?: string, proxy = false) =>
    ownOrigin(new Headers(headers), publicUrl, "http", proxy);
  test("it is publicUrl, else scheme and Host", () => {
    expect(own({ host: "nexus.lan:17392" })).toMatchObject({ origin: "http://nexus.lan:17392", secure: false });
    expect(own({ host: "nexus.lan:80" }).origin).toBe("http://nexus.lan");
    expect(own({ host: "evil.example" }, "https://nexus.example.com")).toMatchObject({
      origin: "https://nexus.example.com",
      secure: true,
    });
  });
  test("X-Forwarded-Proto counts from a trusted proxy only", () => {
    const headers = { host: "a.example", "x-forwarded-proto": "https" };
    expect(own(headers)).toMatchObject({ origin: "http://a.example", secure: false });
    expect(own(headers, undefined, true)).toMatchObject({ origin: "https://a.example", secure: true });
    expect(own({ ...headers, "x-forwarded-proto": "gopher" }, undefined, true).secure).toBe(false);
    expect(own({ ...headers, "x-forwarded-proto": "http" }, "https://a.example", true).secure).toBe(false);
  });
  test("a Host that is none makes no origin", () => {
    for (const host of ["", "a b", "a/b", "user@a", "a?b", "a#b"]) expect(own(host ? { host } : {}).origin).toBe("");
  });
});

describe("the origin rule (S3)", () => {
  const OWN = ownOrigin(new Headers({ host: "nexus.example.com" }), undefined, "https", false);
  const LISTED = "https://page.example.com";
  const check = (method: string, headers: Record<string, string | undefined>, own = OWN) => {
    const given = Object.entries(headers).filter((pair): pair is [string, string] => pair[1] !== undefined);
    return checkOrigin(method, new Headers(given), own, [LISTED]);
  };

  // 2 methods × 3 body types × 4 values of Sec-Fetch-Site, with the Origin a browser sends along: 24 combinations.
  const ORIGINS: Record<string, string | undefined> = {
    "same-origin": "https://nexus.example.com",
    "same-site": "https://evil.example.com",
    "cross-site": "https://evil.example",
    none: undefined,
  };
  for (const method of ["POST", "DELETE"])
    for (const type of ["application/json", "text/plain", "application/x-www-form-urlencoded"])
      for (const [site, origin] of Object.entries(ORIGINS))
        test(`${method} of ${type} with Sec-Fetch-Site ${site} and a cookie`, () => {
          const got = check(method, { "content-type": type, "sec-fetch-site": site, origin, "content-length": "2" });
          if (site === "same-site" || site === "cross-site") expect(got).toEqual({ verdict: "forbidden" });
          else
            expect(got).toEqual({
              verdict: "allowed",
              cookies: site === "same-origin" && type === "application/json" ? "use" : "refuse",
            });
        });

  test("without Sec-Fetch-Site (plain http on a LAN) the Origin decides", () => {
    const own = ownOrigin(new Headers({ host: "192.168.1.5:17392" }), undefined, "http", false);
    const json = { "content-type": "application/json" };
    expect(check("POST", { ...json, origin: "http://192.168.1.5:17392" }, own)).toEqual({
      verdict: "allowed",
      cookies: "use",
    });
    expect(check("POST", { ...json, origin: "http://192.168.1.5:8080" }, own)).toEqual({ verdict: "forbidden" });
    expect(check("POST", { ...json, origin: "null" }, own)).toEqual({ verdict: "forbidden" });
    expect(check("POST", json, own)).toEqual({ verdict: "allowed", cookies: "refuse" });
  });

  test("a foreign Origin is refused whatever Sec-Fetch-Site claims, and a cross-site claim whatever the Origin", () => {
    const json = { "content-type": "application/json" };
    for (const site of ["same-origin", "none", undefined])
      expect(check("POST", { ...json, origin: "https://evil.example", "sec-fetch-site": site }).verdict).toBe(
        "forbidden",
      );
    for (const origin of ["https://nexus.example.com", undefined])
      expect(check("POST", { ...json, origin, "sec-fetch-site": "cross-site" }).verdict).toBe("forbidden");
  });

  test("our page behind a proxy that tells neither scheme nor port is recognised by the browser's word", () => {
    const behind = ownOrigin(new Headers({ host: "nexus.example.com" }), undefined, "http", false);
    const headers = { "content-type": "application/json", origin: "https://nexus.example.com:8443" };
    expect(check("POST", { ...headers, "sec-fetch-site": "same-origin" }, behind)).toEqual({
      verdict: "allowed",
      cookies: "use",
    });
    expect(check("POST", headers, behind)).toEqual({ verdict: "forbidden" });
  });

  test("a listed origin is answered, but its cookies are neither read nor set and credentials never allowed", () => {
    for (const method of ["GET", "POST"])
      expect(check(method, { origin: LISTED, "sec-fetch-site": "cross-site" })).toEqual({
        verdict: "allowed",
        cookies: "ignore",
        cors: LISTED,
      });
    expect(corsHeaders(LISTED)).toMatchObject({ "Access-Control-Allow-Origin": LISTED, Vary: "Origin" });
    expect(JSON.stringify(corsHeaders(LISTED)).toLowerCase()).not.toContain("credentials");
  });

  test("reading needs no proof, and a foreign page's request is read as if it had no cookie", () => {
    expect(check("GET", {})).toEqual({ verdict: "allowed", cookies: "use" });
    expect(check("GET", { "sec-fetch-site": "cross-site" })).toEqual({ verdict: "allowed", cookies: "use" });
    expect(check("GET", { origin: "https://evil.example" })).toEqual({ verdict: "allowed", cookies: "ignore" });
  });

  test("bodies: JSON, multipart, octets and files are ours, what a form can send is not, no body needs no type", () => {
    const cookies = (headers: Record<string, string>) => {
      const got = check("POST", { "sec-fetch-site": "same-origin", ...headers });
      return got.verdict === "allowed" ? got.cookies : "forbidden";
    };
    for (const type of [
      "application/json; charset=utf-8",
      "multipart/form-data; boundary=x",
      "application/octet-stream",
      "image/png",
    ])
      expect(cookies({ "content-type": type, "content-length": "5" }), type).toBe("use");
    for (const type of ["text/plain", "text/html", "application/x-www-form-urlencoded; charset=utf-8", "", "evil"])
      expect(cookies({ "content-type": type, "content-length": "5" }), type).toBe("refuse");
    expect(cookies({})).toBe("use");
    expect(cookies({ "content-length": "0" })).toBe("use");
    expect(cookies({ "content-length": "5" })).toBe("refuse");
    expect(cookies({ "transfer-encoding": "chunked" })).toBe("refuse");
  });

  test("a preflight is always answered, and allows something only to a listed origin", () => {
    const ask = (origin: string) =>
      preflightHeaders(
        "OPTIONS",
        new Headers({
          origin,
          "access-control-request-method": "POST",
          "access-control-request-headers": "authorization,x-y",
        }),
        [LISTED],
      );
    expect(ask(LISTED)).toMatchObject({
      "Access-Control-Allow-Origin": LISTED,
      "Access-Control-Allow-Headers": "authorization,x-y",
    });
    expect(JSON.stringify(ask(LISTED)).toLowerCase()).not.toContain("credentials");
    expect(ask("https://evil.example")).toEqual({ Vary: "Origin" });
    expect(preflightHeaders("OPTIONS", new Headers({ origin: LISTED }), [LISTED])).toBeUndefined();
    expect(
      preflightHeaders("POST", new Headers({ origin: LISTED, "access-control-request-method": "POST" }), []),
    ).toBeUndefined();
  });
});
