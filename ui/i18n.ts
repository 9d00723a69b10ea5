/**
 * The language of the page: texts, dates and durations.
 * Must stay true: every visible text goes through `t`, so switching rewrites all of it; a formatter is made once for each form
 * and language, because one made for each message is slow to make and, a thousand times, half a second to throw away.
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

const CLOCK = { hour: "2-digit", minute: "2-digit", hour12: false } as const;
const FORMS = {
  clock: CLOCK,
  day: { ...CLOCK, month: "short", day: "numeric" },
  longAgo: { ...CLOCK, month: "short", day: "numeric", year: "numeric" },
  date: { year: "numeric", month: "short", day: "numeric" },
} as const satisfies Record<string, Intl.DateTimeFormatOptions>;

export const createI18n = (initial: Lang): I18n => {
  let lang = initial;
  const formatters = new Map<string, Intl.DateTimeFormat>();
  const format = (at: number, form: keyof typeof FORMS): string => {
    const key = `${lang} ${form}`;
    let formatter = formatters.get(key);
    if (!formatter) {
      formatter = new Intl.DateTimeFormat(lang === "zh" ? "zh-CN" : "en", FORMS[form]);
      formatters.set(key, formatter);
    }
    return formatter.format(at);
  };
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
    time: (at) => {
      if (new Date(at).toDateString() === new Date().toDateString()) return format(at, "clock");
      return format(at, Date.now() - at > 300 * DAY ? "longAgo" : "day");
    },
    date: (at) => format(at, "date"),
    span: (ms) => {
      // Rounded before it is split: 119.7 s are two minutes.
      const tenths = Math.round(ms / 100) / 10;
      const seconds = Math.round(ms / 1000);
      if (tenths < 10) return t("seconds", { n: Math.max(0.1, tenths) });
      if (seconds < 60) return t("seconds", { n: seconds });
      return t("minutes", { m: Math.floor(seconds / 60), s: seconds % 60 });
    },
  };
};
