/**
 * The list of bots that opens on `@` while typing, and on the bot button of the composer.
 *
 * A listbox driven by the text field through aria-activedescendant: focus never leaves the field. Must stay true: what
 * Enter takes is the highlighted row of the filtered list, and an offline bot cannot be taken.
 */
import type { BotInfo } from "../lib/protocol.ts";
import { h, setAttributes } from "./dom.ts";
import { CJK_CHAR } from "./markdown/script.ts";
import { cleanName, composing, hueOf, sealOf, type Page } from "./page.ts";

export type Mention = {
  element: HTMLElement;
  /** Looks at the text before the caret. */
  check: () => void;
  /** Handles a key; true: it was for the list. */
  key: (event: KeyboardEvent) => boolean;
  /** A mention just before the caret goes as one piece; true when there was one. */
  erase: () => boolean;
  /** Opens the whole list to choose who answers. */
  choose: () => void;
  close: () => void;
  isOpen: () => boolean;
};

type Row = { id: string; label: string; note: string; online: boolean };

/** How a bot is written in a message so that the gateway finds it: its name when that is one unambiguous word. */
export const mentionOf = (bot: BotInfo, bots: readonly BotInfo[]): string => {
  const word = !/[\s@]/.test(bot.name) && bot.name.length > 0;
  const unique = bots.filter(
    (b) => b.name.toLowerCase() === bot.name.toLowerCase() || b.id.toLowerCase() === bot.name.toLowerCase(),
  );
  return word && unique.length === 1 ? bot.name : bot.id;
};

/** The `@word` that ends at the caret and may be a mention: at the start, after a space or after CJK; never in code. */
export const mentionAt = (before: string): { start: number; query: string } | undefined => {
  const found = /@([^\s@]{0,64})$/.exec(before);
  if (!found) return undefined;
  const previous = before[found.index - 1];
  if (previous !== undefined && !/\s/.test(previous) && !CJK_CHAR.test(previous)) return undefined;
  if ((before.match(/`/g)?.length ?? 0) % 2 === 1) return undefined;
  return { start: found.index, query: found[1]! };
};

export const createMention = (
  page: Page,
  field: HTMLTextAreaElement,
  on: { insert: (start: number, end: number, text: string) => void; pick: (botId: string | undefined) => void },
): Mention => {
  const element = h("div.mentions", { id: "mentions", role: "listbox", hidden: true });
  let rows: Row[] = [];
  let active = 0;
  let mode: "mention" | "choose" = "mention";
  let dismissed = -1;
  /** Bots seen in this session that left: shown, but not to be taken. */
  const seen = new Map<string, BotInfo>();

  const isOpen = (): boolean => !element.hidden;
  const close = (): void => {
    element.hidden = true;
    setAttributes(field, { "aria-expanded": "false", "aria-activedescendant": undefined });
  };

  const collect = (query: string): Row[] => {
    const online = page.state.bots ?? [];
    for (const bot of online) seen.set(bot.id, bot);
    const ids = new Set(online.map((bot) => bot.id));
    const all = [...online, ...[...seen.values()].filter((bot) => !ids.has(bot.id))];
    const wanted = query.toLowerCase();
    return all
      .filter((bot) => bot.id.toLowerCase().includes(wanted) || bot.name.toLowerCase().includes(wanted))
      .map((bot) => ({
        id: bot.id,
        label: cleanName(bot.name),
        note: ids.has(bot.id) ? (bot.busy ? page.t("busy") : `@${bot.id}`) : page.t("offlineBot"),
        online: ids.has(bot.id),
      }));
  };

  const draw = (): void => {
    element.setAttribute("aria-label", page.t(mode === "mention" ? "mentionList" : "pickBot"));
    element.replaceChildren(
      ...rows.map((row, i) =>
        h(
          "div.mention-row",
          {
            id: `mention-${i}`,
            role: "option",
            "aria-selected": String(i === active),
            "aria-disabled": row.online ? undefined : "true",
            "data-index": i,
          },
          row.id
            ? h("span.seal.small", { "data-hue": hueOf(row.id), "aria-hidden": "true" }, sealOf(row.label))
            : h("span.seal.small.auto", { "aria-hidden": "true" }, "∞"),
          h("span.mention-name", { dir: "auto" }, row.label),
          h("span.meta", {}, row.note),
        ),
      ),
    );
    if (rows.length === 0)
      element.append(h("div.mention-none", { role: "option", "aria-disabled": "true" }, page.t("mentionNone")));
    element.hidden = false;
    const current = rows[active];
    setAttributes(field, {
      "aria-expanded": "true",
      "aria-activedescendant": current ? `mention-${active}` : undefined,
    });
    element.children[active]?.scrollIntoView?.({ block: "nearest" });
  };

  const firstOnline = (): number =>
    Math.max(
      0,
      rows.findIndex((row) => row.online),
    );

  const take = (index: number): void => {
    const row = rows[index];
    if (!row?.online) return;
    if (mode === "choose") on.pick(row.id || undefined);
    else {
      const bots = page.state.bots ?? [];
      const bot = bots.find((b) => b.id === row.id);
      const at = mentionAt(field.value.slice(0, field.selectionStart));
      if (bot && at) on.insert(at.start, field.selectionStart, `@${mentionOf(bot, bots)} `);
    }
    close();
  };

  const move = (by: number): void => {
    if (rows.length === 0) return;
    active = (active + by + rows.length) % rows.length;
    draw();
  };

  // The pointer must not take the focus from the field.
  element.addEventListener("pointerdown", (event) => event.preventDefault());
  element.addEventListener("click", (event) => {
    const row = (event.target as Element).closest<HTMLElement>("[data-index]");
    if (row) take(Number(row.dataset.index));
    field.focus();
  });
  page.state.on("bots", () => {
    if (!isOpen()) return;
    if (mode === "mention") check();
    else openChoice();
  });

  function check(): void {
    if (mode === "choose" && isOpen()) close();
    const at =
      field.selectionStart === field.selectionEnd ? mentionAt(field.value.slice(0, field.selectionStart)) : undefined;
    if (!at || dismissed === at.start) {
      if (!at) dismissed = -1;
      close();
      return;
    }
    mode = "mention";
    const held = rows[active]?.id;
    const wasOpen = isOpen();
    rows = collect(at.query);
    const kept = rows.findIndex((row) => row.id === held);
    active = wasOpen && kept >= 0 ? kept : firstOnline();
    if (rows.length === 0 && at.query.length > 12) close();
    else draw();
  }

  function openChoice(): void {
    mode = "choose";
    rows = [{ id: "", label: page.t("auto"), note: page.t("autoHint"), online: true }, ...collect("")];
    active = Math.min(active, rows.length - 1);
    draw();
  }

  return {
    element,
    check,
    isOpen,
    close,
    erase: () => {
      const at = field.selectionStart;
      if (at !== field.selectionEnd) return false;
      const before = field.value.slice(0, at);
      const found = mentionAt(before.endsWith(" ") ? before.slice(0, -1) : before);
      if (!found?.query) return false;
      const said = found.query.toLowerCase();
      if (!page.state.bots?.some((b) => b.id.toLowerCase() === said || b.name.toLowerCase() === said)) return false;
      on.insert(found.start, at, "");
      return true;
    },
    choose: () => {
      active = 0;
      openChoice();
      field.focus();
    },
    key: (event) => {
      if (!isOpen() || composing(event)) return false;
      if (event.key === "ArrowDown") move(1);
      else if (event.key === "ArrowUp") move(-1);
      else if (event.key === "Escape") {
        dismissed = mentionAt(field.value.slice(0, field.selectionStart))?.start ?? -1;
        close();
      } else if (
        (event.key === "Enter" || event.key === "Tab") &&
        !event.shiftKey &&
        !event.ctrlKey &&
        !event.metaKey
      ) {
        if (rows.length === 0) {
          close();
          return false;
        }
        take(active);
      } else return false;
      event.preventDefault();
      event.stopPropagation();
      return true;
    },
  };
};
