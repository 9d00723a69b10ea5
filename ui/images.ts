/**
 * Pictures on their way into a message: made smaller here, uploaded, kept in order, each with its own progress and failure.
 *
 * Every conversation has its own, and what is uploaded is there again after a reload, as its draft is.
 *
 * Must stay true: orientation is right and the place a photo was taken does not leave the phone (a JPEG is always drawn
 * anew), animations and small PNGs arrive as they are.
 */
import type { Attachment } from "../lib/protocol.ts";
import { h } from "./dom.ts";
import { isPicture, picture } from "./files.ts";
import { icon } from "./icons.ts";
import { cleanName, type Page } from "./page.ts";

const MAX_FILES = 9;
const MAX_SIDE = 2048;
const SMALL_PNG = 1_000_000;
const MAX_BYTES = 1_000_000;

type Entry = {
  /** Of the conversation it is for. */
  key: string;
  /** Remembered over a reload, once it is uploaded. */
  kept: boolean;
  /** Absent for what was uploaded before. */
  file: File | undefined;
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
  /** The pictures of another conversation; `given`: those of a message that is being edited, which are not remembered. */
  show: (key: string, given?: readonly Attachment[]) => void;
  /** What was for one conversation is for another. */
  move: (from: string, to: string) => void;
  /** "wait": some are still on their way; "failed": one needs a decision; otherwise what to send. */
  take: () => "wait" | "failed" | Attachment[];
  count: () => number;
  clear: () => void;
  /** Another person takes over. */
  forget: () => void;
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

/** An upload that no message names is collected by the gateway after a day. */
const KEPT_MS = 20 * 3_600_000;

/** `changed` is called when anything of what is shown becomes ready, fails, or is removed. */
export const createImages = (page: Page, changed: () => void): Images => {
  const { keep } = page;
  const element = h("div.thumbs", { hidden: true });
  const strips = new Map<string, Entry[]>();
  let shown = "new";
  let keeping = true;
  const entries = (): Entry[] => strips.get(shown) ?? [];

  const update = (): void => {
    element.hidden = entries().length === 0;
    changed();
  };

  const store = (key: string): void => {
    const list = (strips.get(key) ?? []).flatMap((entry) => entry.attachment ?? []);
    keep.set(`files.${key}`, list.length ? JSON.stringify({ at: Date.now(), list }) : undefined);
  };

  const remove = (entry: Entry): void => {
    strips.set(
      entry.key,
      (strips.get(entry.key) ?? []).filter((e) => e !== entry),
    );
    entry.element.remove();
    if (entry.kept) store(entry.key);
    if (entry.key === shown) update();
  };

  const setState = (entry: Entry, state: Entry["state"]): void => {
    entry.state = state;
    entry.element.dataset.state = state;
    if (entry.key === shown) update();
  };

  const upload = async (entry: Entry): Promise<void> => {
    const { file } = entry;
    if (!file) return;
    try {
      setState(entry, entry.blob ? "uploading" : "preparing");
      if (!entry.blob) {
        entry.blob = file.type.startsWith("image/") ? await prepare(file) : file;
        setState(entry, "uploading");
      }
      const jpeg = entry.blob.type === "image/jpeg" && entry.blob !== file;
      const name = jpeg ? `${entry.name.replace(/\.\w+$/, "")}.jpg` : entry.name;
      const answer = await page.api.upload<Attachment | { attachment: Attachment }>(
        "/api/attachments",
        entry.blob,
        name,
        (part) => entry.bar.style.setProperty("--part", String(part)),
      );
      entry.attachment = "attachment" in answer ? answer.attachment : answer;
      if (entry.kept && strips.get(entry.key)?.includes(entry)) store(entry.key);
      setState(entry, "ready");
    } catch (error) {
      // Also one that is no picture stays: gone by itself, the message might go out without it before the person sees that.
      setState(entry, "failed");
      if (!entry.blob) page.toast(page.t("imageBad", { name: entry.name }));
      else if (error instanceof Error && error.message) page.toast(error.message);
    }
  };

  const put = (name: string, content: HTMLElement, from: { file?: File; attachment?: Attachment }): Entry => {
    const bar = h("span.bar", { "aria-hidden": "true" });
    const close = h(
      "button.icon.remove",
      { type: "button", "aria-label": page.t("removeImage", { name }) },
      icon("close"),
    );
    const again = h("button.again", { type: "button", "aria-label": page.t("imageRetry", { name }) }, icon("retry"));
    const state = from.attachment ? "ready" : "preparing";
    const box = h("div.thumb", { "data-state": state, title: name }, content, bar, again, close);
    const entry: Entry = {
      key: shown,
      kept: keeping,
      file: from.file,
      name,
      state,
      blob: undefined,
      attachment: from.attachment,
      element: box,
      bar,
    };
    close.addEventListener("click", () => remove(entry));
    again.addEventListener("click", () => void upload(entry));
    strips.set(shown, [...entries(), entry]);
    element.append(box);
    return entry;
  };

  const add = (files: Iterable<File>): void => {
    for (const file of files) {
      if (entries().length >= MAX_FILES) {
        page.toast(page.t("imageTooMany"));
        break;
      }
      const name = cleanName(file.name || page.t("imageAlt", { n: entries().length + 1 }));
      const content: HTMLElement = file.type.startsWith("image/")
        ? h("img", { alt: name })
        : h("span.file-name", {}, icon("file"), name);
      if (content instanceof HTMLImageElement) {
        const url = URL.createObjectURL(file);
        content.onload = () => URL.revokeObjectURL(url);
        content.src = url;
      }
      void upload(put(name, content, { file }));
    }
    update();
  };

  const restored = (key: string): Attachment[] => {
    try {
      const { at, list } = JSON.parse(keep.get(`files.${key}`) ?? "") as { at: number; list: Attachment[] };
      return Date.now() - at < KEPT_MS ? list : [];
    } catch {
      return [];
    }
  };

  const show: Images["show"] = (key, given) => {
    shown = key;
    keeping = given === undefined;
    const known = given ? undefined : strips.get(key);
    element.replaceChildren(...(known ?? []).map((entry) => entry.element));
    if (!known) {
      strips.delete(key);
      for (const attachment of given ?? restored(key)) {
        const name = cleanName(attachment.name);
        const content = isPicture(attachment.mime)
          ? picture(page, attachment.url, name)
          : h("span.file-name", {}, icon("file"), name);
        for (const mark of ["data-act", "data-src"]) content.removeAttribute(mark);
        put(name, content, { attachment });
      }
    }
    update();
  };

  return {
    element,
    add,
    show,
    move: (from, to) => {
      const list = strips.get(from);
      strips.delete(from);
      for (const entry of list ?? []) entry.key = to;
      if (list) strips.set(to, list);
      keep.set(`files.${to}`, keep.get(`files.${from}`));
      keep.set(`files.${from}`, undefined);
      if (shown === from) shown = to;
    },
    count: () => entries().length,
    take: () => {
      if (entries().some((entry) => entry.state === "failed")) return "failed";
      if (entries().some((entry) => entry.state !== "ready")) return "wait";
      return entries().map((entry) => entry.attachment!);
    },
    clear: () => {
      strips.delete(shown);
      if (keeping) store(shown);
      element.replaceChildren();
      update();
    },
    forget: () => {
      strips.clear();
      element.replaceChildren();
      update();
    },
  };
};
