/**
 * The list of conversations: new, search, groups by age, rename in place, pin, delete with undo.
 * Must stay true: a deletion can be undone for as long as the note shows; focus stays when the list changes under it.
 */
import type { Conversation, SearchHit } from "../lib/protocol.ts";
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
const GROUPS = ["pinned", "today", "yesterday", "week", "month", "earlier"] as const;

export const createSidebar = (page: Page, on: { chosen: () => void; settings: () => void }): Sidebar => {
  const { state, t, api } = page;
  const fresh = h("button.new-chat", { type: "button" });
  const list = h("nav.conversations");
  const more = h("button.quiet.more", { type: "button", hidden: true });
  const gear = h("button.quiet.gear", { type: "button" });
  const renaming = new Set<string>();

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
    const restore = (): void => {
      state.gone.delete(conversation.id);
      state.conversations.set(conversation.id, conversation);
      state.emit("list");
    };
    api
      .call("DELETE", `/api/conversations/${conversation.id}`)
      .then(() =>
        page.toast(
          t("deleted", { title: conversation.title || t("untitled") }),
          {
            label: t("undo"),
            run: () => {
              restore();
              api.call("POST", `/api/conversations/${conversation.id}/restore`).then(
                () => page.go(conversation.id),
                (error: Error) => page.toast(error.message),
              );
            },
          },
          UNDO_MS,
        ),
      )
      .catch((error: Error) => {
        restore();
        page.toast(error.message);
      });
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
        run: () => {
          renaming.add(conversation.id);
          draw();
        },
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
    const element = h("div.row", {}, link, menu);
    let input: HTMLInputElement | undefined;

    const endRename = (save: boolean): void => {
      if (!input) return;
      const next = input.value.trim();
      const field = input;
      input = undefined;
      renaming.delete(conversation.id);
      field.replaceWith(link);
      if (save && next && next !== conversation.title) patch(conversation, { title: next.slice(0, 200) });
      link.focus();
    };
    const startRename = (): void => {
      input = h("input.rename", { value: conversation.title, "aria-label": t("renameLabel"), maxlength: 200 });
      input.addEventListener("keydown", (event) => {
        if (composing(event)) return;
        if (event.key === "Enter") endRename(true);
        else if (event.key === "Escape") endRename(false);
        else return;
        event.preventDefault();
        event.stopPropagation();
      });
      input.addEventListener("blur", () => endRename(true));
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
    link.addEventListener("dblclick", () => {
      renaming.add(conversation.id);
      draw();
    });
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

  const makeGroup = (
    name: (typeof GROUPS)[number],
  ): { element: HTMLElement; update: (rows: Conversation[]) => void } => {
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

  function draw(): void {
    const now = Date.now();
    const sorted = [...state.conversations.values()].sort((a, b) => b.updatedAt - a.updatedAt);
    for (const name of GROUPS) {
      const rows = sorted.filter((c) => (c.pinned ? "pinned" : ageGroup(c.updatedAt, now)) === name);
      const group = groups.get(name)!;
      group.update(rows);
      group.element.hidden = rows.length === 0;
    }
    more.hidden = !state.listNext || list.hidden;
    setText(more, t("loadMore"));
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
