/**
 * `nexus user add | passwd | remove | list`: people in config.json.
 *
 * What must stay true: a password is written as an argon2id hash only and never shown; everything else in the file stays as
 * a person wrote it; the file is replaced in one step with its mode. A running gateway notices by itself.
 */
import { isHash, isWeak, PASSWORD_CHARS } from "../config/secrets.ts";
import { displayNameShape, usernameShape } from "../config/fields.ts";
import { loadConfig, readConfigText, writeAtomic } from "../config/file.ts";
import { type Node, readJson } from "../config/json.ts";
import { nearest } from "../config/near.ts";
import { hashPassword } from "../passwords.ts";
import { Reject } from "../protocol.ts";
import { parse } from "../shape.ts";
import { madeBy } from "../store/keyfile.ts";
import { CONFIG_OPTION, type Command, type Context, EXIT } from "./command.ts";
import { addMember, memberOf, removeMember, replaceNode } from "./edit.ts";
import { askSecret } from "./prompt.ts";
import { readSettings } from "./settings.ts";

type ObjectNode = Extract<Node, { kind: "object" }>;
type Open = { text: string; root: ObjectNode; users: ObjectNode | undefined };

/** The file as it stands, when it is a config one can edit; else undefined after saying why. */
const open = ({ configPath, complain }: Context): Open | undefined => {
  let text: string;
  try {
    text = readConfigText(configPath);
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "ENOENT")
      complain(
        `没有 ${configPath}；先在那里运行一次 nexus，它会创建配置`,
        `there is no ${configPath}; run nexus there once, it makes the config`,
      );
    else
      complain(
        `无法读取 ${configPath}（${code ?? "不是普通文件"}）`,
        `${configPath} cannot be read (${code ?? "not a regular file"})`,
      );
    return undefined;
  }
  const read = readJson(text);
  if (!read.ok) {
    const { line, column, say } = read;
    complain(
      `${configPath} 第 ${line} 行第 ${column} 列：${say.zh}`,
      `${configPath}, line ${line}, column ${column}: ${say.en}`,
    );
    return undefined;
  }
  const users = memberOf(read.root, "users");
  if (read.root.kind !== "object" || (users && users.kind !== "object")) {
    complain("配置和其中的 users 应为 JSON 对象", "the config and its users should be JSON objects");
    return undefined;
  }
  return { text, root: read.root, users: users as ObjectNode | undefined };
};

/** Asks (twice on a terminal), judges, hashes. Undefined after saying why not. */
const askPassword = async (context: Context, name: string): Promise<string | undefined> => {
  const { stdin, stderr, language, complain } = context;
  const ask = (zh: string, en: string): Promise<string | undefined> =>
    askSecret(stdin, stderr, language === "zh" ? zh : en);
  const password = await ask(`${name} 的新密码（不显示）：`, `New password of ${name} (not shown): `);
  if (!password) {
    complain("没有输入密码，什么也没改", "no password given, nothing is changed");
    return undefined;
  }
  if (password.length > PASSWORD_CHARS) {
    complain(`密码至多 ${PASSWORD_CHARS} 个字符`, `a password has at most ${PASSWORD_CHARS} characters`);
    return undefined;
  }
  if (stdin.isTTY === true && (await ask("再输入一次：", "Once more: ")) !== password) {
    complain("两次输入不同，什么也没改", "the two differ, nothing is changed");
    return undefined;
  }
  if (isWeak(password, name)) complain("提醒：这个密码很容易猜到", "note: this password is easy to guess");
  return hashPassword(password);
};

const save = (context: Context, text: string): boolean => {
  try {
    writeAtomic(context.configPath, text);
    return true;
  } catch (error) {
    const code = (error as { code?: string }).code;
    context.complain(`无法写入 ${context.configPath}（${code}）`, `${context.configPath} cannot be written (${code})`);
    return false;
  }
};

/** Whom this file does not know; the store may, and then it says where to change them. */
const unknown = (context: Context, name: string, users: ObjectNode | undefined): number => {
  const { complain, configPath, env } = context;
  const loaded = loadConfig(configPath, env, { withoutSecrets: true });
  const source = loaded.ok ? madeBy(loaded.config.dataDir, name) : undefined;
  if (source === "page") {
    complain(
      `${name} 是在管理页上添加的，不在 config.json 里；请在管理页的“用户”里修改`,
      `${name} was added on the admin page and is not in config.json; change that under People on the admin page`,
    );
    return EXIT.failed;
  }
  if (source === "sign-in") {
    complain(
      `${name} 从外部平台登录，不在 config.json 里，密码也不在这里；其余请在管理页的“用户”里修改`,
      `${name} signs in from another platform, is not in config.json and has no password here; the rest is under People on the admin page`,
    );
    return EXIT.failed;
  }
  const near = nearest(name, users?.members.map((member) => member.name) ?? []);
  complain(
    `没有用户 ${name}${near ? `；是不是 ${near}？` : ""}`,
    `there is no user ${name}${near ? `; did you mean ${near}?` : ""}`,
  );
  return EXIT.failed;
};

const add = async (context: Context): Promise<number> => {
  const { complain, options, say } = context;
  const name = context.positional[0]!;
  const displayName = options.get("display-name") ?? name;
  try {
    parse(usernameShape, name, "NAME");
    parse(displayNameShape, displayName, "--display-name");
  } catch (error) {
    if (!(error instanceof Reject)) throw error;
    complain(error.say.zh, error.say.en);
    return EXIT.usage;
  }
  const before = open(context);
  if (!before) return EXIT.usage;
  if (memberOf(before.users, name)) {
    complain(
      `用户 ${name} 已存在；改密码用 nexus user passwd ${name}`,
      `${name} exists; nexus user passwd ${name} changes the password`,
    );
    return EXIT.failed;
  }
  const password = await askPassword(context, name);
  if (password === undefined) return EXIT.failed;
  // Read again: somebody may have edited the file while the password was being typed.
  const now = open(context);
  if (!now) return EXIT.usage;
  if (memberOf(now.users, name)) {
    complain(`用户 ${name} 刚刚被别人添加了`, `${name} was added by somebody else just now`);
    return EXIT.failed;
  }
  const user = {
    password,
    displayName,
    ...(options.has("admin") ? { role: "admin" } : {}),
  };
  // A computed key makes an own property of __proto__ too.
  const text = now.users
    ? addMember(now.text, now.users, name, user)
    : addMember(now.text, now.root, "users", { [name]: user });
  if (!save(context, text)) return EXIT.failed;
  say(`已添加用户 ${name}`, `added the user ${name}`);
  return EXIT.ok;
};

const passwd = async (context: Context): Promise<number> => {
  const { complain, say } = context;
  const name = context.positional[0]!;
  const before = open(context);
  if (!before) return EXIT.usage;
  const had = memberOf(before.users, name);
  if (had?.kind !== "object") return unknown(context, name, before.users);
  if (memberOf(had, "password")?.kind === "object") {
    complain(
      `${name} 的密码来自环境变量或文件，请在那里修改`,
      `the password of ${name} comes from the environment or a file; change it there`,
    );
    return EXIT.failed;
  }
  const password = await askPassword(context, name);
  if (password === undefined) return EXIT.failed;
  const now = open(context);
  if (!now) return EXIT.usage;
  const user = memberOf(now.users, name);
  if (user?.kind !== "object") return unknown(context, name, now.users);
  const old = memberOf(user, "password");
  const text = old ? replaceNode(now.text, old, password) : addMember(now.text, user, "password", password);
  if (!save(context, text)) return EXIT.failed;
  say(
    `已更改 ${name} 的密码；此人的其他登录会退出`,
    `changed the password of ${name}; other sign-ins of this person end`,
  );
  return EXIT.ok;
};

const remove = async (context: Context): Promise<number> => {
  const name = context.positional[0]!;
  const now = open(context);
  if (!now) return EXIT.usage;
  if (!now.users || !memberOf(now.users, name)) return unknown(context, name, now.users);
  if (!save(context, removeMember(now.text, now.users, name))) return EXIT.failed;
  context.say(
    `已删除用户 ${name}；对话仍保留在数据库里`,
    `removed the user ${name}; the conversations stay in the store`,
  );
  return EXIT.ok;
};

const list = async (context: Context): Promise<number> => {
  const { language, stdout } = context;
  const settings = readSettings(context);
  if (!settings) return EXIT.usage;
  const kinds = {
    zh: { hash: "哈希", plain: "明文", none: "无密码", withheld: "在别处" },
    en: { hash: "hash", plain: "plain", none: "no password", withheld: "elsewhere" },
  }[language];
  const withheld = new Set(settings.withheld.map(({ path }) => path));
  for (const [name, { displayName, role, password }] of settings.config.users) {
    const kept = password === undefined ? kinds.none : isHash(password) ? kinds.hash : kinds.plain;
    const kind = withheld.has(`users.${name}.password`) ? kinds.withheld : kept;
    stdout.write(`${[name, displayName, role ?? "user", kind].join("\t")}\n`);
  }
  return EXIT.ok;
};

export const USER_COMMANDS: readonly Command[] = [
  {
    name: "user add",
    args: "NAME",
    summary: { zh: "添加用户（询问密码，只存哈希）", en: "add a user (asks for the password, stores a hash)" },
    details: {
      zh: "密码在终端上不显示；没有终端时读标准输入的第一行。运行中的网关自动生效。",
      en: "On a terminal the password is not shown; elsewhere it is the first line of standard input. A running gateway notices by itself.",
    },
    options: {
      ...CONFIG_OPTION,
      "display-name": {
        value: "TEXT",
        say: { zh: "显示名（默认同用户名）", en: "the name others see (default: NAME)" },
      },
      admin: { say: { zh: "管理员", en: "an administrator" } },
    },
    run: add,
  },
  {
    name: "user passwd",
    args: "NAME",
    summary: { zh: "更改密码（也把明文换成哈希）", en: "change a password (also replaces a plain one by a hash)" },
    details: {
      zh: "密码在终端上不显示；没有终端时读标准输入的第一行。运行中的网关自动生效，此人的其他登录退出。",
      en: "On a terminal the password is not shown; elsewhere it is the first line of standard input. A running gateway notices by itself and ends the person's other sign-ins.",
    },
    options: CONFIG_OPTION,
    run: passwd,
  },
  {
    name: "user remove",
    args: "NAME",
    summary: { zh: "删除用户（对话保留）", en: "remove a user (conversations stay)" },
    options: CONFIG_OPTION,
    run: remove,
  },
  {
    name: "user list",
    summary: { zh: "列出用户", en: "list the users" },
    details: {
      zh: "每行：用户名、显示名、角色、密码的存法，以制表符分隔。",
      en: "A line each: username, display name, role, how the password is kept, separated by tabs.",
    },
    options: CONFIG_OPTION,
    run: list,
  },
];
