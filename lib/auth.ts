/**
 * What a request proves: secrets and how they are compared, the session cookie, and the origin rule (PROTOCOL 5).
 *
 * What must stay true: a secret is 256 random bits, stored as its SHA-256 and compared as digests in constant time; a
 * cookie authenticates an unsafe request only with proof that our own page sent it; a listed foreign origin neither sends
 * nor gets a cookie. Pure functions of headers: refuses to know of sessions, users and answers.
 */

const SECRET_BYTES = 32;

/** `prefix` and 256 random bits as base64url: 47 characters. */
export const newSecret = (prefix: "nxs_" | "nxb_" | "nxk_"): string =>
  prefix + crypto.getRandomValues(new Uint8Array(SECRET_BYTES)).toBase64({ alphabet: "base64url", omitPadding: true });

/** SHA-256 as 64 hex digits: what is stored of a secret. A secret has 256 random bits, so it needs no slow hash. */
export const digest = (secret: string): string => Bun.SHA256.hash(secret, "hex");

const digestBytes = (secret: string): Uint8Array => new Bun.CryptoHasher("sha256").update(secret).digest();

/** Whether two secrets are equal, in a time that tells nothing about where they differ or how long they are. */
export const sameSecret = (a: string, b: string): boolean => crypto.timingSafeEqual(digestBytes(a), digestBytes(b));

/** Whether `secret` is one of `accepted`; looks at all of them. */
export const isOneOf = (secret: string, accepted: readonly string[]): boolean =>
  accepted.reduce((found, token) => sameSecret(secret, token) || found, false);

// ── our own origin ──────────────────────────────────────────────────────────────────────────────────────────────────

/** `origin` as a browser would send it, "" when the Host header is none; `secure`: https, so the cookie is `__Host-`. */
export type Own = { origin: string; host: string; secure: boolean };

const originOf = (url: string): string => (URL.canParse(url) ? new URL(url).origin : "");
const hostnameOf = (url: string): string => (URL.canParse(url) ? new URL(url).hostname : "");

/**
 * Our origin as this request's sender sees it: `publicUrl`, else scheme and Host. The scheme is X-Forwarded-Proto from a
 * trusted proxy, else that of publicUrl, else the socket's.
 */
export const ownOrigin = (
  headers: Headers,
  publicUrl: string | undefined,
  socketScheme: "http" | "https",
  fromTrustedProxy: boolean,
): Own => {
  // The first of a list is what the person's side used, as other servers read it.
  const told = fromTrustedProxy ? headers.get("x-forwarded-proto")?.split(",")[0]?.trim().toLowerCase() : undefined;
  const ofPublic = publicUrl?.startsWith("https:") ? "https" : publicUrl ? "http" : undefined;
  const scheme = told === "http" || told === "https" ? told : (ofPublic ?? socketScheme);
  const host = headers.get("host") ?? "";
  // A Host with a path, a user or a space would make another origin than it seems.
  const plainHost = /^[\w.[\]:-]+$/.test(host) ? host : "";
  const origin = publicUrl ?? (plainHost ? originOf(`${scheme}://${plainHost}`) : "");
  return { origin, host: plainHost, secure: scheme === "https" };
};

// ── the cookie ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** `__Host-` makes browsers insist on https, this very host and Path=/; on plain http they would refuse it. */
export const cookieName = (secure: boolean): string => (secure ? "__Host-nexus" : "nexus");

const cookie = (name: string, value: string, secure: boolean, maxAgeS: number): string =>
  `${name}=${value}; Path=/; Max-Age=${maxAgeS}; HttpOnly; SameSite=Lax${secure ? "; Secure" : ""}`;

/** Set-Cookie for a session that lives `ttlMs` from now. */
export const serialiseCookie = (token: string, secure: boolean, ttlMs: number): string =>
  cookie(cookieName(secure), token, secure, Math.max(0, Math.floor(ttlMs / 1000)));

/** Set-Cookie that removes it. */
export const clearCookie = (secure: boolean): string => cookie(cookieName(secure), "", secure, 0);

/** The session token in a Cookie header; the other scheme's name does not count. The first of several, as browsers order them. */
export const readCookie = (header: string | null, secure: boolean): string | undefined => {
  if (!header) return undefined;
  const name = cookieName(secure);
  for (const pair of header.split(";")) {
    const at = pair.indexOf("=");
    if (at < 0 || pair.slice(0, at).trim() !== name) continue;
    const value = pair.slice(at + 1).trim();
    return value === "" ? undefined : value;
  }
  return undefined;
};

// ── the origin rule ─────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * `forbidden`: answer 403, whoever asks. Else `cookies` says what a cookie is worth here:
 * `use`: it authenticates; `ignore`: as if none came, and none may be set; `refuse`: a request that has nothing but a cookie
 * to show is 403 (one with a Bearer token, or a login, goes on, and a login may set one).
 * `cors`: the listed origin to name in the answer (`corsHeaders`).
 */
export type OriginCheck =
  { verdict: "forbidden" } | { verdict: "allowed"; cookies: "use" | "ignore" | "refuse"; cors?: string };

const SAFE = new Set(["GET", "HEAD", "OPTIONS"]);

/** The types a form on any page can send, text/*, and none at all are not a body of ours. */
const BODY_TYPE =
  /^(?:application\/(?!x-www-form-urlencoded)|multipart\/form-data|(?:image|audio|video|font|model)\/)/i;

const hasBody = (headers: Headers): boolean => {
  const length = headers.get("content-length");
  return headers.has("transfer-encoding") || (length !== null && length.trim() !== "0");
};

const isBodyType = (headers: Headers): boolean => {
  const type = headers.get("content-type");
  return type === null ? !hasBody(headers) : BODY_TYPE.test(type.trim());
};

/** The origin rule of PROTOCOL 5 for one request. A preflight is answered by `preflightHeaders` before this. */
export const checkOrigin = (
  method: string,
  headers: Headers,
  own: Own,
  corsOrigins: readonly string[],
): OriginCheck => {
  const origin = headers.get("origin");
  const site = headers.get("sec-fetch-site");
  // A proxy that terminates TLS or strips the port without telling makes our own page look foreign. Sec-Fetch-Site is
  // the browser's own word and no page can forge it, so together with the same host name it settles that.
  const behindProxy = (): boolean => {
    if (site !== "same-origin" || origin === null) return false;
    const name = hostnameOf(origin);
    return name !== "" && (name === hostnameOf(own.origin) || name === hostnameOf(`http://${own.host}`));
  };
  const isOwn = origin !== null && ((own.origin !== "" && origin === own.origin) || behindProxy());
  const isForeign = origin !== null && !isOwn;
  if (isForeign && corsOrigins.includes(origin)) return { verdict: "allowed", cookies: "ignore", cors: origin };
  if (SAFE.has(method)) return { verdict: "allowed", cookies: isForeign ? "ignore" : "use" };
  if (isForeign || (site !== null && site !== "same-origin" && site !== "none")) return { verdict: "forbidden" };
  const proven = isOwn || (site === "same-origin" && origin === null);
  return { verdict: "allowed", cookies: proven && isBodyType(headers) ? "use" : "refuse" };
};

/** For every answer to a listed origin. Credentials are never allowed: such pages use a Bearer token. */
export const corsHeaders = (origin: string): Record<string, string> => ({
  "Access-Control-Allow-Origin": origin,
  "Access-Control-Expose-Headers": "Content-Disposition, Retry-After, X-Request-Id, X-Nexus-Conversation",
  Vary: "Origin",
});

/** Ten minutes: a config that takes an origin back should not be obeyed a day later. */
const PREFLIGHT_S = 600;

/**
 * The headers of the 204 to a preflight (OPTIONS with Origin and Access-Control-Request-Method); undefined: it is none. An
 * origin that is not listed gets an answer, with nothing allowed in it.
 */
export const preflightHeaders = (
  method: string,
  headers: Headers,
  corsOrigins: readonly string[],
): Record<string, string> | undefined => {
  const origin = headers.get("origin");
  if (method !== "OPTIONS" || origin === null || !headers.has("access-control-request-method")) return undefined;
  if (!corsOrigins.includes(origin)) return { Vary: "Origin" };
  const asked = headers.get("access-control-request-headers") ?? "";
  return {
    ...corsHeaders(origin),
    "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE",
    // Whatever it asks for: client libraries add headers of their own, and without cookies none of them opens anything.
    ...(/^[\w\s,-]{1,1000}$/.test(asked) ? { "Access-Control-Allow-Headers": asked } : {}),
    "Access-Control-Max-Age": String(PREFLIGHT_S),
  };
};
