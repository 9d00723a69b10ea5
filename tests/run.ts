/**
 * `bun run test`: everything that proves the project, from a fresh clone with nothing installed but Node or Bun.
 *
 * Owns the order, the time limits and the last line `N passed, N failed`, which is counted from the runners' own
 * reports. A skipped test, a file that does not load, a part without tests, a runner that crashes or hangs: each is a
 * failure. What of the release this machine cannot run (another system's binary, say) is neither passed nor failed: it is
 * named before the last line. Imports nothing that has to be installed first.
 */
import { mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Glob } from "bun";
import { type Tally, tally } from "./harness/junit.ts";
import { ensureNeeds } from "./harness/needs.ts";

const ROOT = resolve(import.meta.dir, "..");
const tty = process.stdout.isTTY;
const paint = (code: number, text: string): string => (tty ? `\x1b[${code}m${text}\x1b[0m` : text);
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

type Part = {
  name: string;
  /** Minutes after which it counts as hanging and is ended. */
  minutes: number;
  run: (limitMs: number, scratch: string) => Promise<Tally & { output: string; notRun?: string[]; again?: string[] }>;
};

/** The environment of every child: `bun` must be found there even when npx gave this one under another name. */
const createEnv = async (scratch: string): Promise<Record<string, string>> => {
  const bin = join(scratch, "bin");
  await mkdir(bin);
  await symlink(process.execPath, join(bin, "bun"));
  const path = [bin, join(ROOT, "node_modules", ".bin"), process.env.PATH ?? ""].join(":");
  return { ...(process.env as Record<string, string>), PATH: path };
};

/** Runs a command in its own process group, so that whatever it started ends with it when it hangs. */
const execute = async (command: string[], env: Record<string, string>, limitMs: number) => {
  const child = Bun.spawn(command, {
    cwd: ROOT,
    env,
    detached: true,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const end = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // the group is gone already
    }
  };
  process.once("exit", end);
  let output = "";
  let done = 0;
  const read = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder();
    for await (const piece of stream) {
      const text = decoder.decode(piece, { stream: true });
      output += text;
      done += text.match(/^\(pass\)|^✓/gm)?.length ?? 0;
      if (tty && done) process.stdout.write(`\r\x1b[2K  ${done} …`);
    }
  };
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    end();
  }, limitMs);
  const reading = Promise.all([read(child.stdout), read(child.stderr)]);
  const code = await child.exited;
  // A grandchild that outlives its parent may hold the pipes open; it is ended, not waited for.
  await Promise.race([reading, Bun.sleep(2000)]);
  clearTimeout(timer);
  end();
  process.removeListener("exit", end);
  if (tty) process.stdout.write("\r\x1b[2K");
  if (late) output += `\nended after ${seconds(limitMs)}: it hung\n`;
  return { code: late ? 124 : code, output };
};

/** A command that must end with 0: only its failure is counted, because it is not a test. */
const command = (name: string, line: string[], env: Record<string, string>, minutes = 5): Part => ({
  name,
  minutes,
  async run(limitMs) {
    const { code, output } = await execute(line, env, limitMs);
    const faults = code === 0 ? [] : [`${line.join(" ")} ended with ${code}`];
    return { passed: 0, failed: faults.length, faults, output };
  },
});

const textOf = (path: string): Promise<string> =>
  Bun.file(path)
    .text()
    .catch(() => "");

/** `bun test` over these files, counted from its JUnit report. `more`: further flags of the runner. */
const suite = (
  name: string,
  files: string[],
  env: Record<string, string>,
  minutes: number,
  testMs: number,
  more: string[] = [],
): Part => ({
  name,
  minutes,
  async run(limitMs, scratch) {
    const stem = join(scratch, name.replace(/\W+/g, "-"));
    // Paths are named one by one; the patterns of bunfig.toml, which keep `bun test` short, are replaced.
    const line = [process.execPath, "test", ...files.map((file) => `./${file}`), "--path-ignore-patterns=dist/**"];
    const flags = [`--timeout=${testMs}`, "--reporter=junit", `--reporter-outfile=${stem}.xml`, ...more];
    const { code, output } = await execute([...line, ...flags], { ...env, NEXUS_NOT_RUN: `${stem}.txt` }, limitMs);
    // file, what, why: written by tests/ship/kit.ts. A file may consist of such only.
    const lines = (await textOf(`${stem}.txt`)).split("\n").filter(Boolean);
    const said = lines.map((one) => one.split("\t"));
    const excused = new Set(said.map(([from]) => from));
    const expected = files.filter((file) => !excused.has(file));
    const notRun = said.map(([, what, why]) => `${what}: ${why}`);
    const again = [...output.matchAll(/^\(pass\) (.*) \(attempt \d+\)/gm)].map((match) => match[1]!);
    return { ...tally(await textOf(`${stem}.xml`), expected, code), notRun, again, output };
  },
});

const filesIn = (pattern: string): string[] => [...new Glob(pattern).scanSync({ cwd: ROOT })].sort();

/** These compare medians and count what happens in a span: with the cores full they measure the neighbours. */
const ALONE = ["tests/passwords.test.ts", "tests/streams-life.test.ts"];

const plan = async (env: Record<string, string>): Promise<Part[]> => {
  const { scripts } = await Bun.file(join(ROOT, "package.json")).json();
  const checks: string[] = scripts.check.split(" && ");
  const parts = checks.map((line) => command(line, ["sh", "-c", line], env));
  // As many processes as there are cores: the files know nothing of each other. What measures time gets the machine alone.
  const everyday = filesIn("tests/*.test.ts");
  const together = everyday.filter((file) => !ALONE.includes(file));
  parts.push(suite("everyday tests", together, env, 5, 20_000, ["--parallel"]));
  parts.push(suite("everyday tests of time", ALONE, env, 3, 60_000));
  parts.push(command("build dist/nexus", [process.execPath, "deploy/build.ts"], env));
  const binary = { ...env, NEXUS_RUN: "binary" };
  parts.push(suite("contract of the binary", ["tests/contract.test.ts"], binary, 4, 30_000));
  const folders = [
    ["bench", "speed beside the bare relay", 5, 200_000],
    ["e2e", "browser tests", 8, 60_000],
    ["openclaw", "OpenClaw tests", 14, 480_000],
    ["chaos", "chaos tests", 12, 300_000],
    ["ship", "release tests", 8, 240_000],
  ] as const;
  for (const [folder, name, minutes, testMs] of folders) {
    const files = filesIn(`tests/${folder}/**/*.test.ts`);
    // Real browsers, hosts and killed processes on two busy cores: a test that fails is asked once more, and named below when
    // it passes then. What is broken fails twice.
    if (files.length) parts.push(suite(name, files, env, minutes, testMs, ["--retry=1"]));
  }
  return parts;
};

const main = async (): Promise<number> => {
  const began = performance.now();
  const scratch = await mkdtemp(join(tmpdir(), "nexus-run-"));
  const env = await createEnv(scratch);
  const faults: string[] = [];
  const notRun: string[] = [];
  const again: string[] = [];
  let passed = 0;
  let failed = 0;

  const perform = async (part: Part) => {
    const start = performance.now();
    if (tty) process.stdout.write(`  ${part.name} …`);
    const result = await part.run(part.minutes * 60_000, scratch);
    passed += result.passed;
    failed += result.failed;
    notRun.push(...(result.notRun ?? []));
    again.push(...(result.again ?? []).map((test) => `${part.name}: ${test}`));
    const counts = [
      result.passed && `${result.passed} passed`,
      result.failed && paint(31, `${result.failed} failed`),
      result.notRun?.length && `${result.notRun.length} not run here`,
    ];
    const count = counts.filter(Boolean).join(", ") || "ok";
    const mark = result.failed ? paint(31, "✗") : paint(32, "✓");
    console.log(`${tty ? "\r\x1b[2K" : ""}${mark} ${part.name}: ${count}, ${seconds(performance.now() - start)}`);
    if (!result.failed) return;
    for (const fault of result.faults) faults.push(`${part.name}: ${fault}`);
    console.log(result.output.trimEnd().split("\n").slice(-400).join("\n"));
  };

  await perform(command("install", [process.execPath, "install", "--frozen-lockfile"], env));
  const missing = await ensureNeeds((text) => console.log(text));
  if (missing) {
    failed++;
    faults.push(missing);
    console.log(missing);
  }
  for (const part of await plan(env)) await perform(part);

  await rm(scratch, { recursive: true, force: true });
  console.log(`\n${seconds(performance.now() - began)} in all`);
  for (const line of again) console.log(`${paint(33, "–")} passed only when asked again: ${line}`);
  for (const line of notRun) console.log(`${paint(33, "–")} not run here: ${line}`);
  for (const fault of faults) console.log(`${paint(31, "✗")} ${fault}`);
  console.log(`${passed} passed, ${failed} failed`);
  return failed ? 1 : 0;
};

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
process.exit(await main());
