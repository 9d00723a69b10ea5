/**
 * `signIn` of config.json: the platforms people may sign in from, their hosts, and whom each of them lets in.
 *
 * What must stay true: nobody is let in whom no organisation vouches for: without a gate (Feishu's tenants, a required claim
 * of OIDC; DingTalk and WeCom always name their corp) only people listed in the config come in. Every vendor host can be
 * overridden. Refuses to talk to anybody: lib/signin/ does.
 */
import { flag, list, mapOf, maybe, type Of, oneOf, type Shape, text } from "../shape.ts";
import type { Fault } from "../shape.ts";
import { originShape } from "./network.ts";
import { type Env, type ReadFile, secret } from "./secrets.ts";
import { strict } from "./strict.ts";

/** `anyone` of the organisation gets an account at the first sign-in; `listed`: only users of config.json with that identity. */
export type Create = "anyone" | "listed";

const name = maybe(text(1, 40, /^[^\p{Cc}]+$/u, { zh: "不能含控制字符", en: "no control characters" }));
const create = maybe(oneOf("anyone", "listed"));
/** Part of identity keys, which stand in usernames and lists. */
const idPart = text(1, 200, /^[^\s:\p{Cc}]+$/u, {
  zh: "不能含空格或冒号",
  en: "no spaces and no colons",
});

/** The console shows a number; as text it is what goes into addresses. */
const agentId: Shape<string> = (value, path, faults) =>
  text(1, 20, /^\d+$/, { zh: "应为数字", en: "digits" })(
    Number.isSafeInteger(value) ? String(value) : value,
    path,
    faults,
  );

/** Where an OIDC provider is: may have a path (Keycloak's realms), never a query. */
const issuerShape: Shape<string> = (value, path, faults) => {
  const good =
    typeof value === "string" && value.length <= 1_000 && !/[\s?#]/.test(value) && URL.canParse(value) && value;
  const url = good ? new URL(good) : undefined;
  if (url && /^https?:$/.test(url.protocol) && !url.username && !url.password) return good as string;
  faults.push({
    path,
    say: {
      zh: "应为 http(s) 地址，与提供方公布的 issuer 一字不差",
      en: "an http(s) URL, exactly the issuer that the provider publishes",
    },
  });
  return "";
};

const verifyName = text(1, 80, /^WW_verify_[A-Za-z0-9]{1,60}\.txt$/, {
  zh: "应为 WW_verify_….txt",
  en: "WW_verify_….txt",
});

const claimValues: Shape<string[]> = (value, path, faults) =>
  typeof value === "boolean"
    ? [String(value)]
    : Array.isArray(value)
      ? list(text(1, 500), 100)(value, path, faults)
      : [text(1, 500)(value, path, faults)];

const providerShapes = (env: Env, readFile: ReadFile) => {
  const hidden = secret(env, readFile);
  const feishu = strict({
    appId: idPart,
    appSecret: hidden,
    tenants: maybe(list(idPart, 100)),
    tokenApi: maybe(oneOf("v2", "v3")),
    name,
    create,
    hosts: maybe(strict({ accounts: maybe(originShape), open: maybe(originShape) })),
  });
  return {
    feishu,
    lark: feishu,
    dingtalk: strict({
      clientId: idPart,
      clientSecret: hidden,
      corpId: idPart,
      name,
      create,
      hosts: maybe(
        strict({
          login: maybe(originShape),
          api: maybe(originShape),
          oapi: maybe(originShape),
          script: maybe(originShape),
        }),
      ),
      scriptPath: maybe(text(1, 200, /^\/[\w./-]+\.js$/, { zh: "应为 /….js", en: "/….js" })),
    }),
    wecom: strict({
      corpId: idPart,
      agentId,
      secret: hidden,
      verify: maybe(mapOf(verifyName, text(1, 200, /^[\w-]+$/, { zh: "应为文件内容", en: "the file's content" }))),
      name,
      create,
      hosts: maybe(strict({ open: maybe(originShape), login: maybe(originShape), api: maybe(originShape) })),
    }),
    oidc: list(
      strict({
        id: text(1, 32, /^[a-z0-9-]+$/, { zh: "应为小写字母、数字、-", en: "lower-case letters, digits, -" }),
        name: text(1, 40, /^[^\p{Cc}]+$/u, { zh: "不能含控制字符", en: "no control characters" }),
        issuer: issuerShape,
        clientId: text(1, 500),
        clientSecret: maybe(hidden),
        scopes: maybe(list(text(1, 100, /^[\x21\x23-\x5b\x5d-\x7e]+$/, { zh: "应为 scope", en: "a scope" }), 30)),
        require: maybe(mapOf(text(1, 200), claimValues)),
        create,
      }),
      20,
    ),
  };
};

/** `signIn` as written. */
export const signInShape = (env: Env, readFile: ReadFile) => {
  const { feishu, lark, dingtalk, wecom, oidc } = providerShapes(env, readFile);
  return strict({
    create,
    direct: maybe(flag),
    block: maybe(list(text(3, 512), 10_000)),
    feishu: maybe(feishu),
    lark: maybe(lark),
    dingtalk: maybe(dingtalk),
    wecom: maybe(wecom),
    oidc: maybe(oidc),
  });
};
type Written = Of<ReturnType<typeof signInShape>>;

type Common = { name?: string; create: Create };
export type FeishuSettings = Common & {
  appId: string;
  appSecret: string;
  tenants: string[];
  tokenApi: "v2" | "v3";
  hosts: { accounts: string; open: string };
};
export type DingTalkSettings = Common & {
  clientId: string;
  clientSecret: string;
  corpId: string;
  hosts: { login: string; api: string; oapi: string; script: string };
  scriptPath: string;
};
export type WeComSettings = Common & {
  corpId: string;
  agentId: string;
  secret: string;
  verify: Record<string, string>;
  hosts: { open: string; login: string; api: string };
};
export type OidcSettings = {
  id: string;
  name: string;
  create: Create;
  issuer: string;
  clientId: string;
  clientSecret?: string;
  scopes: string[];
  /** Claim → values of which one must be there. */
  require: Record<string, string[]>;
};

/** The effective `signIn`: `{}` when nothing is configured. */
export type SignIn = {
  /** False: an in-app browser is shown the sign-in page instead of being signed in at once. */
  direct?: boolean;
  /** Identities that do not come in any more. */
  block?: string[];
  feishu?: FeishuSettings;
  lark?: FeishuSettings;
  dingtalk?: DingTalkSettings;
  wecom?: WeComSettings;
  oidc?: OidcSettings[];
};

/** The version the vendor's own documents name; the file of a version never changes. */
const DINGTALK_SCRIPT = "/dingding/dingtalk-jsapi/3.0.25/dingtalk.open.js";

const HOSTS = {
  feishu: { accounts: "https://accounts.feishu.cn", open: "https://open.feishu.cn" },
  lark: { accounts: "https://accounts.larksuite.com", open: "https://open.larksuite.com" },
  dingtalk: {
    login: "https://login.dingtalk.com",
    api: "https://api.dingtalk.com",
    oapi: "https://oapi.dingtalk.com",
    script: "https://g.alicdn.com",
  },
  wecom: {
    open: "https://open.weixin.qq.com",
    login: "https://login.work.weixin.qq.com",
    api: "https://qyapi.weixin.qq.com",
  },
} as const;

/** `given` over `defaults`, without the holes that an optional field leaves. */
const over = <T extends Record<string, string>>(defaults: T, given: Record<string, unknown> | undefined): T => ({
  ...defaults,
  ...Object.fromEntries(Object.entries(given ?? {}).filter(([, value]) => value !== undefined)),
});

/** The settings with every default filled in. */
export const completeSignIn = (written: Written | undefined): SignIn => {
  if (!written) return {};
  const { feishu, lark, dingtalk, wecom, oidc } = written;
  const rule = (own: Create | undefined, gated: boolean): Create =>
    own ?? written.create ?? (gated ? "anyone" : "listed");
  const feishuLike = (settings: NonNullable<typeof feishu>, hosts: FeishuSettings["hosts"]): FeishuSettings => ({
    ...settings,
    tenants: settings.tenants ?? [],
    tokenApi: settings.tokenApi ?? "v2",
    create: rule(settings.create, (settings.tenants ?? []).length > 0),
    hosts: over(hosts, settings.hosts),
  });
  return {
    ...(written.direct !== undefined && { direct: written.direct }),
    ...(written.block && { block: written.block }),
    ...(feishu && { feishu: feishuLike(feishu, HOSTS.feishu) }),
    ...(lark && { lark: feishuLike(lark, HOSTS.lark) }),
    ...(dingtalk && {
      dingtalk: {
        ...dingtalk,
        create: rule(dingtalk.create, true),
        scriptPath: dingtalk.scriptPath ?? DINGTALK_SCRIPT,
        hosts: over(HOSTS.dingtalk, dingtalk.hosts),
      },
    }),
    ...(wecom && {
      wecom: {
        ...wecom,
        create: rule(wecom.create, true),
        verify: Object.fromEntries(wecom.verify ?? []),
        hosts: over(HOSTS.wecom, wecom.hosts),
      },
    }),
    ...(oidc && {
      oidc: oidc.map(({ require, ...settings }) => ({
        ...settings,
        scopes: settings.scopes ?? ["openid", "profile"],
        require: Object.fromEntries(require ?? []),
        create: rule(settings.create, (require?.size ?? 0) > 0),
      })),
    }),
  };
};

/** Rules between fields of `signIn`. */
export const checkSignIn = (written: Written, publicUrl: string | undefined, faults: Fault[]): void => {
  const fault = (path: string, zh: string, en: string): void => void faults.push({ path, say: { zh, en } });
  const { feishu, lark, dingtalk, wecom, oidc } = written;
  if ((feishu || lark || dingtalk || wecom || oidc?.length) && publicUrl === undefined)
    fault(
      "publicUrl",
      "配置了 signIn 就必须写 publicUrl：平台只跳回登记过的地址",
      "needed with signIn: the platforms return people only to an address registered with them",
    );
  for (const [id, settings] of [
    ["feishu", feishu],
    ["lark", lark],
  ] as const)
    if (settings && (settings.create ?? written.create) === "anyone" && !settings.tenants?.length)
      fault(
        `signIn.${id}.tenants`,
        "create 为 anyone 时必须写明租户，否则任何租户的人都能进来",
        "needed with create anyone, or people of every tenant could come in",
      );
  const ids = new Set<string>();
  for (const [i, settings] of (oidc ?? []).entries()) {
    if (settings === undefined) continue; // refused
    const path = `signIn.oidc[${i}]`;
    if (ids.has(settings.id) || ["feishu", "lark", "dingtalk", "wecom"].includes(settings.id))
      fault(`${path}.id`, "已被占用", "is taken already");
    ids.add(settings.id);
    if ((settings.create ?? written.create) === "anyone" && !settings.require?.size)
      fault(
        `${path}.require`,
        "create 为 anyone 时必须要求至少一个 claim，否则在该提供方注册的任何人都能进来",
        "needed with create anyone, or whoever registers with this provider could come in",
      );
    if (settings.scopes && !settings.scopes.includes("openid"))
      fault(`${path}.scopes`, "必须包含 openid", "must contain openid");
  }
};

/** An identity as it is compared: WeCom takes user ids without case, so two spellings must not become two people. */
export const foldIdentity = (key: string): string => (key.startsWith("wecom:") ? key.toLowerCase() : key);

/**
 * Whether the config still lets in a person who was made with this username. Names without a colon were not made by
 * sign-in and do not depend on it.
 */
export const opensTo = (signIn: SignIn, username: string): boolean => {
  const [source, organisation] = username.split(":", 2);
  if (organisation === undefined) return true;
  if (signIn.block?.some((key) => foldIdentity(key) === foldIdentity(username))) return false;
  const open = (settings: { create: Create } | undefined, ours: boolean): boolean =>
    settings?.create === "anyone" && ours;
  switch (source) {
    case "feishu":
    case "lark":
      return open(signIn[source], signIn[source]?.tenants.includes(organisation) === true);
    case "dingtalk":
      return open(signIn.dingtalk, signIn.dingtalk?.corpId === organisation);
    case "wecom":
      return open(signIn.wecom, signIn.wecom?.corpId === organisation);
    case "oidc":
      return open(
        signIn.oidc?.find(({ id }) => id === organisation),
        true,
      );
    default:
      return false;
  }
};
