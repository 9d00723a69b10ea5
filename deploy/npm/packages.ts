/**
 * The npm packages of a release: one that people install, and one per target with the binary, of which npm picks the one
 * that fits by `os`, `cpu` and `libc`.
 *
 * What must stay true: all carry the same version and name each other exactly, so that a launcher never starts another
 * version's binary. Nothing runs at installation.
 */
import { join } from "node:path";
import type { Entry } from "../archive.ts";
import { NPM_NAME, npmPackageOf, type Target, TARGETS } from "../targets.ts";

const text = (value: unknown): Uint8Array => new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
const file = (path: string): Promise<Uint8Array> => Bun.file(path).bytes();

/** The launcher's files. */
export const launcherPackage = async (root: string, version: string): Promise<Entry[]> => {
  const manifest = {
    name: NPM_NAME,
    version,
    description: "Self-hosted gateway between people and AI bots",
    license: "MIT",
    bin: { [NPM_NAME]: "nexus-gateway.cjs" },
    engines: { node: ">=18" },
    optionalDependencies: Object.fromEntries(TARGETS.map((target) => [npmPackageOf(target), version])),
  };
  return [
    { path: "package/package.json", bytes: text(manifest) },
    { path: "package/README.md", bytes: await file(join(root, "deploy/npm/README.md")) },
    { path: "package/LICENSE", bytes: await file(join(root, "LICENSE")) },
    {
      path: "package/nexus-gateway.cjs",
      bytes: await file(join(root, "deploy/npm/nexus-gateway.cjs")),
      executable: true,
    },
  ];
};

/** The files of the package that carries this target's binary. */
export const binaryPackage = async (
  root: string,
  version: string,
  target: Target,
  binary: Uint8Array,
): Promise<Entry[]> => {
  const manifest = {
    name: npmPackageOf(target),
    version,
    description: `The ${target.name} binary of ${NPM_NAME}`,
    license: "MIT",
    os: [target.platform],
    cpu: [target.arch],
    ...(target.libc && { libc: [target.libc] }),
    // Yarn's plug-and-play would keep it zipped, where it cannot be started.
    preferUnplugged: true,
  };
  return [
    { path: "package/package.json", bytes: text(manifest) },
    { path: "package/LICENSE", bytes: await file(join(root, "LICENSE")) },
    { path: `package/${target.executable}`, bytes: binary, executable: true },
  ];
};
