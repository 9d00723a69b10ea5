/**
 * What the parts of the admin page are made of: its texts, calls that say when they fail, tables, form fields, values shown
 * once, buttons that ask twice. Must stay true: names from bots and people go in as text, cleaned of direction marks.
 */
import { ApiError } from "../api.ts";
import { openDialog, type Dialog } from "../dialog.ts";
import { h, type Child } from "../dom.ts";
import { cleanName, type Page } from "../page.ts";
import { ADMIN_EN } from "./texts-en.ts";
import { ADMIN_ZH } from "./texts-zh.ts";

export type AdminText = keyof typeof ADMIN_ZH;

/** What a section is given. */
export type Admin = {
  page: Page;
  t: (key: AdminText, values?: Record<string, string | number>) => string;
  /** Text for a key that is made up of a prefix and what the gateway says; that itself when there is none. */
  word: (prefix: "a_" | "state_", key: string) => string;
  /** Calls and tells when it failed; undefined then. */
  call: <T>(method: string, path: string, body?: unknown) => Promise<T | undefined>;
  /** A GET; `again`: one of many, that fails in silence because the next one comes. */
  read: <T>(path: string, again?: boolean) => Promise<T | undefined>;
  time: (at: number) => string;
  number: (value: number) => string;
  bytes: (value: number) => string;
  /** Where files come from: a plain download, because in-app browsers refuse those made by scripts. */
  download: (path: string, name: string) => void;
};

/** A part of the page, drawn into its element. `live`: looked at again (`again`) every other second while it is shown. */
export type Section = { element: HTMLElement; live?: boolean; load: (again?: boolean) => Promise<void> };

export const createTexts = (page: Page): Pick<Admin, "t" | "word" | "number" | "bytes" | "time"> => {
  const texts = (): Record<AdminText, string> => (page.i18n.lang() === "zh" ? ADMIN_ZH : ADMIN_EN);
  const number = (value: number): string =>
    new Intl.NumberFormat(page.i18n.lang() === "zh" ? "zh-CN" : "en").format(value);
  return {
    t: (key, values) => {
      const text = texts()[key];
      return values ? text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole)) : text;
    },
    word: (prefix, key) => texts()[`${prefix}${key}` as AdminText] ?? key,
    number,
    bytes: (value) => {
      const units = ["B", "kB", "MB", "GB", "TB"];
      let scaled = value;
      let unit = 0;
      while (scaled >= 1000 && unit < units.length - 1) {
        scaled /= 1000;
        unit++;
      }
      return `${number(unit === 0 || scaled >= 100 ? Math.round(scaled) : Math.round(scaled * 10) / 10)} ${units[unit]}`;
    },
    time: (at) =>
      new Intl.DateTimeFormat(page.i18n.lang() === "zh" ? "zh-CN" : "en", {
        month: "2-digit",
        day: "2-digit",
        hour: "2-digit",
        minute: "2-digit",
        second: "2-digit",
        hour12: false,
      }).format(at),
  };
};

/** A name with the id under it where they differ. */
export const named = (name: string, id: string): HTMLElement =>
  h(
    "span.who",
    { dir: "auto" },
    h("span", {}, cleanName(name)),
    cleanName(name) !== id && h("span.meta", {}, cleanName(id)),
  );

export type Column = { label: string; numeric?: boolean };

/** A table that becomes a list of cards on a phone; `rows` are cells in the order of the columns. */
export const table = (caption: string, columns: Column[], rows: Child[][]): HTMLElement => {
  const body = h("tbody");
  for (const cells of rows) body.append(row(columns, cells));
  return h(
    "div.table-box",
    {},
    h(
      "table.grid",
      {},
      h("caption.offscreen", {}, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ...columns.map(({ label, numeric }) => h(`th${numeric ? ".numeric" : ""}` as "th", { scope: "col" }, label)),
        ),
      ),
      body,
    ),
  );
};

/** One row of such a table, for those that keep theirs. */
export const row = (columns: Column[], cells: Child[]): HTMLTableRowElement =>
  h(
    "tr",
    {},
    ...cells.map((cell, i) =>
      h(`td${columns[i]?.numeric ? ".numeric" : ""}` as "td", { "data-label": columns[i]?.label }, cell),
    ),
  );

export const button = (
  label: string,
  run: () => unknown,
  kind: "primary" | "secondary" | "quiet" = "secondary",
): HTMLButtonElement => {
  const made = h(`button.${kind}`, { type: "button" }, label);
  made.addEventListener("click", () => void run());
  return made;
};

/** A button for what cannot be undone: the first press changes its label, the second within 4 s does it. */
export const sureButton = (label: string, sure: string, run: () => unknown): HTMLButtonElement => {
  const made = h("button.secondary.danger" as "button.secondary", { type: "button" }, label);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const calm = (): void => {
    timer = undefined;
    made.textContent = label;
  };
  made.addEventListener("click", () => {
    if (timer === undefined) {
      made.textContent = sure;
      timer = setTimeout(calm, 4000);
      return;
    }
    clearTimeout(timer);
    calm();
    void run();
  });
  return made;
};

/** A labelled field with a hint. */
export const field = (name: string, label: string, input: HTMLElement, hint?: string): HTMLElement => {
  input.id = `admin-${name}`;
  if (hint !== undefined) input.setAttribute("aria-describedby", `admin-${name}-hint`);
  return h(
    "div.field",
    {},
    h("label", { for: `admin-${name}` }, label),
    input,
    hint !== undefined && h("p.meta", { id: `admin-${name}-hint` }, hint),
  );
};

export const textInput = (
  value = "",
  more: Record<string, string | number | boolean | undefined> = {},
): HTMLInputElement => h("input", { type: "text", value, autocomplete: "off", spellcheck: "false", ...more });

export const selectInput = (options: [value: string, label: string][], value: string): HTMLSelectElement =>
  h("select", {}, ...options.map(([key, label]) => h("option", { value: key, selected: key === value }, label)));

/** What of `after` is not as it was: what nobody touched is not sent, so it stays as config.json says. */
export const changed = <T extends object>(before: T, after: T): Partial<T> =>
  Object.fromEntries(
    Object.entries(after).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(before[key as keyof T])),
  ) as Partial<T>;

/** The number in a field; null for an empty one, undefined for what is no whole number from 0. */
export const numberOf = (input: HTMLInputElement): number | null | undefined => {
  const text = input.value.trim();
  if (text === "") return null;
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
};

/** A dialog that shows values once, each with a button to copy it. */
export const showOnce = (admin: Admin, title: string, hint: string, values: [label: string, value: string][]): Dialog =>
  openDialog(
    { title, closeLabel: admin.page.t("close"), name: "admin-once" },
    h("p", {}, hint),
    ...values.map(([label, value], i) =>
      h(
        "div.once",
        {},
        field(`once-${i}`, label, h("input.secret", { type: "text", value, readonly: true })),
        button(admin.t("copy"), () => admin.page.copy(value)),
      ),
    ),
  );

export const whyOf = (error: unknown): string =>
  error instanceof ApiError || error instanceof Error ? error.message : String(error);
