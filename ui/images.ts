/**
 * Pictures on their way into a message: made smaller here, uploaded, kept in order, each with its own progress and failure.
 *
 * Must stay true: orientation is right and the place a photo was taken does not leave the phone (a JPEG is always drawn
 * anew), animations and small PNGs arrive as they are.
 */
import type { Attachment } from "../lib/protocol.ts";
import { h } from "./dom.ts";
import { icon } from "./icons.ts";
import { cleanName, type Page } from "./page.ts";

const MAX_FILES = 9;
const MAX_SIDE = 2048;
const SMALL_PNG = 1_000_000;
const MAX_BYTES = 1_000_000;

type Entry = {
  file: File;
  name: string;
  state: "preparing" | "uploading" | "ready" | "failed";
  blob: Blob | undefined;
  attachment: Attachment | undefined;
  element: HTMLElement;
  bar: HTMLElement;
};

export type Images = {
  element: HTMLElement;
  add: (files: Iterable<File>) => void;
  /** "wait": some are still on their way; "failed": one needs a decision; otherwise what to send. */
  take: () => "wait" | "failed" | Attachment[];
  count: () => number;
  clear: () => void;
};

const encode = (canvas: HTMLCanvasElement, quality: number): Promise<Blob> =>
  new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/jpeg", quality),
  );

/** The picture as it should be sent. Rejects what the browser cannot read as a picture. */
const prepare = async (file: File): Promise<Blob> => {
  if (file.type === "image/gif") return file;
  const url = URL.createObjectURL(file);
  try {
    const img = new Image();
    img.src = url;
    await img.decode();
    const longest = Math.max(img.naturalWidth, img.naturalHeight);
    const light = file.size <= SMALL_PNG && longest <= MAX_SIDE;
    if (light && (file.type === "image/png" || file.type === "image/webp")) return file;
    let scale = Math.min(1, MAX_SIDE / longest);
    let best: Blob | undefined;
    for (const quality of [0.85, 0.75, 0.6, 0.5]) {
      const canvas = h("canvas");
      canvas.width = Math.max(1, Math.round(img.naturalWidth * scale));
      canvas.height = Math.max(1, Math.round(img.naturalHeight * scale));
      const context = canvas.getContext("2d");
      if (!context) return file;
      context.fillStyle = "#fff"; // JPEG knows no transparency
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(img, 0, 0, canvas.width, canvas.height);
      best = await encode(canvas, quality);
      if (best.size <= MAX_BYTES) break;
      if (quality <= 0.6) scale *= 0.8;
    }
    return best!;
  } finally {
    URL.revokeObjectURL(url);
  }
};

/** `changed` is called when anything becomes ready, fails, or is removed. */
export const createImages = (page: Page, changed: () => void): Images => {
  const element = h("div.thumbs", { hidden: true });
  let entries: Entry[] = [];

  const update = (): void => {
    element.hidden = entries.length === 0;
    changed();
  };

  const setState = (entry: Entry, state: Entry["state"]): void => {
    entry.state = state;
    entry.element.dataset.state = state;
    update();
  };

  const upload = async (entry: Entry): Promise<void> => {
    try {
      setState(entry, entry.blob ? "uploading" : "preparing");
      if (!entry.blob) {
        entry.blob = entry.file.type.startsWith("image/") ? await prepare(entry.file) : entry.file;
        setState(entry, "uploading");
      }
      const jpeg = entry.blob.type === "image/jpeg" && entry.blob !== entry.file;
      const name = jpeg ? `${entry.name.replace(/\.\w+$/, "")}.jpg` : entry.name;
      const answer = await page.api.upload<Attachment | { attachment: Attachment }>(
        "/api/attachments",
        entry.blob,
        name,
        (part) => entry.bar.style.setProperty("--part", String(part)),
      );
      entry.attachment = "attachment" in answer ? answer.attachment : answer;
      setState(entry, "ready");
    } catch (error) {
      if (!entry.blob) {
        entries = entries.filter((e) => e !== entry);
        entry.element.remove();
        page.toast(page.t("imageBad", { name: entry.name }));
        update();
        return;
      }
      setState(entry, "failed");
      if (error instanceof Error && error.message) page.toast(error.message);
    }
  };

  const add = (files: Iterable<File>): void => {
    for (const file of files) {
      if (entries.length >= MAX_FILES) {
        page.toast(page.t("imageTooMany"));
        break;
      }
      const name = cleanName(file.name || page.t("imageAlt", { n: entries.length + 1 }));
      const bar = h("span.bar", { "aria-hidden": "true" });
      const shown: HTMLElement = file.type.startsWith("image/")
        ? h("img", { alt: name })
        : h("span.file-name", {}, icon("file"), name);
      const remove = h(
        "button.icon.remove",
        { type: "button", "aria-label": page.t("removeImage", { name }) },
        icon("close"),
      );
      const again = h("button.again", { type: "button", "aria-label": page.t("imageRetry", { name }) }, icon("retry"));
      const box = h("div.thumb", { "data-state": "preparing", title: name }, shown, bar, again, remove);
      const entry: Entry = {
        file,
        name,
        state: "preparing",
        blob: undefined,
        attachment: undefined,
        element: box,
        bar,
      };
      if (shown instanceof HTMLImageElement) {
        const url = URL.createObjectURL(file);
        shown.onload = () => URL.revokeObjectURL(url);
        shown.src = url;
      }
      remove.addEventListener("click", () => {
        entries = entries.filter((e) => e !== entry);
        box.remove();
        update();
      });
      again.addEventListener("click", () => void upload(entry));
      entries.push(entry);
      element.append(box);
      void upload(entry);
    }
    update();
  };

  return {
    element,
    add,
    count: () => entries.length,
    take: () => {
      if (entries.some((entry) => entry.state === "failed")) return "failed";
      if (entries.some((entry) => entry.state !== "ready")) return "wait";
      return entries.map((entry) => entry.attachment!);
    },
    clear: () => {
      entries = [];
      element.replaceChildren();
      update();
    },
  };
};
