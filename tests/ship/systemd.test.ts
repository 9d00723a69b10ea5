/**
 * deploy/nexus.service: what systemd's own tools say of it, that the program says when it is ready and when it stops, and
 * that it works under the unit's restrictions. Being started by systemd itself needs a machine that systemd has booted.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { chmod, chown, copyFile, mkdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { ROOT, type RunningProcess, startProcess } from "../harness/process.ts";
import { tempDir, until, within } from "../harness/wait.ts";
import { find, firstSecrets, notRun, own, sh, unpack, useIt } from "./kit.ts";

const FILE = "systemd.test.ts";
const UNIT = join(ROOT, "deploy/nexus.service");
/** Of 10; below 2 systemd calls it OK. It was 1.3 when this was written. */
const WORST_EXPOSURE = 2;
/** In the range systemd takes dynamic users from. */
const UID = 61_184;

let folder: Awaited<ReturnType<typeof tempDir>>;
let binary: string;
beforeAll(async () => {
  folder = await tempDir("systemd");
  if (own) binary = join(await unpack(own, folder.path), own.executable);
}, 240_000);
afterAll(() => folder.remove());

const unit = async (): Promise<string> => Bun.file(UNIT).text();
/** Every value of a setting of the unit, in order. */
const settings = async (name: string): Promise<string[]> =>
  [...(await unit()).matchAll(new RegExp(`^${name}=(.*)$`, "gm"))].map((match) => match[1]!);

const analyze = find("systemd-analyze");
if (!analyze) notRun(FILE, "systemd-analyze verify and security", "needs systemd");
else {
  test("systemd-analyze verify finds no fault in the unit", async () => {
    // Only the program's place is another one, because nothing is installed into this machine.
    const path = join(folder.path, "nexus.service");
    await Bun.write(path, (await unit()).replaceAll("/usr/local/bin/nexus", binary ?? "/bin/true"));
    expect((await sh([analyze, "verify", path])).trim()).toBe("");
  });

  test("systemd-analyze security finds little exposed", async () => {
    const said = await sh([analyze, "security", "--offline=true", UNIT]);
    const [, score, word] = /exposure level for nexus\.service: ([\d.]+) (\w+)/.exec(said) ?? [];
    console.log(`systemd-analyze security: ${score} ${word}`);
    expect(Number(score)).toBeLessThan(WORST_EXPOSURE);
  });
}

const systemctl = find("systemctl");
if (!systemctl) notRun(FILE, "systemctl enable", "needs systemd");
else
  test("systemctl enable, in a root of its own, makes it start with the machine", async () => {
    const root = join(folder.path, "root");
    const units = "etc/systemd/system";
    await mkdir(join(root, units), { recursive: true });
    await copyFile(UNIT, join(root, units, "nexus.service"));
    await sh([systemctl, `--root=${root}`, "enable", "nexus"]);
    expect((await sh([systemctl, `--root=${root}`, "is-enabled", "nexus"])).trim()).toBe("enabled");
    expect(await readlink(join(root, units, "multi-user.target.wants/nexus.service"))).toContain("nexus.service");
  });

const python = find("python3");
if (process.platform !== "linux" || !own || !python)
  notRun(FILE, "readiness over NOTIFY_SOCKET", "needs Linux and Python 3");
else
  test("the program says READY=1 once it answers and STOPPING=1 when it is told to stop", async () => {
    expect(await settings("Type")).toEqual(["notify"]);
    const socket = join(folder.path, "notify");
    const listen = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
for _ in range(2): print(s.recv(4096).decode(), flush=True)
`;
    const manager = Bun.spawn([python, "-c", listen, socket], { stdout: "pipe" });
    let heard = "";
    const hearing = (async () => {
      for await (const piece of manager.stdout) heard += new TextDecoder().decode(piece);
    })();
    let running: RunningProcess | undefined;
    try {
      await until(() => heard.includes("bound"), 5000, "the socket");
      running = await startProcess({ run: [binary], env: { NOTIFY_SOCKET: socket } });
      await until(() => heard.includes("READY=1"), 5000, "READY=1");
      expect(heard).not.toContain("STOPPING");
      running.kill("SIGTERM");
      expect(await within(running.exited, 10_000, "the exit")).toBe(0);
      await within(hearing, 5000, "STOPPING=1");
      expect(heard).toBe("bound\nREADY=1\nSTOPPING=1\n");
      expect(running.stdout()).not.toContain("notify_failed");
    } finally {
      manager.kill("SIGKILL");
      await running?.stop();
    }
  });

/** Puts the system-call filter of the unit on itself and becomes the program. Arguments: allowed and denied groups, command. */
const FILTER = `
import errno, os, subprocess, sys
import seccomp
def members(group):
    lines = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True).stdout.split("\\n")[1:]
    names = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return {one for name in names for one in (members(name) if name.startswith("@") else [name])}
allowed, denied = sys.argv[1].split(), sys.argv[2].split()
calls = members("@default").union(*map(members, allowed)).difference(*map(members, denied)) | {"execve"}
rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
for name in sorted(calls):
    try: rules.add_rule(seccomp.ALLOW, name)
    except (RuntimeError, OSError, ValueError): pass  # a call of another architecture
rules.load()
os.execv(sys.argv[3], sys.argv[3:])
`;

/** A file system of its own in which only the state folder can be written, then another user with no capability left. */
const CONFINE = `
set -e
state=$1; shift
mount --make-rprivate /
mount --bind "$state" "$state"
mount -t tmpfs tmpfs /root
mount -o remount,bind,ro /
exec setpriv --reuid ${UID} --regid ${UID} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
`;

const filterable =
  existsSync("/usr/bin/python3") && Bun.spawnSync(["/usr/bin/python3", "-c", "import seccomp"]).success;
const lacks =
  process.platform !== "linux" || !own || process.getuid?.() !== 0
    ? "needs Linux and root"
    : !analyze || !filterable
      ? "needs systemd and python3-seccomp"
      : Bun.spawnSync(["unshare", "-m", "true"]).success
        ? undefined
        : "this machine lets nobody make a mount namespace";
if (lacks) notRun(FILE, "the program under the unit's restrictions", lacks);
else
  test("under the unit's restrictions it starts, keeps its files to itself, is chatted with and stops", async () => {
    for (const [name, value] of Object.entries({ ProtectSystem: "strict", NoNewPrivileges: "yes", DynamicUser: "yes" }))
      expect(`${name}=${await settings(name)}`).toBe(`${name}=${value}`);
    expect(await settings("CapabilityBoundingSet")).toEqual([""]);
    const filters = await settings("SystemCallFilter");
    const allowed = filters.filter((one) => !one.startsWith("~")).join(" ");
    const denied = filters
      .filter((one) => one.startsWith("~"))
      .map((one) => one.slice(1))
      .join(" ");
    expect(allowed).toContain("@system-service");

    const state = join(folder.path, "state");
    await mkdir(state, { mode: 0o700 });
    await chown(state, UID, UID);
    await chmod(folder.path, 0o755);
    const program = join(folder.path, "nexus");
    await copyFile(binary, program);
    const filter = join(folder.path, "filter.py");
    await Bun.write(filter, FILTER);
    const run = ["unshare", "--mount", "bash", "-c", CONFINE, "confine", state, "/usr/bin/python3", filter];
    const running = await startProcess({
      run: [...run, allowed, denied, program],
      args: ["serve", "--port", "0"],
      cwd: state,
      config: null,
      // Most of it is asking systemd for the members of each group of calls.
      readyMs: 30_000,
    });
    try {
      const { content } = await useIt(running.url, await firstSecrets(state));
      expect(content).toBe("echo: hello");
      const status = await Bun.file(`/proc/${running.pid}/status`).text();
      expect(status).toMatch(new RegExp(`^Uid:\\s+${UID}\\s`, "m"));
      expect(status).toMatch(/^Seccomp:\s+2$/m);
      expect(status).toMatch(/^CapBnd:\s+0+$/m);
      for (const name of ["config.json", "data"]) {
        const { uid, mode } = await Bun.file(join(state, name)).stat();
        expect(`${name} ${uid} ${mode & 0o077}`).toBe(`${name} ${UID} 0`);
      }
      running.kill("SIGTERM");
      expect(await within(running.exited, 10_000, "the exit")).toBe(0);
    } finally {
      await running.stop();
    }
  }, 60_000);

// Nothing here boots systemd; a virtual machine would.
notRun(FILE, "systemctl start nexus", "needs a machine that systemd has booted");
