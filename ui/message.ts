/**
 * One message on screen: the tinted bubble of the person, or the unboxed answer of a bot with its seal, wire, activity and
 * actions. Must stay true: the same message given twice changes nothing in the DOM; what a bot or a person wrote is only
 * ever text nodes.
 */
import type { Message } from "../lib/protocol.ts";
import { h, setAttributes, setText, type Child } from "./dom.ts";
import { attachments, picture } from "./files.ts";
import { icon, type IconName } from "./icons.ts";
import type { createRenderer, Renderer } from "./markdown/stream.ts";
import type { Unsent } from "./outbox.ts";
import { cleanName, hueOf, sealOf, type Page } from "./page.ts";
import type { Turn } from "./state.ts";
import type { Versions } from "./thread.ts";

/** What is shown at one place of the transcript. */
export type Item = {
  key: string;
  message: Message;
  versions: Versions | undefined;
  /** Of the question before, for the answer of a regeneration. */
  answerVersions: Versions | undefined;
  turn: Turn | undefined;
  unsent: Unsent | undefined;
  /** What it quotes; only its id while the page that holds it is not loaded. */
  quoted: Message | string | undefined;
  /** A further message of the same bot: no second seal. */
  grouped: boolean;
};

export type MessageView = {
  element: HTMLElement;
  update: (item: Item) => void;
  /** Draws more of the text; true: there is more to do. */
  render: (now: number) => boolean;
  /** Rewrites the elapsed time. */
  tick: (now: number) => void;
};

const action = (name: string, label: string, glyph?: IconName): HTMLElement =>
  h(
    "button.quiet",
    { type: "button", "data-act": name, "aria-label": glyph ? label : undefined },
    glyph ? icon(glyph) : label,
  );

const pager = (page: Page, versions: Versions): HTMLElement => {
  const label = page.t("version", { i: versions.index + 1, n: versions.ids.length });
  const step = (name: string, text: "previousVersion" | "nextVersion", glyph: IconName, off: boolean): HTMLElement =>
    h(
      "button.quiet.step",
      { type: "button", "data-act": name, "aria-label": page.t(text), disabled: off },
      icon(glyph),
    );
  return h(
    "span.pager",
    { role: "group", "aria-label": label },
    step("version-prev", "previousVersion", "left", versions.index === 0),
    h("span.meta", { "aria-hidden": "true" }, `${versions.index + 1}/${versions.ids.length}`),
    step("version-next", "nextVersion", "right", versions.index === versions.ids.length - 1),
  );
};

/** What tells one quote from another: an id that is not loaded yet is drawn differently from its message. */
const quoteMark = (quoted: Item["quoted"]): string | undefined =>
  typeof quoted === "string" ? `?${quoted}` : quoted?.id;

const quoteBlock = (page: Page, quoted: Message | string): HTMLElement => {
  if (typeof quoted === "string")
    return h("button.quoted", { type: "button", "data-act": "jump", "data-id": quoted }, page.t("quotedEarlier"));
  const name = quoted.role === "user" ? page.t("you") : cleanName(quoted.botName ?? "");
  const text = quoted.content.replace(/\s+/g, " ").slice(0, 120);
  return h(
    "button.quoted",
    { type: "button", "data-act": "jump", "data-id": quoted.id },
    h("strong", {}, name),
    ` ${text}`,
  );
};

/** `@name` at the very start stands out, as in the composer. */
const mentionText = (page: Page, content: string): Child[] => {
  const found = /^@(\S+)(?=\s|$)/.exec(content);
  if (!found) return [content];
  const said = found[1]!.toLowerCase();
  const bot = page.state.bots?.find((b) => b.id.toLowerCase() === said || b.name.toLowerCase() === said);
  if (!bot) return [content];
  return [h("strong.mention", {}, `@${cleanName(bot.name)}`), content.slice(found[0].length)];
};

const createUserView = (page: Page): MessageView => {
  const element = h("article.msg.user");
  let signature = "";
  return {
    element,
    update: ({ message, versions, unsent, quoted }) => {
      const next = JSON.stringify([
        message.id,
        message.content,
        message.attachments.length,
        versions,
        unsent?.state,
        unsent?.error,
        quoteMark(quoted),
        page.i18n.lang(),
        page.state.bots?.length,
      ]);
      if (next === signature) return;
      signature = next;
      setAttributes(element, {
        "data-id": message.id,
        "aria-label": `${page.t("you")} ${page.i18n.time(message.createdAt)}`,
        "data-state": unsent?.state ?? "sent",
      });
      const bubble = h("div.bubble", { dir: "auto" }, ...mentionText(page, message.content));
      const state = unsent?.state;
      element.replaceChildren(
        ...[
          quoted && quoteBlock(page, quoted),
          message.attachments.length > 0 && attachments(page, message.attachments),
          message.content !== "" && bubble,
        ].filter((node): node is HTMLElement => node instanceof HTMLElement),
        state === "failed"
          ? h(
              "div.unsent.failed",
              { role: "alert" },
              h("span", {}, `${page.t("sendFailed")}：${unsent?.error ?? ""}`),
              action("retry-send", page.t("retry")),
              action("discard", page.t("discard")),
            )
          : state
            ? h(
                "div.unsent.meta",
                {},
                state === "sending"
                  ? page.t("sending")
                  : unsent?.error
                    ? page.t("waitingLimit", { reason: unsent.error })
                    : page.t("waitingSend"),
                state === "waiting" ? action("discard", page.t("discard")) : "",
              )
            : h(
                "div.actions",
                {},
                versions && !versions.same ? pager(page, versions) : "",
                h("time.meta", {}, page.i18n.time(message.createdAt)),
                action("copy", page.t("copy"), undefined),
                action("edit", page.t("editMessage"), undefined),
              ),
      );
    },
    render: () => false,
    tick: () => {},
  };
};

const elapsed = (ms: number): string => {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
};

/** Silence after which the page says that it is still waiting, with a clock. */
const QUIET_MS = 60_000;
/** Before this an activity is not worth a clock. */
const CLOCK_MS = 3000;

const activityText = (page: Page, turn: Turn, now: number): string => {
  const { activity } = turn;
  const waited = now - (turn.steps.at(-1)?.at ?? turn.createdAt);
  const clock = waited > CLOCK_MS ? ` ${page.i18n.span(Math.floor(waited / 1000) * 1000)}` : "";
  if (activity?.kind === "queued")
    return (activity.position ?? 1) > 1 ? page.t("queued", { n: activity.position! - 1 }) : page.t("queuedNext");
  if (now - turn.heardAt > QUIET_MS) return `${page.t("stillWorking")} · ${elapsed(now - turn.createdAt)}`;
  if (activity?.kind === "tool" && activity.tool)
    return activity.text ? activity.text + clock : page.t("usingTool", { tool: cleanName(activity.tool.name) }) + clock;
  if (activity?.text) return cleanName(activity.text) + clock;
  return (turn.text ? page.t("replying") : page.t("thinking")) + (turn.text ? "" : clock);
};

/** The Markdown renderer comes in a chunk of its own: the page is usable before it is there. */
export type RendererMaker = typeof createRenderer;

const createBotView = (
  page: Page,
  maker: () => RendererMaker | undefined,
  settled: (node: Node) => void,
): MessageView => {
  const seal = h("span.seal", { "aria-hidden": "true" });
  const name = h("strong.name", { dir: "auto" });
  const meta = h("span.meta.when");
  const steps = h("details.steps");
  const quote = h("div.quote-slot");
  const md = h("div.md", { dir: "auto" });
  const files = h("div.file-slot");
  const ended = h("div.ended-slot");
  const actions = h("div.actions");
  const element = h(
    "article.msg.bot",
    {},
    h("div.gutter", { "aria-hidden": "true" }, seal, h("span.wire")),
    h("div.body", {}, h("div.head", {}, name, meta), steps, quote, md, files, ended, actions),
  );
  let renderer: Renderer | undefined;
  let wanted: { text: string; open: boolean } | undefined;
  const draw = (now: number): boolean => {
    if (!wanted) return false;
    renderer ??= maker()?.(md, {
      label: (key) => page.t(key),
      image: (src, alt) => picture(page, src, alt),
      settled,
    });
    renderer?.set(wanted.text, wanted.open);
    return renderer?.render(now) ?? false;
  };
  let item: Item | undefined;
  let signature = "";
  let lang = page.i18n.lang();

  const tick = (now: number): void => {
    if (!item) return;
    const { turn, message } = item;
    const live = turn !== undefined && !turn.stopped;
    const took = message.updatedAt - message.createdAt;
    const when = page.i18n.time(message.createdAt);
    const span = took >= 300 && took < 3_600_000 ? ` · ${page.i18n.span(took)}` : "";
    setText(meta, live ? activityText(page, turn, now) : when + span);
    meta.classList.toggle("live", live);
  };

  /** Folded to one line: what the bot did before it answered. */
  const drawSteps = (turn: Turn | undefined): void => {
    if (!turn || turn.steps.length === 0) {
      if (!turn || steps.childElementCount === 0) return;
    }
    if (!turn) return;
    steps.hidden = false;
    const time = page.i18n.span((turn.textAt ?? Date.now()) - turn.createdAt);
    steps.replaceChildren(
      h("summary", {}, page.t("processed", { time })),
      h("ul", { "aria-label": page.t("steps") }, ...turn.steps.slice(-50).map((s) => h("li", {}, cleanName(s.text)))),
    );
    steps.hidden = turn.textAt === undefined;
  };
  steps.hidden = true;

  const drawEnd = ({ message, turn }: Item): void => {
    const { state } = message;
    const stopped = state === "cancelled" || (turn?.stopped ?? false);
    if (stopped) ended.replaceChildren(h("p.ended", {}, page.t("stopped")));
    else if (state === "failed")
      ended.replaceChildren(
        h(
          "p.ended.failed",
          {},
          h("span", {}, `${page.t("interrupted")}${message.error?.message ? `：${message.error.message}` : ""}`),
          action("regenerate", page.t("retry")),
        ),
      );
    else ended.replaceChildren();
  };

  return {
    element,
    update: (next) => {
      const { message, turn } = next;
      item = next;
      const open = turn !== undefined && !turn.stopped;
      const text = turn ? turn.text : message.content;
      if (lang !== page.i18n.lang()) {
        lang = page.i18n.lang();
        renderer?.reset();
        signature = "";
      }
      if (!(turn?.stopped && message.state === "streaming") || md.childElementCount === 0) wanted = { text, open };
      const mark = JSON.stringify([
        message.id,
        message.state,
        message.error?.message,
        message.attachments.length,
        message.botName,
        turn?.stopped,
        open,
        next.answerVersions,
        quoteMark(next.quoted),
        next.grouped,
        turn?.steps.length,
        turn?.textAt,
        text === "",
      ]);
      if (mark !== signature) {
        signature = mark;
        const shownName = cleanName(message.botName ?? message.botId ?? "");
        setAttributes(element, {
          "data-id": message.id,
          "data-state": open ? "streaming" : message.state,
          "aria-label": `${shownName} ${page.i18n.time(message.createdAt)}`,
          "aria-busy": open ? "true" : undefined,
        });
        element.classList.toggle("grouped", next.grouped);
        seal.dataset.hue = String(hueOf(message.botId ?? shownName));
        setText(seal, sealOf(shownName));
        setText(name, shownName);
        md.classList.toggle("streaming", open);
        drawSteps(turn);
        quote.replaceChildren(...(next.quoted ? [quoteBlock(page, next.quoted)] : []));
        files.replaceChildren(...(message.attachments.length ? [attachments(page, message.attachments)] : []));
        drawEnd(next);
        actions.replaceChildren(
          ...(open
            ? []
            : [
                action("copy", page.t("copy")),
                action("regenerate", page.t("regenerate")),
                action("quote", page.t("quote")),
                ...(next.answerVersions?.same ? [pager(page, next.answerVersions)] : []),
              ]),
        );
      }
      tick(Date.now());
    },
    render: draw,
    tick,
  };
};

/** Creates the view of a message of either role. `settled`: a part of its text is finished. */
export const createMessageView = (
  page: Page,
  role: Message["role"],
  maker: () => RendererMaker | undefined,
  settled: (node: Node) => void,
): MessageView => (role === "user" ? createUserView(page) : createBotView(page, maker, settled));
