/** Running commands of the command line inside the test's process. */
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { run } from "../../lib/cli.ts";
import type { Io, ServeOptions } from "../../lib/cli/command.ts";
import { tempDir } from "./wait.ts";

/** Runs one command in this process. `typed` is standard input. */
export const nexus = async (
  args: string[],
  { typed = "", cwd = tmpdir(), env = {} as Record<string, string> } = {},
) => {
  let out = "";
  let err = "";
  let served: ServeOptions | undefined;
  const io: Io = {
    stdout: { write: (text) => (out += text) },
    stderr: { write: (text) => (err += text) },
    stdin: Readable.from(typed === "" ? [] : [typed]),
    env: { LANG: "en_US.UTF-8", ...env },
    cwd,
    serve: async (_, options) => {
      served = options;
      return 0;
    },
  };
  const code = await run(args, io);
  return { code, out, err, served };
};

/** A new folder with this config.json; the path of the file. */
export const configFolder = async (
  text: string,
): Promise<{ cwd: string; path: string; read: () => Promise<string>; remove: () => Promise<void> }> => {
  const { path: cwd, remove } = await tempDir("cli");
  const path = join(cwd, "config.json");
  await writeFile(path, text, { mode: 0o600 });
  return { cwd, path, remove, read: () => readFile(path, "utf8") };
};
