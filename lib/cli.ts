/**
 * The command line: the table of commands, and finding the one that was meant.
 *
 * Adding a command is adding it to `commands`. Refuses to end the process or touch its globals: everything comes in by Io
 * and the exit code goes out (0 done, 1 failed, 2 usage or config).
 */
import { resolve } from "node:path";
import packageJson from "../package.json" with { type: "json" };
import { BOT_COMMANDS } from "./cli/bot.ts";
import { CHAT } from "./cli/chat.ts";
import { type Command, type Context, EXIT, type Given, type Io, type Language, parseArgs } from "./cli/command.ts";
import { commandPage, helpPage } from "./cli/help.ts";
import { KEY_COMMANDS } from "./cli/key.ts";
import { languageOf } from "./cli/language.ts";
import { BACKUP, CHECK, SERVE } from "./cli/operate.ts";
import { STATUS } from "./cli/status.ts";
import { USER_COMMANDS } from "./cli/users.ts";
import { nearest } from "./config/near.ts";
import { DEMO } from "./demo.ts";

export const VERSION: string = packageJson.version;

/** Put in by the build (deploy/build.ts); running from source there is none. */
declare const NEXUS_COMMIT: string | undefined;
const COMMIT = typeof NEXUS_COMMIT === "string" ? ` (${NEXUS_COMMIT})` : "";

const commands: readonly Command[] = [
  SERVE,
  DEMO,
  CHAT,
  ...BOT_COMMANDS,
  ...USER_COMMANDS,
  ...KEY_COMMANDS,
  STATUS,
  CHECK,
  BACKUP,
];

/** The command whose words the arguments begin with, and how many words that took. None: `serve`, if only options follow. */
const find = (args: readonly string[]): { command: Command; words: number } | undefined => {
  for (const words of [2, 1]) {
    const command = commands.find(({ name }) => name === args.slice(0, words).join(" "));
    if (command) return { command, words };
  }
  return args[0] === undefined || args[0].startsWith("-") ? { command: SERVE, words: 0 } : undefined;
};

/** Commands that begin with this word: `user` is no command, but has some. */
const groupOf = (word: string): Command[] => commands.filter(({ name }) => name.startsWith(`${word} `));

/** `--config` decides the language before the arguments are parsed, so that faults in them are told in it. */
const configPathOf = (args: readonly string[], cwd: string): string => {
  const at = args.findIndex((word) => word === "--config" || word.startsWith("--config="));
  const given = at < 0 ? undefined : args[at] === "--config" ? args[at + 1] : args[at]!.slice("--config=".length);
  return resolve(cwd, given || "config.json");
};

const contextOf = (io: Io, given: Given, language: Language, configPath: string): Context => ({
  ...io,
  ...given,
  language,
  configPath,
  complain: (zh, en) => void io.stderr.write(`nexus: ${language === "zh" ? zh : en}\n`),
  say: (zh, en) => void io.stdout.write(`${language === "zh" ? zh : en}\n`),
});

/** Runs one command line (without the program's name) and returns its exit code. Throws only for bugs. */
export const run = async (args: readonly string[], io: Io): Promise<number> => {
  const configPath = configPathOf(args, io.cwd);
  const language = languageOf(io.env, configPath);
  const { complain } = contextOf(io, { positional: [], options: new Map() }, language, configPath);
  const unknown = (said: string, among: readonly Command[]): number => {
    const near = nearest(
      said,
      among.map(({ name }) => name),
    );
    complain(
      `没有命令 ${said}${near ? `；是不是 ${near}？` : "；nexus --help 列出可用的"}`,
      `no command ${said}${near ? `; did you mean ${near}?` : "; nexus --help lists what there is"}`,
    );
    return EXIT.usage;
  };
  const wantsHelp = args.some((word) => word === "--help" || word === "-h");
  const words = args.filter((word) => word !== "--help" && word !== "-h");

  if (args[0] === "--version" || args[0] === "-v" || args[0] === "version") {
    io.stdout.write(`nexus ${VERSION}${COMMIT}\n`);
    return EXIT.ok;
  }
  if (args[0] === "help" && words[1] !== undefined && !find(words.slice(1)) && groupOf(words[1]).length === 0)
    return unknown(words[1], commands);
  if (args[0] === "help" || (wantsHelp && (words[0] === undefined || words[0].startsWith("-")))) {
    const asked = args[0] === "help" ? find(words.slice(1)) : undefined;
    const page = asked && asked.words > 0 ? commandPage(asked.command, language) : undefined;
    io.stdout.write(
      page ?? helpPage(groupOf(words[1] ?? "").length > 0 ? groupOf(words[1]!) : commands, VERSION, language),
    );
    return EXIT.ok;
  }
  const found = find(words);
  if (!found) {
    const group = groupOf(words[0]!);
    if (group.length > 0 && (wantsHelp || words[1] === undefined)) {
      (wantsHelp ? io.stdout : io.stderr).write(helpPage(group, VERSION, language));
      return wantsHelp ? EXIT.ok : EXIT.usage;
    }
    return group.length > 0 ? unknown(words.slice(0, 2).join(" "), group) : unknown(words[0]!, commands);
  }
  if (wantsHelp) {
    io.stdout.write(commandPage(found.command, language));
    return EXIT.ok;
  }
  const parsed = parseArgs(found.command, words.slice(found.words));
  if (!parsed.ok) {
    complain(parsed.say.zh, parsed.say.en);
    return EXIT.usage;
  }
  // An unset variable of a shell: another config than the one that was meant would be taken, silently.
  if (parsed.options.get("config") === "") {
    complain(
      "--config 后面是空的（变量没有设置？）；请写配置文件的路径，或去掉 --config 使用 ./config.json",
      "--config is empty (a variable that is not set?); name the config file, or leave --config out for ./config.json",
    );
    return EXIT.usage;
  }
  return found.command.run(contextOf(io, parsed, language, configPath));
};
