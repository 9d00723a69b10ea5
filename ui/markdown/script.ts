/** Which characters are Chinese, Japanese or Korean, for regular expressions with the `u` flag. */

/** Characters of CJK scripts, for use inside a character class with the `u` flag. */
export const LETTERS = "\\p{sc=Han}\\p{sc=Hira}\\p{sc=Kana}\\p{sc=Hang}\\p{sc=Bopo}";
/** CJK and full-width punctuation, and the typographic quotes and dashes that CJK text shares. No spaces. */
export const MARKS = "\\u3001-\\u303f\\uff01-\\uff0f\\uff1a-\\uff20\\uff3b-\\uff40\\uff5b-\\uff65“”‘’…—·";

/** Matches one CJK letter or mark anywhere: where a bare URL ends, and where an `@` may follow directly. */
export const CJK_CHAR = new RegExp(`[${LETTERS}${MARKS}]`, "u");
