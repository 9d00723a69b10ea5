/**
 * Character references in Markdown text. Nothing on this page ever parses HTML, so what `&amp;` means is decided here.
 * Must stay true: a URL is decoded before it is judged, or `javascript&colon;` would pass as harmless.
 */

const NAMED: Record<string, string> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: "\u00a0",
  copy: "©",
  reg: "®",
  trade: "™",
  hellip: "…",
  mdash: "—",
  ndash: "–",
  lsquo: "‘",
  rsquo: "’",
  ldquo: "“",
  rdquo: "”",
  middot: "·",
  times: "×",
  deg: "°",
  rarr: "→",
  larr: "←",
  check: "✓",
  colon: ":",
  sol: "/",
  bsol: "\\",
  lpar: "(",
  rpar: ")",
  num: "#",
  period: ".",
  comma: ",",
  Tab: "\t",
  NewLine: "\n",
};

/** Replaces numeric and the common named references; unknown ones stay as written. */
export const decodeEntities = (text: string): string =>
  text.includes("&")
    ? text.replace(/&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z]{2,8}));/g, (whole, dec, hex, name) => {
        if (name) return Object.hasOwn(NAMED, name) ? NAMED[name]! : whole;
        const code = dec ? Number(dec) : Number.parseInt(hex, 16);
        return code === 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)
          ? "\ufffd"
          : String.fromCodePoint(code);
      })
    : text;
