/**
 * `bun run mutate [--only id,…]`: shows for each promise that its test can fail. Each patch of patches.ts breaks one guarded
 * line in a copy of the tree; the test it names is run there and must go red.
 *
 * Never touches the working tree: a copy per worker lies in the system's temp folder, with node_modules linked. Ends with
 * `N killed, N survived`, and with 0 only when none survived. A patch that does not fit is a survivor with a sentence.
 */
import { cp, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "../harness/process.ts";
import { faultOf, type Patch } from "./patch.ts";
import { PATCHES } from "./patches.ts";

/** A broken line may also make its test hang, which is red too. Tests that take longer say so themselves. */
const TEST_MS = 30_000;
const HANGS_MS = 300_000;

const tty = process.stdout.isTTY;
const paint = (code: number, text: string): string => (tty ? `\x1b[${code}m${text}\x1b[0m` : text);

/** Everything git knows or would know, copied; the binary only if it is there. */
const copyTree = async (to: string): Promise<void> => {
  const list = Bun.spawnSync(["git", "ls-files", "-co", "--exclude-standard", "-z"], { cwd: ROOT });
  const files = list.stdout.toString().split("\0").filter(Boolean);
  if (files.length === 0) throw new Error("bun run mutate needs the git checkout");
  for (const file of files)
    if (await Bun.file(join(ROOT, file)).exists()) await cp(join(ROOT, file), join(to, file), { recursive: true });
  await symlink(join(ROOT, "node_modules"), join(to, "node_modules"));
  // Some tests ask git what is in the tree.
  Bun.spawnSync(["git", "init", "-q"], { cwd: to });
  await Bun.write(join(to, ".git/info/exclude"), "node_modules\nmutate.xml\n");
};

const escaped = (name: string): string => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

type Outcome = { killed: boolean; say: string };

const attempt = async (patch: Patch, folder: string): Promise<Outcome> => {
  const path = join(folder, patch.file);
  const content = await Bun.file(path).text();
  const fault = faultOf(patch, content);
  if (fault) return { killed: false, say: fault };
  await Bun.write(
    path,
    content.replace(patch.old, () => patch.new),
  );
  const report = join(folder, "mutate.xml");
  await rm(report, { force: true });
  try {
    const [file, name] = patch.test;
    const child = Bun.spawn(
      [
        ...[process.execPath, "test", `./${file}`, "-t", escaped(name), "--path-ignore-patterns=dist/**"],
        ...[`--timeout=${TEST_MS}`, "--reporter=junit", `--reporter-outfile=${report}`],
      ],
      {
        cwd: folder,
        env: { ...process.env, CHAOS_SECONDS: "15" },
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
        detached: true,
      },
    );
    let hung = false;
    const timer = setTimeout(() => {
      hung = true;
      process.kill(-child.pid, "SIGKILL");
    }, HANGS_MS);
    const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    const code = await child.exited;
    clearTimeout(timer);
    if (hung) return { killed: true, say: "hung" };
    const xml = await Bun.file(report)
      .text()
      .catch(() => "");
    const ran = [...xml.matchAll(/<testcase [^>]*?(\/>|>)/g)].length - [...xml.matchAll(/<skipped/g)].length;
    // A file that no longer loads is no proof that the test looks at the line.
    if (code !== 0 && /<failure/.test(xml)) return { killed: true, say: `${ran} run` };
    if (code !== 0) return { killed: false, say: `no test failed, yet:\n${(out + err).trim().slice(-1500)}` };
    return { killed: false, say: ran > 0 ? `${file} stayed green` : `${file} has no test "${name}"` };
  } finally {
    await Bun.write(path, content);
  }
};

const readArgs = () => {
  try {
    return parseArgs({ options: { only: { type: "string", multiple: true }, jobs: { type: "string" } } }).values;
  } catch {
    return undefined;
  }
};

const main = async (): Promise<number> => {
  const values = readArgs();
  if (!values) {
    console.error("bun run mutate [--only D1,S3a] [--jobs 2]");
    return 2;
  }
  const only = values.only?.flatMap((one) => one.split(","));
  // `--only D1` is also D1a and D1b.
  const asked = PATCHES.filter(({ id }) => !only || only.some((one) => id === one || id.replace(/[a-z]$/, "") === one));
  if (asked.length === 0) {
    console.error(`no patch ${only?.join(", ")}; there are ${PATCHES.map(({ id }) => id).join(", ")}`);
    return 2;
  }
  const scratch = await mkdtemp(join(tmpdir(), "nexus-mutate-"));
  const began = performance.now();
  const end = () => Bun.spawnSync(["rm", "-rf", scratch]);
  process.once("exit", end);
  let killed = 0;
  let survived = 0;
  const queue = [...asked];
  const worker = async (n: number): Promise<void> => {
    const folder = join(scratch, String(n));
    await mkdir(folder);
    await copyTree(folder);
    for (let patch = queue.shift(); patch; patch = queue.shift()) {
      const from = performance.now();
      const { killed: red, say } = await attempt(patch, folder);
      if (red) killed++;
      else survived++;
      const took = `${((performance.now() - from) / 1000).toFixed(1)} s`;
      const mark = red ? paint(32, "killed  ") : paint(31, "SURVIVED");
      console.log(`${mark} ${patch.id.padEnd(5)} ${patch.breaks} ${paint(2, `(${took}, ${patch.test[0]}: ${say})`)}`);
    }
  };
  const jobs = Math.max(1, Math.min(Number(values.jobs) || availableParallelism(), asked.length));
  await Promise.all(Array.from({ length: jobs }, (_, n) => worker(n)));
  console.log(`\n${((performance.now() - began) / 1000).toFixed(1)} s in all`);
  console.log(`${killed} killed, ${survived} survived`);
  return survived === 0 ? 0 : 1;
};

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
process.exit(await main());
