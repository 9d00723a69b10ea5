/**
 * `bun run build`: makes dist/nexus, the whole product in one file for this machine. `bun run build:page` makes
 * dist/page, the chat page for a web server of one's own. For other machines: release.ts.
 *
 * Must stay true: a failed build ends with another exit code than 0 and leaves no binary.
 */
import { mkdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { buildPage } from "../ui/build.ts";
import { commit, compile, DIST, preparePage, ROOT, version } from "./compile.ts";

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

const writeBinary = async (step: (text: string) => void): Promise<number> => {
  step(`page: ${size(await preparePage())} packed`);
  const at = commit();
  const made = await compile(join(DIST, "nexus"), { commit: at });
  if (!made.ok) {
    console.error(made.output);
    return made.code;
  }
  step(`dist/nexus: ${size(made.bytes)}, version ${await version()}, commit ${at}`);
  return 0;
};

const main = async (what: string | undefined): Promise<number> => {
  // Names of the page's parts come of paths relative to the working folder.
  process.chdir(ROOT);
  const step = createSteps();
  if (what === "page") {
    await writePage(step);
    return 0;
  }
  if (what === undefined) return await writeBinary(step);
  console.error(`Unknown: ${what}. Use: bun deploy/build.ts [page]`);
  return 2;
};

process.exit(await main(process.argv[2]));
