/** Which language a command speaks: the config's `language`, else LC_ALL, LC_MESSAGES, LANG, else Chinese. */
import { readConfigText } from "../config/file.ts";
import { readJson } from "../config/json.ts";
import type { Env } from "../config/secrets.ts";
import type { Language } from "./command.ts";

const ofLocale = (locale: string): Language | undefined => {
  // "C" and "POSIX" say nothing about the person: servers are born with them.
  if (/^(?:C|POSIX)(?:[._@]|$)/i.test(locale)) return undefined;
  return /^zh/i.test(locale) ? "zh" : "en";
};

const ofConfig = (path: string): Language | undefined => {
  try {
    const read = readJson(readConfigText(path));
    const language = read.ok && (read.value as { language?: unknown }).language;
    return language === "zh" || language === "en" ? language : undefined;
  } catch {
    return undefined; // no config, or one whose faults are told in the default language
  }
};

/** Never throws; a broken config does not keep anybody from reading the help. */
export const languageOf = (env: Env, configPath: string): Language => {
  const locale = env.LC_ALL || env.LC_MESSAGES || env.LANG;
  return ofConfig(configPath) ?? (locale ? ofLocale(locale) : undefined) ?? "zh";
};
