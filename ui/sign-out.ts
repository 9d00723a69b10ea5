/**
 * Ending the session at the gateway. Must stay true: who could not be signed out there is told so and stays signed in here.
 * The login page would look like signed out, on a shared computer too, and a reload would be back in the account.
 */
import { ApiError } from "./api.ts";
import type { Page } from "./page.ts";

export type SignOut = {
  /** False: the session goes on, and the person knows. */
  end: () => Promise<boolean>;
  /** It is being ended: what is refused meanwhile is no reason to ask for the password. */
  ending: () => boolean;
};

/** A network that swallows a call for so long is none. */
const WAIT_MS = 8000;
const NOTE_MS = 10_000;

export const createSignOut = ({ api, toast, t }: Pick<Page, "api" | "toast" | "t">): SignOut => {
  let ending = false;
  return {
    ending: () => ending,
    end: async () => {
      ending = true;
      const cut = new AbortController();
      const timer = setTimeout(() => cut.abort(), WAIT_MS);
      try {
        await api.call("POST", "/api/logout", {}, cut.signal);
        return true;
      } catch (error) {
        const refused = error instanceof ApiError ? error : new ApiError(0, "network", t("networkError"));
        if (refused.status === 401) return true; // it was over already
        toast(t("signOutFailed", { reason: refused.message }), undefined, NOTE_MS);
        return false;
      } finally {
        clearTimeout(timer);
        ending = false;
      }
    },
  };
};
