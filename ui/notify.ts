/**
 * What tells a person who looks elsewhere: the number in the title, the dot on the icon, and, when they asked for it, a
 * notification of the system.
 */
import type { Message } from "../lib/protocol.ts";
import { cleanName, type Page } from "./page.ts";

export type Notify = {
  /** Title and icon from what is unread now. */
  update: (title: string) => void;
  finished: (message: Message) => void;
  /** "unsupported" where the browser has none or the address is not https. */
  state: () => "unsupported" | "denied" | "on" | "off";
  toggle: () => Promise<void>;
};

export const createNotify = (page: Page): Notify => {
  const favicon = document.getElementById("favicon") as HTMLLinkElement;
  const plain = favicon.href;
  let dotted: string | undefined;
  let shown = false;

  /** The icon with a vermilion dot, drawn once. */
  const withDot = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const img = new Image();
      img.onload = () => {
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 64;
        const context = canvas.getContext("2d")!;
        context.drawImage(img, 0, 0, 64, 64);
        context.beginPath();
        context.arc(48, 16, 15, 0, 7);
        context.fillStyle = "#F5F7F6";
        context.fill();
        context.beginPath();
        context.arc(48, 16, 11, 0, 7);
        context.fillStyle = "#B3341F";
        context.fill();
        resolve(canvas.toDataURL());
      };
      img.onerror = reject;
      img.src = plain;
    });

  const setDot = async (on: boolean): Promise<void> => {
    if (on === shown) return;
    shown = on;
    if (!on) {
      favicon.type = "image/svg+xml";
      favicon.href = plain;
      return;
    }
    try {
      dotted ??= await withDot();
      if (shown) {
        favicon.type = "image/png";
        favicon.href = dotted;
      }
    } catch {
      // An icon without a dot is no reason to fail.
    }
  };

  const supported = (): boolean => window.isSecureContext && typeof Notification === "function";
  const wanted = (): boolean =>
    supported() && Notification.permission === "granted" && page.keep.get("notify") === "on";

  return {
    update: (title) => {
      let unread = 0;
      for (const c of page.state.conversations.values()) unread += c.unread;
      document.title = `${unread > 0 ? `(${unread > 99 ? "99+" : unread}) ` : ""}${title ? `${title} · ` : ""}Nexus`;
      void setDot(unread > 0);
    },
    finished: (message) => {
      if (!wanted() || (document.visibilityState === "visible" && document.hasFocus())) return;
      try {
        const note = new Notification(cleanName(message.botName ?? "Nexus"), {
          body: message.content.slice(0, 160),
          tag: message.conversationId,
          icon: plain,
        });
        note.onclick = () => {
          window.focus();
          page.go(message.conversationId);
          note.close();
        };
      } catch {
        // Android knows notifications only from a service worker.
      }
    },
    state: () =>
      !supported() ? "unsupported" : Notification.permission === "denied" ? "denied" : wanted() ? "on" : "off",
    toggle: async () => {
      if (wanted()) page.keep.set("notify", undefined);
      else if ((await Notification.requestPermission()) === "granted") page.keep.set("notify", "on");
    },
  };
};
