/**
 * Sign-ins under way: what belongs to a `state` between leaving and coming back.
 *
 * Owns the Map and is the only code that writes it. What must stay true: a state is 256 random bits, works once, for five
 * minutes, for the provider it was made for and the browser that holds the cookie; the way back into the page is kept here
 * and never read from an address that comes from outside. Bounded: beyond MOST the oldest goes.
 */
import { digest, sameSecret } from "../auth.ts";
import { refusal } from "./provider.ts";

/** Codes of all platforms live as long. */
const TTL_MS = 5 * 60_000;
/** About 1 kB each. */
const MOST = 20_000;

/** Letters and digits only, as WeCom demands of a state. */
export const randomHex = (): string => crypto.getRandomValues(new Uint8Array(32)).toHex();

export type Attempt = {
  provider: string;
  /** Digest of the browser's cookie. */
  browser: string;
  verifier: string;
  nonce: string;
  redirectUri: string;
  /** A path of the page. */
  to: string;
  until: number;
};

const lost = () =>
  refusal(
    "这次登录已过期，或不是在这个浏览器里开始的；请重新打开页面再登录",
    "This sign-in is too old or was begun in another browser; open the page and sign in again",
  );

export const createAttempts = ({ now }: { now: () => number }) => {
  const attempts = new Map<string, Attempt>();

  return {
    begin: (of: {
      provider: string;
      browser: string;
      redirectUri: string;
      to: string;
    }): { state: string } & Attempt => {
      const state = randomHex();
      const attempt = {
        ...of,
        browser: digest(of.browser),
        verifier: randomHex(),
        nonce: randomHex(),
        until: now() + TTL_MS,
      };
      if (attempts.size >= MOST) attempts.delete(attempts.keys().next().value!);
      attempts.set(digest(state), attempt);
      return { state, ...attempt };
    },

    /** The attempt of this state, which is spent by asking. Rejects when it is not this browser's or this provider's. */
    take: (state: string, provider: string, browser: string | undefined): Attempt => {
      const key = digest(state);
      const attempt = attempts.get(key);
      attempts.delete(key);
      if (!attempt || attempt.until <= now() || browser === undefined) throw lost();
      if (!sameSecret(attempt.browser, digest(browser)) || attempt.provider !== provider) throw lost();
      return attempt;
    },

    sweep: (): void => {
      for (const [key, { until }] of attempts) {
        if (until > now()) break; // in order of age
        attempts.delete(key);
      }
    },
    size: (): number => attempts.size,
  };
};

export type Attempts = ReturnType<typeof createAttempts>;
