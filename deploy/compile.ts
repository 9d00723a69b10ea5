/**
 * Compiling the product into one file, for this machine or another.
 *
 * Owns the flags. Must stay true: the same commit in the same folder gives the same bytes, so nothing of the time or the
 * machine goes in. Refuses to leave a half-written binary behind: what failed is removed and its output handed back.
 */
import { mkdir, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { buildPage, packPage } from "../ui/build.ts";

export const ROOT = resolve(import.meta.dir, "..");
export const DIST = join(ROOT, "dist");

const git = (...args: string[]): string => {
  const { exitCode, stdout } = Bun.spawnSync(["git", ...args], { cwd: ROOT, stderr: "ignore" });
  return exitCode === 0 ? stdout.toString().trim() : "";
};

/** The commit this tree stands at, with + when files differ from it; "unknown" outside a clone. */
export const commit = (): string => {
  const hash = git("rev-parse", "--short=10", "HEAD");
  if (!hash) return "unknown";
  return git("status", "--porcelain", "--untracked-files=no") ? `${hash}+` : hash;
};

/** The version of package.json. */
export const version = async (): Promise<string> => (await Bun.file(join(ROOT, "package.json")).json()).version;

/** Builds the page into dist/page.pack, which every binary carries. Returns its size in bytes. */
export const preparePage = async (): Promise<number> => {
  await mkdir(DIST, { recursive: true });
  const pack = await packPage(await buildPage());
  // The compiler keeps the name of an asset, so lib/assets.ts finds it in Bun.embeddedFiles as "page.pack".
  await Bun.write(join(DIST, "page.pack"), pack);
  return pack.byteLength;
};

export type Compiled = { ok: true; bytes: number } | { ok: false; code: number; output: string };

/**
 * Compiles server.ts with dist/page.pack into `outfile`. `target`: a target of the compiler (`bun-linux-arm64`, …), whose
 * runtime it fetches from the package registry when it has none; absent: this machine's own.
 */
export const compile = async (outfile: string, options: { target?: string; commit: string }): Promise<Compiled> => {
  await mkdir(dirname(outfile), { recursive: true });
  const line = [
    process.execPath,
    "build",
    "--compile",
    ...(options.target ? [`--target=${options.target}`] : []),
    "--minify",
    // ESM, because the default format of --bytecode knows no top-level await.
    "--bytecode",
    "--format=esm",
    // Stacks in the log name our files and lines; the map is inside the binary.
    "--sourcemap",
    // A .env or bunfig.toml in the working folder must not reach a server (the latter ran its preload script).
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
    // No eval in the process, and no preload by BUN_OPTIONS either.
    "--compile-exec-argv=--disallow-code-generation-from-strings=strict",
    `--define=NEXUS_COMMIT=${JSON.stringify(options.commit)}`,
    "--asset=dist/page.pack",
    "server.ts",
    `--outfile=${outfile}`,
  ];
  const child = Bun.spawn(line, { cwd: ROOT, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const code = await child.exited;
  const stem = outfile.replace(/\.exe$/, "");
  for (const map of [`${outfile}.map`, `${stem}.map`]) await rm(map, { force: true });
  const file = Bun.file(outfile);
  if (code === 0 && (await file.exists())) return { ok: true, bytes: file.size };
  await rm(outfile, { force: true });
  return { ok: false, code: code || 1, output: out + err };
};
