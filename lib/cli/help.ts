/** The help pages, made from the command table, complete in both languages. */
import type { Command, Language } from "./command.ts";

const line = (left: string, width: number, right: string): string => `  ${left.padEnd(width)}  ${right}`;

/** The page of `nexus --help`. Groups (`user …`) stand together because the table says so. */
export const helpPage = (commands: readonly Command[], version: string, language: Language): string => {
  const usage = commands.map(({ name, args }) => [name === "serve" ? "[serve]" : name, args].filter(Boolean).join(" "));
  const width = Math.max(...usage.map((text) => text.length), "--version".length);
  const texts = {
    zh: {
      what: `Nexus ${version}：人与 AI 机器人之间的自托管网关`,
      usage: "用法：nexus [命令] [选项]",
      commands: "命令：",
      version: "版本号",
      help: "本页；nexus 命令 --help 查看一个命令的说明",
      codes: "退出码：0 成功，1 失败，2 用法或配置有误",
    },
    en: {
      what: `Nexus ${version}: a self-hosted gateway between people and AI bots`,
      usage: "Usage: nexus [command] [options]",
      commands: "Commands:",
      version: "the version",
      help: "this page; nexus COMMAND --help explains one command",
      codes: "Exit codes: 0 success, 1 failure, 2 usage or config",
    },
  }[language];
  return `${[
    texts.what,
    "",
    texts.usage,
    "",
    texts.commands,
    ...commands.map(({ summary }, i) => line(usage[i]!, width, summary[language])),
    "",
    line("--version", width, texts.version),
    line("--help", width, texts.help),
    "",
    texts.codes,
  ].join("\n")}\n`;
};

/** The page of `nexus COMMAND --help`. */
export const commandPage = (command: Command, language: Language): string => {
  const { name, args, summary, details, options } = command;
  const rows = Object.entries(options).map(([key, { value, say }]) => ({
    left: value === undefined ? `--${key}` : `--${key} ${value}`,
    right: say[language],
  }));
  rows.push({ left: "--help", right: language === "zh" ? "本页" : "this page" });
  const width = Math.max(...rows.map(({ left }) => left.length));
  const called = name === "serve" ? "[serve]" : name;
  return `${[
    `${language === "zh" ? "用法：" : "Usage: "}${["nexus", called, args].filter(Boolean).join(" ")} ${language === "zh" ? "[选项]" : "[options]"}`,
    "",
    summary[language],
    ...(details ? ["", details[language]] : []),
    "",
    language === "zh" ? "选项：" : "Options:",
    ...rows.map(({ left, right }) => line(left, width, right)),
  ].join("\n")}\n`;
};
