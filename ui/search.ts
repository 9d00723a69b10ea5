/** Search over titles and contents, done by the gateway; a hit opens its conversation at the message. */
import type { SearchHit } from "../lib/protocol.ts";
import { h, setAttributes, setText, type Child } from "./dom.ts";
import { icon } from "./icons.ts";
import { composing, type Page } from "./page.ts";

export type Search = {
  field: HTMLElement;
  results: HTMLElement;
  show: () => void;
  focus: () => void;
  escape: () => boolean;
};

const WAIT_MS = 200;

/** The text with each occurrence of the query marked. */
const marked = (text: string, query: string): Child[] => {
  const out: Child[] = [];
  const lower = text.toLowerCase();
  const wanted = query.toLowerCase();
  let at = 0;
  for (let hit = lower.indexOf(wanted); hit >= 0 && out.length < 40; hit = lower.indexOf(wanted, at)) {
    out.push(text.slice(at, hit), h("mark", {}, text.slice(hit, hit + wanted.length)));
    at = hit + wanted.length;
  }
  out.push(text.slice(at));
  return out;
};

export const createSearch = (
  page: Page,
  on: { choose: (hit: SearchHit) => void; active: (searching: boolean) => void },
): Search => {
  const { t } = page;
  const input = h("input", { type: "search", autocomplete: "off", spellcheck: "false", enterkeyhint: "search" });
  const field = h("div.search", { role: "search" }, icon("search"), input);
  const status = h("p.meta", { role: "status" });
  const list = h("div.hits");
  const results = h("div.results", { hidden: true }, status, list);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asked = 0;
  /** What the list answers. */
  let listed: string | undefined;
  /** What to do with the first hit when it comes. */
  let pending: "click" | "focus" | undefined;

  const close = (): void => {
    clearTimeout(timer);
    asked++;
    listed = undefined;
    results.hidden = true;
    on.active(false);
  };

  const run = async (query: string): Promise<void> => {
    const mine = ++asked;
    clearTimeout(timer);
    setText(status, t("searching"));
    try {
      const { hits } = await page.api.call<{ hits: SearchHit[] }>(
        "GET",
        `/api/search?limit=30&q=${encodeURIComponent(query)}`,
      );
      if (mine !== asked) return;
      setText(status, hits.length ? t("searchHits", { n: hits.length }) : t("searchEmpty", { q: query }));
      list.replaceChildren(
        ...hits.map((hit) => {
          const row = h(
            "button.hit",
            { type: "button" },
            h("span.hit-title", { dir: "auto" }, ...marked(hit.title || t("untitled"), query)),
            h("span.hit-text", { dir: "auto" }, ...marked(hit.snippet, query)),
            h("span.meta", {}, page.i18n.time(hit.createdAt)),
          );
          row.addEventListener("click", () => on.choose(hit));
          return row;
        }),
      );
      listed = query;
      if (pending && document.activeElement === input) list.querySelector<HTMLElement>("button")?.[pending]();
    } catch (error) {
      if (mine === asked) setText(status, (error as Error).message);
    }
  };

  /** The first hit for what stands in the field: the list may still be that of what stood there before. */
  const first = (act: "click" | "focus"): void => {
    const query = input.value.trim();
    pending = query === listed ? undefined : act;
    if (query === listed) list.querySelector<HTMLElement>("button")?.[act]();
    else if (query) void run(query);
  };

  input.addEventListener("input", (event) => {
    const query = input.value.trim();
    pending = undefined;
    clearTimeout(timer);
    if (!query) {
      close();
      return;
    }
    results.hidden = false;
    on.active(true);
    if ((event as InputEvent).isComposing) return; // half a word in an input method
    timer = setTimeout(() => void run(query), WAIT_MS);
  });
  input.addEventListener("compositionend", () => {
    const query = input.value.trim();
    clearTimeout(timer);
    if (query) timer = setTimeout(() => void run(query), WAIT_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (composing(event)) return;
    if (event.key === "Enter") first("click");
    else if (event.key === "ArrowDown") first("focus");
    else return;
    event.preventDefault();
  });
  list.addEventListener("keydown", (event) => {
    const rows = [...list.querySelectorAll<HTMLElement>("button")];
    const at = rows.indexOf(document.activeElement as HTMLElement);
    if (event.key === "ArrowDown") rows[at + 1]?.focus();
    else if (event.key === "ArrowUp") (rows[at - 1] ?? input).focus();
    else return;
    event.preventDefault();
  });

  return {
    field,
    results,
    focus: () => {
      input.focus();
      input.select();
    },
    escape: () => {
      if (results.hidden && document.activeElement !== input) return false;
      input.value = "";
      input.blur();
      close();
      return true;
    },
    show: () => setAttributes(input, { placeholder: t("search"), "aria-label": t("search") }),
  };
};
