/**
 * `bun plugin/build.ts [outdir]`: compiles the plugin and packs it as `dist/nexus-openclaw-<version>.tgz`.
 *
 * The host installs compiled JavaScript only. The tarball is made here, byte for byte the same for the same sources
 * (no times, no owners), with what `files` of package.json names. Prints the path of the tarball.
 */
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";

const root = import.meta.dir;

/** One entry of a ustar archive: header, bytes, padding to 512. */
const tarEntry = (name: string, bytes: Uint8Array): Uint8Array[] => {
  const header = new Uint8Array(512);
  const put = (text: string, at: number) => header.set(new TextEncoder().encode(text), at);
  const octal = (value: number, width: number) => value.toString(8).padStart(width - 1, "0");
  put(name, 0);
  put(octal(0o644, 8), 100);
  put(octal(0, 8), 108);
  put(octal(0, 8), 116);
  put(octal(bytes.length, 12), 124);
  put(octal(499162500, 12), 136); // the fixed moment that package managers use: 1985-10-26T08:15:00Z
  put("        ", 148); // the checksum counts itself as blanks
  put("0", 156);
  put("ustar\u000000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  put(`${sum.toString(8).padStart(6, "0")}\u0000 `, 148);
  return [header, bytes, new Uint8Array((512 - (bytes.length % 512)) % 512)];
};

/** Builds plugin/dist and the tarball; returns the tarball's path. Throws when the sources do not compile. */
export const buildPlugin = async (outdir = join(root, "..", "dist")): Promise<string> => {
  const built = await Bun.build({
    entrypoints: ["index.ts", "setup-entry.ts", "secret-contract-api.ts"].map((name) => join(root, name)),
    outdir: join(root, "dist"),
    target: "node",
    format: "esm",
    splitting: true,
    external: ["openclaw/*"],
    naming: { entry: "[name].js", chunk: "[name]-[hash].js" },
  });
  const manifest = (await Bun.file(join(root, "package.json")).json()) as { version: string };
  const names = built.outputs.map((output) => output.path.slice(root.length + 1)).toSorted();
  // Chunks of earlier builds would be packed along: what is in dist/ is exactly what was built.
  for (const old of await readdir(join(root, "dist")))
    if (!names.includes(`dist/${old}`)) await Bun.file(join(root, "dist", old)).delete();
  const parts: Uint8Array[] = [];
  for (const name of ["package.json", "openclaw.plugin.json", "README.md", "../LICENSE", ...names])
    parts.push(...tarEntry(`package/${name.replace("../", "")}`, await Bun.file(join(root, name)).bytes()));
  parts.push(new Uint8Array(1024));
  await mkdir(outdir, { recursive: true });
  const path = join(outdir, `nexus-openclaw-${manifest.version}.tgz`);
  await Bun.write(path, Bun.gzipSync(Buffer.concat(parts)));
  return path;
};

if (import.meta.main) console.log(await buildPlugin(process.argv[2]));
