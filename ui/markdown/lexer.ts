/**
 * Markdown text → marked tokens. The only file that calls marked, and only its lexer: no HTML string exists anywhere.
 *
 * Owns the deviations: raw HTML is text, `~~` alone strikes, CJK emphasis and links (cjk.ts), formulas pass through
 * (math.ts). Must stay true: linear time and no throw for any input, so every search has a budget and deep nesting a cap;
 * what is over a cap becomes plain text. Knows nothing of the DOM.
 */
import { Lexer, Tokenizer, type Links, type Token, type Tokens } from "marked";
import { CJK_RULES } from "./cjk.ts";
import { displayStart, mathExtensions, paragraphEnd } from "./math.ts";
import { CJK_CHAR } from "./script.ts";

/** More text in one block than anybody writes: shown as plain text, because emphasis search is quadratic in it. */
export const BLOCK_CAP = 20_000;
/** Deeper quotes and lists than this are read as text; 2,000 nested `>` overflow the stack of marked. */
const DEPTH_CAP = 16;
/** Characters all searches of one block may look at together: about 20 ms. */
const WORK_CAP = 2_000_000;

export type { Links, Token, Tokens };

/** A block lexer whose inline parts are lexed on demand. */
export type Blocks = { tokens: Token[]; links: Links; inline: () => void };

const TEXT_STOP = /[\\<![`*~_\n$]|https?:\/\/|ftp:\/\/|www\.|@/gi;

/** How much of `src` is certainly plain text: up to the next character that could begin another token. At least 1. */
const textLength = (src: string): number => {
  TEXT_STOP.lastIndex = 1;
  for (let hit = TEXT_STOP.exec(src); hit; hit = TEXT_STOP.exec(src)) {
    let at = hit.index;
    if (hit[0] === "\n") while (at > 1 && src[at - 1] === " ") at--;
    // An address: the part before the @ belongs to it, unless it begins this very text (then it was tried already).
    else if (hit[0] === "@") {
      const floor = Math.max(0, at - 64);
      while (at > floor && /[A-Za-z0-9._+-]/.test(src[at - 1]!)) at--;
      if (at === 0 || at === hit.index) continue;
    }
    return at;
  }
  return src.length;
};

const createTokenizer = (): { tokenizer: Tokenizer; reset: () => void } => {
  const base = Tokenizer.prototype;
  const tokenizer = new Tokenizer();
  let depth = 0;
  let work = 0;
  const spend = (src: string): boolean => {
    work += src.length;
    return work < WORK_CAP;
  };
  const nested = <T>(run: () => T): T | undefined => {
    if (depth >= DEPTH_CAP) return undefined;
    depth++;
    try {
      return run();
    } finally {
      depth--;
    }
  };

  tokenizer.html = () => undefined;
  tokenizer.tag = () => undefined;
  tokenizer.blockquote = (src) => nested(() => base.blockquote.call(tokenizer, src));
  tokenizer.list = (src) => nested(() => base.list.call(tokenizer, src));
  // The rule of marked takes 7 µs per character of a long line in WebKit; most paragraphs have no underline at all.
  tokenizer.lheading = (src) => {
    const paragraph = src.slice(0, displayStart(src) ?? paragraphEnd(src));
    if (paragraph.length > BLOCK_CAP) return undefined;
    const line = /\n {0,3}(?:=+|-+)[ \t]*(?:\n|$)/.exec(paragraph);
    // A bullet with a tab ends a paragraph, which that rule forgets.
    if (!line || /\n {0,3}(?:[*+-]|\d{1,9}[.)])\t/.test(paragraph.slice(0, line.index))) return undefined;
    return base.lheading.call(tokenizer, paragraph);
  };
  tokenizer.del = (src, masked, before) =>
    src.startsWith("~~") && spend(src) ? base.del.call(tokenizer, src, masked, before) : undefined;
  tokenizer.emStrong = (src, masked, before) =>
    (src[0] === "*" || src[0] === "_") && spend(src) ? base.emStrong.call(tokenizer, src, masked, before) : undefined;
  tokenizer.codespan = (src) => (src[0] === "`" && spend(src) ? base.codespan.call(tokenizer, src) : undefined);
  tokenizer.link = (src) => {
    if ((src[0] !== "[" && src[0] !== "!") || !spend(src)) return undefined;
    return nested(() => base.link.call(tokenizer, src));
  };
  tokenizer.reflink = (src, links) => {
    if ((src[0] !== "[" && src[0] !== "!") || !spend(src)) return undefined;
    return nested(() => base.reflink.call(tokenizer, src, links));
  };
  tokenizer.url = (src) => {
    if (!/^[A-Za-z0-9._+-]/.test(src)) return undefined;
    const window = src.slice(0, 2048);
    const word = /^[^\s<]*/.exec(window)![0];
    if (!spend(word)) return undefined;
    const cut = word.search(CJK_CHAR);
    return base.url.call(tokenizer, cut < 0 ? window : window.slice(0, cut));
  };
  tokenizer.inlineText = (src): Tokens.Text => {
    const raw = src.slice(0, textLength(src));
    return { type: "text", raw, text: raw };
  };
  return {
    tokenizer,
    reset: () => {
      work = 0;
      depth = 0;
    },
  };
};

const plain = (src: string): Token => ({ type: "text", raw: src, text: src });

/**
 * Lexes the blocks of `src` (line ends already `\n`). `links` are reference definitions known from earlier text; the result's `links`
 * has those and the new ones. Inline tokens are there after `inline()`.
 */
export const lexBlocks = (src: string, links: Links): Blocks => {
  const { tokenizer, reset } = createTokenizer();
  const lexer = new Lexer({ gfm: true, breaks: true, tokenizer, extensions: mathExtensions } as never);
  tokenizer.rules = { ...tokenizer.rules, inline: { ...tokenizer.rules.inline, ...CJK_RULES } };
  Object.assign(lexer.tokens.links, links);
  let tokens: Token[];
  try {
    tokens = lexer.blockTokens(src, lexer.tokens);
  } catch {
    lexer.inlineQueue = [];
    tokens = [{ type: "paragraph", raw: src, text: src, tokens: [plain(src)] }];
  }
  const inline = (): void => {
    const queue = lexer.inlineQueue;
    lexer.inlineQueue = [];
    for (const item of queue) {
      reset();
      lexer.state.inLink = false;
      lexer.state.linkEmitted = false;
      if (item.src.length > BLOCK_CAP) item.tokens.push(plain(item.src));
      else
        try {
          lexer.inlineTokens(item.src, item.tokens);
        } catch {
          item.tokens.splice(0, item.tokens.length, plain(item.src));
        }
    }
  };
  return { tokens, links: lexer.tokens.links, inline };
};
