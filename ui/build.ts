/**
 * Builds the page: TypeScript, CSS and index.html → files with hashed names, each also compressed.
 *
 * Runs at start in source mode, inside the build of the binary, and for the standalone page. Bun bundles; esbuild only
 * lowers, file by file, what Bun leaves as written (`#x`, `static {}`, class fields), because in-app browsers lag years
 * behind: every shipped script parses as ES2021. Must stay true: nothing here is in the binary.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { stop, transform } from "esbuild";
import { packPage, unpackPage, type PageFile } from "../lib/assets.ts";

export { packPage, unpackPage, type PageFile };

/** What is lowered to: the oldest engines the page promises to run on. */
const TARGET = ["es2021", "chrome94", "safari15.4"];

/** In the order of the cascade. */
const STYLES = [
  "tokens",
  "base",
  "login",
  "shell",
  "sidebar",
  "transcript",
  "parts",
  "markdown",
  "composer",
  "dialogs",
  "print",
];

const here = (path: string): string => join(import.meta.dir, path);
const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

const hashOf = (bytes: Uint8Array): string =>
  new Bun.CryptoHasher("sha256").update(bytes).digest("base64url").replace(/[-_]/g, "x").slice(0, 10);

const fileOf = (path: string, type: string, bytes: Uint8Array<ArrayBuffer>, immutable: boolean): PageFile => {
  const text = !type.startsWith("image/png");
  return { path, type, bytes, gzip: text ? Bun.gzipSync(bytes, { level: 9 }) : undefined, immutable };
};

const lower: Bun.BunPlugin = {
  name: "lower",
  setup: (build) => {
    build.onLoad({ filter: /\.(ts|js|mjs)$/ }, async ({ path }) => {
      const source = await readFile(path, "utf8");
      // highlight.js has a function of its own that writes HTML; the page never calls it, and so it cannot be called.
      const { code } = await transform(source.replace(/\.innerHTML\b/g, ".textContent"), {
        loader: path.endsWith(".ts") ? "ts" : "js",
        target: TARGET,
        // Bun may put helpers and names together again; the output of this step is only syntax.
        tsconfigRaw: { compilerOptions: { useDefineForClassFields: true, verbatimModuleSyntax: true } },
      });
      return { contents: code, loader: "js" };
    });
  },
};

export type BuildOptions = {
  /** For any web server: relative addresses, a gateway on another origin, its own policy and theme script. */
  standalone?: boolean;
  /** Readable output, for debugging. */
  minify?: boolean;
};

const scripts = async (
  minify: boolean,
  entries: string[],
  adminStyle: PageFile,
): Promise<{ entry: Map<string, string>; files: PageFile[] }> => {
  const result = await Bun.build({
    entrypoints: entries.map((name) => here(`${name}.ts`)),
    target: "browser",
    format: "esm",
    splitting: true,
    minify,
    naming: { entry: "[name]-[hash].js", chunk: "part-[hash].js" },
    plugins: [lower],
    // All files stand beside each other, so the script finds it from its own address.
    define: { ADMIN_STYLE: JSON.stringify(`.${adminStyle.path}`) },
    throw: false,
  });
  if (!result.success) throw new Error(`the page does not build: ${result.logs.join("\n")}`);
  const entry = new Map<string, string>();
  const files: PageFile[] = [];
  for (const output of result.outputs) {
    const path = `/${output.path.replace(/^.*[\\/]/, "")}`;
    if (output.kind === "entry-point") entry.set(path.slice(1, path.lastIndexOf("-")), path);
    files.push(fileOf(path, "text/javascript; charset=utf-8", new Uint8Array(await output.arrayBuffer()), true));
  }
  return { entry, files };
};

const styles = async (minify: boolean, file: string, names: readonly string[]): Promise<PageFile> => {
  const parts = await Promise.all(names.map((name) => readFile(here(`css/${name}.css`), "utf8")));
  // The dark values stand once in tokens.css; here they are also given to those who follow the system.
  const all = parts.join("\n");
  const dark = /\[data-theme="dark"\] \{([^}]*)\}/.exec(all)?.[1] ?? "";
  const { code } = await transform(all.replace("/*dark*/", dark), { loader: "css", target: TARGET, minify });
  const bytes = encode(code);
  return fileOf(`/${file}-${hashOf(bytes)}.css`, "text/css; charset=utf-8", bytes, true);
};

const manifest = (root: string): string =>
  JSON.stringify({
    name: "Nexus",
    short_name: "Nexus",
    start_url: root,
    scope: root,
    display: "standalone",
    background_color: "#F5F7F6",
    theme_color: "#0B6B5C",
    icons: [
      { src: `${root}icon-192.png`, sizes: "192x192", type: "image/png" },
      { src: `${root}icon-512.png`, sizes: "512x512", type: "image/png", purpose: "any maskable" },
      { src: `${root}icon.svg`, sizes: "any", type: "image/svg+xml" },
    ],
  });

const STANDALONE_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src *; font-src 'self'; " +
  "manifest-src 'self'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/** Builds all files of the page; the one with path `/` is index.html. About 0.2 s. */
export const buildPage = async (options: BuildOptions = {}): Promise<PageFile[]> => {
  const minify = options.minify ?? true;
  const standalone = options.standalone === true;
  try {
    const adminStyle = await styles(minify, "admin", ["admin", "admin-table"]);
    const [{ entry, files }, style, html] = await Promise.all([
      scripts(minify, standalone ? ["app", "early"] : ["app"], adminStyle),
      styles(minify, "style", STYLES),
      readFile(here("index.html"), "utf8"),
    ]);
    const root = standalone ? "./" : "/";
    const at = (path: string): string => root + path.slice(1);
    let index = html
      .replace('href="style.css"', `href="${at(style.path)}"`)
      .replace('src="app.js"', `src="${at(entry.get("app")!)}"`)
      .replace('href="icon.svg"', `href="${root}icon.svg"`)
      .replace('href="icon-192.png"', `href="${root}icon-192.png"`)
      .replace('href="manifest.webmanifest"', `href="${root}manifest.webmanifest"`)
      .replace(/\n\s+/g, "\n");
    const extra = standalone
      ? `<meta http-equiv="Content-Security-Policy" content="${STANDALONE_POLICY}">\n` +
        `<meta name="nexus-gateway" content="">\n<script src="${at(entry.get("early")!)}"></script>`
      : "";
    index = index.replace("<!-- standalone -->", extra);
    const icons = await Promise.all(
      ["icon-192.png", "icon-512.png"].map(async (name) =>
        fileOf(`/${name}`, "image/png", new Uint8Array(await readFile(here(`icons/${name}`))), false),
      ),
    );
    return [
      fileOf("/", "text/html; charset=utf-8", encode(index), false),
      style,
      adminStyle,
      ...files,
      fileOf("/manifest.webmanifest", "application/manifest+json", encode(manifest(root)), false),
      fileOf("/icon.svg", "image/svg+xml", encode(await readFile(here("icons/icon.svg"), "utf8")), false),
      ...icons,
    ];
  } finally {
    await stop();
  }
};
