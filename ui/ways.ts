/**
 * Other ways to sign in than a password: one link for each platform the gateway is configured for, by its own name.
 *
 * Must stay true: links lead to this gateway only and name no way back but the conversation that is open; in a platform's
 * own app the page goes there by itself, but not twice within AGAIN_MS, so a failure leaves the person here.
 */
import { h } from "./dom.ts";
import type { Page } from "./page.ts";

type Ways = { providers: { id: string; name: string; url: string }[]; here?: string };

/** As long as the gateway counts its own attempts. */
const AGAIN_MS = 120_000;
const KEY = "nexus.signInAt";

/** Whether the page may go to sign in by itself now; counts as a try. */
const mayGo = (): boolean => {
  try {
    const last = Number(sessionStorage.getItem(KEY) ?? 0);
    sessionStorage.setItem(KEY, String(Date.now()));
    return Date.now() - last > AGAIN_MS;
  } catch {
    return false; // nothing remembers the try, so it could go on for ever
  }
};

const addressOf = (url: string): string => {
  const path = /^\/c\/[\w-]+$/.test(location.pathname) ? location.pathname : "/";
  return `${url}?to=${encodeURIComponent(path)}`;
};

/**
 * Fills `place` with the links. With `go`, a platform's own app is sent on at once. What cannot be asked leaves the place
 * empty: the password form is there.
 */
export const showWays = async ({ api, t }: Page, place: HTMLElement, go = false): Promise<void> => {
  if (api.standalone) return; // another origin's cookie would not be sent
  const { providers, here } = await api.call<Ways>("GET", "/api/sign-in").catch((): Ways => ({ providers: [] }));
  const own = providers.find(({ id }) => id === here);
  if (go && own && mayGo()) location.assign(addressOf(own.url));
  place.replaceChildren(
    ...providers.map(({ name, url }) => h("a.secondary", { href: addressOf(url) }, t("signInWith", { name }))),
  );
};
