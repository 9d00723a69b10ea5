/**
 * What a command is: its name, its words on the help page, its options, and what it runs with.
 *
 * Owns the types and the parsing of arguments. Refuses to guess: an option that is not the command's is a fault with the
 * nearest one named.
 */
import type { Readable } from "node:stream";
import { nearest } from "../config/near.ts";
import type { Env } from "../config/secrets.ts";
import type { Say } from "../protocol.ts";

export type Language = "zh" | "en";
export type Output = {
  write(text: string): unknown;
  isTTY?: boolean | undefined;
  columns?: number | undefined;
};
export type Input = Readable & { isTTY?: boolean | undefined; setRawMode?: ((on: boolean) => unknown) | undefined };

/** Exit codes of every command. */
export const EXIT = { ok: 0, failed: 1, usage: 2 } as const;

export type ServeOptions = { configPath: string; port?: number };

/** The outside world of a command: nothing else of the process is touched. */
export type Io = {
  stdout: Output;
  stderr: Output;
  stdin: Input;
  env: Env;
  cwd: string;
  /** Runs the gateway until it is told to stop; the exit code. Given by server.ts, which owns the process. */
  serve(io: Io, options: ServeOptions): Promise<number>;
};

export type Option = {
  /** What stands for its value on the help page; absent: a switch. */
  value?: string;
  say: Say;
};

export type Given = {
  /** Without the command's own words. */
  positional: string[];
  /** Values by option name; a switch is "". */
  options: Map<string, string>;
};

export type Context = Io &
  Given & {
    language: Language;
    /** One line to stderr. */
    complain(zh: string, en: string): void;
    /** One line to stdout. */
    say(zh: string, en: string): void;
    /** Absolute path of the config this command is about. */
    configPath: string;
  };

export type Command = {
  /** As typed: `user add`. */
  name: string;
  /** Positional arguments on the help page: `NAME`; `[NAME]` may be missing. */
  args?: string;
  /** One line for the list of commands. */
  summary: Say;
  /** More for its own page. */
  details?: Say;
  options: Record<string, Option>;
  run(context: Context): Promise<number>;
};

/** The option every command has that touches a config. */
export const CONFIG_OPTION = {
  config: {
    value: "FILE",
    say: { zh: "配置文件（默认 ./config.json）", en: "the config file (default ./config.json)" },
  },
} satisfies Record<string, Option>;

export type Parsed = ({ ok: true } & Given) | { ok: false; say: Say };

const bounds = (args: string): { least: number; most: number } => {
  const words = args.split(" ").filter(Boolean);
  const least = words.filter((word) => !word.startsWith("[")).length;
  return { least, most: words.some((word) => word.includes("...")) ? Number.POSITIVE_INFINITY : words.length };
};

/** Arguments after the command's name: `--option value`, `--option=value`, switches, positionals; `--` ends the options. */
export const parseArgs = ({ name, args = "", options }: Command, given: readonly string[]): Parsed => {
  const refuse = (zh: string, en: string): Parsed => ({ ok: false, say: { zh, en } });
  const positional: string[] = [];
  const found = new Map<string, string>();
  for (let i = 0; i < given.length; i++) {
    const word = given[i]!;
    if (word === "--") {
      positional.push(...given.slice(i + 1));
      break;
    }
    if (!word.startsWith("-") || word === "-") {
      positional.push(word);
      continue;
    }
    const [, key = "", value] = /^--?([^=]*)(?:=([\s\S]*))?$/.exec(word)!;
    const option = word.startsWith("--") && Object.hasOwn(options, key) ? options[key]! : undefined;
    if (!option) {
      const near = nearest(key, [...Object.keys(options), "help"]);
      return refuse(
        `没有选项 ${word}${near ? `；是不是 --${near}？` : `；nexus ${name} --help 列出可用的`}`,
        `no option ${word}${near ? `; did you mean --${near}?` : `; nexus ${name} --help lists what there is`}`,
      );
    }
    if (found.has(key)) return refuse(`--${key} 给了两次`, `--${key} is given twice`);
    if (option.value === undefined) {
      if (value !== undefined) return refuse(`--${key} 不带值`, `--${key} takes no value`);
      found.set(key, "");
      continue;
    }
    const next = value ?? given[++i];
    if (next === undefined) return refuse(`--${key} 后面缺少 ${option.value}`, `--${key} needs ${option.value}`);
    found.set(key, next);
  }
  const { least, most } = bounds(args);
  if (positional.length < least)
    return refuse(`缺少参数：nexus ${name} ${args}`, `an argument is missing: nexus ${name} ${args}`);
  if (positional.length > most)
    return refuse(`多余的参数：${positional[most]}`, `one argument too many: ${positional[most]}`);
  return { ok: true, positional, options: found };
};
