/**
 * `bun run release [--out FOLDER] [--only NAME,NAME]`: everything a release consists of, by default into dist/release:
 * one archive per machine, the npm packages, the OpenClaw plugin, SHA256SUMS over all of them, and RELEASE, which says of
 * which version and commit they are.
 *
 * Must stay true: the same commit in the same folder gives the same bytes. What could not be built is named on the last
 * lines and makes the exit code 1; what was built stays. Refuses to publish: it only writes files; and at a tagged commit, to
 * build what must not be published (ready.ts).
 */
import { mkdir, rm } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Glob } from "bun";
import { buildPlugin } from "../plugin/build.ts";
import { type Entry, tarGz, zip } from "./archive.ts";
import { commit, compile, DIST, preparePage, ROOT, version } from "./compile.ts";
import { binaryPackage, launcherPackage } from "./npm/packages.ts";
import { readTree } from "./ready.ts";
import { NPM_NAME, npmPackageOf, type Target, TARGETS } from "./targets.ts";

/** Beside the binary in every archive, under the same paths as in the source, so that links between them hold. */
const BESIDE = ["README.md", "README.en.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"];
const SERVICE = ["nexus.service", "nginx.conf", "ecosystem.config.cjs", "Dockerfile"].map((name) => `deploy/${name}`);
/** The library for bots of one's own, and the types it names. */
const CLIENT = ["plugin/client.ts", "lib/protocol.ts"];

/** The compiled name of a file decides some of its bytes: always here, whatever --out says. */
const STAGE = join(DIST, "stage");

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

const papers = async (): Promise<Entry[]> => {
  const docs = [...new Glob("docs/**/*").scanSync({ cwd: ROOT })].sort();
  const paths = [...BESIDE, ...SERVICE, ...CLIENT, ...docs];
  return Promise.all(paths.map(async (path) => ({ path, bytes: await Bun.file(join(ROOT, path)).bytes() })));
};

type Written = { name: string; sha256: string };

const createWriter = (out: string) => {
  const written: Written[] = [];
  return {
    written,
    write: async (name: string, bytes: Uint8Array): Promise<void> => {
      await Bun.write(join(out, name), bytes);
      written.push({ name, sha256: new Bun.CryptoHasher("sha256").update(bytes).digest("hex") });
      console.log(`  ${name}: ${megabytes(bytes.length)}`);
    },
  };
};

type Maker = { at: string; made: string; beside: Entry[]; write: (name: string, bytes: Uint8Array) => Promise<void> };

/** One target: its archive and its npm package. Returns why not, when it could not be compiled. */
const makeTarget = async (target: Target, { at, made, beside, write }: Maker): Promise<string | undefined> => {
  const path = join(STAGE, target.name, target.executable);
  const compiled = await compile(path, { target: target.compiler, commit: at });
  if (!compiled.ok) return /^error: .*$/m.exec(compiled.output)?.[0] ?? compiled.output.trim();
  const binary = await Bun.file(path).bytes();
  const folder = `nexus-${made}-${target.name}`;
  const entries: Entry[] = [{ path: target.executable, bytes: binary, executable: true }, ...beside];
  const inFolder = entries.map((entry) => ({ ...entry, path: `${folder}/${entry.path}` }));
  const windows = target.platform === "win32";
  await write(`${folder}${windows ? ".zip" : ".tar.gz"}`, windows ? zip(inFolder) : tarGz(inFolder));
  const files = await binaryPackage(ROOT, made, target, binary);
  await write(`${npmPackageOf(target)}-${made}.tgz`, tarGz(files));
  await rm(join(STAGE, target.name), { recursive: true });
  return undefined;
};

const main = async (): Promise<number> => {
  const { values } = parseArgs({ options: { out: { type: "string" }, only: { type: "string" } } });
  const out = resolve(values.out ?? join(DIST, "release"));
  const wanted = values.only?.split(",");
  const unknown = wanted?.filter((name) => !TARGETS.some((target) => target.name === name)) ?? [];
  if (unknown.length) {
    console.error(`Unknown: ${unknown.join(", ")}. There are: ${TARGETS.map(({ name }) => name).join(", ")}`);
    return 2;
  }
  // Names of the page's parts come of paths relative to the working folder.
  process.chdir(ROOT);
  const [made, at] = [await version(), commit()];
  console.log(`nexus ${made}, commit ${at}${at.endsWith("+") ? " with changes that are not committed" : ""}`);
  const { publish, faults } = await readTree(ROOT, made, at);
  if (publish && faults.length) {
    for (const fault of faults) console.error(`not to be published: ${fault}`);
    return 1;
  }
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  await preparePage();
  const { write, written } = createWriter(out);
  const beside = await papers();

  const missing: string[] = [];
  for (const target of TARGETS.filter(({ name }) => !wanted || wanted.includes(name))) {
    const why = await makeTarget(target, { at, made, beside, write });
    if (why) missing.push(`${target.name}: ${why}`);
  }
  await write(`${NPM_NAME}-${made}.tgz`, tarGz(await launcherPackage(ROOT, made)));
  const plugin = await buildPlugin(STAGE);
  await write(basename(plugin), await Bun.file(plugin).bytes());
  await rm(STAGE, { recursive: true, force: true });

  written.sort((a, b) => (a.name < b.name ? -1 : 1));
  await Bun.write(join(out, "SHA256SUMS"), written.map(({ name, sha256 }) => `${sha256}  ${name}\n`).join(""));
  await Bun.write(join(out, "RELEASE"), `nexus ${made} ${at}\n`);
  console.log(`${written.length} files, SHA256SUMS and RELEASE in ${out}`);
  for (const fault of faults) console.log(`before it is published: ${fault}`);
  for (const line of missing) console.error(`not built: ${line}`);
  return missing.length ? 1 : 0;
};

process.exit(await main());
