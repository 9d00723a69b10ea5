/**
 * The built page → responses.
 *
 * Owns the headers every page response carries: the policy that lets nothing run or load but our own files, caching
 * (hashed names for ever, the rest asked again with an ETag) and compression done once. In the binary the page is one packed
 * file found among the embedded ones; from source it is built at start by ui/build.ts, which the bundler must not see.
 * index.html is kept in a few versions (language, theme, signed in or not), so no script has to run before the first paint.
 */

export type PageFile = {
  /** Address, beginning with `/`; `/` itself is index.html. */
  path: string;
  type: string;
  bytes: Uint8Array<ArrayBuffer>;
  /** Absent where compression gains nothing. */
  gzip: Uint8Array<ArrayBuffer> | undefined;
  /** The name changes with the content. */
  immutable: boolean;
};

type Served = PageFile & { etag: string };
type Theme = "system" | "light" | "dark";
type Lang = "zh" | "en";

/** The page, ready to serve. */
export type Assets = {
  /** A file by its address; undefined for what the page does not have. */
  file: (path: string) => Served | undefined;
  index: (lang: Lang, theme: Theme, signedIn: boolean) => Served;
};

export type PageHeaders = {
  /** Sources that may frame the page, from the config. */
  frameAncestors: readonly string[];
};

/** The policy of every response. The page has no inline script or style and builds no HTML from strings. */
export const contentSecurityPolicy = (frameAncestors: readonly string[]): string =>
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; " +
  "font-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; " +
  `frame-ancestors ${frameAncestors.length ? frameAncestors.join(" ") : "'none'"}; ` +
  "require-trusted-types-for 'script'; trusted-types 'none'";

const hash = (bytes: Uint8Array): string => new Bun.CryptoHasher("sha256").update(bytes).digest("hex").slice(0, 16);

/** All files in one: length of the JSON table (4 bytes, big endian), the table, then the bytes. */
export const packPage = (files: readonly PageFile[]): Uint8Array<ArrayBuffer> => {
  const parts: Uint8Array[] = [];
  let offset = 0;
  const put = (bytes: Uint8Array | undefined): [number, number] | undefined => {
    if (!bytes) return undefined;
    parts.push(bytes);
    offset += bytes.length;
    return [offset - bytes.length, bytes.length];
  };
  const rows = files.map(({ path, type, immutable, bytes, gzip }) => ({
    path,
    type,
    immutable,
    bytes: put(bytes),
    gzip: put(gzip),
  }));
  const table = new TextEncoder().encode(JSON.stringify(rows));
  const out = new Uint8Array(4 + table.length + offset);
  new DataView(out.buffer).setUint32(0, table.length);
  out.set(table, 4);
  let at = 4 + table.length;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
};

type Row = { path: string; type: string; immutable: boolean; bytes: [number, number]; gzip?: [number, number] };

/** The files of a pack made by `packPage`; throws on anything else. */
export const unpackPage = (pack: Uint8Array<ArrayBuffer>): PageFile[] => {
  const length = new DataView(pack.buffer, pack.byteOffset).getUint32(0);
  const start = 4 + length;
  const cut = ([at, size]: [number, number]): Uint8Array<ArrayBuffer> => pack.subarray(start + at, start + at + size);
  const rows = JSON.parse(new TextDecoder().decode(pack.subarray(4, start))) as Row[];
  return rows.map((row) => ({
    path: row.path,
    type: row.type,
    immutable: row.immutable,
    bytes: cut(row.bytes),
    gzip: row.gzip && cut(row.gzip),
  }));
};

const serve = (file: PageFile): Served => ({ ...file, etag: `"${hash(file.bytes)}"` });

const variant = (template: string, lang: Lang, theme: Theme, signedIn: boolean): Served => {
  const text = template.replace(
    '<html lang="zh" data-theme="system" data-view="start">',
    `<html lang="${lang}" data-theme="${theme}" data-view="${signedIn ? "chat" : "login"}">`,
  );
  const bytes = new TextEncoder().encode(text);
  const gzip = Bun.gzipSync(bytes, { level: 9 });
  return serve({ path: "/", type: "text/html; charset=utf-8", bytes, gzip, immutable: false });
};

/** Makes the page servable from its files. */
export const createAssets = (files: readonly PageFile[]): Assets => {
  const served = new Map<string, Served>();
  const indexes = new Map<string, Served>();
  for (const file of files) {
    if (file.path !== "/") served.set(file.path, serve(file));
    else {
      const template = new TextDecoder().decode(file.bytes);
      for (const lang of ["zh", "en"] as const)
        for (const theme of ["system", "light", "dark"] as const)
          for (const signedIn of [false, true])
            indexes.set(`${lang} ${theme} ${signedIn}`, variant(template, lang, theme, signedIn));
    }
  }
  return {
    file: (path) => served.get(path),
    index: (lang, theme, signedIn) => indexes.get(`${lang} ${theme} ${signedIn}`)!,
  };
};

/**
 * The page from the packed file among `embedded` (its name begins with "page"), or, when there is none, built from source.
 * Throws when it cannot be built.
 */
export const loadAssets = async ({ embedded }: { embedded: readonly Blob[] }): Promise<Assets> => {
  const pack = embedded.find((file) => /(^|\/)page[^/]*$/.test((file as Blob & { name?: string }).name ?? ""));
  if (pack) return createAssets(unpackPage(new Uint8Array(await pack.arrayBuffer())));
  // An address the bundler cannot follow: the builder and its tools stay out of the binary.
  const builder = new URL("../ui/build.ts", import.meta.url).href;
  const { buildPage } = (await import(builder)) as { buildPage: () => Promise<PageFile[]> };
  return createAssets(await buildPage());
};

/**
 * The page at the first request for it, unpacked or built then: /health answers before that, and tests need no page. What
 * could not be loaded is tried again at the next request.
 */
export const lazily = (load: () => Promise<Assets>): (() => Promise<Assets>) => {
  let loading: Promise<Assets> | undefined;
  return () => {
    loading ??= load();
    loading.catch(() => {
      loading = undefined;
    });
    return loading;
  };
};

const cookie = (request: Request, name: string): string | undefined => {
  for (const pair of (request.headers.get("cookie") ?? "").split(";")) {
    const at = pair.indexOf("=");
    if (at > 0 && pair.slice(0, at).trim() === name) return pair.slice(at + 1).trim();
  }
  return undefined;
};

const languageOf = (request: Request, fallback: Lang): Lang => {
  const chosen = cookie(request, "nexus_lang");
  if (chosen === "zh" || chosen === "en") return chosen;
  const accepted = /\b(zh|en)\b/i.exec(request.headers.get("accept-language") ?? "")?.[1]?.toLowerCase();
  return accepted === "zh" || accepted === "en" ? accepted : fallback;
};

const themeOf = (request: Request): Theme => {
  const chosen = cookie(request, "nexus_theme");
  return chosen === "light" || chosen === "dark" ? chosen : "system";
};

const isPageAddress = (path: string): boolean =>
  path === "/" || /^\/(c\/[A-Za-z0-9_-]{1,64}|admin(\/[a-z]{1,16})?)$/.test(path);

/**
 * The response for a GET or HEAD of the page or one of its files; undefined when `path` is neither.
 * `language` is what a browser gets that asks for neither Chinese nor English.
 */
export const assetResponse = (
  assets: Assets,
  request: Request,
  path: string,
  options: PageHeaders & { language: Lang },
): Response | undefined => {
  const page = isPageAddress(path);
  const signedIn = cookie(request, "__Host-nexus") !== undefined || cookie(request, "nexus") !== undefined;
  const file = page
    ? assets.index(languageOf(request, options.language), themeOf(request), signedIn)
    : assets.file(path);
  if (!file) return undefined;
  const headers = new Headers({
    "Content-Type": file.type,
    "Cache-Control": file.immutable ? "public, max-age=31536000, immutable" : "no-cache",
    ETag: file.etag,
    Vary: page ? "Accept-Encoding, Accept-Language, Cookie" : "Accept-Encoding",
    "Content-Security-Policy": contentSecurityPolicy(options.frameAncestors),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
  });
  const known = request.headers.get("if-none-match");
  if (known?.split(",").some((tag) => tag.trim().replace(/^W\//, "") === file.etag))
    return new Response(null, { status: 304, headers });
  const zipped =
    file.gzip !== undefined &&
    /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))/.test(request.headers.get("accept-encoding") ?? "");
  if (zipped) headers.set("Content-Encoding", "gzip");
  const body = zipped ? file.gzip! : file.bytes;
  headers.set("Content-Length", String(body.length));
  return new Response(request.method === "HEAD" ? null : body, { headers });
};
