/**
 * deploy/Dockerfile as far as it goes without a container engine: what a builder would read in it, each line done on this
 * machine's own Debian in place of the base image, and its health check, as printed, against the program.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { DEFAULTS } from "../../lib/config/defaults.ts";
import { ROOT, type RunningProcess, startProcess } from "../harness/process.ts";
import { tempDir, until, within } from "../harness/wait.ts";
import { find, firstSecrets, notRun, own, unpack, useIt } from "./kit.ts";

const FILE = "container.test.ts";
let folder: Awaited<ReturnType<typeof tempDir>>;
let binary: string;
let running: RunningProcess;
beforeAll(async () => {
  folder = await tempDir("container");
  if (own) binary = join(await unpack(own, folder.path), own.executable);
  running = await startProcess({ run: own ? [binary] : "source" });
}, 240_000);
afterAll(async () => {
  await running?.stop();
  await folder?.remove();
});

/** The instructions in their order: lines put together, comments left out. */
const instructions = async (): Promise<{ word: string; rest: string }[]> => {
  const text = (await Bun.file(join(ROOT, "deploy/Dockerfile")).text()).replace(/^#.*\n/gm, "").replaceAll("\\\n", " ");
  return [...text.matchAll(/^(\S+)\s+(.*)$/gm)].map(([, word, rest]) => ({ word: word!, rest: rest!.trim() }));
};

/** What stands behind an instruction that is there once. */
const only = async (word: string): Promise<string> => {
  const found = (await instructions()).filter((one) => one.word === word);
  if (found.length !== 1) throw new Error(`the Dockerfile has ${found.length} × ${word}`);
  return found[0]!.rest;
};

/** A command of the Dockerfile in its list form. */
const command = async (word: string): Promise<string[]> => JSON.parse((await only(word)).replace(/^[^[]*/, ""));

test("a builder reads it: known instructions, the base first, and it copies what bun run build makes", async () => {
  const words = (await instructions()).map(({ word }) => word);
  const known = "FROM RUN COPY USER WORKDIR VOLUME EXPOSE STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD".split(" ");
  expect(words.filter((word) => !known.includes(word))).toEqual([]);
  expect(words[0]).toBe("FROM");
  expect(words.indexOf("USER")).toBeGreaterThan(words.lastIndexOf("RUN"));
  expect(await Bun.file(join(ROOT, "deploy/build.ts")).text()).toContain('join(DIST, "nexus")');
  expect(await only("COPY")).toBe("dist/nexus /usr/local/bin/nexus");
  expect(await only("EXPOSE")).toBe(String(DEFAULTS.port));
  expect(await only("STOPSIGNAL")).toBe("SIGTERM");
  expect(await only("VOLUME")).toBe(await only("WORKDIR"));
});

test("the health check passes while the gateway answers and fails when nobody does", async () => {
  const [program, ...args] = await command("HEALTHCHECK");
  const check = (port: number): number =>
    Bun.spawnSync([program!, ...args.map((arg) => arg.replaceAll(String(DEFAULTS.port), String(port)))], { env: {} })
      .exitCode;
  expect(check(running.port)).toBe(0);
  await running.stop();
  expect(check(running.port)).toBe(1);
});

/**
 * A root of its own, from this machine's Debian but without what was put into /usr/local, gone with the process; then what
 * the Dockerfile says. A volume begins as a copy of what the image has there, with its owner.
 */
const CONTAIN = `
set -e
root=$1 volume=$2 program=$3 prepare=$4 to=$5 user=$6 work=$7; shift 7
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
cd "$root"
mkdir usr etc var var/lib tmp proc dev
mount --bind /usr usr
mount -t tmpfs tmpfs usr/local
mkdir usr/local/bin
for name in bin sbin lib lib64; do ln -s usr/$name $name; done
cp -a /etc/. etc/
mount --bind /proc proc
mount --bind /dev dev
chroot . /bin/sh -c "$prepare"
cp "$program" ".$to"
chown --reference=".$work" "$volume"
mount --bind "$volume" ".$work"
exec chroot --userspec="$user" . /bin/sh -c 'cd "$0" && exec "$@"' "$work" "$@"
`;

const lacks =
  process.platform !== "linux" || !own || process.getuid?.() !== 0
    ? "needs Linux and root"
    : !(await Bun.file("/etc/debian_version").exists())
      ? "needs Debian"
      : Bun.spawnSync(["unshare", "-m", "true"]).success
        ? undefined
        : "this machine lets nobody make a mount namespace";
if (lacks) notRun(FILE, "each line of the Dockerfile on a Debian", lacks);
else
  test("each line of it, done on a Debian: the user is made, owns the volume, first start, chat, stop", async () => {
    const root = join(folder.path, "root");
    const volume = join(folder.path, "volume");
    await mkdir(root);
    await mkdir(volume);
    const [user, work] = [await only("USER"), await only("WORKDIR")];
    const to = (await only("COPY")).split(" ")[1]!;
    const line = [...(await command("ENTRYPOINT")), ...(await command("CMD"))];
    const prepare = ["unshare", "--mount", "bash", "-c", CONTAIN, "contain", root, volume, binary, await only("RUN")];
    const inside = await startProcess({
      run: [...prepare, to, user, work, ...line],
      args: ["--port", "0"],
      config: null,
      readyMs: 30_000,
    });
    try {
      expect((await useIt(inside.url, await firstSecrets(volume))).content).toBe("echo: hello");
      const status = await Bun.file(`/proc/${inside.pid}/status`).text();
      const uid = Number(/^Uid:\s+(\d+)/m.exec(status)?.[1]);
      expect(uid).toBeGreaterThan(0);
      expect((await Bun.file(join(volume, "config.json")).stat()).uid).toBe(uid);
      inside.kill((await only("STOPSIGNAL")) as NodeJS.Signals);
      expect(await within(inside.exited, 10_000, "the exit")).toBe(0);
      await until(() => inside.stdout().includes('"event":"stopped","exit":0'), 1000, "an orderly stop");
    } finally {
      await inside.stop();
    }
  }, 60_000);

const docker = find("docker") && Bun.spawnSync(["docker", "info"], { stdout: "ignore", stderr: "ignore" }).success;
notRun(
  FILE,
  "docker build and run",
  docker ? "the base image comes from a registry that tests do not reach" : "needs a container engine",
);
