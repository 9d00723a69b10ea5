/**
 * Where a message is written: text, pictures, who it is for, what it quotes or replaces; send and stop.
 *
 * Must stay true: Enter while an input method composes never sends; nothing empty is sent; the draft of every conversation
 * survives reload, switching, a lost session and a refused send.
 */
import type { Message } from "../lib/protocol.ts";
import { createChosen } from "./chosen.ts";
import { h, setAttributes } from "./dom.ts";
import { createGrow } from "./grow.ts";
import { icon } from "./icons.ts";
import { createImages } from "./images.ts";
import { createIncoming } from "./incoming.ts";
import { createMention } from "./mention.ts";
import { createNotice } from "./notice.ts";
import { composing, isTouch, type Page } from "./page.ts";
import type { Turn } from "./state.ts";

export type Composer = {
  element: HTMLElement;
  /** Perhaps another conversation is open, or the language changed. What is written stays while it is the same one. */
  show: () => void;
  /** The new conversation that was written in has this id now; what is being written meanwhile goes with it. */
  made: (id: string) => void;
  /** Stop or send, by what is going on. */
  refresh: () => void;
  focus: () => void;
  edit: (message: Message) => void;
  quote: (message: Message) => void;
  pick: (botId: string | undefined) => void;
  /** Who was chosen here to answer. */
  chosen: () => string | undefined;
  /** Another person takes over. */
  forget: () => void;
  suggest: (text: string) => void;
  /** Sends a question again. */
  regenerate: (question: Message) => void;
  stop: () => void;
  /** Escape pressed somewhere: true when something here was closed. */
  escape: () => boolean;
};

export type ComposerNeeds = {
  sent: (beside?: string) => void;
  openTurn: () => Turn | undefined;
  lastOwn: () => Message | undefined;
  lastBot: () => string | undefined;
  /** Another bot was chosen. */
  picked: () => void;
};

export const createComposer = (page: Page, needs: ComposerNeeds): Composer => {
  const { state, t, keep } = page;
  const field = h("textarea", {
    rows: 1,
    id: "composer",
    role: "combobox",
    "aria-autocomplete": "list",
    "aria-haspopup": "listbox",
    "aria-controls": "mentions",
    "aria-expanded": "false",
    enterkeyhint: "enter",
    maxlength: 100_000,
  });
  const picker = h("input", { type: "file", accept: "image/*", multiple: true, hidden: true, tabindex: -1 });
  const add = h("button.icon.add", { type: "button" }, icon("plus"));
  const chosen = createChosen(page, needs.lastBot);
  const send = h("button.send", { type: "submit" }, icon("send"));

  let replyTo: Message | undefined;
  let editing: Message | undefined;
  let sendWhenReady = false;
  /** Whose draft is in the field. */
  let shown: string | undefined;
  const here = (): string => state.current ?? "new";

  const notice = createNotice(page, () => cancelNotice());
  const images = createImages(page, () => {
    refresh();
    if (sendWhenReady) submit();
  });
  const mention = createMention(page, field, {
    insert: (start, end, text) => {
      field.setRangeText(text, start, end, "end");
      changed();
    },
    pick: (botId) => pick(botId),
  });
  const box = h(
    "form.box",
    {},
    notice.element,
    images.element,
    field,
    h("div.tools", {}, add, picker, chosen.button, h("span.grow"), send),
  );
  const element = h("footer.composer", {}, mention.element, box);

  const grow = createGrow(field);
  const saveDraft = (): void => {
    if (!editing) keep.set(`draft.${here()}`, field.value.trim() ? field.value : undefined);
  };
  const setValue = (text: string): void => {
    field.value = text;
    field.setSelectionRange(text.length, text.length);
    changed();
  };

  function changed(): void {
    grow();
    saveDraft();
    refresh();
    mention.check();
  }

  function pick(botId: string | undefined): void {
    chosen.choose(botId);
    refresh();
    needs.picked();
    if (!isTouch()) field.focus();
  }

  const drawNotice = (): void => notice.draw(editing, replyTo);
  function cancelNotice(): void {
    const wasEditing = editing !== undefined;
    editing = undefined;
    replyTo = undefined;
    drawNotice();
    if (wasEditing) {
      images.show(here());
      setValue(keep.get(`draft.${here()}`) ?? "");
    }
    field.focus();
  }

  const ready = (): boolean => field.value.trim() !== "" || images.count() > 0;

  function refresh(): void {
    const turn = needs.openTurn();
    const stopping = turn !== undefined && !ready();
    setAttributes(send, {
      "data-mode": stopping ? "stop" : "send",
      "aria-label": t(stopping ? "stop" : "send"),
      title: t(stopping ? "stop" : "send"),
      disabled: !stopping && (!ready() || sendWhenReady),
      "aria-busy": sendWhenReady ? "true" : undefined,
    });
    if (send.dataset.shown !== String(stopping)) {
      send.dataset.shown = String(stopping);
      send.replaceChildren(icon(stopping ? "stop" : "send"));
    }
    chosen.draw();
  }

  /** Whoever is named at the very beginning comes before who was chosen. */
  const aimed = (content: string, botId: string | undefined): { target?: string } =>
    botId && !/^@\S/.test(content) ? { target: botId } : {};

  /** Sends what is written. Returns without doing anything when there is nothing. */
  function submit(): void {
    const content = field.value.trim();
    if (!ready()) {
      sendWhenReady = false;
      return;
    }
    const files = images.take();
    if (files === "wait") {
      sendWhenReady = true;
      refresh();
      return;
    }
    sendWhenReady = false;
    if (files === "failed") {
      page.toast(t("imageFailed"));
      return;
    }
    const quoted = replyTo?.id ?? editing?.replyTo;
    const entry = {
      conversationId: state.current,
      content,
      attachments: files,
      ...aimed(content, chosen.here()),
      ...(quoted ? { replyTo: quoted } : {}),
      ...(editing ? { replaces: editing.id } : {}),
      ...(editing?.parentId ? { parentId: editing.parentId } : {}),
    };
    images.clear();
    if (editing) images.show(here());
    else keep.set(`draft.${here()}`, undefined);
    const draft = editing ? (keep.get(`draft.${here()}`) ?? "") : "";
    editing = undefined;
    replyTo = undefined;
    field.value = draft;
    incoming.offer.hidden = true;
    drawNotice();
    changed();
    page.outbox.send(entry);
    needs.sent(entry.replaces && (entry.parentId ?? ""));
  }

  const stop = (): void => {
    const turn = needs.openTurn();
    if (!turn) return;
    turn.stopped = true;
    state.emit("thread", turn.conversationId);
    page.api.call("POST", `/api/turns/${turn.turnId}/cancel`).catch(() => {
      // Not reached: it goes on, so show that it does.
      turn.stopped = false;
      state.emit("thread", turn.conversationId);
    });
  };

  field.addEventListener("keydown", (event) => {
    if (composing(event) || mention.key(event)) return;
    if (event.key === "Backspace" && !event.ctrlKey && !event.metaKey && mention.erase()) event.preventDefault();
    else if (event.key === "ArrowUp" && field.value === "" && !event.shiftKey) {
      const last = needs.lastOwn();
      if (!last?.content) return;
      event.preventDefault();
      setValue(last.content);
    } else if (event.key === "Enter") {
      const strong = event.ctrlKey || event.metaKey;
      const byEnter = !event.shiftKey && !event.altKey && !isTouch() && keep.get("sendKey") !== "ctrl";
      if (!strong && !byEnter) return;
      event.preventDefault();
      submit();
    }
  });
  field.addEventListener("input", changed);
  field.addEventListener("click", () => mention.check());
  field.addEventListener("blur", () => setTimeout(() => document.activeElement !== field && mention.close(), 150));
  box.addEventListener("submit", (event) => {
    event.preventDefault();
    if (send.dataset.mode === "stop") stop();
    else submit();
    if (!isTouch()) field.focus();
  });
  add.addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => {
    images.add([...(picker.files ?? [])]);
    picker.value = "";
    if (!isTouch()) field.focus();
  });
  chosen.button.addEventListener("pointerdown", (event) => event.preventDefault());
  chosen.button.addEventListener("click", () => (mention.isOpen() ? mention.close() : mention.choose()));
  box.addEventListener("click", (event) => event.target === box && field.focus());

  const incoming = createIncoming(page, field, images.add, changed);
  box.prepend(notice.element, incoming.offer);
  element.append(incoming.drop);
  state.on("bots", refresh);
  state.on("list", refresh);

  return {
    element,
    show: () => {
      setAttributes(field, { "aria-label": t("composer"), placeholder: t("placeholder") });
      setAttributes(add, { "aria-label": t("addImage"), title: t("addImage") });
      if (shown !== here()) {
        shown = here();
        editing = undefined;
        replyTo = undefined;
        sendWhenReady = false; // what waits for a picture belongs to where it was written
        incoming.offer.hidden = true;
        field.value = keep.get(`draft.${here()}`) ?? "";
        images.show(here());
        grow();
        mention.close();
      }
      drawNotice();
      refresh();
    },
    made: (id) => {
      keep.set(`draft.${id}`, keep.get("draft.new"));
      keep.set("draft.new", undefined);
      images.move("new", id);
      chosen.made(id);
      if (shown === "new") shown = id;
    },
    refresh,
    focus: () => !isTouch() && field.focus(),
    edit: (message) => {
      saveDraft();
      editing = message;
      replyTo = undefined;
      drawNotice();
      images.show(`edit.${message.id}`, message.attachments);
      field.focus();
      setValue(message.content);
    },
    quote: (message) => {
      if (editing) cancelNotice();
      replyTo = message;
      drawNotice();
      field.focus();
    },
    pick,
    chosen: chosen.here,
    forget: () => {
      chosen.forget();
      images.forget();
      shown = undefined;
      editing = undefined;
      replyTo = undefined;
      drawNotice();
      setValue("");
    },
    suggest: (text) => {
      setValue(text);
      field.focus();
    },
    regenerate: (question) => {
      // By whom it was answered, not by whom answered last here. A turn and its answer have the same id.
      const by = state.threads.get(question.conversationId)?.messages.get(question.turnId ?? "")?.botId;
      page.outbox.send({
        conversationId: state.current,
        content: question.content,
        attachments: question.attachments,
        ...aimed(question.content, state.bots?.find((one) => one.id === by)?.id),
        replaces: question.id,
        ...(question.parentId ? { parentId: question.parentId } : {}),
        ...(question.replyTo ? { replyTo: question.replyTo } : {}),
      });
      needs.sent(question.parentId ?? "");
    },
    stop,
    escape: () => {
      if (mention.isOpen()) {
        mention.close();
        return true;
      }
      if (editing || replyTo) {
        cancelNotice();
        return true;
      }
      if (needs.openTurn()) {
        stop();
        return true;
      }
      return false;
    },
  };
};
