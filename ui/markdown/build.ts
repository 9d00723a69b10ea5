/**
 * marked tokens → DOM nodes, by createElement and text nodes only.
 *
 * Owns the list of elements a bot's text can become. Must stay true: an unknown token is shown as its source, an address
 * is used only after links.ts agreed, and the nodes carry no listeners (the transcript delegates by `data-act`), so two
 * builds of the same tokens are equal node for node.
 */
import { h } from "../dom.ts";
import { decodeEntities } from "./entities.ts";
import type { Token, Tokens } from "./lexer.ts";
import { pictureOf, safeLang, safeLink } from "./links.ts";
import { DISPLAY, INLINE } from "./math.ts";

/** What the builder needs from the page. */
export type BuildEnv = {
  /** Texts of the buttons, in the language of the page. */
  label: (key: "wrap" | "copy" | "copyTable" | "table" | "code") => string;
  /** An `<img>` for one of our own files. */
  image: (src: string, alt: string) => HTMLElement;
};

/** Lines of a code block laid out together; what is not near the screen is skipped by the browser. */
const SLAB_LINES = 200;
const SLAB_CHARS = 4000;
/** More cells than this are shown as text: layout of a table is not linear. */
const CELL_CAP = 4000;

/** Cuts long text into pieces of at most about 4,000 characters, at a line end or space where there is one. */
const slabs = (text: string, lines: number): string[] => {
  const out: string[] = [];
  let start = 0;
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const newline = text.charCodeAt(i) === 10;
    if (newline) count++;
    if ((newline && count >= lines) || (i - start >= SLAB_CHARS && (newline || i - start >= SLAB_CHARS * 2))) {
      out.push(text.slice(start, i + 1));
      start = i + 1;
      count = 0;
    }
  }
  if (start < text.length) out.push(text.slice(start));
  return out;
};

/** Text as it was written: for what is over a cap. */
export const plainBlock = (text: string): HTMLElement => {
  const pre = h("div.plain");
  if (text.length <= SLAB_CHARS) pre.append(text);
  else for (const piece of slabs(text, SLAB_LINES)) pre.append(h("div.slab", {}, piece));
  return pre;
};

/** The `<code>` of a block; its textContent is the source. */
export const fillCode = (code: HTMLElement, source: string): void => {
  if (source.length <= SLAB_CHARS * 4) code.replaceChildren(source);
  else code.replaceChildren(...slabs(source, SLAB_LINES).map((piece) => h("span.slab", {}, piece)));
};

/** A code block with its head; `code` carries the language as `data-lang`. */
export const codeBlock = (env: BuildEnv, source: string, lang: string): HTMLElement => {
  const code = h("code", lang ? { "data-lang": lang } : {});
  const block = h(
    "div.code",
    {},
    h(
      "div.code-head",
      {},
      h("span.code-lang", {}, lang || env.label("code")),
      h("button.quiet", { type: "button", "data-act": "wrap", "aria-pressed": "false" }, env.label("wrap")),
      h("button.quiet", { type: "button", "data-act": "copy-code" }, env.label("copy")),
    ),
    h("pre", { tabindex: 0 }, code),
  );
  fillCode(code, source);
  return block;
};

const withBreaks = (parent: Node, text: string): void => {
  const lines = text.split("\n");
  lines.forEach((line, i) => {
    if (i > 0) parent.appendChild(h("br"));
    if (line) parent.appendChild(document.createTextNode(line));
  });
};

const plainText = (tokens: Token[]): string =>
  tokens.map((t) => ("tokens" in t && t.tokens ? plainText(t.tokens) : "text" in t ? String(t.text) : t.raw)).join("");

const image = (env: BuildEnv, token: Tokens.Image): Node => {
  const alt = decodeEntities(token.tokens?.length ? plainText(token.tokens) : token.text);
  const picture = pictureOf(token.href);
  if (!picture) return document.createTextNode(alt || token.raw);
  if (picture.kind === "own") return h("span.picture", {}, env.image(picture.src, alt));
  // A picture on another host would tell that host who reads what, and the policy of the page refuses it anyway.
  return h(
    "a.remote",
    { href: picture.src, rel: "noopener noreferrer nofollow", target: "_blank" },
    alt || "🖼",
    h("span.remote-host", {}, picture.host),
  );
};

const link = (env: BuildEnv, token: Tokens.Link, parent: Node): void => {
  const href = safeLink(token.href, token.autolink === true);
  if (!href) {
    parent.appendChild(document.createTextNode(token.raw));
    return;
  }
  const a = h("a", {
    href,
    rel: "noopener noreferrer nofollow",
    target: /^https?:/.test(href) ? "_blank" : undefined,
    title: token.title ? decodeEntities(token.title) : undefined,
  });
  if (token.autolink) a.append(token.text);
  else inline(env, token.tokens, a);
  parent.appendChild(a);
};

const WRAPPERS = { strong: "strong", em: "em", del: "del" } as const;

/** Appends inline tokens to `parent`. */
const inline = (env: BuildEnv, tokens: Token[] | undefined, parent: Node): void => {
  for (const token of tokens ?? []) {
    switch (token.type) {
      case "strong":
      case "em":
      case "del": {
        const element = h(WRAPPERS[token.type as keyof typeof WRAPPERS]);
        inline(env, token.tokens, element);
        parent.appendChild(element);
        break;
      }
      case "text":
        if (token.tokens) inline(env, token.tokens, parent);
        else withBreaks(parent, decodeEntities(String(token.text)));
        break;
      case "escape":
        parent.appendChild(document.createTextNode(String(token.text)));
        break;
      case "codespan":
        parent.appendChild(h("code", {}, String(token.text)));
        break;
      case "br":
        parent.appendChild(h("br"));
        break;
      case "link":
        link(env, token as Tokens.Link, parent);
        break;
      case "image":
        parent.appendChild(image(env, token as Tokens.Image));
        break;
      case "checkbox":
        parent.appendChild(document.createTextNode(token.checked ? "☑ " : "☐ "));
        break;
      case INLINE:
      case DISPLAY:
        parent.appendChild(h("span.math", {}, String(token.text)));
        break;
      default:
        parent.appendChild(document.createTextNode(token.raw));
    }
  }
};

const list = (env: BuildEnv, token: Tokens.List): HTMLElement => {
  const element = token.ordered
    ? h("ol", { start: Number(token.start) === 1 ? undefined : Number(token.start) })
    : h("ul");
  for (const item of token.items) {
    const li = h(item.task ? "li.task" : "li");
    for (const child of item.tokens) {
      if (child.type === "text" || child.type === "checkbox") inline(env, [child], li);
      else {
        const block = buildBlock(env, child);
        if (block) li.append(block);
      }
    }
    element.append(li);
  }
  return element;
};

const table = (env: BuildEnv, token: Tokens.Table): HTMLElement => {
  if (token.header.length * (token.rows.length + 1) > CELL_CAP) return plainBlock(token.raw);
  const row = (cells: Tokens.TableCell[], tag: "th" | "td"): HTMLElement => {
    const tr = h("tr");
    for (const cell of cells) {
      const element = h(tag, { class: cell.align ?? undefined, scope: tag === "th" ? "col" : undefined });
      inline(env, cell.tokens, element);
      tr.append(element);
    }
    return tr;
  };
  return h(
    "div.table",
    {},
    h(
      "div.table-scroll",
      { tabindex: 0, role: "region", "aria-label": env.label("table") },
      h(
        "table",
        {},
        h("thead", {}, row(token.header, "th")),
        h("tbody", {}, ...token.rows.map((cells) => row(cells, "td"))),
      ),
    ),
    h("button.quiet.copy-table", { type: "button", "data-act": "copy-table" }, env.label("copyTable")),
  );
};

/** h1 of a message is h4 of the page: the page's own headings stay above it. */
const heading = (env: BuildEnv, token: Tokens.Heading): HTMLElement => {
  const level = Math.min(token.depth, 3);
  const element = h((["h4", "h5", "h6"] as const)[level - 1]!, {});
  inline(env, token.tokens, element);
  return element;
};

/** One block token → one node; undefined for what shows nothing (spaces, definitions). */
export const buildBlock = (env: BuildEnv, token: Token): Node | undefined => {
  switch (token.type) {
    case "space":
    case "def":
      return undefined;
    case "hr":
      return h("hr");
    case "heading":
      return heading(env, token as Tokens.Heading);
    case "code": {
      const text = String(token.text);
      const source = text === "" || text.endsWith("\n") ? text : `${text}\n`;
      return codeBlock(env, source, safeLang(token.lang));
    }
    case "blockquote": {
      const quote = h("blockquote");
      for (const child of token.tokens ?? []) {
        const block = buildBlock(env, child);
        if (block) quote.append(block);
      }
      return quote;
    }
    case "list":
      return list(env, token as Tokens.List);
    case "table":
      return table(env, token as Tokens.Table);
    case DISPLAY:
      return h("div.math", {}, String(token.text));
    case "paragraph":
    case "text": {
      const only = token.tokens?.length === 1 ? token.tokens[0] : undefined;
      if (only?.type === "text" && !only.tokens && only.raw.length > SLAB_CHARS * 5)
        return plainBlock(String(only.text));
      const p = h("p");
      if (token.tokens) inline(env, token.tokens, p);
      else withBreaks(p, decodeEntities(String(token.text)));
      return p;
    }
    default:
      return plainBlock(token.raw);
  }
};
