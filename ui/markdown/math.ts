/**
 * Formulas pass through: `$$…$$`, `\(…\)` and `\[…\]` become one token whose text is shown as written, so that `_`, `*`
 * and `\` inside survive and can be copied. Nothing is typeset. A single `$` is money and never math.
 *
 * Must stay true: a display formula never spans a blank line, so a finished block stays finished while text streams in.
 */
import type { Tokens, TokenizerExtensionFunction } from "marked";

export const DISPLAY = "math-display";
export const INLINE = "math-inline";

const BLOCK_START = /^ {0,3}(\$\$|\\\[)/;

/** Where the paragraph that begins `src` ends at the latest: the next blank line. */
export const paragraphEnd = (src: string): number => {
  const blank = /\n[ \t]*\n/.exec(src);
  return blank ? blank.index : src.length;
};

/**
 * Where a display formula that begins `src` ends, or 0. Its first line alone decides whether it is one, for the same reason
 * as above; without an end it goes to the blank line.
 */
const displayLength = (src: string): number => {
  const start = BLOCK_START.exec(src);
  if (!start) return 0;
  const close = start[1] === "$$" ? "$$" : "\\]";
  const lineEnd = src.indexOf("\n") < 0 ? src.length : src.indexOf("\n");
  const at = src.indexOf(close, start[0].length);
  const after = at + close.length;
  if (at >= 0 && at < lineEnd) return at > start[0].length && src.slice(after, lineEnd).trim() === "" ? lineEnd : 0;
  const end = paragraphEnd(src);
  if (at < 0 || at >= end) return end;
  return after;
};

const display: TokenizerExtensionFunction = (src) => {
  const length = displayLength(src);
  if (length === 0) return undefined;
  const raw = src.slice(0, length);
  return { type: DISPLAY, raw, text: raw.trim() };
};

/** Where in the paragraph that begins `src` a formula interrupts it. */
export const displayStart = (src: string): number | undefined => {
  const paragraph = src.slice(0, paragraphEnd(src));
  const found = /\n {0,3}(?:\$\$|\\\[)/.exec(paragraph);
  return found && displayLength(src.slice(found.index + 1)) > 0 ? found.index + 1 : undefined;
};

const PAIRS: [string, string][] = [
  ["$$", "$$"],
  ["\\(", "\\)"],
  ["\\[", "\\]"],
];

const inline: TokenizerExtensionFunction = (src) => {
  const first = src.charCodeAt(0);
  if (first !== 36 && first !== 92) return undefined; // $ or backslash
  for (const [open, close] of PAIRS) {
    if (!src.startsWith(open)) continue;
    const at = src.indexOf(close, open.length);
    if (at <= open.length || at > 4000) return undefined;
    const raw = src.slice(0, at + close.length);
    return { type: INLINE, raw, text: raw } satisfies Tokens.Generic;
  }
  return undefined;
};

/** marked's extension table, built by hand because the page uses the lexer without a Marked instance. */
export const mathExtensions = {
  renderers: {},
  childTokens: {},
  block: [display],
  inline: [inline],
  startBlock: [displayStart],
  startInline: [],
};
