/**
 * A sign-in from leaving to coming back: which providers there are, the attempt, who came back, and their account.
 *
 * What must stay true: a provider gets only what belongs to its own attempt (mix-up), an identity is let in by the config or
 * by its organisation's gate, never by a name, and every end is counted. Refuses to know of HTTP: routes/signin.ts does.
 */
import type { Config } from "../config.ts";
import type { SignIn } from "../config/signin.ts";
import { foldIdentity, opensTo } from "../config/signin.ts";
import type { Log } from "../log.ts";
import type { People } from "../people.ts";
import { Reject } from "../protocol.ts";
import type { Store } from "../store.ts";
import { appsOf } from "./apps.ts";
import { createAsk } from "./ask.ts";
import { type Attempt, createAttempts } from "./attempts.ts";
import { createDingTalk } from "./dingtalk.ts";
import { createFeishu } from "./feishu.ts";
import { createMeter } from "./meter.ts";
import { createOidc } from "./oidc.ts";
import { createPictures } from "./pictures.ts";
import { challengeOf, type Identity, type Provider, refusal } from "./provider.ts";
import { createWeCom } from "./wecom.ts";

const NAMES = {
  feishu: { zh: "飞书", en: "Feishu" },
  lark: { zh: "Lark", en: "Lark" },
  dingtalk: { zh: "钉钉", en: "DingTalk" },
  wecom: { zh: "企业微信", en: "WeCom" },
} as const;

/** Display names come from elsewhere: one line, no controls, no direction tricks, of a length a list can show. */
const tidy = (name: string): string =>
  name
    .replace(/[\p{Cc}\p{Cf}\s]+/gu, " ")
    .trim()
    .slice(0, 100)
    .replace(/[\ud800-\udbff]$/, "") // half of what the cut went through
    .toWellFormed();

/** Where a person may be sent back to: an address of the page and nothing else. */
export const returnPath = (asked: string | null): string =>
  asked !== null && /^\/(?:c\/[A-Za-z0-9_-]{1,64})?$/.test(asked) ? asked : "/";

export const createSignIn = (deps: {
  config: () => Config;
  people: People;
  store: Store;
  log: Log;
  now: () => number;
  steady: () => number;
}) => {
  const { config, people, store, log, now, steady } = deps;
  const attempts = createAttempts({ now: steady });
  const meter = createMeter({ store, now, log });
  const pictures = createPictures({ people, store, log });

  const make = (signIn: SignIn): Provider[] => {
    const ask = (id: string, name: { zh: string; en: string }) =>
      createAsk({ name, counted: () => meter.add(id, "calls"), log });
    const nameOf = (id: keyof typeof NAMES, own: string | undefined) => (own ? { zh: own, en: own } : NAMES[id]);
    const out: Provider[] = [];
    for (const id of ["feishu", "lark"] as const) {
      const settings = signIn[id];
      const name = nameOf(id, settings?.name);
      if (settings) out.push(createFeishu(id, settings, ask(id, name), name));
    }
    const { dingtalk, wecom, oidc } = signIn;
    if (dingtalk) {
      const name = nameOf("dingtalk", dingtalk.name);
      out.push(createDingTalk(dingtalk, ask("dingtalk", name), name, steady));
    }
    if (wecom) {
      const name = nameOf("wecom", wecom.name);
      out.push(createWeCom(wecom, ask("wecom", name), name, steady));
    }
    for (const one of oidc ?? []) out.push(createOidc(one, ask(one.id, { zh: one.name, en: one.name }), now));
    return out;
  };

  // Made once per config: they hold tokens and keys, which a reload of other settings costs a request at most.
  let made: { of: SignIn; list: Provider[] } | undefined;
  const providers = (): Provider[] => {
    const { signIn } = config();
    if (made?.of !== signIn) made = { of: signIn, list: make(signIn) };
    return made.list;
  };
  const provider = (id: string): Provider => {
    const found = providers().find((one) => one.id === id);
    if (!found)
      throw new Reject("not_found", { zh: "没有配置这种登录方式", en: "This way to sign in is not configured" });
    return found;
  };

  /** The person of an identity; makes one where that is allowed. Rejects with a sentence for people. */
  const account = async (identity: Identity, from: Provider): Promise<string> => {
    const { key } = identity;
    const block = config().signIn.block ?? [];
    const known = people.identity(key);
    const name = known ?? key;
    const isDisabled = people.find(name) !== undefined && !people.has(name);
    const isBlocked = block.some((one) => foldIdentity(one) === foldIdentity(key));
    if (isDisabled || isBlocked) throw refusal("这个账号已被管理员停用", "The administrator has closed this account");
    const displayName = tidy(identity.name) || key;
    if (known !== undefined) {
      const isTheirs = known === key;
      if (isTheirs && people.get(known)?.displayName !== displayName) await people.update(known, { displayName });
      return known;
    }
    if (from.create !== "anyone" || !opensTo(config().signIn, key))
      throw refusal(
        `你的${from.name.zh}账号还没有开通；请把 ${key} 交给管理员，写进 config.json 里某个用户的 identities`,
        `Your ${from.name.en} account is not open here yet; give ${key} to the administrator, who adds it to identities of a user in config.json`,
      );
    await people.add({ username: key, displayName });
    log("info", "person_made", { user: key });
    return key;
  };

  const logRefusal = (from: Provider, error: unknown): void => {
    if (error instanceof Reject) log("warn", "sign_in_refused", { provider: from.id, why: error.say.en });
  };

  const settle = async (from: Provider, attempt: Attempt, identify: () => Promise<Identity>) => {
    try {
      const identity = await identify();
      const user = await account(identity, from);
      meter.add(from.id, "sign_ins");
      pictures.refresh(user, identity.avatar, from);
      return { user, to: attempt.to };
    } catch (error) {
      meter.add(from.id, "refused");
      logRefusal(from, error);
      throw error;
    }
  };

  return {
    providers,
    provider,

    /** The provider whose own app this browser is; undefined: an ordinary browser, or that app is not configured. */
    inApp: (userAgent: string | null): Provider | undefined => {
      for (const app of appsOf(userAgent)) {
        const found = providers().find((one) => one.app === app);
        if (found) return found;
      }
      return undefined;
    },

    /** Begins an attempt; `browser` is the value of its cookie. */
    begin: (from: Provider, browser: string, to: string) =>
      attempts.begin({
        provider: from.id,
        browser,
        redirectUri: `${config().publicUrl ?? ""}/sign-in/${from.id}/callback`,
        to,
      }),

    /** Where to send the browser of this attempt. */
    leave: (
      from: Provider,
      { state, nonce, verifier, redirectUri }: { state: string } & Attempt,
      inApp: boolean,
      lang: "zh" | "en",
    ) =>
      from
        .leave({ state, nonce, challenge: challengeOf(verifier), redirectUri, inApp, lang })
        .catch((error: unknown) => {
          logRefusal(from, error);
          throw error;
        }),

    /** Who came back by redirect, and where in the page they wanted to be. */
    finish: (id: string, params: URLSearchParams, browser: string | undefined) => {
      const from = provider(id);
      const attempt = attempts.take(params.get("state") ?? "", id, browser);
      const { redirectUri, verifier, nonce } = attempt;
      return settle(from, attempt, () => from.identify({ params, redirectUri, verifier, nonce }));
    },

    /** The same for a code that the vendor's script gave in its app. */
    finishInApp: (id: string, code: string, state: string, browser: string | undefined) => {
      const from = provider(id);
      const { script } = from;
      if (!script) throw new Reject("not_found");
      const attempt = attempts.take(state, id, browser);
      return settle(from, attempt, () => script.identify(code));
    },

    /** The content of a `WW_verify_….txt` at the root of the host; undefined for any other path. */
    verifyFile: (path: string): string | undefined => {
      const files = config().signIn.wecom?.verify ?? {};
      const name = path.slice(1);
      return Object.hasOwn(files, name) ? files[name] : undefined;
    },

    /** This month's use, for admins. */
    counts: (lang: "zh" | "en") => meter.read(providers().map(({ id, name }) => ({ id, name: name[lang] }))),
    sweep: attempts.sweep,
    /** For tests of its bound. */
    open: attempts.size,
  };
};

export type SignInFlow = ReturnType<typeof createSignIn>;
