/** Ways to take a conversation along: export, copy, print. */
import type { Conversation } from "../lib/protocol.ts";
import { h } from "./dom.ts";
import { saveFile } from "./files.ts";
import type { MenuItem } from "./menu.ts";
import type { Page } from "./page.ts";

/** The menu items; `text` gives all of it as Markdown if all is here, because some browsers copy only at the very click. */
export const takeAway = (
  page: Page,
  conversation: Conversation,
  { text }: { text: () => string | undefined },
): MenuItem[] => {
  const { t, api } = page;
  const copyAll = async (): Promise<void> => {
    const path = `/api/conversations/${conversation.id}/export?format=md`;
    try {
      await page.copy(text() ?? (await (await api.open(path, {})).text()));
    } catch (error) {
      page.toast((error as Error).message);
    }
  };
  const exporting = (format: "md" | "json") => () => {
    const path = `/api/conversations/${conversation.id}/export?format=${format}`;
    const name = `${(conversation.title || "nexus").replace(/[\\/:*?"<>|]/g, "-")}.${format}`;
    if (api.standalone) void saveFile(page, path, name);
    // A plain download from the gateway: in-app browsers refuse downloads made by scripts.
    else h("a", { href: path, download: name }).click();
  };
  return [
    { label: t("exportMd"), icon: "download", run: exporting("md") },
    { label: t("exportJson"), icon: "download", run: exporting("json") },
    { label: t("copyAll"), icon: "file", run: () => void copyAll() },
    { label: t("print"), icon: "image", run: () => print() },
  ];
};
