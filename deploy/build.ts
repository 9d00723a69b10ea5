/**
 * `bun run build`: makes dist/nexus, the whole product in one file. `bun run build:page` makes dist/page, the chat page
 * for a web server of one's own.
 *
 * Must stay true: the same commit in the same folder gives the same bytes, so nothing of the time or the machine goes
 * in. Refuses to leave a half-written binary: the compiler's exit code is this one's.
 */
import { mkdir, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { buildPage, packPage } from "../ui/build.ts";

const ROOT = resolve(import.meta.dir, "..");
const DIST = join(ROOT, "dist");

const size = (bytes: number): string =>
  bytes < 1_000_000 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`;

/** Prints one line per finished step: what came out and how long it took. */
const createSteps = () => {
  let last = performance.now();
  return (text: string) => {
    const now = performance.now();
    console.log(`${text} (${((now - last) / 1000).toFixed(1)} s)`);
    last = now;
  };
};

const git = (...args: string[]): string => {
  const { exitCode, stdout } = Bun.spawnSync(["git", ...args], { cwd: ROOT, stderr: "ignore" });
  return exitCode === 0 ? stdout.toString().trim() : "";
};

/** The commit this tree stands at, with + when files differ from it; "unknown" outside a clone. */
const commit = (): string => {
  const hash = git("rev-parse", "--short=10", "HEAD");
  if (!hash) return "unknown";
  return git("status", "--porcelain", "--untracked-files=no") ? `${hash}+` : hash;
};

const writePage = async (step: (text: string) => void) => {
  const files = await buildPage({ standalone: true });
  await rm(join(DIST, "page"), { recursive: true, force: true });
  for (const file of files) {
    const path = join(DIST, "page", file.path === "/" ? "index.html" : file.path);
    await mkdir(dirname(path), { recursive: true });
    await Bun.write(path, file.bytes);
  }
  const total = files.reduce((sum, file) => sum + file.bytes.byteLength, 0);
  step(`dist/page: ${files.length} files, ${size(total)}`);
};

const compile = async (step: (text: string) => void): Promise<number> => {
  const { version } = await Bun.file(join(ROOT, "package.json")).json();
  const pack = await packPage(await buildPage());
  // The compiler keeps the name of an asset, so lib/assets.ts finds it in Bun.embeddedFiles as "page.pack".
  await Bun.write(join(DIST, "page.pack"), pack);
  step(`page: ${size(pack.byteLength)} packed`);

  const out = join(DIST, "nexus");
  const line = [
    process.execPath,
    "build",
    "--compile",
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
    `--define=NEXUS_COMMIT=${JSON.stringify(commit())}`,
    "--asset=dist/page.pack",
    "server.ts",
    `--outfile=${out}`,
  ];
  const child = Bun.spawnSync(line, { cwd: ROOT, stdout: "pipe", stderr: "pipe" });
  await rm(`${out}.map`, { force: true });
  if (child.exitCode !== 0) {
    console.error(child.stdout.toString() + child.stderr.toString());
    return child.exitCode;
  }
  step(`dist/nexus: ${size(Bun.file(out).size)}, version ${version}, commit ${commit()}`);
  return 0;
};

const main = async (what: string | undefined): Promise<number> => {
  // Names of the page's parts come of paths relative to the working folder.
  process.chdir(ROOT);
  const step = createSteps();
  await mkdir(DIST, { recursive: true });
  if (what === "page") {
    await writePage(step);
    return 0;
  }
  if (what === undefined) return await compile(step);
  console.error(`Unknown: ${what}. Use: bun deploy/build.ts [page]`);
  return 2;
};

process.exit(await main(process.argv[2]));
