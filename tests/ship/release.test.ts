/**
 * The archives of a release: complete, the same when built twice (P6), and each binary that can run here does what its
 * README says in an empty folder: first start, sign in, chat, stop.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { copyFile, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Glob } from "bun";
import { type Target, TARGETS } from "../../deploy/targets.ts";
import { localLinksOf } from "../harness/markdown.ts";
import { startProcess } from "../harness/process.ts";
import { tempDir, within } from "../harness/wait.ts";
import { checkSignature } from "./macho.ts";
import { lacksMusl, prepareMusl } from "./musl.ts";
import {
  archiveOf,
  buildRelease,
  find,
  firstSecrets,
  notRun,
  own,
  release,
  sh,
  unpack,
  useIt,
  version,
} from "./kit.ts";

const FILE = "release.test.ts";
let folder: Awaited<ReturnType<typeof tempDir>>;
beforeAll(async () => {
  folder = await tempDir("release");
  await release();
}, 240_000);
afterAll(() => folder.remove());

const sums = async (): Promise<string> => Bun.file(join(await release(), "SHA256SUMS")).text();

test("the same source builds the same bytes, every file of the release twice (P6)", async () => {
  const first = await sums();
  await buildRelease();
  expect(await sums()).toBe(first);
}, 240_000);

test("SHA256SUMS names every file, and sha256sum agrees", async () => {
  const checked = await sh(["sha256sum", "--strict", "-c", "SHA256SUMS"], { cwd: await release() });
  const names = (await sums()).match(/\S+$/gm) ?? [];
  expect(names.length).toBe(TARGETS.length * 2 + 2);
  for (const name of names) expect(checked).toContain(`${name}: OK`);
  for (const target of TARGETS) expect(names).toContain(await archiveOf(target));
});

const ELF = new Map([
  [62, "x64"],
  [183, "arm64"],
]);
const MACH_O = new Map([
  [0x1000007, "x64"],
  [0x100000c, "arm64"],
]);
const PE = new Map([[0x8664, "x64"]]);

/** What the first bytes of a program say it is for. */
const madeFor = async (path: string): Promise<string> => {
  const head = Buffer.from(await Bun.file(path).slice(0, 4096).arrayBuffer());
  if (head.readUInt32BE(0) === 0x7f454c46)
    return `linux ${ELF.get(head.readUInt16LE(18))} ${head.includes("ld-musl") ? "musl" : "glibc"}`;
  if (head.readUInt32LE(0) === 0xfeedfacf) return `darwin ${MACH_O.get(head.readUInt32LE(4))}`;
  const pe = head.readUInt32LE(0x3c);
  if (head.toString("latin1", pe, pe + 2) === "PE") return `win32 ${PE.get(head.readUInt16LE(pe + 4))}`;
  return "unknown";
};

const expected = ({ platform, arch, libc }: Target): string => [platform, arch, libc].filter(Boolean).join(" ");

describe.each(TARGETS.filter(({ platform }) => platform !== "win32"))("the archive of $name", (target) => {
  test("has the program, executable and for that machine, and what a reader of its README follows", async () => {
    const at = await unpack(target, join(folder.path, target.name));
    const binary = join(at, target.executable);
    expect(await madeFor(binary)).toBe(expected(target));
    expect((await Bun.file(binary).stat()).mode & 0o777).toBe(0o755);
    for (const name of ["README.md", "README.en.md", "LICENSE", "CHANGELOG.md", "deploy/nexus.service"])
      expect(`${name} ${existsSync(join(at, name))}`).toBe(`${name} true`);
    for (const file of new Glob("**/*.md").scanSync({ cwd: at }))
      for (const link of localLinksOf(await Bun.file(join(at, file)).text()))
        expect(`${file}: ${link} ${existsSync(join(at, dirname(file), link))}`).toBe(`${file}: ${link} true`);
    // The library for bots is there with all it names.
    const client = await Bun.file(join(at, "plugin/client.ts")).text();
    for (const [, path] of client.matchAll(/from "([^"]+)"/g))
      expect(`${path} ${existsSync(join(at, "plugin", path!))}`).toBe(`${path} true`);
  });
});

test("the signature of the macos-arm64 program fits its bytes, without which Apple silicon starts nothing", async () => {
  const target = TARGETS.find(({ name }) => name === "macos-arm64")!;
  const binary = join(await unpack(target, join(folder.path, target.name)), target.executable);
  const { pages, wrong } = checkSignature(await Bun.file(binary).bytes());
  expect(pages).toBeGreaterThan(1000);
  expect(wrong).toBe(0);
});

test("the archive of windows-x64 is a zip that another program reads, with a Windows program in it", async () => {
  const target = TARGETS.find(({ platform }) => platform === "win32")!;
  const into = join(folder.path, "windows");
  await mkdir(into);
  const zip = join(await release(), await archiveOf(target));
  const script =
    "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; z.extractall(sys.argv[2])";
  await sh(["python3", "-c", script, zip, into]);
  const at = join(into, `nexus-${await version()}-windows-x64`);
  expect(await madeFor(join(at, "nexus.exe"))).toBe("win32 x64");
  expect(existsSync(join(at, "README.md"))).toBe(true);
});

/** The steps of the README with a binary that `run` starts, in an empty folder with an empty environment. */
const followReadme = async (name: string, run: string[], readyMs: number): Promise<void> => {
  const cwd = join(folder.path, `run-${name}`);
  await mkdir(cwd);
  const said = await sh([...run, "--version"], { cwd, env: {} });
  expect(said).toMatch(new RegExp(`^nexus ${(await version()).replaceAll(".", "\\.")} \\([0-9a-f]{10}\\+?\\)$`, "m"));
  const running = await startProcess({ run, args: ["--port", "0"], cwd, env: {}, config: null, readyMs });
  try {
    console.log(`${name}: ${running.startMs.toFixed(0)} ms to the first 200 on /health of a first start`);
    const { content } = await useIt(running.url, await firstSecrets(cwd));
    expect(content).toBe("echo: hello");
    const page = await fetch(running.url);
    expect(page.status).toBe(200);
    expect(await page.text()).toContain("<script");
    expect((await page.headers).get("content-security-policy")).toContain("default-src 'none'");
    running.kill("SIGTERM");
    expect(await within(running.exited, 20_000, "the exit")).toBe(0);
  } finally {
    await running.stop();
  }
};

/** How a Linux target can be started here, or why not. */
type Way = { run: (binary: string) => string[] | Promise<string[]>; readyMs: number };
const waysToRun = (target: Target): Way | { why: string } => {
  if (target === own) return { run: (binary) => [binary], readyMs: 10_000 };
  if (target.platform !== "linux") return { why: `needs ${target.platform === "darwin" ? "macOS" : "Windows"}` };
  if (process.platform !== "linux") return { why: "needs Linux" };
  if (target.arch === "arm64") {
    const qemu = find("qemu-aarch64-static") ?? find("qemu-aarch64");
    const libc = "/usr/aarch64-linux-gnu";
    if (!qemu) return { why: "needs qemu-user-static" };
    if (!existsSync(`${libc}/lib/ld-linux-aarch64.so.1`)) return { why: "needs libc6-arm64-cross" };
    return { run: (binary) => [qemu, "-L", libc, binary], readyMs: 60_000 };
  }
  if (target.libc === "musl" && process.arch === "x64") {
    const why = lacksMusl();
    if (why) return { why };
    return { run: async (binary) => [...(await prepareMusl(join(folder.path, "musl"))), binary], readyMs: 10_000 };
  }
  return { why: `needs ${target.arch}` };
};

for (const target of TARGETS) {
  const name = `${target.name}: first start, sign in, chat, stop`;
  const way = waysToRun(target);
  if ("why" in way) {
    notRun(FILE, name, way.why);
    continue;
  }
  test(
    name,
    async () => {
      const binary = join(folder.path, `bin-${target.name}`);
      await copyFile(join(await unpack(target, join(folder.path, target.name)), target.executable), binary);
      await followReadme(target.name, await way.run(binary), way.readyMs);
    },
    120_000,
  );
}
