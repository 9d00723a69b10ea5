/**
 * The admin page: a full-screen dialog over the chat, loaded when an admin first opens it. Its sections are drawn when they
 * are chosen and looked at again every other second while they are shown and the page is visible.
 */
import { openDialog } from "../dialog.ts";
import { h, setAttributes } from "../dom.ts";
import { saveFile } from "../files.ts";
import type { Page } from "../page.ts";
import { createAuditLog } from "./audit.ts";
import { createBots } from "./bots.ts";
import { createDeadLetters } from "./dead.ts";
import { createLimits } from "./limits.ts";
import { createOverview } from "./overview.ts";
import { createTexts, whyOf, type Admin, type AdminText, type Section } from "./parts.ts";
import { createTurns } from "./turns.ts";
import { createUsage } from "./usage.ts";
import { createUsers } from "./users.ts";

/** The address of its style sheet, beside this script. Put in by build.ts. */
declare const ADMIN_STYLE: string;

const TICK_MS = 2000;

const SECTIONS = {
  overview: createOverview,
  users: createUsers,
  bots: createBots,
  turns: createTurns,
  dead: createDeadLetters,
  usage: createUsage,
  audit: createAuditLog,
  limits: createLimits,
} satisfies Partial<Record<AdminText, (admin: Admin) => Section>>;
type Name = keyof typeof SECTIONS;

const isName = (name: string | undefined): name is Name => name !== undefined && Object.hasOwn(SECTIONS, name);

/** Once per page; resolves when it holds, so that nothing is drawn without it. */
const loadStyle = (): Promise<void> =>
  new Promise((resolve, reject) => {
    if (document.querySelector("link[data-admin]")) return resolve();
    const link = h("link", { rel: "stylesheet", href: new URL(ADMIN_STYLE, import.meta.url).href, "data-admin": true });
    link.addEventListener("load", () => resolve());
    link.addEventListener("error", () => {
      link.remove();
      reject(new Error("the style sheet did not load"));
    });
    document.head.append(link);
  });

/** Opens it at `section`; `moved` is told the section that is shown, undefined when it closes. */
export const openAdmin = async (
  page: Page,
  section: string | undefined,
  moved: (section: string | undefined) => void,
): Promise<void> => {
  if (document.getElementById("admin")) return;
  await loadStyle();
  const texts = createTexts(page);
  const { t } = texts;
  const admin: Admin = {
    page,
    ...texts,
    call: async <T>(method: string, path: string, body?: unknown) => {
      try {
        return await page.api.call<T>(method, path, body);
      } catch (error) {
        page.toast(t("failed", { why: whyOf(error) }));
        return undefined;
      }
    },
    read: async <T>(path: string, again = false) => {
      if (!again) return admin.call<T>("GET", path);
      return page.api.call<T>("GET", path).catch(() => undefined);
    },
    download: (path, name) => {
      if (page.api.standalone) void saveFile(page, path, name);
      else h("a", { href: path, download: name }).click();
    },
  };

  const nav = h("nav.admin-nav", { "aria-label": t("sections") });
  const body = h("div.admin-body", { id: "admin-body" });
  const shown = new Map<Name, Section>();
  let current: Name = "overview";
  let busy = false;

  const show = (name: Name): void => {
    current = name;
    let part = shown.get(name);
    if (!part) {
      part = SECTIONS[name](admin);
      shown.set(name, part);
    }
    part.element.dataset.section = name;
    body.replaceChildren(part.element);
    body.scrollTop = 0;
    for (const one of nav.querySelectorAll("button"))
      setAttributes(one, { "aria-current": one.dataset.to === name ? "page" : undefined });
    nav.querySelector(`[data-to=${name}]`)?.scrollIntoView({ block: "nearest", inline: "nearest" });
    void part.load();
    moved(name);
  };
  for (const name of Object.keys(SECTIONS) as Name[]) {
    const tab = h("button.admin-tab", { type: "button", "data-to": name }, t(name));
    tab.addEventListener("click", () => show(name));
    nav.append(tab);
  }

  const timer = setInterval(async () => {
    const part = shown.get(current);
    // Not under an open dialog: what is being edited must not move.
    if (
      busy ||
      !part?.live ||
      document.visibilityState !== "visible" ||
      document.querySelector("dialog[open] ~ dialog[open]")
    )
      return;
    busy = true;
    try {
      await part.load(true);
    } finally {
      busy = false;
    }
  }, TICK_MS);

  openDialog(
    {
      title: t("title"),
      closeLabel: t("close"),
      name: "admin",
      onClose: () => {
        clearInterval(timer);
        moved(undefined);
      },
    },
    nav,
    body,
  );
  show(isName(section) ? section : "overview");
};
