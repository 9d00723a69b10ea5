/**
 * The start-up story of the page: what the browser remembers → the parts → the session → the conversation in the address.
 *
 * Owns the wiring between parts, addresses, loading of conversations, what counts as read, and the keys that work everywhere.
 */
import { createAddress } from "./address.ts";
import { createAdminDoor } from "./admin-door.ts";
import { createApi } from "./api.ts";
import { createBar } from "./bar.ts";
import { createComposer } from "./composer.ts";
import { createCopy } from "./copy.ts";
import { byId, h, setText } from "./dom.ts";
import { createDrawer } from "./drawer.ts";
import { createEvents } from "./events.ts";
import { createI18n } from "./i18n.ts";
import { createKeep } from "./keep.ts";
import { createLoad } from "./load.ts";
import { createLogin } from "./login.ts";
import { createNotify } from "./notify.ts";
import { createOutbox } from "./outbox.ts";
import { cleanName, type Page } from "./page.ts";
import { createPreferences } from "./preferences.ts";
import { listenForShortcuts } from "./shortcuts.ts";
import { createSidebar } from "./sidebar.ts";
import { createSignOut } from "./sign-out.ts";
import { createState } from "./state.ts";
import { createTabs } from "./tabs.ts";
import { takeAway } from "./take-away.ts";
import { createToast } from "./toast.ts";
import { createTranscript } from "./transcript.ts";
import { followViewport } from "./viewport.ts";

/** Lets the browser paint and answer between the steps of the start: together they would be one long task. */
const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

const start = async (): Promise<void> => {
  await pause();
  const root = document.documentElement;
  const keep = createKeep();
  const i18n = createI18n(root.lang === "en" ? "en" : "zh");
  const { t } = i18n;
  const state = createState();
  const api = createApi(keep, i18n.lang, () => t("networkError"));
  const toast = createToast();
  const signOut = createSignOut({ api, toast, t });

  // ── where we are ──
  const address = createAddress(api.standalone);

  const outbox = createOutbox(api, state, keep, {
    changed: (id) => {
      if (id === state.current) state.emit("thread", id ?? "");
      if (id === undefined && state.current === undefined) transcript.show();
    },
    created: (id) => {
      composer.made(id);
      // Only if the person is still where the message was written.
      if (state.current === undefined) page.go(id, { replace: true });
    },
  });

  /** What somebody wrote and did not send, when another person takes over. */
  const forget = (): void => {
    outbox.clear();
    composer.forget();
    for (const begin of ["draft.", "files."]) for (const key of keep.keys(begin)) keep.set(key, undefined);
  };

  const page: Page = {
    api,
    state,
    keep,
    i18n,
    t,
    outbox,
    toast,
    copy: createCopy(toast, t),
    announce: (text) => {
      const box = byId("announce");
      setText(box, "");
      setTimeout(() => setText(box, text), 50);
    },
    go: (id, options = {}) => {
      const moved = id !== state.current;
      if (moved || options.replace) {
        const method = options.replace ? "replaceState" : "pushState";
        history[method](null, "", address.of(id));
      }
      open(id, options.message);
    },
    signOut: async () => {
      if (!(await signOut.end())) return;
      events.stop();
      api.setToken(undefined);
      forget();
      keep.set("user", undefined);
      state.clear();
      state.user = undefined;
      state.bots = undefined;
      state.session = "out";
      history.replaceState(null, "", address.of(undefined));
      state.current = undefined;
      showView();
    },
  };

  // ── parts ──
  const composer = createComposer(page, {
    sent: (beside) => transcript.sent(beside),
    openTurn: () => transcript.openTurn(),
    lastOwn: () => transcript.lastOwn(),
    lastBot: () => transcript.lastBot(),
    picked: () => transcript.refresh(),
  });
  await pause();
  const transcript = createTranscript(page, {
    edit: composer.edit,
    quote: composer.quote,
    regenerate: composer.regenerate,
    pickBot: (id) => composer.pick(composer.chosen() === id ? undefined : id),
    chosenBot: composer.chosen,
    suggest: composer.suggest,
    reload: () => state.current && void fetchThread(state.current),
  });
  await pause();
  const notify = createNotify(page);
  const sidebar = createSidebar(page, {
    chosen: () => drawer.close(),
    wanted: () => drawer.open(),
    settings: () => void preferences.openSettings(),
  });
  const bar = createBar(page, {
    menu: () => drawer.open(),
    pickBot: (id) => composer.pick(id),
    actions: (button) => {
      const conversation = state.current ? state.conversations.get(state.current) : undefined;
      if (!conversation) return;
      sidebar.menuFor(conversation, button, takeAway(page, conversation, transcript));
    },
  });
  const chat = h("main.chat", {}, bar.element, composer.element);

  await pause();
  const login = createLogin(page, {
    signedIn: () => {
      const again = state.session === "expired";
      state.session = "in";
      showView();
      if (!again) open(address.current());
      events.start();
      outbox.flush();
    },
    setLang: (lang) => preferences.setLang(lang),
  });

  const drawer = createDrawer(sidebar.element, bar.element, chat);

  // ── conversations ──
  const load = createLoad(page, () => transcript.atEnd());
  const { markRead } = load;
  const fetchThread = async (id: string): Promise<void> => {
    await load.thread(id);
    composer.refresh();
    markRead();
  };

  const fetchFailed = (): void => {
    if (state.current !== undefined && state.threads.get(state.current)?.status === "failed")
      void fetchThread(state.current);
  };
  // The stream may have lived through what a short call did not.
  addEventListener("online", fetchFailed);

  function open(id: string | undefined, message?: string): void {
    const changed = id !== state.current;
    state.current = id;
    state.emit("current");
    if (id !== undefined && state.threads.get(id)?.status !== "ready")
      void fetchThread(id).then(() => {
        if (message && state.current === id) void transcript.jump(message);
      });
    else if (message) void Promise.resolve().then(() => transcript.jump(message));
    if (changed || message === undefined) transcript.show();
    composer.show();
    if (changed) composer.focus();
    titles();
    markRead();
  }

  const titles = (): void => {
    const conversation = state.current ? state.conversations.get(state.current) : undefined;
    notify.update(conversation?.title ?? "");
  };

  // ── the stream ──
  const events = createEvents(api, state, {
    fresh: () => {
      const user = state.user?.username;
      if (user && keep.get("user") !== undefined && keep.get("user") !== user) forget();
      keep.set("user", user);
      state.listReady = false;
      for (const id of [...state.threads.keys()]) if (id !== state.current) state.threads.delete(id);
      load.list().catch(() => {});
      const id = state.current;
      if (id !== undefined && state.threads.get(id)?.status !== "loading") void fetchThread(id);
      sidebar.show();
    },
    connected: () => {
      outbox.flush();
      fetchFailed();
    },
    stale: (ids) => {
      for (const id of ids) load.turns(id).catch(() => {}); // asked again with the next connection
    },
    received: (event) => tabs.share(event),
  });
  const tabs = createTabs(api.gateway(), {
    changed: () => events.rest(!tabs.streams()),
    heard: (event) => state.apply(event),
  });

  api.onUnauthorized(() => {
    if (signOut.ending()) return;
    events.stop();
    if (state.user) {
      if (state.session === "expired") return;
      state.session = "expired";
      login.again();
    } else if (state.session !== "out") {
      state.session = "out";
      showView();
    }
  });

  // ── what others do with changes ──
  state.on("list", () => {
    const id = state.current;
    if (id !== undefined && state.conversations.has(id) && !state.threads.has(id)) void fetchThread(id); // it is back
    titles();
    markRead();
  });
  let replying: string | undefined;
  state.on("thread", (id) => {
    if (id !== state.current) return;
    composer.refresh();
    queueMicrotask(composer.refresh); // and when it is drawn, for who answers now
    const turn = transcript.openTurn();
    if (turn && turn.turnId !== replying) {
      replying = turn.turnId;
      if (turn.botName) page.announce(t("announceReplying", { name: cleanName(turn.botName) }));
    }
  });
  state.on("finished", (message) => {
    outbox.confirm(message.clientId);
    notify.finished(message);
    if (message.conversationId !== state.current) return;
    const name = cleanName(message.botName ?? "");
    const failed = message.state === "failed";
    page.announce(t(failed ? "announceFailed" : "announceReply", { name, text: message.content.slice(0, 4000) }));
    setTimeout(composer.refresh, 0);
    markRead();
  });
  state.on("bots", () => state.emit("thread", state.current ?? ""));
  state.on("session", () => {
    sidebar.show();
    admin.asked();
  });

  // ── settings ──
  const preferences = createPreferences(page, {
    notify,
    opening: () => drawer.close(),
    admin: () => void admin.open("overview"),
    texts: () => showTexts(),
  });
  const admin = createAdminDoor(page, { addressOf: () => address.of(state.current), opening: () => drawer.close() });

  /** Texts of everything around the conversation; with `all`, of the conversation too. */
  function showTexts(all = true): void {
    if (root.dataset.view === "login") login.texts();
    sidebar.show();
    bar.show();
    drawer.scrim.setAttribute("aria-label", t("closeMenu"));
    if (!all) return;
    composer.show();
    transcript.show();
    titles();
  }

  function showView(): void {
    const inside =
      state.session === "in" ||
      state.session === "expired" ||
      (state.session === "unknown" && root.dataset.view === "chat");
    root.dataset.view = inside ? "chat" : "login";
    byId("start").hidden = true;
    byId("app").hidden = !inside;
    if (inside) login.hide();
    else login.show();
    if (inside) showTexts(false);
  }

  listenForShortcuts({
    signedOut: () => state.session === "out",
    search: () => {
      drawer.open();
      sidebar.focusSearch();
    },
    fresh: () => {
      page.go(undefined);
      composer.focus();
    },
    escape: () => {
      if (sidebar.escape()) composer.focus();
      else if (drawer.isOpen()) drawer.close();
      else return composer.escape();
      return true;
    },
  });
  addEventListener("popstate", () => open(address.current()));
  if (api.standalone)
    addEventListener("hashchange", () => address.current() !== state.current && open(address.current()));
  document.addEventListener("visibilitychange", markRead);
  addEventListener("focus", markRead);
  transcript.element
    .querySelector(".scroller")
    ?.addEventListener("scroll", () => state.current && markRead(), { passive: true });
  followViewport();

  // Shown piece by piece, each with its own style and layout: all at once is the longest task of the whole start.
  await pause();
  if (root.dataset.view === "chat") events.start();
  byId("app").append(chat);
  showView();
  await pause();
  bar.element.after(transcript.element);
  if (root.dataset.view === "chat") open(address.current());
  else state.session = "out";
  await pause();
  chat.before(sidebar.element, drawer.scrim);
  await pause();
  preferences.follow();
};

void start();
