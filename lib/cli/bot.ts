/**
 * `nexus bot` and `nexus bots`: models and programs as bots, with nothing but this executable.
 *
 * Owns the options and when the process ends: a signal lets open answers finish; a gateway that refuses the token ends it
 * with 1. Refuses to know how a model is asked (lib/models/).
 */
import { readFileSync } from "node:fs";
import { dirname, isAbsolute, resolve } from "node:path";
import { type Bot, type BotState, gatewayUrls } from "../../plugin/client.ts";
import { twiceFaults } from "../config/file.ts";
import { readJson } from "../config/json.ts";
import { type ModelEntry, modelShape, modelsShape } from "../config/models.ts";
import { secret } from "../config/secrets.ts";
import { strict } from "../config/strict.ts";
import { createLog, logStyle } from "../log.ts";
import { startModelBot } from "../models/bot.ts";
import { CLOSE } from "../protocol.ts";
import { type Fault, maybe, type Shape, text } from "../shape.ts";
import { type Command, type Context, EXIT } from "./command.ts";
import { isLaunched, untilStopped } from "./lifetime.ts";
import { complainAll } from "./settings.ts";

const DEFAULT_GATEWAY = "ws://127.0.0.1:17392";
/** The token of bots, as the examples of the documents have it. */
const TOKEN_ENV = "BOT_TOKEN";
/** Open answers get this long after a signal. */
const DRAIN_MS = 25_000;

type Wanted = { gateway: string; token: string; entries: ModelEntry[] };

const isGateway = (url: string): boolean => {
  try {
    gatewayUrls(url);
    return true;
  } catch {
    return false;
  }
};

/** `--token` or what `--token-env` names; undefined after saying that the latter is not set. */
const tokenOf = ({ options, env, complain }: Context): string | undefined => {
  const name = options.get("token-env");
  if (name === undefined) return options.get("token") ?? env[TOKEN_ENV] ?? "";
  if (env[name]) return env[name];
  complain(`环境变量 ${name} 没有设置或为空`, `the environment variable ${name} is not set or empty`);
  return undefined;
};

/** Options that are fields of an entry: its name there, and whether it is a number or a list. */
const FIELDS: [option: string, field: string, kind: "text" | "number" | "list"][] = [
  ["id", "id", "text"],
  ["name", "name", "text"],
  ["openai", "openai", "text"],
  ["anthropic", "anthropic", "text"],
  ["command", "command", "text"],
  ["model", "model", "text"],
  ["system", "system", "text"],
  ["history-tokens", "historyTokens", "number"],
  ["max-tokens", "maxTokens", "number"],
  ["max-concurrency", "maxConcurrency", "number"],
  ["description", "description", "text"],
  ["pools", "pools", "list"],
];

const fromOptions = (context: Context): ModelEntry | undefined => {
  const { options, env } = context;
  const json: Record<string, unknown> = {};
  for (const [option, field, kind] of FIELDS) {
    const value = options.get(option);
    if (value === undefined) continue;
    json[field] = kind === "number" ? Number(value) : kind === "list" ? value.split(",") : value;
  }
  if (options.has("echo")) json.echo = true;
  const key = options.get("key-env");
  if (key !== undefined) json.key = { env: key };
  const faults: Fault[] = [];
  const entry = modelShape(env, () => "")(json, "", faults);
  // A person who typed options reads options.
  const named = faults.map(({ path, say }) => {
    const option = path === "key" ? "key-env" : FIELDS.find(([, field]) => field === path)?.[0];
    return { path: option ? `--${option}` : "nexus bot", say };
  });
  return faults.length === 0 ? entry : complainAll(context, named);
};

const one = (context: Context): Wanted | undefined => {
  const token = tokenOf(context);
  const entry = token === undefined ? undefined : fromOptions(context);
  if (!entry) return undefined;
  return { gateway: context.options.get("gateway") ?? DEFAULT_GATEWAY, token: token!, entries: [entry] };
};

/** `bots.json`: `{gateway?, token?, bots: […]}`, or the list alone. */
const several = (context: Context): Wanted | undefined => {
  const { options, env, cwd, complain } = context;
  const file = resolve(cwd, options.get("file") ?? "bots.json");
  let source: string;
  try {
    source = readFileSync(file, "utf8");
  } catch (error) {
    const code = (error as { code?: string }).code;
    complain(`无法读取 ${file}（${code}）`, `${file} cannot be read (${code})`);
    return undefined;
  }
  const read = readJson(source);
  if (!read.ok) {
    const { line, column, say } = read;
    complain(`${file} 第 ${line} 行第 ${column} 列：${say.zh}`, `${file}, line ${line}, column ${column}: ${say.en}`);
    return undefined;
  }
  const readFile = (name: string): string =>
    readFileSync(isAbsolute(name) ? name : resolve(dirname(file), name), "utf8");
  const bots = modelsShape(env, readFile);
  const shape: Shape<{ gateway?: string; token?: string; bots: ModelEntry[] }> = strict({
    gateway: maybe(text(1, 2_000)),
    token: maybe(secret(env, readFile)),
    bots,
  });
  const faults = twiceFaults(read.twice);
  const given = Array.isArray(read.value)
    ? { bots: bots(read.value, "", faults) }
    : (shape(read.value, "", faults) as { gateway?: string; token?: string; bots: ModelEntry[] });
  if (faults.length > 0) {
    for (const { path, say } of faults)
      complain(`${file}：${path && `${path}：`}${say.zh}`, `${file}: ${path && `${path}: `}${say.en}`);
    return undefined;
  }
  const token = options.has("token") || options.has("token-env") || !given.token ? tokenOf(context) : given.token;
  if (token === undefined) return undefined;
  return { gateway: options.get("gateway") ?? given.gateway ?? DEFAULT_GATEWAY, token, entries: given.bots };
};

/** Runs the bots until a signal, or until the gateway has sent all of them away. */
const runBots = async (context: Context, { gateway, token, entries }: Wanted): Promise<number> => {
  const { stdout, stderr, env, complain, say } = context;
  if (!isGateway(gateway)) {
    complain(
      `--gateway 应为 ws:// 或 wss:// 地址，不能是 ${gateway}`,
      `--gateway should be a ws:// or wss:// URL, not ${gateway}`,
    );
    return EXIT.usage;
  }
  if (entries.length === 0) {
    complain("一个机器人也没有", "there is no bot to run");
    return EXIT.usage;
  }
  const style = logStyle(stdout, env);
  const log = createLog({ ...style, level: style.json ? "info" : "warn", write: (line) => void stderr.write(line) });
  const allGone = Promise.withResolvers<number>();
  const bots = new Map<string, Bot>();
  const stopped = new Set<string>();
  let closing = false;

  const tell = ({ id, token: own = token }: ModelEntry, state: BotState): void => {
    if (state.state === "online") say(`${id} 已连接 ${gateway}`, `${id} is connected to ${gateway}`);
    if (state.state !== "stopped" || closing) return;
    const bare = state.code === CLOSE.token_refused && own === "";
    complain(
      `${id} 被网关拒绝：${state.reason}${bare ? `；没有给令牌：请设置环境变量 ${TOKEN_ENV}，或用 --token-env` : ""}`,
      `${id} was sent away by the gateway: ${state.reason}${bare ? `; no token was given: set ${TOKEN_ENV}, or use --token-env` : ""}`,
    );
    stopped.add(id);
    if (stopped.size === entries.length) allGone.resolve(EXIT.failed);
  };
  for (const entry of entries)
    bots.set(
      entry.id,
      startModelBot({
        entry,
        url: gateway,
        token,
        log,
        env,
        stderr: (words) => void stderr.write(words),
        onState: (state) => tell(entry, state),
      }),
    );
  const close = async (): Promise<void> => {
    closing = true;
    await Promise.all([...bots.values()].map((bot) => bot.close()));
  };
  const drain = async (): Promise<void> => {
    closing = true;
    await Promise.all([...bots.values()].map((bot) => bot.drain()));
    await close();
  };
  const signalled = untilStopped({ drain, close, log, drainMs: DRAIN_MS, launched: isLaunched(env) });
  const code = await Promise.race([signalled, allGone.promise]);
  await close();
  return code;
};

const GATEWAY_OPTIONS = {
  gateway: {
    value: "URL",
    say: { zh: `网关（默认 ${DEFAULT_GATEWAY}）`, en: `the gateway (default ${DEFAULT_GATEWAY})` },
  },
  token: {
    value: "TOKEN",
    say: {
      zh: `机器人令牌（默认取环境变量 ${TOKEN_ENV}）`,
      en: `the bot token (default: the environment's ${TOKEN_ENV})`,
    },
  },
  "token-env": { value: "NAME", say: { zh: "从这个环境变量取令牌", en: "take the token from this variable" } },
} satisfies Command["options"];

const BOT: Command = {
  name: "bot",
  summary: { zh: "把一个模型或程序接成机器人", en: "connect a model or a program as a bot" },
  details: {
    zh:
      "四选一：--openai（OpenAI 兼容接口）、--anthropic（Messages API）、--command（每条消息运行一次程序）、--echo（原样返回）。\n" +
      "程序从标准输入得到消息，标准输出就是回答，环境变量 NEXUS_TURN 是其余信息（JSON）；取消时连同子进程一起结束。\n" +
      "历史由网关随每条消息送来，本进程不存任何东西；密钥只从环境变量读取。",
    en:
      "One of: --openai (an OpenAI-compatible service), --anthropic (the Messages API), --command (a program per message), --echo.\n" +
      "A program gets the message on standard input; its standard output is the answer, NEXUS_TURN in its environment the rest (JSON); on cancel it ends with all its children.\n" +
      "The history comes from the gateway with each message, nothing is kept here; keys are read from the environment only.",
  },
  options: {
    ...GATEWAY_OPTIONS,
    id: { value: "ID", say: { zh: "机器人的 id", en: "the bot's id" } },
    name: { value: "TEXT", say: { zh: "显示名（默认同 id）", en: "the name people see (default: the id)" } },
    openai: { value: "URL", say: { zh: "如 https://example.com/v1", en: "such as https://example.com/v1" } },
    anthropic: { value: "URL", say: { zh: "如 https://api.anthropic.com", en: "such as https://api.anthropic.com" } },
    command: { value: "CMD", say: { zh: "shell 命令", en: "a shell command" } },
    echo: { say: { zh: "原样返回", en: "say everything back" } },
    model: { value: "NAME", say: { zh: "模型的名字", en: "the model's name" } },
    "key-env": { value: "NAME", say: { zh: "存放密钥的环境变量", en: "the variable that holds the key" } },
    system: { value: "TEXT", say: { zh: "系统提示", en: "the system prompt" } },
    "history-tokens": { value: "N", say: { zh: "历史至多多少 token", en: "at most so many tokens of history" } },
    "max-tokens": { value: "N", say: { zh: "回答至多多少 token", en: "at most so many tokens of answer" } },
    "max-concurrency": { value: "N", say: { zh: "同时回答至多几条", en: "at most so many answers at once" } },
    pools: { value: "A,B", say: { zh: "所在的池（默认 default）", en: "its pools (default: default)" } },
    description: { value: "TEXT", say: { zh: "一句介绍", en: "a sentence about it" } },
  },
  run: async (context) => {
    const wanted = one(context);
    return wanted ? runBots(context, wanted) : EXIT.usage;
  },
};

const BOTS: Command = {
  name: "bots",
  summary: { zh: "按一个文件接入多个机器人", en: "connect several bots from one file" },
  details: {
    zh: '文件是 {"gateway": …, "token": …, "bots": […]} 或只有列表；每项的字段与配置里的 models 相同，密钥可写成 {"env": "变量名"}。',
    en: 'The file is {"gateway": …, "token": …, "bots": […]} or the list alone; entries are those of `models` in the config, keys may be {"env": "NAME"}.',
  },
  options: {
    file: { value: "FILE", say: { zh: "默认 ./bots.json", en: "default ./bots.json" } },
    ...GATEWAY_OPTIONS,
  },
  run: async (context) => {
    const wanted = several(context);
    return wanted ? runBots(context, wanted) : EXIT.usage;
  },
};

export const BOT_COMMANDS: readonly Command[] = [BOT, BOTS];
