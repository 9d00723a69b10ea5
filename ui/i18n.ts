/**
 * The language of the page: texts, dates and durations.
 * Must stay true: every visible text goes through `t`, so switching rewrites all of it.
 */
import { EN } from "./texts-en.ts";
import { ZH } from "./texts-zh.ts";

export type TextKey = keyof typeof ZH;
export type Lang = "zh" | "en";

export type I18n = {
  lang: () => Lang;
  setLang: (lang: Lang) => void;
  /** The sentence, with `{name}` filled from `values`. */
  t: (key: TextKey, values?: Record<string, string | number>) => string;
  /** Clock time, with the date when it is not today. */
  time: (at: number) => string;
  date: (at: number) => string;
  /** A span of ms as "3.1 秒", "2 分 5 秒". */
  span: (ms: number) => string;
};

const DAY = 86_400_000;

export const createI18n = (initial: Lang): I18n => {
  let lang = initial;
  const format = (at: number, options: Intl.DateTimeFormatOptions): string =>
    new Intl.DateTimeFormat(lang === "zh" ? "zh-CN" : "en", options).format(at);
  const clock: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", hour12: false };
  const t: I18n["t"] = (key, values) => {
    const text = (lang === "zh" ? ZH : EN)[key];
    return values ? text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole)) : text;
  };
  return {
    lang: () => lang,
    setLang: (next) => {
      lang = next;
    },
    t,
    time: (at) =>
      new Date(at).toDateString() === new Date().toDateString()
        ? format(at, clock)
        : format(at, {
            ...clock,
            month: "short",
            day: "numeric",
            ...(Date.now() - at > 300 * DAY ? { year: "numeric" } : {}),
          }),
    date: (at) => format(at, { year: "numeric", month: "short", day: "numeric" }),
    span: (ms) => {
      const seconds = ms / 1000;
      if (seconds < 10) return t("seconds", { n: Math.max(0.1, Math.round(seconds * 10) / 10) });
      if (seconds < 60) return t("seconds", { n: Math.round(seconds) });
      return t("minutes", { m: Math.floor(seconds / 60), s: Math.round(seconds % 60) });
    },
  };
};
