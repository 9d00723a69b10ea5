/**
 * What a person chose for this browser, theme and language: set here, kept, told to the gateway by a cookie so that the next
 * page comes right from its first paint, and followed when another tab changes it. The dialog itself is loaded when opened.
 */
import type { Lang } from "./i18n.ts";
import type { Notify } from "./notify.ts";
import type { Page } from "./page.ts";
import type { Theme } from "./settings.ts";

export type Preferences = {
  /** undefined: by the browser. */
  setLang: (lang: Lang | undefined) => void;
  openSettings: () => Promise<void>;
  /** Begins to follow the other tabs. */
  follow: () => void;
};

export const createPreferences = (
  page: Page,
  needs: { notify: Notify; opening: () => void; admin: () => void; texts: () => void },
): Preferences => {
  const { keep, i18n } = page;
  const root = document.documentElement;
  const speak = (lang: Lang): void => {
    i18n.setLang(lang);
    root.lang = lang;
    needs.texts();
  };
  const setTheme = (theme: Theme): void => {
    root.dataset.theme = theme;
    keep.set("theme", theme === "system" ? undefined : theme);
    keep.cookie("theme", theme === "system" ? undefined : theme);
  };
  const setLang = (lang: Lang | undefined): void => {
    keep.set("lang", lang);
    keep.cookie("lang", lang);
    speak(lang ?? (/^zh/i.test(navigator.language) ? "zh" : "en"));
  };

  return {
    setLang,
    openSettings: async () => {
      needs.opening();
      try {
        const settings = await import("./settings.ts");
        settings.openSettings(page, {
          theme: () => (keep.get("theme") as Theme) ?? "system",
          setTheme,
          setLang,
          notify: needs.notify,
          admin: needs.admin,
        });
      } catch {
        page.toast(page.t("networkError"));
      }
    },
    follow: () =>
      keep.onChange((key, value) => {
        if (key === "theme") root.dataset.theme = value ?? "system";
        if (key === "lang" && value) speak(value === "en" ? "en" : "zh");
      }),
  };
};
