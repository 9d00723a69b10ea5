/**
 * What a file is, by its first bytes: type, and the size of a picture. The sender's word counts only where the content
 * cannot contradict it and the type cannot run in a browser (WHATWG MIME Sniffing, section 6, the parts people send).
 */

type Kind = { mime: string; width?: number; height?: number };

const ascii = (bytes: Uint8Array, from: number, length: number): string =>
  String.fromCharCode(...bytes.subarray(from, from + length));

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Walks JPEG segments to the frame header (ITU T.81, B.1.1.3): SOF0–SOF15 but DHT, JPG, DAC. */
const jpegSize = (bytes: Uint8Array): Pick<Kind, "width" | "height"> => {
  const data = view(bytes);
  let at = 2;
  while (at + 9 < bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1]!;
    if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc)
      return { height: data.getUint16(at + 5), width: data.getUint16(at + 7) };
    at += 2 + data.getUint16(at + 2);
  }
  return {};
};

/** The three WebP layouts (developers.google.com/speed/webp/docs/riff_container). */
const webpSize = (bytes: Uint8Array): Pick<Kind, "width" | "height"> => {
  if (bytes.length < 30) return {};
  const data = view(bytes);
  const format = ascii(bytes, 12, 4);
  if (format === "VP8 ") return { width: data.getUint16(26, true) & 0x3fff, height: data.getUint16(28, true) & 0x3fff };
  if (format === "VP8L") {
    const bits = data.getUint32(21, true);
    return { width: (bits & 0x3fff) + 1, height: ((bits >> 14) & 0x3fff) + 1 };
  }
  const three = (at: number): number => data.getUint16(at, true) + (bytes[at + 2]! << 16) + 1;
  return { width: three(24), height: three(27) };
};

/** Boxes of ISO media by their major brand (mp4ra.org): phones put pictures and sound into the same kind as films. */
const ofBrand = (brand: string): string => {
  if (/^avi[fs]$/.test(brand)) return "image/avif";
  if (/^(hei[cxms]|hevc)$/.test(brand)) return "image/heic";
  if (/^m[is]f1$/.test(brand)) return "image/heif";
  return brand === "M4A " ? "audio/mp4" : "video/mp4";
};

/** Types a browser would run or open as a page of ours: kept, but only ever offered as a download. */
const ACTIVE = /^(text\/html|image\/svg\+xml|application\/(xhtml\+xml|xml|javascript)|text\/(xml|javascript))$/;

const byContent = (bytes: Uint8Array): Kind | undefined => {
  if (bytes.length >= 24 && ascii(bytes, 0, 8) === "\x89PNG\r\n\x1a\n") {
    const data = view(bytes);
    return { mime: "image/png", width: data.getUint32(16), height: data.getUint32(20) };
  }
  if (bytes.length >= 4 && bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff)
    return { mime: "image/jpeg", ...jpegSize(bytes) };
  if (bytes.length >= 10 && /^GIF8[79]a/.test(ascii(bytes, 0, 6))) {
    const data = view(bytes);
    return { mime: "image/gif", width: data.getUint16(6, true), height: data.getUint16(8, true) };
  }
  if (bytes.length >= 16 && ascii(bytes, 0, 4) === "RIFF" && ascii(bytes, 8, 4) === "WEBP")
    return { mime: "image/webp", ...webpSize(bytes) };
  if (bytes.length >= 12 && ascii(bytes, 4, 4) === "ftyp") return { mime: ofBrand(ascii(bytes, 8, 4)) };
  if (ascii(bytes, 0, 5) === "%PDF-") return { mime: "application/pdf" };
  if (bytes.length >= 4 && ascii(bytes, 0, 4) === "PK\x03\x04") return { mime: "application/zip" };
  return undefined;
};

/** Office files are zips and audio is many things: these claims are kept when the content does not say otherwise. */
const CLAIMABLE =
  /^(application\/(zip|vnd\.[a-z0-9.+-]+|msword|gzip|x-tar|json)|audio\/[a-z0-9.+-]+|video\/[a-z0-9.+-]+)$/;

/** `bytes`: the whole file. `claimed`: the sender's Content-Type. Never fails; unknown is application/octet-stream. */
export const sniff = (bytes: Uint8Array, claimed: string): Kind => {
  const claim = claimed.split(";")[0]!.trim().toLowerCase();
  const found = byContent(bytes);
  if (found && found.mime !== "application/zip" && found.mime !== "video/mp4") return found;
  if (ACTIVE.test(claim)) return { mime: claim };
  const start = new TextDecoder().decode(bytes.subarray(0, 512)).trimStart().toLowerCase();
  if (/^(<\?xml|<!doctype|<html|<svg|<script|<body|<head)/.test(start))
    return { mime: start.includes("<svg") ? "image/svg+xml" : "text/html" };
  if (CLAIMABLE.test(claim)) return { mime: claim };
  if (found) return found;
  if (!bytes.subarray(0, 4096).includes(0) && isText(bytes.subarray(0, 4096))) return { mime: "text/plain" };
  return { mime: "application/octet-stream" };
};

const isText = (start: Uint8Array): boolean => {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(start, { stream: true }); // stream: the slice may end inside a character
    return true;
  } catch {
    return false;
  }
};

/** Whether a browser may show it in place: pictures that cannot run, nothing else. */
export const showsInline = (mime: string): boolean => /^image\/(png|jpeg|gif|webp|avif)$/.test(mime);
