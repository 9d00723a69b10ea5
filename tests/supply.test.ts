/**
 * What comes from others: nothing at run time, and for development only what bun.lock pins by hash, without a script of its
 * own being run. `bun audit` asks for known vulnerabilities; that needs the network, so it is a command (CONTRIBUTING.md).
 */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { ROOT } from "./harness/process.ts";

type Lock = {
  workspaces: Record<string, { name: string; devDependencies?: Record<string, string>; dependencies?: object }>;
  packages: Record<string, [spec: string, registry: string, about: object, hash: string]>;
  trustedDependencies?: string[];
};

/** bun.lock is JSON with commas at its ends. */
const readLock = async (): Promise<Lock> =>
  JSON.parse((await Bun.file(join(ROOT, "bun.lock")).text()).replace(/,(\s*[}\]])/g, "$1"));
const tracked = Bun.spawnSync(["git", "ls-files", "*package.json"], { cwd: ROOT }).stdout.toString();
const manifests = tracked.split("\n").filter(Boolean);

describe("dependencies", () => {
  test("there are none at run time, in any package of ours", async () => {
    expect(manifests).toEqual(expect.arrayContaining(["package.json", "plugin/package.json"]));
    for (const path of manifests) {
      const manifest = await Bun.file(join(ROOT, path)).json();
      expect([path, manifest.dependencies ?? {}]).toEqual([path, {}]);
      expect([path, manifest.bundledDependencies ?? []]).toEqual([path, []]);
    }
    const { workspaces } = await readLock();
    expect(Object.keys(workspaces[""]!.dependencies ?? {})).toEqual([]);
  });

  test("those for development are exact, the same in bun.lock, and each is pinned by a SHA-512", async () => {
    const { devDependencies } = await Bun.file(join(ROOT, "package.json")).json();
    const { workspaces, packages } = await readLock();
    expect(workspaces[""]!.devDependencies).toEqual(devDependencies);
    for (const [name, version] of Object.entries(devDependencies)) {
      expect(version).toMatch(/^\d+\.\d+\.\d+$/);
      expect(packages[name]?.[0]).toBe(`${name}@${version}`);
    }
    for (const [name, entry] of Object.entries(packages)) {
      expect(`${name} ${entry.at(-1)}`).toMatch(/ sha512-[\w+/]{86}==$/);
      // From the usual registry, not from somebody's git or address.
      expect(entry[0]).toMatch(/^(@[\w.-]+\/)?[\w.-]+@\d+\.\d+\.\d+[\w.+-]*$/);
      expect(entry[1]).toBe("");
    }
  });

  test("none may run a script when it is installed, and installing never rewrites the lock", async () => {
    const manifest = await Bun.file(join(ROOT, "package.json")).json();
    expect(manifest.trustedDependencies).toBeUndefined();
    expect((await readLock()).trustedDependencies).toBeUndefined();
    for (const name of ["preinstall", "install", "postinstall", "prepare"])
      expect(manifest.scripts[name]).toBeUndefined();
    const texts = await Promise.all(
      ["package.json", "tests/run.ts", ".ci/run"].map((file) => Bun.file(join(ROOT, file)).text()),
    );
    for (const install of texts.join("\n").match(/\binstall\b(?=[^\n]*(--|"))[^\n]*/g) ?? [])
      if (/^install("|\s--)/.test(install)) expect(install).toContain("--frozen-lockfile");
  });
});
