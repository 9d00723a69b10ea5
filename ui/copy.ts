/** Copying text. The clipboard API exists only on https, so on a plain intranet address the old command does it. */

import type { Page } from "./page.ts";

const byCommand = (text: string): boolean => {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "offscreen";
  area.readOnly = true;
  // Inside an open dialog nothing outside of it can be selected.
  const host = document.querySelector("dialog[open]") ?? document.body;
  const focused = document.activeElement as HTMLElement | null;
  host.append(area);
  area.select();
  area.setSelectionRange(0, text.length);
  let done = false;
  try {
    done = document.execCommand("copy");
  } catch {
    done = false;
  }
  area.remove();
  focused?.focus?.({ preventScroll: true });
  return done;
};

/** Resolves to whether the text is on the clipboard. */
export const copyText = async (text: string): Promise<boolean> => {
  if (navigator.clipboard && window.isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Refused, for instance without focus: the command may still do it.
    }
  }
  return byCommand(text);
};

/** A rendered table as tab-separated text, as spreadsheets take it. */
export const tableText = (table: HTMLTableElement): string =>
  [...table.rows]
    .map((row) => [...row.cells].map((cell) => (cell.textContent ?? "").replace(/[\t\n]+/g, " ").trim()).join("\t"))
    .join("\n");

/** Copies and says how it went; separate so that other parts can use it. */
export const createCopy =
  (toast: (text: string) => void, t: Page["t"]) =>
  async (text: string): Promise<void> =>
    toast(t((await copyText(text)) ? "copied" : "copyFailed"));
