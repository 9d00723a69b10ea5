/**
 * What CommonMark gets wrong in Chinese, Japanese and Korean text, as regular expressions for the lexer.
 *
 * CommonMark decides whether `**` opens or closes by the punctuation and spaces around it. CJK text has no spaces, so
 * `**重点：**这里` stays literal. Here CJK punctuation counts as a letter, and a CJK character beside `**` counts as a
 * boundary. Must stay true: text without CJK is tokenized exactly as marked does.
 */

import { LETTERS, MARKS } from "./script.ts";

const CJK = `[${LETTERS}${MARKS}]`;
const PUNCT = `(?:(?![~${MARKS}])[\\p{P}\\p{S}])`;
const PUNCT_OR_SPACE = `(?:(?![~${MARKS}])[\\s\\p{P}\\p{S}])`;
const LETTER = `(?:[^\\s\\p{P}\\p{S}]|[~${MARKS}])`;

/** The inline rules of marked that need another idea of punctuation. The group numbers are marked's. */
export const CJK_RULES = {
  punctuation: new RegExp(`^((?![*_])(?:${PUNCT_OR_SPACE}|${CJK}))`, "u"),
  emStrongLDelim: new RegExp(`^(?:\\*+(?:((?!\\*)${PUNCT})|([^\\s*]))?)|^_+(?:((?!_)${PUNCT})|([^\\s_]))?`, "u"),
  emStrongRDelimAst: new RegExp(
    "^[^_*]*?__[^_*]*?\\*[^_*]*?(?=__)" +
      "|[^*]+(?=[^*])" +
      `|(?!\\*)${PUNCT}(\\*+)(?=[\\s]|$)` +
      `|${LETTER}(\\*+)(?!\\*)(?=${PUNCT_OR_SPACE}|$)` +
      // Punctuation before and a CJK character after: not only an opener (as in `**"引号"**后`), so left to the fifth.
      `|(?!\\*)(?:\\s|${PUNCT}(?=\\*+[^*${LETTERS}${MARKS}]))(\\*+)(?=${LETTER})` +
      `|[\\s](\\*+)(?!\\*)(?=${PUNCT})` +
      `|(?!\\*)${PUNCT}(\\*+)(?!\\*)(?=${PUNCT}|${CJK})` +
      `|${LETTER}(\\*+)(?=${LETTER})`,
    "gu",
  ),
};
