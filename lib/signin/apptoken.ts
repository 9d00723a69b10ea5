/**
 * An app's own token of DingTalk or WeCom: fetched once, shared, renewed before it ends or when the vendor calls it bad.
 * The vendors block apps that fetch it for every call.
 */

export type AppToken = { token: string; expiresInS: number };

/** Renewed this long before its end: clocks differ, and the call it is for takes time. */
const EARLY_MS = 5 * 60_000;

export const createAppToken = ({ fetchToken, now }: { fetchToken: () => Promise<AppToken>; now: () => number }) => {
  let held: { token: string; until: number } | undefined;
  let fetching: Promise<string> | undefined;

  const renew = (): Promise<string> => {
    fetching ??= fetchToken()
      .then(({ token, expiresInS }) => {
        const lifeMs = expiresInS * 1000;
        held = { token, until: now() + Math.max(lifeMs - EARLY_MS, lifeMs / 2) };
        return token;
      })
      .finally(() => {
        fetching = undefined;
      });
    return fetching;
  };
  const current = (): Promise<string> => (held && held.until > now() ? Promise.resolve(held.token) : renew());

  return {
    /** Runs `call` with the token; when it says that the token is bad, once more with a new one. */
    use: async <T>(call: (token: string) => Promise<T>, isBad: (answer: T) => boolean): Promise<T> => {
      const token = await current();
      const answer = await call(token);
      if (!isBad(answer)) return answer;
      // Somebody else may have renewed it meanwhile: then theirs is the one to try.
      if (held?.token === token) held = undefined;
      return call(await current());
    },
  };
};
