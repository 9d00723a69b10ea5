/**
 * Signing in by another's word: /sign-in/… for browsers, /api/sign-in for the page, the counts for admins.
 *
 * Owns the two cookies: `nexus-browser-…` binds an attempt to the browser that began it (one each, so that two windows that
 * open at once do not take each other's), `nexus-tries` ends the automatic sign-in of in-app browsers when it keeps failing. People see pages here, never JSON, except the page's own requests.
 */
import { readCookie, serialiseCookie } from "../auth.ts";
import type { Gate } from "../gate.ts";
import { SMALL_BODY, type Call, type Route } from "../http.ts";
import { addressKey, createBuckets } from "../limits.ts";
import { Reject } from "../protocol.ts";
import { fields, parse, text } from "../shape.ts";
import { randomHex } from "../signin/attempts.ts";
import { createSignIn, returnPath, type SignInFlow } from "../signin/flow.ts";
import { DINGTALK_JS, dingtalkPage, dingtalkPolicy, failurePage, SIGN_IN_CSS, signInPolicy } from "../signin/pages.ts";

/**
 * Requests of one address, two for each sign-in: a company behind one address at nine o'clock, then ten a second. In the
 * five minutes that an attempt lives that is less than the attempts there may be, so nobody pushes out those of others.
 */
const BURST = 1_000;
const REFILL_MS = 100;
/** Failures of one address that are written down: a hundred, then one a minute. A flood must not push out the audit log. */
const FAILURES = 100;
const FAILURES_MS = 60_000;
/** An attempt's five minutes, and as long again. */
const BROWSER_S = 600;
/** Attempts one browser has under way; with one more the others are given up, since each is a cookie in every request. */
const WINDOWS = 5;
/** How often an in-app browser is sent to sign in by itself within TRIES_S, before it is left on the page. */
const TRIES = 2;
const TRIES_S = 120;

const named = (header: string | null, name: string): string | undefined => {
  for (const pair of (header ?? "").split(";")) {
    const at = pair.indexOf("=");
    if (at > 0 && pair.slice(0, at).trim() === name) return pair.slice(at + 1).trim() || undefined;
  }
  return undefined;
};

/** `__Host-` for the same reasons as the session's. */
const nameOf = (what: string, secure: boolean): string => `${secure ? "__Host-" : ""}nexus-${what}`;
/** The cookie of the attempt with this state; its name must not be for others to choose. */
const bindingOf = (state: string): string | undefined =>
  /^[0-9a-f]{64}$/.test(state) ? `browser-${state.slice(0, 8)}` : undefined;
const setCookie = (what: string, value: string, secure: boolean, maxAgeS: number): string =>
  `${nameOf(what, secure)}=${value}; Path=/; Max-Age=${maxAgeS}; HttpOnly; SameSite=Lax${secure ? "; Secure" : ""}`;

const triesOf = (headers: Headers): number =>
  Number(named(headers.get("cookie"), "__Host-nexus-tries") ?? named(headers.get("cookie"), "nexus-tries") ?? 0) || 0;

/**
 * Where an in-app browser that is not signed in goes instead of the page; undefined: the page. Asked for every page request,
 * so it is cheap for all others.
 */
const createDetour =
  ({ config, sessions }: Gate, flow: SignInFlow) =>
  (request: Request, path: string): string | undefined => {
    if (config().signIn.direct === false || request.method !== "GET" || returnPath(path) !== path) return undefined;
    const own = flow.inApp(request.headers.get("user-agent"));
    if (!own) return undefined;
    const cookies = request.headers.get("cookie");
    const signedIn = [true, false].some((secure) => {
      const token = readCookie(cookies, secure);
      return token !== undefined && sessions.find(token) !== undefined;
    });
    if (signedIn || triesOf(request.headers) >= TRIES || new URL(request.url).searchParams.has("password"))
      return undefined;
    return `/sign-in/${own.id}?to=${encodeURIComponent(path)}`;
  };

const signInRoutes = ({ config, sessions, people, audit, log, steady: now }: Gate, flow: SignInFlow): Route[] => {
  const perAddress = createBuckets({ burst: () => BURST, refillMs: () => REFILL_MS, now });
  const failures = createBuckets({ burst: () => FAILURES, refillMs: () => FAILURES_MS, now });
  const throttle = (call: Call): void => {
    const waitMs = perAddress.take(addressKey(call.address));
    if (waitMs > 0)
      throw new Reject(
        "rate_limited",
        { zh: "登录尝试太频繁，请稍后再试", en: "Too many sign-in attempts, try again later" },
        waitMs / 1000,
      );
  };

  const respond = (
    call: Call,
    status: number,
    more: Record<string, string>,
    cookies: string[],
    body?: string,
  ): Response => {
    const headers = new Headers({
      ...call.headers,
      "Cache-Control": "no-store",
      // The addresses here hold codes and states.
      "Referrer-Policy": "no-referrer",
      ...more,
    });
    for (const cookie of cookies) headers.append("Set-Cookie", cookie);
    return new Response(body ?? null, { status, headers });
  };
  const html = (call: Call, status: number, policy: string, body: string, cookies: string[] = []): Response =>
    respond(
      call,
      status,
      { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy },
      cookies,
      body,
    );

  const browserOf = (call: Call, state: string): string | undefined => {
    const binding = bindingOf(state);
    const value = binding && named(call.request.headers.get("cookie"), nameOf(binding, call.own.secure));
    return value !== undefined && /^[0-9a-f]{64}$/.test(value) ? value : undefined;
  };
  /** Ends the attempts of a browser that has too many. */
  const giveUp = (call: Call): string[] => {
    const names = (call.request.headers.get("cookie") ?? "").match(/\bnexus-browser-[0-9a-f]{8}(?==)/g) ?? [];
    return names.length < WINDOWS
      ? []
      : names.map((name) => setCookie(name.slice("nexus-".length), "", call.own.secure, 0));
  };
  /** Of an attempt that came to its end. */
  const forget = (call: Call, state: string): string =>
    setCookie(bindingOf(state) ?? "browser", "", call.own.secure, 0);

  /** A handler for people: what is refused becomes a page that says so. */
  const forPeople =
    (handle: (call: Call) => Promise<Response>) =>
    async (call: Call): Promise<Response> => {
      try {
        return await handle(call);
      } catch (error) {
        if (!(error instanceof Reject)) throw error;
        const id = call.params.provider ?? "";
        const known = flow.providers().some((one) => one.id === id);
        const status = error.code === "rate_limited" ? 429 : error.code === "not_found" ? 404 : 403;
        return html(
          call,
          status,
          signInPolicy(config().frameAncestors),
          failurePage(call.lang, error.say, known ? `/sign-in/${id}` : undefined),
        );
      }
    };

  /** Who came back, by `finish`; a refusal is written down too. */
  const arrival = async (call: Call, provider: string, finish: () => Promise<{ user: string; to: string }>) => {
    try {
      return await finish();
    } catch (error) {
      if (error instanceof Reject && failures.take(addressKey(call.address)) === 0)
        audit.note({ actor: "", action: "sign_in_failed", detail: { by: provider }, address: call.address });
      throw error;
    }
  };

  /** The cookie of a new session. The tries stay: where it is not kept, signing in again and again would never end. */
  const welcome = async (call: Call, user: string, provider: string): Promise<string> => {
    const { token } = await sessions.create(user);
    log("info", "login", { user, address: call.address, provider });
    audit.note({ actor: user, action: "sign_in", detail: { by: provider }, address: call.address });
    return serialiseCookie(token, call.own.secure, config().sessionTTL);
  };

  /** Attempts live at publicUrl, where the platforms return people to: whoever came by another name goes there first. */
  const elsewhere = (call: Call): string | undefined => {
    const { publicUrl } = config();
    const host = publicUrl && new URL(publicUrl).host;
    // Once: behind a proxy that rewrites Host the names never agree.
    if (!host || call.own.host === host || call.query("moved") !== null) return undefined;
    const url = new URL(call.request.url);
    url.searchParams.set("moved", "1");
    return `${publicUrl}${url.pathname}${url.search}`;
  };

  return [
    {
      method: "GET",
      path: "/api/sign-in",
      auth: "none",
      handle: (call) => {
        const here = flow.inApp(call.request.headers.get("user-agent"));
        return call.json({
          providers: flow.providers().map(({ id, name }) => ({ id, name: name[call.lang], url: `/sign-in/${id}` })),
          ...(here && { here: here.id }),
        });
      },
    },
    {
      method: "GET",
      path: "/sign-in/:provider",
      auth: "none",
      handle: forPeople(async (call) => {
        const from = flow.provider(call.params.provider ?? "");
        const moved = elsewhere(call);
        if (moved) return respond(call, 302, { Location: moved }, []);
        throttle(call);
        const { secure } = call.own;
        const browser = randomHex();
        const inApp = flow.inApp(call.request.headers.get("user-agent")) === from;
        const attempt = flow.begin(from, browser, returnPath(call.query("to")));
        const cookies = [
          ...giveUp(call),
          setCookie(bindingOf(attempt.state)!, browser, secure, BROWSER_S),
          setCookie("tries", String(triesOf(call.request.headers) + 1), secure, TRIES_S),
        ];
        if (inApp && from.script && call.query("browser") === null)
          return html(
            call,
            200,
            dingtalkPolicy(from.script.url, config().frameAncestors),
            dingtalkPage(call.lang, { ...from.script, state: attempt.state, to: attempt.to }),
            cookies,
          );
        return respond(call, 302, { Location: await flow.leave(from, attempt, inApp, call.lang) }, cookies);
      }),
    },
    {
      method: "GET",
      path: "/sign-in/:provider/callback",
      auth: "none",
      handle: forPeople(async (call) => {
        throttle(call);
        const id = call.params.provider ?? "";
        const { searchParams } = new URL(call.request.url);
        const state = searchParams.get("state") ?? "";
        const { user, to } = await arrival(call, id, async () => flow.finish(id, searchParams, browserOf(call, state)));
        return respond(call, 302, { Location: to }, [await welcome(call, user, id), forget(call, state)]);
      }),
    },
    {
      method: "POST",
      path: "/sign-in/dingtalk/code",
      auth: "none",
      handle: async (call) => {
        throttle(call);
        const { code, state } = parse(
          fields({ code: text(1, 4_096), state: text(1, 128) }),
          await call.body(SMALL_BODY),
        );
        const browser = call.cookies ? browserOf(call, state) : undefined;
        const { user, to } = await arrival(call, "dingtalk", async () =>
          flow.finishInApp("dingtalk", code, state, browser),
        );
        const answer = call.json({ to, user: people.info(user) });
        answer.headers.append("Set-Cookie", await welcome(call, user, "dingtalk"));
        answer.headers.append("Set-Cookie", forget(call, state));
        return answer;
      },
    },
    {
      method: "GET",
      path: "/sign-in/page.css",
      auth: "none",
      handle: (call) => respond(call, 200, { "Content-Type": "text/css; charset=utf-8" }, [], SIGN_IN_CSS),
    },
    {
      method: "GET",
      path: "/sign-in/dingtalk.js",
      auth: "none",
      handle: (call) => respond(call, 200, { "Content-Type": "text/javascript; charset=utf-8" }, [], DINGTALK_JS),
    },
    {
      method: "GET",
      path: "/api/admin/sign-ins",
      auth: "admin",
      handle: (call) => call.json(flow.counts(call.lang)),
    },
  ];
};

/** Sign-in of one gateway: its routes, what comes before the page, and its sweep. */
export const createSignInDoor = (gate: Gate) => {
  const flow = createSignIn(gate);
  const detour = createDetour(gate, flow);
  /** Of answers that are made outside the route table. */
  const headers = (): Record<string, string> => {
    const { frameAncestors, publicUrl } = gate.config();
    return {
      "Content-Security-Policy": signInPolicy(frameAncestors),
      "X-Content-Type-Options": "nosniff",
      "Referrer-Policy": "same-origin",
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Resource-Policy": "same-origin",
      "Cache-Control": "no-store",
      ...(publicUrl?.startsWith("https:") && { "Strict-Transport-Security": "max-age=31536000" }),
    };
  };
  return {
    routes: signInRoutes(gate, flow),
    /** WeCom's proof of ownership, or an in-app browser on its way to sign in; undefined: the page's turn. */
    beforePage: (request: Request, path: string): Response | undefined => {
      const proof = flow.verifyFile(path);
      if (proof !== undefined) return new Response(proof, { headers: { ...headers(), "Content-Type": "text/plain" } });
      const to = detour(request, path);
      return to === undefined
        ? undefined
        : new Response(null, { status: 302, headers: { ...headers(), Location: to } });
    },
    sweep: flow.sweep,
  };
};
