/**
 * `nexus key add | list | remove`: API keys, whether a gateway runs on the store or not.
 *
 * What must stay true: the key stands on standard output once and nowhere else; only its hash is kept. A gateway that runs
 * takes a new key at once and drops a removed one within a second.
 */
import { digest, newSecret } from "../auth.ts";
import type { Config } from "../config.ts";
import { nearest } from "../config/near.ts";
import { botIdShape } from "../frames.ts";
import { decodeId, encodeId } from "../ids.ts";
import type { Fault } from "../shape.ts";
import { StoreRefused } from "../store.ts";
import { type KeyFile, openKeyFile } from "../store/keyfile.ts";
import { CONFIG_OPTION, type Command, type Context, EXIT } from "./command.ts";
import { complainAll, readSettings } from "./settings.ts";

const DAY_MS = 86_400_000;
const NAME_CHARS = 100;
/** As in the page's settings. */
const MAX_KEYS = 50;

/** Runs `work` on the keys of the configured store; the exit code. */
const withKeys = (context: Context, work: (keys: KeyFile, config: Config) => number): number => {
  const { complain } = context;
  const settings = readSettings(context);
  if (!settings) return EXIT.usage;
  let keys: KeyFile | undefined;
  try {
    keys = openKeyFile(settings.config.dataDir, Date.now);
    return work(keys, settings.config);
  } catch (error) {
    if (error instanceof StoreRefused) complain(error.say.zh, error.say.en);
    else {
      const why = error instanceof Error ? error.message : String(error);
      complain(`无法读写密钥：${why}`, `the keys cannot be read or written: ${why}`);
    }
    return EXIT.failed;
  } finally {
    keys?.close();
  }
};

type Limits = { bots: string[] | undefined; expiresAt: number | null; scope: "chat" | "all"; name: string };

/** The options, or undefined after saying what is wrong with them. */
const limitsOf = ({ options, complain }: Context): Limits | undefined => {
  const scope = options.get("scope") ?? "chat";
  if (scope !== "chat" && scope !== "all") {
    complain(`--scope 应为 chat 或 all，不能是 ${scope}`, `--scope should be chat or all, not ${scope}`);
    return undefined;
  }
  const days = options.get("days");
  if (days !== undefined && !/^[1-9]\d{0,4}$/.test(days)) {
    complain(`--days 应为天数，不能是 ${days}`, `--days should be a number of days, not ${days}`);
    return undefined;
  }
  const name = options.get("name") ?? "nexus key add";
  if (name === "" || name.length > NAME_CHARS) {
    complain(`--name 应为 1 到 ${NAME_CHARS} 个字符`, `--name has 1 to ${NAME_CHARS} characters`);
    return undefined;
  }
  const bots = options.get("bots")?.split(",");
  const faults: Fault[] = [];
  for (const bot of bots ?? []) botIdShape(bot, "--bots", faults);
  if (faults.length > 0) return complainAll({ complain }, faults);
  return { bots, expiresAt: days === undefined ? null : Date.now() + Number(days) * DAY_MS, scope, name };
};

const unknown = ({ complain }: Context, user: string, { users }: Config): number => {
  const near = nearest(user, users.keys());
  complain(
    `没有用户 ${user}${near ? `；是不是 ${near}？` : ""}`,
    `there is no user ${user}${near ? `; did you mean ${near}?` : ""}`,
  );
  return EXIT.failed;
};

const add = async (context: Context): Promise<number> => {
  const user = context.positional[0]!;
  const limits = limitsOf(context);
  if (!limits) return EXIT.usage;
  const { stdout, stderr, language, complain } = context;
  return withKeys(context, (keys, config) => {
    if (!config.users.has(user) && !keys.knows(user)) return unknown(context, user, config);
    if (keys.list(user).length >= MAX_KEYS) {
      complain(`${user} 已有 ${MAX_KEYS} 个密钥，请先删除不用的`, `${user} has ${MAX_KEYS} keys; remove one first`);
      return EXIT.failed;
    }
    const secret = newSecret("nxk_");
    const { bots, expiresAt, scope, name } = limits;
    const id = keys.add({
      user,
      hash: digest(secret),
      name,
      scope,
      bots: bots ? JSON.stringify(bots) : null,
      created_at: Date.now(),
      expires_at: expiresAt,
    });
    stdout.write(`${secret}\n`);
    stderr.write(
      language === "zh"
        ? `已为 ${user} 创建密钥 ${encodeId(id)}；它只显示这一次\n`
        : `made the key ${encodeId(id)} for ${user}; it is shown only now\n`,
    );
    return EXIT.ok;
  });
};

const day = (at: number | null): string => (at === null ? "-" : new Date(at).toISOString().slice(0, 10));

const list = async (context: Context): Promise<number> =>
  withKeys(context, (keys, config) => {
    const user = context.positional[0];
    const rows = keys.list(user);
    // Somebody who is gone may still have keys.
    if (user !== undefined && rows.length === 0 && !config.users.has(user) && !keys.knows(user))
      return unknown(context, user, config);
    for (const row of rows) {
      const bots = row.bots === null ? "*" : (JSON.parse(row.bots) as string[]).join(",");
      const cells = [encodeId(row.id), row.user, row.name, row.scope, bots, day(row.expires_at), day(row.last_used_at)];
      // A name may hold anything a person typed: not a line of its own, nor a command for the terminal.
      context.stdout.write(`${cells.map((cell) => cell.replace(/\p{Cc}/gu, "?")).join("\t")}\n`);
    }
    return EXIT.ok;
  });

const remove = async (context: Context): Promise<number> => {
  const id = context.positional[0]!;
  return withKeys(context, (keys) => {
    if (!keys.remove(decodeId(id))) {
      context.complain(`没有密钥 ${id}；nexus key list 列出全部`, `there is no key ${id}; nexus key list shows all`);
      return EXIT.failed;
    }
    context.say(
      `已删除密钥 ${id}；正在用它的连接一秒内断开`,
      `removed the key ${id}; what uses it ends within a second`,
    );
    return EXIT.ok;
  });
};

export const KEY_COMMANDS: readonly Command[] = [
  {
    name: "key add",
    args: "USER",
    summary: { zh: "为用户创建 API 密钥，只显示一次", en: "make an API key for a user, shown once" },
    details: {
      zh: "密钥单独一行写在标准输出。网关正在运行时立即可用。chat 只能聊天（/v1、/api/chat 等），all 等同此人登录（密钥管理除外）。",
      en: "The key is a line of its own on standard output. A running gateway takes it at once. chat reaches chatting only (/v1, /api/chat and the like), all what the person reaches (but not keys).",
    },
    options: {
      ...CONFIG_OPTION,
      name: { value: "TEXT", say: { zh: "备注", en: "a note for yourself" } },
      scope: { value: "SCOPE", say: { zh: "chat（默认）或 all", en: "chat (default) or all" } },
      bots: { value: "A,B", say: { zh: "只能用这些机器人", en: "these bots only" } },
      days: { value: "N", say: { zh: "N 天后失效", en: "expires after N days" } },
    },
    run: add,
  },
  {
    name: "key list",
    args: "[USER]",
    summary: { zh: "列出 API 密钥", en: "list API keys" },
    details: {
      zh: "每行：id、用户、备注、范围、机器人、失效日、最近使用，以制表符分隔。",
      en: "A line each: id, user, note, scope, bots, expiry, last use, separated by tabs.",
    },
    options: CONFIG_OPTION,
    run: list,
  },
  {
    name: "key remove",
    args: "ID",
    summary: { zh: "删除一个 API 密钥", en: "remove an API key" },
    options: CONFIG_OPTION,
    run: remove,
  },
];
