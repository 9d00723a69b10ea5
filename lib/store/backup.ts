/** A copy of the whole store, made while it may be in use. What must stay true: there is all of it or nothing, for its owner only. */
import { Database } from "bun:sqlite";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { StoreRefused } from "../store.ts";

/**
 * A consistent copy of a store that may be in use, to `file` (database) and `file`.files (attachments). The copy has no
 * epoch, so each store restored from it makes one of its own: whoever followed the original, or another restore, past it
 * starts over instead of missing what differs. It is made in a folder beside them that only its owner can enter, so there
 * is all of it or nothing. Throws StoreRefused when there is no store, or one of the two exists or has no folder to be in, and
 * the reason of `signal` when that is aborted.
 */
export const backupStore = async (
  dir: string,
  file: string,
  signal?: AbortSignal,
): Promise<{ bytes: number; files: number }> => {
  const source = join(dir, "nexus.db");
  if (!existsSync(source))
    throw new StoreRefused({ zh: `${source} 不存在；请检查 dataDir`, en: `${source} does not exist; check dataDir` });
  for (const taken of [file, `${file}.files`].filter((path) => existsSync(path)))
    throw new StoreRefused({ zh: `${taken} 已存在；请换个文件名`, en: `${taken} exists; choose another name` });
  if (!existsSync(dirname(file)))
    throw new StoreRefused({
      zh: `${dirname(file)} 不存在；请先创建`,
      en: `${dirname(file)} does not exist; make it first`,
    });
  const making = mkdtempSync(`${file}.part-`);
  try {
    const made = join(making, "nexus.db");
    copyDatabase(source, made);
    await setImmediate(); // that took all its time at once: a signal that came meanwhile is heard now
    signal?.throwIfAborted();
    const files = await copyFiles(join(dir, "files"), join(making, "files"), signal);
    if (files > 0) renameSync(join(making, "files"), `${file}.files`);
    renameSync(made, file);
    return { bytes: statSync(file).size, files };
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
};

const copyDatabase = (source: string, to: string): void => {
  const db = new Database(source, { readonly: true, strict: true });
  try {
    db.query("VACUUM INTO ?").run(to);
  } finally {
    db.close();
  }
  chmodSync(to, 0o600);
  const copy = new Database(to, { strict: true });
  try {
    copy.run("DELETE FROM meta WHERE key = 'epoch'");
  } finally {
    copy.close();
  }
};

/**
 * Content-addressed and never changed after they are written, so copying them after the database misses none it names, but
 * those that are swept away meanwhile, which nobody has any more.
 */
const copyFiles = async (from: string, to: string, signal: AbortSignal | undefined): Promise<number> => {
  if (!existsSync(from)) return 0;
  let count = 0;
  for await (const path of new Bun.Glob("*/*").scan({ cwd: from })) {
    signal?.throwIfAborted();
    if (path.endsWith(".part")) continue;
    mkdirSync(join(to, path, ".."), { recursive: true, mode: 0o700 });
    try {
      await Bun.write(join(to, path), Bun.file(join(from, path)));
      count++;
    } catch (error) {
      if ((error as { code?: unknown }).code !== "ENOENT") throw error;
    }
  }
  return count;
};
