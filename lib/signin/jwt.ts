/**
 * Signatures of ID tokens, checked with WebCrypto (RFC 7515, 7517, 7518).
 *
 * What must stay true: only asymmetric algorithms (a public key is no secret to check an HMAC with, and "none" is none), a
 * key serves only the algorithm and use it names, RSA keys have 2048 bits or more. Refuses to judge claims: oidc.ts does.
 */

import type { webcrypto } from "node:crypto";

export type Jwk = webcrypto.JsonWebKey & { kid?: string; alg?: string; use?: string };
export type Jwt = { header: Record<string, unknown>; claims: Record<string, unknown> };

type Kind = {
  kty: string;
  crv?: string;
  load: webcrypto.RsaHashedImportParams | webcrypto.EcKeyImportParams | { name: string };
  check: webcrypto.AlgorithmIdentifier | webcrypto.RsaPssParams | webcrypto.EcdsaParams;
};

const rsa = (bits: 256 | 384 | 512): Kind => ({
  kty: "RSA",
  load: { name: "RSASSA-PKCS1-v1_5", hash: `SHA-${bits}` },
  check: { name: "RSASSA-PKCS1-v1_5" },
});
const pss = (bits: 256 | 384 | 512): Kind => ({
  kty: "RSA",
  load: { name: "RSA-PSS", hash: `SHA-${bits}` },
  check: { name: "RSA-PSS", saltLength: bits / 8 },
});
const ec = (crv: string, bits: 256 | 384 | 512): Kind => ({
  kty: "EC",
  crv,
  load: { name: "ECDSA", namedCurve: crv },
  check: { name: "ECDSA", hash: `SHA-${bits}` },
});
const ed: Kind = { kty: "OKP", crv: "Ed25519", load: { name: "Ed25519" }, check: { name: "Ed25519" } };

const KINDS: Readonly<Record<string, Kind>> = {
  RS256: rsa(256),
  RS384: rsa(384),
  RS512: rsa(512),
  PS256: pss(256),
  PS384: pss(384),
  PS512: pss(512),
  ES256: ec("P-256", 256),
  ES384: ec("P-384", 384),
  ES512: ec("P-521", 512),
  EdDSA: ed,
  Ed25519: ed,
};

/** RFC 7518 3.3. 2048 bits are 342 characters of base64url. */
const LEAST_MODULUS_CHARS = 341;

const bytesOf = (part: string): Uint8Array<ArrayBuffer> | undefined => {
  try {
    return Uint8Array.fromBase64(part, { alphabet: "base64url" });
  } catch {
    return undefined;
  }
};

const objectOf = (part: string): Record<string, unknown> | undefined => {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytesOf(part)));
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
};

const fits = (key: Jwk, kind: Kind, alg: string): boolean =>
  key.kty === kind.kty &&
  (kind.crv === undefined || key.crv === kind.crv) &&
  (key.alg === undefined || key.alg === alg || (kind === ed && /^Ed/.test(key.alg))) &&
  (key.use === undefined || key.use === "sig") &&
  (key.kty !== "RSA" || (key.n ?? "").length >= LEAST_MODULUS_CHARS);

/** The parts of a compact JWT without any check; undefined when it is none, or asks for what we do not know (`crit`). */
export const readJwt = (token: string): (Jwt & { kid: string | undefined; alg: string }) | undefined => {
  const parts = token.split(".");
  const header = parts.length === 3 ? objectOf(parts[0]!) : undefined;
  const claims = header && objectOf(parts[1]!);
  if (!header || !claims || typeof header.alg !== "string" || header.crit !== undefined) return undefined;
  return { header, claims, alg: header.alg, kid: typeof header.kid === "string" ? header.kid : undefined };
};

/** Whether one of `keys` signed `token`. With a `kid` in the token only keys of that name (or without one) count. */
export const isSignedBy = async (token: string, keys: readonly Jwk[]): Promise<boolean> => {
  const read = readJwt(token);
  const kind = read && Object.hasOwn(KINDS, read.alg) ? KINDS[read.alg] : undefined;
  if (!read || !kind) return false;
  const end = token.lastIndexOf(".");
  const signature = bytesOf(token.slice(end + 1));
  if (!signature) return false;
  const signed = new TextEncoder().encode(token.slice(0, end));
  for (const key of keys) {
    if (!fits(key, kind, read.alg)) continue;
    if (read.kid !== undefined && key.kid !== undefined && key.kid !== read.kid) continue;
    try {
      const { alg: _alg, use: _use, key_ops: _ops, ...bare } = key;
      const loaded = await crypto.subtle.importKey("jwk", bare, kind.load, false, ["verify"]);
      if (await crypto.subtle.verify(kind.check, loaded, signature, signed)) return true;
    } catch {
      // A key that cannot be used signs nothing.
    }
  }
  return false;
};
