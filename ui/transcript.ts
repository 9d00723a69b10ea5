/**
 * The open conversation: its messages, what streams into them, older pages, and the buttons under each message.
 *
 * Must stay true: text is drawn at most once per frame and in slices, however much arrives; elements are reused by key, so a
 * message never vanishes or doubles when its stored form replaces the local one.
 */
import type { Message } from "../lib/protocol.ts";
import { contentAction } from "./content.ts";
import { createList, h, setText } from "./dom.ts";
import { createEmpty } from "./empty.ts";
import { createFollow } from "./follow.ts";
import { createFrames } from "./frames.ts";
import { icon } from "./icons.ts";
import { asMarkdown, collectItems, questionOf } from "./items.ts";
import { createJump } from "./jump.ts";
import { createMessageView, type Item, type MessageView, type RendererMaker } from "./message.ts";
import { createOlder } from "./older.ts";
import type { Page } from "./page.ts";
import { createPaint } from "./paint.ts";
import type { Thread, Turn } from "./state.ts";

export type Transcript = {
  element: HTMLElement;
  /** Everything again, for another conversation or language. */
  show: () => void;
  /** The reader sent something: hold the end. `beside`: of a version, the parent it shares with the others ("": none). */
  sent: (beside?: string) => void;
  /** Brings a message into view and flashes it; loads older pages until it is there. */
  jump: (messageId: string) => Promise<void>;
  /** The turn that stop would stop. */
  openTurn: () => Turn | undefined;
  /** Who answered last: who answers next when nobody else is named. */
  lastBot: () => string | undefined;
  /** The newest message of the person, to recall it. */
  lastOwn: () => Message | undefined;
  /** The whole conversation as Markdown, for copying; undefined when earlier pages are not here. */
  text: () => string | undefined;
  /** Something it shows changed elsewhere. */
  refresh: () => void;
  atEnd: () => boolean;
};

export type TranscriptActions = {
  edit: (message: Message) => void;
  quote: (message: Message) => void;
  regenerate: (question: Message) => void;
  pickBot: (botId: string) => void;
  chosenBot: () => string | undefined;
  suggest: (text: string) => void;
  /** Fetches a conversation again that could not be had. */
  reload: () => void;
};

const FRAME_MS = 9;
const NEAR_TOP_PX = 600;
const PAGE = 50;

export const createTranscript = (page: Page, actions: TranscriptActions): Transcript => {
  const { state, t } = page;
  const paint = createPaint();
  const older = h("button.quiet.older", { type: "button", hidden: true });
  const list = h("div.messages");
  const noteText = h("span");
  const again = h("button.quiet", { type: "button", hidden: true });
  const note = h("p.note", { hidden: true }, noteText, " ", again);
  const empty = createEmpty(page, actions);
  const column = h("div.column", {}, older, list, note, empty.element);
  const scroller = h("div.scroller", { tabindex: 0, role: "log", "aria-live": "off" }, column);
  const latestText = h("span");
  const latest = h("button.latest", { type: "button", hidden: true }, icon("down"), latestText);
  const element = h("div.transcript", {}, scroller, latest);

  const views = new Map<string, { view: MessageView; item: Item }>();
  const active = new Set<string>();
  const dirty = new Set<string>();
  let items: Item[] = [];
  let maker: RendererMaker | undefined;
  let drawing = false;
  let fresh = 0;
  let askedAt = "";

  const updateLatest = (): void => {
    if (follow.pinned()) fresh = 0;
    latest.hidden = follow.pinned() || items.length === 0;
    setText(latestText, fresh > 0 ? t("latestCount", { n: fresh }) : t("latest"));
  };
  const follow = createFollow(scroller, column, () => updateLatest());

  const frame = (now: number): void => {
    const begin = performance.now();
    for (const key of dirty) {
      const entry = views.get(key);
      entry?.view.update(entry.item);
    }
    dirty.clear();
    // The newest first: that is what the reader looks at.
    for (const key of [...active].reverse()) {
      const entry = views.get(key);
      if (!entry?.view.render(now)) active.delete(key);
      if (performance.now() - begin > FRAME_MS) break;
    }
    if (items.length) follow.stick();
    if (active.size) schedule();
  };
  const schedule = createFrames(frame);

  const apply = createList<Item>(
    list,
    (item) => item.key,
    (item) => {
      const view = createMessageView(page, item.message.role, () => maker, paint.settled);
      views.set(item.key, { view, item });
      view.update(item);
      active.add(item.key);
      return {
        element: view.element,
        update: (next) => {
          views.set(next.key, { view, item: next });
          view.update(next);
          active.add(next.key);
        },
      };
    },
  );

  let asked = false;
  const loadMaker = (): void => {
    asked = true;
    import("./markdown/stream.ts").then(
      (module) => {
        maker = module.createRenderer;
        for (const key of views.keys()) active.add(key);
        schedule();
      },
      () => setTimeout(loadMaker, 2000), // the network is away
    );
  };
  /** Its rules take a slow phone a tenth of a second: not before there is something to draw, or a quiet moment. */
  const wantMaker = (): void => {
    if (!asked) loadMaker();
  };
  setTimeout(wantMaker, 8000);

  const thread = (): Thread | undefined => (state.current ? state.threads.get(state.current) : undefined);

  const draw = (): void => {
    drawing = false;
    const current = thread();
    const before = items.length;
    items = collectItems(page);
    if (state.current !== undefined || items.length) wantMaker();
    const keys = new Set(items.map((item) => item.key));
    for (const key of views.keys()) if (!keys.has(key)) views.delete(key);
    apply(items);
    const ready = current?.status === "ready" || state.current === undefined;
    empty.element.hidden = !(ready && items.length === 0);
    if (!empty.element.hidden) empty.draw(state.current === undefined);
    note.hidden = ready || (current?.status === "loading" && items.length > 0);
    const failed = current?.status === "failed";
    setText(noteText, current?.status === "missing" ? t("notFound") : failed ? t("loadFailed") : t("loading"));
    setText(again, t("retry"));
    again.hidden = !failed;
    older.hidden = !current?.next;
    setText(older, t("older"));
    scroller.setAttribute("aria-label", t("transcript"));
    // An answer that ends gets its row of buttons: the end is held at once, not only with the next drawing.
    if (items.length && items.length === before) follow.stick();
    schedule();
    updateLatest();
  };
  const redraw = (): void => {
    if (drawing) return;
    drawing = true;
    queueMicrotask(draw);
  };

  const loadOlder = createOlder(
    page,
    (id, merge) => {
      const firstInView = (): Element | undefined => {
        const top = scroller.getBoundingClientRect().top;
        return [...list.children].find((child) => child.getBoundingClientRect().bottom > top + 1);
      };
      follow.keep(firstInView, () => {
        merge();
        if (state.current !== id) return;
        draw();
        // Drawn at once, so that the heights above are final before the place is restored.
        for (const key of active) for (let i = 0; i < 50 && views.get(key)?.view.render(performance.now()); i++);
      });
    },
    () => maybeOlder(),
  );

  /** Loads the page before when the reader comes near the first message. */
  const maybeOlder = (): void => {
    if (thread()?.status === "ready" && thread()?.next && scroller.scrollTop < NEAR_TOP_PX) void loadOlder(PAGE);
  };
  scroller.addEventListener("scroll", maybeOlder, { passive: true });
  older.addEventListener("click", () => void loadOlder(PAGE));
  again.addEventListener("click", actions.reload);
  latest.addEventListener("click", () => {
    follow.pin();
    updateLatest();
  });

  /** Room for the answer under the question just sent, so the question stays near the top while the answer fills it. */
  const reserve = (): void => {
    const last = list.lastElementChild as HTMLElement | null;
    if (!last) return;
    list.classList.remove("reserving");
    const asked = last.offsetHeight;
    list.classList.add("reserving");
    // With the answer there (and its margin) it is exactly as high as before it came, so nothing moves then.
    scroller.style.setProperty("--view", `${Math.max(0, scroller.clientHeight - 36)}px`);
    scroller.style.setProperty("--asked", `${asked + 26}px`);
    follow.pin();
  };

  /** What a bot still writes is not waited for: it stands below, and takes its time. */
  const drawingStored = (): boolean => !maker || [...active].some((key) => !views.get(key)?.item.turn);

  const jump = createJump(
    page,
    thread,
    () => loadOlder(200),
    (messageId) => {
      draw();
      // Of the message itself: a quote of it carries its id too.
      const found = list.querySelector(`.msg[data-id="${CSS.escape(messageId)}"]`);
      if (!found) return;
      follow.aim(found, drawingStored);
      found.classList.remove("flash");
      void found.clientWidth;
      found.classList.add("flash");
    },
  );

  const turnVersion = (item: Item, by: number): void => {
    const versions = item.versions ?? item.answerVersions;
    const own = item.message.role === "user" ? item.message : questionOf(items, thread(), item.message);
    const next = versions?.ids[versions.index + by];
    if (!versions || !own || !next) return;
    thread()?.choice.set(own.parentId ?? "", next);
    follow.aim(undefined, drawingStored);
    draw();
  };

  const act = (name: string, button: HTMLElement): void => {
    const article = button.closest<HTMLElement>(".msg");
    const item = items.find((i) => i.message.id === article?.dataset.id);
    contentAction(page, name, button);
    if (name === "jump") void jump(button.dataset.id ?? "");
    if (!item) return;
    if (name === "copy") void page.copy(item.turn?.text ?? item.message.content);
    else if (name === "edit") actions.edit(item.message);
    else if (name === "quote") actions.quote(item.message);
    else if (name === "regenerate") {
      const question = questionOf(items, thread(), item.message);
      if (question) actions.regenerate(question);
    } else if (name === "retry-send" && item.unsent) page.outbox.retry(item.unsent.clientId);
    else if (name === "discard" && item.unsent) page.outbox.discard(item.unsent.clientId);
    else if (name === "version-prev") turnVersion(item, -1);
    else if (name === "version-next") turnVersion(item, 1);
  };

  column.addEventListener("click", (event) => {
    const button = (event.target as Element).closest<HTMLElement>("[data-act]");
    if (!button) return;
    if (button.tagName === "A") event.preventDefault();
    act(button.dataset.act!, button);
  });

  setInterval(() => {
    const now = Date.now();
    for (const item of items) if (item.turn) views.get(item.key)?.view.tick(now);
  }, 1000);

  state.on("thread", (id) => id === state.current && redraw());
  state.on("current", redraw);
  state.on("bots", () => !empty.element.hidden && redraw());
  state.on("turn", (turn) => {
    if (turn.conversationId !== state.current) return;
    const found = items.find((item) => item.turn === turn);
    const entry = found && views.get(found.key);
    if (!found || !entry) {
      redraw();
      return;
    }
    dirty.add(found.key);
    active.add(found.key);
    schedule();
  });
  state.on("finished", (message) => {
    if (message.conversationId !== state.current || follow.pinned()) return;
    fresh++;
    updateLatest();
  });

  return {
    element,
    show: () => {
      const id = state.current ?? "";
      if (askedAt !== id) {
        askedAt = id;
        list.classList.remove("reserving");
        follow.hold();
      }
      draw();
      if (items.length) follow.stick();
    },
    sent: (beside) => {
      // What is sent follows the newest branch, so that one is shown again; a version is the newest where it is.
      if (beside === undefined) thread()?.choice.clear();
      else thread()?.choice.delete(beside);
      draw();
      reserve();
    },
    jump,
    openTurn: () =>
      // From the state itself: whoever asks on a change must not depend on the drawing, which comes a moment later.
      [...state.turns.values()].filter((turn) => turn.conversationId === state.current && !turn.stopped).at(-1),
    lastBot: () => items.filter((item) => item.message.role === "bot").at(-1)?.message.botId,
    lastOwn: () => items.filter((item) => item.message.role === "user" && !item.unsent).at(-1)?.message,
    refresh: redraw,
    text: () => (thread()?.next ? undefined : asMarkdown(items, t("you"))),
    atEnd: () => follow.pinned(),
  };
};
