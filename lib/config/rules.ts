/**
 * Rules between fields, and warnings: what is allowed but should not stay so.
 *
 * Warnings never repeat a secret. Refuses to judge single fields: that is fields.ts.
 */
import type { Config } from "../config.ts";
import { DEFAULTS } from "./defaults.ts";
import type { Say } from "../protocol.ts";
import type { Fault } from "../shape.ts";
import type { Parsed } from "./fields.ts";
import { nearest } from "./near.ts";
import { isLoopback } from "./network.ts";
import { isHash, isWeak } from "./secrets.ts";
import { checkSignIn, foldIdentity } from "./signin.ts";

/** Rules that need two fields. Runs on whatever parsed, so that its faults are told together with the others. */
export const crossCheck = (parsed: Parsed, faults: Fault[]): void => {
  const pingInterval = parsed.pingInterval ?? DEFAULTS.pingInterval;
  if ((parsed.botTimeout ?? DEFAULTS.botTimeout) <= pingInterval)
    faults.push({
      path: "botTimeout",
      say: {
        zh: `应大于 pingInterval（${pingInterval}），否则机器人还没被问到就会断开`,
        en: `must be greater than pingInterval (${pingInterval}), or bots are cut before they are asked`,
      },
    });
  const models = new Set(parsed.models?.map((model) => model?.id));
  for (const [id, entry] of parsed.bots ?? []) {
    if (entry && (entry.users || entry.pools) && !entry.token?.length && !models.has(id))
      faults.push({
        path: `bots.${id}.token`,
        say: {
          zh: "限定了 users 或 pools 的机器人必须有自己的 token，否则任何机器人都能冒用这个名字",
          en: "a bot with users or pools needs a token of its own, or any bot could take its name",
        },
      });
  }
  if (parsed.frameAncestors?.includes("'none'") && parsed.frameAncestors.length > 1)
    faults.push({
      path: "frameAncestors",
      say: { zh: "'none' 只能单独出现", en: "'none' stands alone" },
    });
  if (parsed.signIn) checkSignIn(parsed.signIn, parsed.publicUrl, faults);
  const owners = new Map<string, string>();
  for (const [name, user] of parsed.users ?? [])
    for (const [i, identity] of (user?.identities ?? []).entries()) {
      if (identity === undefined) continue; // refused
      const owner = owners.get(foldIdentity(identity));
      if (owner !== undefined)
        faults.push({
          path: `users.${name}.identities[${i}]`,
          say: { zh: `已属于用户 ${owner}`, en: `already belongs to the user ${owner}` },
        });
      owners.set(foldIdentity(identity), name);
    }
};

const listed = (names: string[]): string =>
  names.length > 5 ? `${names.slice(0, 5).join(", ")}, …` : names.join(", ");

/** Ways to sign in that let in only listed people, where nobody is listed. */
const closedTo = ({ signIn, users }: Config): string[] => {
  const { feishu, lark, dingtalk, wecom, oidc = [] } = signIn;
  const ways = Object.entries({ feishu, lark, dingtalk, wecom }).map(([id, one]) => [id, `${id}:`, one] as const);
  const identities = [...users.values()].flatMap((user) => user.identities);
  return [...ways, ...oidc.map((one) => [`oidc.${one.id}`, `oidc:${one.id}:`, one] as const)]
    .filter(([, start, one]) => one?.create === "listed" && !identities.some((key) => key.startsWith(start)))
    .map(([name]) => name);
};

/** Everything the operator should know about a config that is accepted. */
export const warningsOf = (config: Config): Say[] => {
  const warnings: Say[] = [];
  const warn = (zh: string, en: string): void => void warnings.push({ zh, en });

  const plain = [...config.users].filter(([, { password }]) => password !== undefined && !isHash(password));
  const weak = plain.filter(([name, { password }]) => isWeak(password!, name)).map(([name]) => name);
  if (weak.length > 0)
    warn(
      `这些用户的密码人人都会先猜到：${listed(weak)}；请运行 nexus user passwd 用户名`,
      `these users have a password that is guessed first: ${listed(weak)}; run nexus user passwd NAME`,
    );
  const kept = plain.map(([name]) => name).filter((name) => !weak.includes(name));
  if (kept.length > 0)
    warn(
      `这些用户的密码是明文：${listed(kept)}；nexus user passwd 用户名 会换成哈希`,
      `these users have a plain password: ${listed(kept)}; nexus user passwd NAME replaces it by a hash`,
    );
  if (config.botTokens.length === 0 && !isLoopback(config.host))
    warn(
      "botToken 为空：网络上的任何人都能以机器人的身份连接；请设置 botToken",
      "botToken is empty: anybody on the network can connect as a bot; set botToken",
    );
  const tokens: [string, string[]][] = [["botToken", config.botTokens]];
  for (const [id, entry] of config.bots) tokens.push([`bots.${id}.token`, entry.tokens]);
  for (const [path, values] of tokens)
    if (values.some((value) => isWeak(value)))
      warn(`${path} 太容易猜到；请换成随机的`, `${path} is easy to guess; use a random one`);
  if (config.users.size === 0 && Object.keys(config.signIn).length === 0)
    warn(
      "没有任何用户：还没有人能登录；请运行 nexus user add 用户名",
      "there are no users, nobody can sign in; run nexus user add NAME",
    );
  for (const name of closedTo(config))
    warn(
      `signIn.${name} 只放行列出的人，但没有用户的 identities 列出它：没有人能这样登录（见 docs/sign-in）`,
      `signIn.${name} lets in only listed people, and no user lists an identity of it: nobody can sign in so (see docs/sign-in)`,
    );
  for (const [id, { users }] of config.bots)
    for (const name of users ?? []) {
      const near = config.users.has(name) || name.includes(":") ? undefined : nearest(name, config.users.keys());
      if (near !== undefined)
        warn(
          `bots.${id}.users 里的 ${name} 不是本文件的用户；是不是 ${near}？`,
          `bots.${id}.users names ${name}, who is no user of this file; did you mean ${near}?`,
        );
    }
  if (config.publicUrl?.startsWith("http://") && !isLoopback(new URL(config.publicUrl).hostname))
    warn(
      "publicUrl 是 http：密码和对话在网络上是明文；公网上请用 https",
      "publicUrl is http: passwords and chats cross the network readable; use https on the internet",
    );
  if (config.limits.frameBytes < DEFAULTS.limits.textChars)
    warn(
      `limits.frameBytes 小于 ${DEFAULTS.limits.textChars}：长消息发不到机器人`,
      `limits.frameBytes is below ${DEFAULTS.limits.textChars}: long messages will not reach bots`,
    );
  return warnings;
};
