/**
 * Pictures and files of messages. On our own origin the browser fetches them by their address with the session cookie;
 * in the standalone page they are fetched with the token and shown from memory.
 */
import type { Attachment } from "../lib/protocol.ts";
import { h } from "./dom.ts";
import { icon } from "./icons.ts";
import { cleanName, type Page } from "./page.ts";

const sizeText = (bytes: number): string =>
  bytes < 1000
    ? `${bytes} B`
    : bytes < 1_000_000
      ? `${Math.round(bytes / 1000)} kB`
      : `${(bytes / 1_000_000).toFixed(1)} MB`;

/** Gives `img` its picture. */
const load = (page: Page, img: HTMLImageElement, src: string): void => {
  if (!page.api.standalone || src.startsWith("data:") || src.startsWith("blob:")) {
    img.src = src;
    return;
  }
  void page.api
    .open(src, {})
    .then((response) => response.blob())
    .then((blob) => {
      const url = URL.createObjectURL(blob);
      img.onload = () => URL.revokeObjectURL(url);
      img.src = url;
    })
    .catch(() => img.classList.add("broken"));
};

/** A picture in a message; without known measures it gets a box of fixed height, so nothing moves when it arrives. */
export const picture = (page: Page, src: string, alt: string, width?: number, height?: number): HTMLImageElement => {
  const img = h("img", {
    alt,
    width,
    height,
    loading: "lazy",
    decoding: "async",
    class: width && height ? undefined : "boxed",
    "data-act": "view-image",
    "data-src": src,
  });
  load(page, img, src);
  return img;
};

const file = (page: Page, attachment: Attachment): HTMLElement => {
  const name = cleanName(attachment.name);
  const link = h(
    "a.file",
    { href: attachment.url, download: name, "data-act": page.api.standalone ? "save-file" : undefined },
    icon("file"),
    h("span.file-name", {}, name),
    h("span.meta", {}, sizeText(attachment.size)),
  );
  return link;
};

/** Whether browsers show it; the others (HEIC, SVG) are files to save. */
export const isPicture = (mime: string): boolean => /^image\/(png|jpeg|gif|webp|avif|bmp)$/.test(mime);

/** The attachments of a message. Pictures are buttons that open them large. */
export const attachments = (page: Page, list: readonly Attachment[]): HTMLElement => {
  const box = h(`div.files`, { "data-count": list.length });
  for (const one of list) {
    if (!isPicture(one.mime)) {
      box.append(file(page, one));
      continue;
    }
    const name = cleanName(one.name);
    box.append(
      h(
        "button.shot",
        { type: "button", "data-act": "view-image", "data-src": one.url, "aria-label": page.t("openImage", { name }) },
        picture(page, one.url, name, one.width, one.height),
      ),
    );
  }
  return box;
};

/** Opens a picture large, over everything; Escape, the button or a click closes it. */
export const viewImage = (page: Page, src: string, alt: string): void => {
  const img = h("img", { alt });
  load(page, img, src);
  const dialog = h(
    "dialog.viewer",
    { "aria-label": alt || page.t("openImage", { name: "" }) },
    img,
    h("button.icon", { type: "button", "aria-label": page.t("closeImage") }, icon("close")),
  );
  document.body.append(dialog);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  dialog.showModal();
};

/** Fetches an address with our credentials and saves it: for the standalone page, whose links carry no token. */
export const saveFile = async (page: Page, path: string, name: string): Promise<void> => {
  try {
    const blob = await (await page.api.open(path, {})).blob();
    const url = URL.createObjectURL(blob);
    const link = h("a", { href: url, download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch {
    page.toast(page.t("networkError"));
  }
};
