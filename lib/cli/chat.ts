/**
 * `nexus chat`: talking to a bot in the terminal, or from a pipe.
 *
 * What must stay true: with a pipe standard output holds the answer and nothing else; Ctrl-C stops the answer (not the
 * program, which it ends only between answers); an answer whose line broke is followed from where it stopped. Keeps no
 * password and no session on disk.
 */
import { createInterface, type Interface } from "node:readline";
import { type Command, type Context, EXIT } from "./command.ts";
import { type Answered, ChatFailure, type Client, createClient } from "./client.ts";
import { askSecret } from "./prompt.ts";

const DEFAULT_SERVER = "http://127.0.0.1:17392";
const KEY_ENV = "NEXUS_KEY";
/** Bytes of a pipe that are read: more than any gateway takes as one message. */
const PIPE_BYTES = 4 * 1024 * 1024;
/** Messages shown of a chat that goes on. */
const SHOWN_MESSAGES = 6;
const SHOWN_CHARS = 400;
/** As shells have it for a program ended by SIGINT. */
const INTERRUPTED = 130;

const isTerminal = ({ stdin, stdout }: Context): boolean => stdin.isTTY === true && stdout.isTTY === true;

/** What a terminal must not be told to do by a bot: everything but text, tabs and line ends. */
const harmless = (text: string): string =>
  text.replace(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, (c) => (c === "\n" || c === "\t" ? c : ""));

const readPipe = async ({ stdin }: Context): Promise<string> => {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of stdin) {
    const bytes = Buffer.from(part as Uint8Array | string);
    parts.push(bytes);
    size += bytes.length;
    if (size > PIPE_BYTES) break;
  }
  return Buffer.concat(parts).toString("utf8");
};

const keyOf = ({ options, env }: Context): { name: string; key: string | undefined } => {
  const name = options.get("key-env") ?? KEY_ENV;
  return { name, key: env[name] };
};

/** A client that may chat; undefined after saying why not. */
const connect = async (context: Context, server: string): Promise<Client | undefined> => {
  const { options, stdin, stderr, language, complain } = context;
  const { name, key } = keyOf(context);
  if (key) return createClient(server, key, language);
  if (options.has("key-env")) {
    complain(`环境变量 ${name} 没有设置或为空`, `the environment variable ${name} is not set or empty`);
    return undefined;
  }
  const user = options.get("user");
  if (user === undefined || stdin.isTTY !== true) {
    complain(
      `需要 API 密钥（环境变量 ${KEY_ENV}，用 nexus key add 创建），或在终端上用 --user 登录`,
      `an API key is needed (in ${KEY_ENV}; nexus key add makes one), or --user on a terminal`,
    );
    return undefined;
  }
  const password = await askSecret(stdin, stderr, language === "zh" ? `${user} 的密码：` : `Password of ${user}: `);
  if (!password) return undefined;
  const client = createClient(server, undefined, language);
  await client.login(user, password);
  return client;
};

const failed = (context: Context, error: unknown): number => {
  const { complain } = context;
  const { name, key } = keyOf(context);
  if (error instanceof ChatFailure && error.status === 401 && key)
    // The gateway's own words are for a page: "please sign in".
    complain(
      `环境变量 ${name} 里的密钥不对，或者已删除、已过期；用 nexus key add 创建新的`,
      `the key in ${name} is wrong, was removed or has expired; nexus key add makes another`,
    );
  else if (error instanceof ChatFailure) complain(error.message, error.message);
  else {
    const why = error instanceof Error ? error.message : String(error);
    complain(`出错了：${why}`, `something failed: ${why}`);
  }
  return EXIT.failed;
};

/** A new conversation; undefined after saying that the key may not make one. `asked`: how the person asked for it. */
const begin = async ({ complain }: Context, client: Client, asked: string): Promise<string | undefined> => {
  try {
    return await client.newConversation();
  } catch (error) {
    if (!mayNot(error)) throw error;
    complain(
      `没有开始新的对话：${asked} 需要带 --scope all 的密钥（nexus key add 用户 --scope all）`,
      `no conversation was begun: ${asked} needs a key with --scope all (nexus key add USER --scope all)`,
    );
    return undefined;
  }
};

/** Keys for chatting only may neither list conversations nor make one. */
const mayNot = (error: unknown): boolean => error instanceof ChatFailure && error.status === 403;

/** One message, one answer on standard output. */
const once = async (context: Context, client: Client, message: string, bot: string | undefined): Promise<number> => {
  const { stdout, options } = context;
  const conversation = options.has("new") ? await begin(context, client, "--new") : undefined;
  if (options.has("new") && conversation === undefined) return EXIT.failed;
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  process.once("SIGINT", onSignal);
  let last = "";
  const shown = stdout.isTTY === true ? harmless : (text: string): string => text;
  try {
    await client.ask({ message, bot, conversation }, stop.signal, {
      text: (text) => {
        last = text.at(-1) ?? last;
        stdout.write(shown(text));
      },
    });
    if (stop.signal.aborted) return INTERRUPTED;
    return EXIT.ok;
  } finally {
    process.off("SIGINT", onSignal);
    if (last !== "" && last !== "\n") stdout.write("\n");
  }
};

const showHistory = async (context: Context, client: Client, conversation: string): Promise<void> => {
  const { stdout } = context;
  for (const { role, botName, content } of await client.history(conversation, SHOWN_MESSAGES)) {
    const cut = content.length > SHOWN_CHARS ? `${content.slice(0, SHOWN_CHARS)}…` : content;
    stdout.write(
      role === "user" ? `\x1b[2m› ${harmless(cut)}\x1b[0m\n` : `\x1b[2m${botName ?? ""}: ${harmless(cut)}\x1b[0m\n`,
    );
  }
};

/** Lines as they were typed, also those typed while an answer came; undefined at the end of input. */
const linesOf = (lines: Interface): (() => Promise<string | undefined>) => {
  const typed: string[] = [];
  let closed = false;
  let wake = (): void => {};
  lines.on("line", (text) => {
    typed.push(text);
    wake();
  });
  lines.on("close", () => {
    closed = true;
    wake();
  });
  return async () => {
    if (typed.length === 0 && !closed) {
      lines.prompt();
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    return typed.shift();
  };
};

/** A conversation on the terminal. */
const converse = async (context: Context, client: Client, bot: string | undefined): Promise<number> => {
  const { stdin, stdout, language, options, say } = context;
  say(
    "Ctrl-C 停止正在进行的回答，再按一次退出；/new 开始新的对话",
    "Ctrl-C stops an answer, and ends the chat between answers; /new begins another conversation",
  );
  let conversation: string | undefined;
  if (options.has("new")) conversation = await begin(context, client, "--new");
  else {
    conversation = await client.lastConversation(bot).catch((error: unknown) => {
      if (mayNot(error)) return undefined;
      throw error;
    });
    if (conversation) await showHistory(context, client, conversation);
  }
  const lines = createInterface({ input: stdin, output: stdout as NodeJS.WriteStream, prompt: "› ", terminal: true });
  const next = linesOf(lines);
  let stop: AbortController | undefined;
  lines.on("SIGINT", () => (stop ? stop.abort() : lines.close()));
  for (;;) {
    const text = await next();
    if (text === undefined) break;
    if (text.trim() === "") continue;
    try {
      if (text.trim() === "/new") {
        conversation = (await begin(context, client, "/new")) ?? conversation;
        continue;
      }
      stop = new AbortController();
      const answered: Answered = await client.ask({ message: text, bot, conversation }, stop.signal, {
        start: (name) => void stdout.write(`\x1b[1m${harmless(name)}\x1b[0m: `),
        text: (more) => void stdout.write(harmless(more)),
      });
      conversation = answered.conversationId ?? conversation;
      stdout.write(stop.signal.aborted ? ` ${language === "zh" ? "（已停止）" : "(stopped)"}\n` : "\n");
    } catch (error) {
      if (stop) stdout.write("\n");
      failed(context, error);
    }
    stop = undefined;
  }
  lines.close();
  stdout.write("\n");
  return EXIT.ok;
};

const run = async (context: Context): Promise<number> => {
  const { options, positional, complain } = context;
  const server = (options.get("server") ?? DEFAULT_SERVER).replace(/\/+$/, "");
  if (!URL.canParse(server) || !/^https?:/.test(server)) {
    complain(`--server 应为 http(s) 地址，不能是 ${server}`, `--server should be an http(s) URL, not ${server}`);
    return EXIT.usage;
  }
  const bot = options.get("bot");
  const words = positional.join(" ").trim();
  try {
    // Read first: a key may be asked for while the other end of the pipe waits.
    const piped = context.stdin.isTTY === true ? "" : (await readPipe(context)).trimEnd();
    const client = await connect(context, server);
    if (!client) return EXIT.usage;
    const message = [words, piped].filter(Boolean).join("\n\n");
    if (message !== "") return await once(context, client, message, bot);
    if (isTerminal(context)) return await converse(context, client, bot);
    complain("没有要说的话：写在命令后面，或从管道传入", "nothing to say: give it as an argument or through a pipe");
    return EXIT.usage;
  } catch (error) {
    return failed(context, error);
  }
};

export const CHAT: Command = {
  name: "chat",
  args: "[TEXT...]",
  summary: { zh: "在终端里和机器人对话", en: "talk to a bot in the terminal" },
  details: {
    zh:
      '有 TEXT 或管道时问一次就结束，标准输出只有回答：cat log | nexus chat --bot claude "哪里出错了？"\n' +
      `凭 API 密钥（环境变量 ${KEY_ENV}）或 --user 登录；密码和会话不写到磁盘。不带 --bot 时由网关挑选。`,
    en:
      'With TEXT or a pipe it asks once, and standard output holds the answer only: cat log | nexus chat --bot claude "what failed?"\n' +
      `Uses an API key (in ${KEY_ENV}) or --user; neither password nor session is written to disk. Without --bot the gateway picks.`,
  },
  options: {
    server: {
      value: "URL",
      say: { zh: `网关（默认 ${DEFAULT_SERVER}）`, en: `the gateway (default ${DEFAULT_SERVER})` },
    },
    bot: { value: "ID", say: { zh: "和哪个机器人说话", en: "the bot to talk to" } },
    user: {
      value: "NAME",
      say: { zh: "用密码登录（在终端上询问）", en: "sign in with a password (asked on the terminal)" },
    },
    "key-env": {
      value: "NAME",
      say: { zh: `密钥的环境变量（默认 ${KEY_ENV}）`, en: `the key's variable (default ${KEY_ENV})` },
    },
    new: { say: { zh: "开始新的对话", en: "begin a new conversation" } },
  },
  run,
};
