/** The buttons inside what a bot wrote: wrap and copy code, copy a table, view a picture, save a file. */
import { tableText } from "./copy.ts";
import { saveFile, viewImage } from "./files.ts";
import type { Page } from "./page.ts";

/** Does what `button` is for, when it is one of these. `name` is its `data-act`. */
export const contentAction = (page: Page, name: string, button: HTMLElement): void => {
  if (name === "wrap") {
    const on = button.closest(".code")!.classList.toggle("wrapped");
    button.setAttribute("aria-pressed", String(on));
  } else if (name === "copy-code")
    void page.copy(button.closest(".code")!.querySelector("pre > code")!.textContent ?? "");
  else if (name === "copy-table") void page.copy(tableText(button.closest(".table")!.querySelector("table")!));
  else if (name === "view-image")
    viewImage(page, button.dataset.src ?? "", button.getAttribute("alt") ?? button.querySelector("img")?.alt ?? "");
  else if (name === "save-file")
    void saveFile(page, button.getAttribute("href") ?? "", button.getAttribute("download") ?? "");
};
