/**
 * The list of conversations: new, search, groups by age, rename in place, pin, delete with undo.
 * Must stay true: a deletion can be undone for as long as the note shows; focus stays when the list changes under it.
 */
import type { Conversation, SearchHit } from "../lib/protocol.ts";
import type { ApiError } from "./api.ts";
import { createList, h, setAttributes, setText } from "./dom.ts";
import { picture } from "./files.ts";
import { icon, logo } from "./icons.ts";
import { openMenu } from "./menu.ts";
import { composing, type Page } from "./page.ts";
import { createSearch } from "./search.ts";
import { ageGroup } from "./thread.ts";

export type Sidebar = {
  element: HTMLElement;
  /** Texts and list again. */
  show: () => void;
  focusSearch: () => void;
  /** Escape: true when the search was open and is now closed. */
  escape: () => boolean;
  /** What can be done with a conversation, under a button. */
  menuFor: (conversation: Conversation, button: HTMLElement, extra: Parameters<typeof openMenu>[2]) => void;
};

const UNDO_MS = 6000;
/** For as long the gateway can take a deletion back. */
const KEPT_MS = 10_000;
const GROUPS = ["pinned", "today", "yesterday", "week", "month", "earlier"] as const;
type Group = (typeof GROUPS)[number];

/** `wanted`: something in the list is to be done, so it has to be seen. */
export const createSidebar = (
  page: Page,
  on: { chosen: () => void; wanted: () => void; settings: () => void },
): Sidebar => {
  const { state, t, api } = page;
  const fresh = h("button.new-chat", { type: "button" });
  const list = h("nav.conversations");
  const more = h("button.quiet.more", { type: "button", hidden: true });
  const gear = h("button.quiet.gear", { type: "button" });
  /** The group each one was in: it stays there until it has its name, because a row that is made again loses what was typed. */
  const renaming = new Map<string, Group>();
  const groupOf = (c: Conversation): Group =>
    renaming.get(c.id) ?? (c.pinned ? "pinned" : ageGroup(c.updatedAt, Date.now()));

  const search = createSearch(page, {
    choose: (hit: SearchHit) => {
      page.go(hit.conversationId, hit.messageId ? { message: hit.messageId } : {});
      on.chosen();
    },
    active: (searching) => {
      list.hidden = searching;
      more.hidden = searching || !state.listNext;
    },
  });

  const patch = (conversation: Conversation, change: Partial<Pick<Conversation, "title" | "pinned">>): void => {
    state.conversations.set(conversation.id, { ...conversation, ...change });
    state.emit("list");
    api.call("PATCH", `/api/conversations/${conversation.id}`, change).catch((error: Error) => {
      const now = state.conversations.get(conversation.id);
      if (now)
        state.conversations.set(conversation.id, { ...now, title: conversation.title, pinned: conversation.pinned });
      state.emit("list");
      page.toast(error.message);
    });
  };

  const remove = (conversation: Conversation): void => {
    state.gone.add(conversation.id);
    state.conversations.delete(conversation.id);
    state.emit("list");
    if (state.current === conversation.id) page.go(undefined);
    const until = Date.now() + KEPT_MS;
    const back = (row: Conversation): void => {
      state.gone.delete(row.id);
      state.putConversation(row);
      state.emit("list");
    };
    const undo = (): void => {
      state.gone.delete(conversation.id); // the answer may get lost where an event tells that it is back
      api.call<Conversation>("POST", `/api/conversations/${conversation.id}/restore`).then(
        (row) => {
          back(row);
          page.go(row.id);
        },
        (error: ApiError) => {
          const left = until - Date.now();
          const text = t("undoFailed", { reason: error.message });
          if (error.code === "network" && left > 0) offer(text, left);
          else page.toast(text);
        },
      );
    };
    const offer = (text: string, ms: number): void => page.toast(text, { label: t("undo"), run: undo }, ms);
    api.call("DELETE", `/api/conversations/${conversation.id}`).then(
      () => {
        state.apply({ type: "conversation_deleted", id: conversation.id });
        offer(t("deleted", { title: conversation.title || t("untitled") }), UNDO_MS);
      },
      (error: Error) => {
        back(conversation);
        page.toast(error.message);
      },
    );
  };
  const rename = (conversation: Conversation): void => {
    search.escape();
    on.wanted();
    renaming.set(conversation.id, groupOf(conversation));
    draw();
  };

  const menuFor: Sidebar["menuFor"] = (conversation, button, extra) => {
    const title = conversation.title || t("untitled");
    openMenu(button, t("actionsOf", { title }), [
      {
        label: t(conversation.pinned ? "unpin" : "pin"),
        icon: "pin",
        run: () => patch(conversation, { pinned: !conversation.pinned }),
      },
      {
        label: t("rename"),
        icon: "edit",
        run: () => rename(conversation),
      },
      ...extra,
      { label: t("delete"), icon: "trash", danger: true, run: () => remove(conversation) },
    ]);
  };

  const makeRow = (first: Conversation): { element: HTMLElement; update: (c: Conversation) => void } => {
    let conversation = first;
    const title = h("span.row-title", { dir: "auto" });
    const badge = h("span.badge", { hidden: true });
    const link = h("a.row-link", {}, title, badge);
    const menu = h(
      "button.icon.row-menu",
      { type: "button", "aria-haspopup": "menu", "aria-expanded": "false" },
      icon("more"),
    );
    const element = h("div.row", { "data-id": first.id }, link, menu);
    let input: HTMLInputElement | undefined;

    /** `stay`: ended by a key, so the focus has nowhere else to be. */
    const endRename = (save: boolean, stay: boolean): void => {
      if (!input) return;
      const next = input.value.trim();
      const field = input;
      input = undefined;
      renaming.delete(conversation.id);
      field.replaceWith(link);
      if (stay) link.focus();
      const changed = next !== "" && next !== conversation.title && state.conversations.has(conversation.id);
      if (save && changed) patch(conversation, { title: next.slice(0, 200) });
      else draw();
    };
    const startRename = (): void => {
      input = h("input.rename", { value: conversation.title, "aria-label": t("renameLabel"), maxlength: 200 });
      input.addEventListener("keydown", (event) => {
        if (composing(event)) return;
        if (event.key === "Enter") endRename(true, true);
        else if (event.key === "Escape") endRename(false, true);
        else return;
        event.preventDefault();
        event.stopPropagation();
      });
      input.addEventListener("blur", () => endRename(true, false));
      link.replaceWith(input);
      input.focus();
      input.select();
    };

    link.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return; // a tab of its own
      event.preventDefault();
      page.go(conversation.id);
      on.chosen();
    });
    link.addEventListener("dblclick", () => rename(conversation));
    menu.addEventListener("click", () => menuFor(conversation, menu, []));

    const update = (next: Conversation): void => {
      conversation = next;
      const shown = next.title || t("untitled");
      setText(title, shown);
      const unread = next.unread > 0 && next.id !== state.current;
      badge.hidden = !unread;
      setText(badge, next.unread > 99 ? "99+" : String(next.unread));
      setAttributes(link, {
        href: api.standalone ? `#/c/${next.id}` : `/c/${next.id}`,
        "aria-current": next.id === state.current ? "page" : undefined,
        title: shown,
      });
      setAttributes(menu, { "aria-label": t("actionsOf", { title: shown }) });
      if (renaming.has(next.id) && !input) startRename();
    };
    update(first);
    return { element, update };
  };

  const makeGroup = (name: Group): { element: HTMLElement; update: (rows: Conversation[]) => void } => {
    const heading = h("h2");
    const rows = h("div");
    const element = h("section.group", {}, heading, rows);
    const apply = createList<Conversation>(rows, (c) => c.id, makeRow);
    return {
      element,
      update: (conversations) => {
        setText(heading, t(name));
        apply(conversations);
      },
    };
  };
  const groups = new Map(GROUPS.map((name) => [name, makeGroup(name)]));
  for (const group of groups.values()) list.append(group.element);

  const rowsNow = (): HTMLElement[] => [...list.querySelectorAll<HTMLElement>(".row")];

  function draw(): void {
    const held = document.activeElement?.closest<HTMLElement>(".row");
    const place = held ? rowsNow().indexOf(held) : -1;
    const sorted = [...state.conversations.values()].sort((a, b) => b.updatedAt - a.updatedAt);
    for (const name of GROUPS) {
      const rows = sorted.filter((c) => groupOf(c) === name);
      const group = groups.get(name)!;
      group.update(rows);
      group.element.hidden = rows.length === 0;
    }
    more.hidden = !state.listNext || list.hidden;
    setText(more, t("loadMore"));
    if (!held || place < 0 || held.isConnected) return;
    // It went, or to another group: the focus goes with it, or to what stands in its place.
    const rows = rowsNow();
    const row = rows.find((one) => one.dataset.id === held.dataset.id) ?? rows[place] ?? rows.at(-1);
    (row?.querySelector("a") ?? fresh).focus();
  }

  more.addEventListener("click", () => {
    const before = state.listNext;
    if (!before) return;
    more.disabled = true;
    api
      .call<{ conversations: Conversation[]; next?: string }>(
        "GET",
        `/api/conversations?limit=50&before=${encodeURIComponent(before)}`,
      )
      .then((answer) => {
        state.listNext = answer.next;
        for (const conversation of answer.conversations) state.putConversation(conversation);
        state.emit("list");
      })
      .catch((error: Error) => page.toast(error.message))
      .finally(() => {
        more.disabled = false;
      });
  });
  fresh.addEventListener("click", () => {
    page.go(undefined);
    on.chosen();
  });
  gear.addEventListener("click", on.settings);

  const element = h(
    "aside.sidebar",
    { id: "sidebar" },
    h("div.brand", {}, logo(), h("span.wordmark", {}, "Nexus")),
    fresh,
    search.field,
    h("div.side-scroll", {}, search.results, list, more),
    gear,
  );
  state.on("list", draw);
  state.on("current", draw);
  // Groups move at midnight.
  setInterval(draw, 600_000);

  return {
    element,
    menuFor,
    focusSearch: search.focus,
    escape: search.escape,
    show: () => {
      const mac = /Mac|iPhone|iPad/.test(navigator.platform);
      fresh.replaceChildren(h("span", {}, t("newChat")), h("kbd", { "aria-hidden": "true" }, mac ? "⌘J" : "Ctrl J"));
      list.setAttribute("aria-label", t("conversations"));
      const { user } = state;
      const face = user?.avatar ? picture(page, user.avatar, "", 24, 24) : undefined;
      face?.removeAttribute("data-act");
      gear.replaceChildren(
        face ?? icon("gear"),
        h("span.gear-name", { dir: "auto" }, user?.displayName ?? t("settings")),
        face ? icon("gear") : "",
      );
      setAttributes(gear, { "aria-label": `${state.user ? `${state.user.displayName} ` : ""}${t("settings")}` });
      search.show();
      draw();
    },
  };
};
