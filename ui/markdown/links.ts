/**
 * Which addresses from a bot's text may become a link or a picture. Everything else is shown as text.
 * Must stay true: decode, strip what a browser strips, parse, and only then compare the scheme with a list.
 */
import { decodeEntities } from "./entities.ts";

const SCHEMES = new Set(["http:", "https:", "mailto:", "tel:"]);

const tidy = (href: string, literal: boolean): string => {
  const decoded = literal ? href : decodeEntities(href);
  // Browsers drop tabs and line ends anywhere, and C0 controls and spaces at both ends.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is being removed
  return decoded.replace(/[\t\n\r]/g, "").replace(/^[\u0000-\u0020]+|[\u0000-\u0020]+$/g, "");
};

/**
 * The absolute address of a link, or undefined when it must stay text. `literal`: an autolink, where references are not
 * resolved. Relative addresses are refused: a bot has no business linking into the app.
 */
export const safeLink = (href: string, literal: boolean): string | undefined => {
  const text = tidy(href, literal);
  if (!/^[a-z][a-z0-9+.-]*:/i.test(text)) return undefined;
  // `https:evil` is relative to the page in a browser: only the full form names a host.
  if (/^https?:(?!\/\/[^/\\])/i.test(text)) return undefined;
  try {
    const url = new URL(text);
    return SCHEMES.has(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
};

export type Picture = { kind: "own"; src: string } | { kind: "remote"; src: string; host: string };

/** What an image address is: one of our own attachments or inline data (shown), another host (asked first), or nothing. */
export const pictureOf = (href: string): Picture | undefined => {
  const text = tidy(href, false);
  if (/^\/api\/attachments\/[\w-]{1,64}$/.test(text)) return { kind: "own", src: text };
  if (/^data:image\/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+=*$/.test(text)) return { kind: "own", src: text };
  const link = safeLink(text, true);
  if (!link || !/^https?:/.test(link)) return undefined;
  return { kind: "remote", src: link, host: new URL(link).host };
};

/** A language name fit for a class and a label, or "" */
export const safeLang = (info: string | undefined): string => {
  const word = decodeEntities(info ?? "")
    .trim()
    .split(/[\s,{]/)[0]!
    .toLowerCase();
  return /^[a-z0-9+#._-]{1,20}$/.test(word) ? word : "";
};
