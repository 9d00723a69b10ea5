/**
 * What comes into the composer from elsewhere: files pasted or dropped anywhere, and long pasted text, which is offered as
 * a file. Must stay true: a drop never makes the browser leave the page.
 */
import { h, setText } from "./dom.ts";
import { icon } from "./icons.ts";
import type { Page } from "./page.ts";

/** Pasted text longer than this is offered as a file. */
const LONG_PASTE = 8000;

/** `add` takes files; `changed` is called after the text of `field` was changed here. */
export const createIncoming = (
  page: Page,
  field: HTMLTextAreaElement,
  add: (files: Iterable<File>) => void,
  changed: () => void,
): { offer: HTMLElement; drop: HTMLElement } => {
  const { t } = page;
  const offer = h("div.offer", { hidden: true });
  const drop = h("div.drop", { hidden: true });

  field.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) {
      event.preventDefault();
      add(files);
      return;
    }
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (text.length <= LONG_PASTE) return;
    // As the field has it: with its own line ends, and cut where it is full.
    const room = field.maxLength - field.value.length + (field.selectionEnd - field.selectionStart);
    const pasted = text.replace(/\r\n?/g, "\n").slice(0, room);
    const size = `${Math.round(text.length / 1000)}k`;
    const asFile = h("button.chip", { type: "button" }, t("foldAsFile"));
    asFile.addEventListener("click", () => {
      const at = field.value.indexOf(pasted);
      if (at >= 0) field.setRangeText("", at, at + pasted.length, "end");
      add([new File([text], t("fileName"), { type: "text/plain" })]);
      offer.hidden = true;
      changed();
      field.focus();
    });
    const no = h("button.icon", { type: "button", "aria-label": t("close") }, icon("close"));
    no.addEventListener("click", () => (offer.hidden = true));
    offer.replaceChildren(h("span", {}, t("foldOffer", { size })), asFile, no);
    offer.hidden = false;
  });

  // Files dropped anywhere are pictures for the message; the browser must not open them in place of the page.
  let dragDepth = 0;
  const dragged = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragenter", (event) => {
    if (!dragged(event)) return;
    dragDepth++;
    setText(drop, t("dropHere"));
    drop.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (dragged(event) && --dragDepth <= 0) drop.hidden = true;
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    dragDepth = 0;
    drop.hidden = true;
    if (page.state.session === "in") add([...(event.dataTransfer?.files ?? [])]);
  });

  return { offer, drop };
};
