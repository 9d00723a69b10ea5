/**
 * config.json as a file: reading it with every fault named, watching it for edits, replacing it without a moment in which
 * it is half written.
 *
 * What must stay true: a reader sees the old file or the new one, never a part; mode and owner of a replaced file stay;
 * relative paths inside the config are relative to its folder, so every command means the same data wherever it is run.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  type FSWatcher,
  fsyncSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  watch,
  writeSync,
} from "node:fs";
import { basename, dirname, isAbsolute, resolve } from "node:path";
import { type ParsedConfig, parseConfig } from "../config.ts";
import type { Fault } from "../shape.ts";
import type { ParseOptions } from "./fields.ts";
import { readJson } from "./json.ts";
import type { Env } from "./secrets.ts";

/** 100,000 users fit; a file named by mistake does not have to. */
const LARGEST_BYTES = 64 * 1024 * 1024;
/** Secrets are lines. Regular files only: a pipe or device would hang the start. */
const LARGEST_SECRET_BYTES = 64 * 1024;

export type LoadedConfig = ParsedConfig | { ok: false; missing: true; faults: Fault[] };

const codeOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";

const readSmallFile = (path: string, most: number): string => {
  const { size } = statSync(path);
  if (!statSync(path).isFile() || size > most)
    throw new Error(`${path} is not a regular file of at most ${most} bytes`);
  return readFileSync(path, "utf8");
};

/** The text of a config, for whoever needs no more than that. Throws what the file system throws. */
export const readConfigText = (path: string): string => readSmallFile(path, LARGEST_BYTES);

/** Names of a file that stand twice: JSON would silently take the last one. */
export const twiceFaults = (twice: { path: string; line: number }[]): Fault[] =>
  twice.map(({ path, line }) => ({
    path,
    say: { zh: `出现了两次（第 ${line} 行）`, en: `stands there twice (line ${line})` },
  }));

/**
 * Reads and parses the config at `path`. Never throws: what is wrong comes as faults, JSON mistakes with their line and
 * column. `missing` tells that there is no such file. `dataDir` comes back absolute.
 */
export const loadConfig = (path: string, env: Env, options: ParseOptions = {}): LoadedConfig => {
  const full = resolve(path);
  const folder = dirname(full);
  const file = basename(full);
  let source: string;
  try {
    source = readConfigText(full);
  } catch (error) {
    const code = codeOf(error);
    const fault = (zh: string, en: string): Fault[] => [{ path: file, say: { zh, en } }];
    if (code === "ENOENT" || code === "ENOTDIR")
      return { ok: false, missing: true, faults: fault(`没有这个文件：${full}`, `there is no file ${full}`) };
    return {
      ok: false,
      faults: fault(
        `无法读取 ${full}（${code || "不是普通文件"}）`,
        `${full} cannot be read (${code || "not a regular file"})`,
      ),
    };
  }
  const read = readJson(source);
  if (!read.ok) {
    const { line, column, say } = read;
    const zh = `第 ${line} 行第 ${column} 列：${say.zh}`;
    return { ok: false, faults: [{ path: file, say: { zh, en: `line ${line}, column ${column}: ${say.en}` } }] };
  }
  const inFolder = (name: string): string => (isAbsolute(name) ? name : resolve(folder, name));
  const parsed = parseConfig(read.value, env, (name) => readSmallFile(inFolder(name), LARGEST_SECRET_BYTES), options);
  if (!parsed.ok) for (const fault of parsed.faults) fault.path ||= file;
  if (read.twice.length > 0)
    return { ok: false, faults: [...twiceFaults(read.twice), ...(parsed.ok ? [] : parsed.faults)] };
  if (parsed.ok) parsed.config.dataDir = inFolder(parsed.config.dataDir);
  return parsed;
};

/** One line per fault: `users.admin.password: text, 1 to 256 characters`. */
export const faultLine = ({ path, say }: Fault, language: "zh" | "en"): string =>
  language === "zh" ? `${path || "config.json"}：${say.zh}` : `${path || "config.json"}: ${say.en}`;

/**
 * Replaces `path` by `content` in one step. An existing file keeps its mode and owner (root editing the service's file must
 * not lock the service out), a symbolic link stays one; a new file gets mode 600. Throws what the file system throws.
 */
export const writeAtomic = (path: string, content: string): void => {
  let target = path;
  let mode = 0o600;
  let owner: { uid: number; gid: number } | undefined;
  try {
    target = realpathSync(path);
    const { mode: had, uid, gid } = statSync(target);
    mode = had & 0o777;
    owner = { uid, gid };
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw error;
  }
  const temporary = `${target}.${process.pid}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  try {
    const fd = openSync(temporary, "wx", 0o600);
    try {
      writeSync(fd, content);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    if (owner && process.getuid?.() === 0) chownSync(temporary, owner.uid, owner.gid);
    chmodSync(temporary, mode);
    renameSync(temporary, target);
  } catch (error) {
    try {
      unlinkSync(temporary);
    } catch {
      // It was never made, or is already in place.
    }
    throw error;
  }
};

/** Editors write in several steps; one look this long after the first sign of life sees them all. */
const SETTLE_MS = 200;
/** Where the folder cannot be watched (no inotify left, some network file systems), or is not the only one. */
const POLL_MS = 2_000;

const stamp = (path: string): string => {
  try {
    const { ino, size, mtimeMs, ctimeMs } = statSync(path);
    return `${ino} ${size} ${mtimeMs} ${ctimeMs}`;
  } catch {
    return "";
  }
};

/** Whether a link is on the way: where it leads, and whatever is pointed elsewhere, are folders of their own. */
const isLinked = (path: string): boolean => {
  try {
    return realpathSync(path) !== path;
  } catch {
    return false;
  }
};

/**
 * Calls `onChange` soon after the file at `path` was edited, replaced or appeared. The folder is watched, since editors and
 * config mounts replace the file; a file that is away for a moment is not a change. Behind a symbolic link, of the file or
 * of a folder on the way, it is looked at now and then as well. Returns the function that ends it.
 */
export const watchConfig = (path: string, onChange: () => void): (() => void) => {
  const full = resolve(path);
  let seen = stamp(full);
  let timer: Timer | undefined;
  let poll: Timer | undefined;
  let watcher: FSWatcher | undefined;

  const look = (): void => {
    timer = undefined;
    const now = stamp(full);
    if (now === "" || now === seen) return;
    seen = now;
    if (isLinked(full)) pollToo();
    onChange();
  };
  // Not a debounce: a log file in the same folder that never rests would postpone the look for ever.
  const soon = (): void => {
    timer ??= setTimeout(look, SETTLE_MS);
  };
  const pollToo = (): void => {
    poll ??= setInterval(() => stamp(full) !== seen && soon(), POLL_MS).unref();
  };
  const pollInstead = (): void => {
    watcher?.close();
    watcher = undefined;
    pollToo();
  };
  try {
    watcher = watch(dirname(full), { persistent: false }, soon);
    watcher.on("error", pollInstead);
  } catch {
    pollInstead();
  }
  if (isLinked(full)) pollToo();
  return () => {
    watcher?.close();
    clearTimeout(timer);
    clearInterval(poll);
  };
};
