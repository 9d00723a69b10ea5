/**
 * npm packages that only a test needs and that are too big for devDependencies: the OpenClaw host, the vendors' SDKs. They
 * live in a cached folder outside the clone, at exact versions.
 */
import { mkdir, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

/**
 * Installs npm packages into a cached folder once, one step after the other; a folder that is not what the steps would make
 * is made again. `path` goes before the PATH of npm, so that a Node installed by an earlier step runs the later ones.
 */
export const installPackages = async (
  name: string,
  steps: { packages: string[]; path?: string }[],
): Promise<string> => {
  const folder = join(process.env.NEXUS_TEST_CACHE ?? join(homedir(), ".cache", "nexus-tests"), name);
  const modules = join(folder, "node_modules");
  const done = Bun.file(join(folder, ".complete"));
  const recipe = JSON.stringify(steps);
  if ((await done.exists()) && (await done.text()) === recipe) return modules;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await Bun.write(join(folder, "package.json"), JSON.stringify({ private: true }));
  for (const { packages, path } of steps) {
    const line = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", ...packages];
    const PATH = path === undefined ? process.env.PATH : `${join(modules, path)}:${process.env.PATH}`;
    const child = Bun.spawn(line, { cwd: folder, env: { ...process.env, PATH }, stdout: "pipe", stderr: "pipe" });
    const [code, out, err] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
    if (code !== 0) throw new Error(`${packages} could not be installed (npm ended with ${code}):\n${out}\n${err}`);
  }
  await Bun.write(done, recipe);
  return modules;
};
