/** Settings, loaded when first opened: appearance, language, send key, notifications, API keys, account. */
import { openDialog } from "./dialog.ts";
import { h, setText } from "./dom.ts";
import type { Lang, TextKey } from "./i18n.ts";
import { createKeys } from "./keys.ts";
import type { Notify } from "./notify.ts";
import { createPassword } from "./password.ts";
import { isTouch, type Page } from "./page.ts";

export type Theme = "system" | "light" | "dark";

export type SettingsNeeds = {
  theme: () => Theme;
  setTheme: (theme: Theme) => void;
  /** undefined: by the browser. */
  setLang: (lang: Lang | undefined) => void;
  notify: Notify;
  /** Opens the admin page. */
  admin: () => void;
};

const choice = <T extends string>(
  name: string,
  legend: string,
  options: [T, string][],
  current: T,
  set: (value: T) => void,
): HTMLElement => {
  const group = h("fieldset.choice", {}, h("legend", {}, legend));
  const row = h("div.segments");
  for (const [value, label] of options) {
    const input = h("input", { type: "radio", name, value, checked: value === current, id: `${name}-${value}` });
    input.addEventListener("change", () => set(value));
    row.append(h("label", { for: `${name}-${value}` }, input, h("span", {}, label)));
  }
  group.append(row);
  return group;
};

const notifications = (page: Page, notify: Notify): HTMLElement | undefined => {
  if (notify.state() === "unsupported") return undefined;
  const button = h("button.secondary", { type: "button" });
  const note = h("p.meta", {}, page.t("notifyHint"));
  const draw = (): void => {
    const state = notify.state();
    button.hidden = state === "denied";
    setText(button, page.t(state === "on" ? "notifyOff" : "notifyOn"));
    if (state === "denied") setText(note, page.t("notifyDenied"));
  };
  button.addEventListener("click", () => void notify.toggle().then(draw));
  draw();
  return h("section.setting", {}, h("h3", {}, page.t("notify")), note, button);
};

/** Opens the settings. */
export const openSettings = (page: Page, needs: SettingsNeeds): void => {
  const { t, keep } = page;
  const label = (keys: Record<string, TextKey>): [string, string][] => Object.entries(keys).map(([k, v]) => [k, t(v)]);
  const isAdmin = page.state.user?.role === "admin";
  const admin = h("button.secondary", { type: "button", id: "open-admin" }, t("admin"));
  const out = h("button.secondary", { type: "button" }, t("signOut"));
  const dialog = openDialog(
    { title: t("settings"), closeLabel: t("close"), name: "settings" },
    choice(
      "theme",
      t("theme"),
      label({ system: "themeSystem", light: "themeLight", dark: "themeDark" }) as [Theme, string][],
      needs.theme(),
      needs.setTheme,
    ),
    choice(
      "lang",
      t("language"),
      [
        ["auto", t("languageAuto")],
        ["zh", "中文"],
        ["en", "English"],
      ],
      keep.get("lang") ?? "auto",
      (value) => {
        dialog.close();
        needs.setLang(value === "auto" ? undefined : (value as Lang));
        openSettings(page, needs);
      },
    ),
    choice(
      "sendKey",
      t("sendKey"),
      label({ enter: "sendEnter", ctrl: "sendCtrl" }),
      keep.get("sendKey") ?? "enter",
      (value) => keep.set("sendKey", value === "ctrl" ? "ctrl" : undefined),
    ),
    isTouch() && h("p.meta", {}, t("sendTouch")),
    notifications(page, needs.notify),
    createKeys(page),
    h(
      "section.setting",
      {},
      h("h3", {}, t("account")),
      h(
        "p",
        { dir: "auto" },
        `${page.state.user?.displayName ?? ""} `,
        h("span.meta", {}, page.state.user?.username ?? ""),
      ),
      createPassword(page),
      h("div.setting-row", { id: "account-more" }, isAdmin && admin, out),
    ),
    h("p.meta", {}, t("keyboardHelp")),
  );
  admin.addEventListener("click", () => {
    dialog.close();
    needs.admin();
  });
  out.addEventListener("click", () => {
    dialog.close();
    page.signOut();
  });
};
