/**
 * The first start: config.json with a random admin password (as a hash) and a random bot token.
 *
 * What must stay true: there is no default password; the password exists in readable form once, on the terminal, or, where
 * there is none, in a file only its owner can read that disappears at the first sign-in. An existing config is never
 * touched, also not by two first starts at once.
 */
import {
  chmodSync,
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { newSecret } from "../auth.ts";
import { hashPassword } from "../passwords.ts";
import { DEFAULTS } from "./defaults.ts";

/** No 0/O, 1/l/I: it is read from a screen and typed on a phone. */
const LETTERS = "abcdefghijkmnpqrstuvwxyz23456789";
/** 20 of 32 letters are 100 bits. */
const GROUPS = 4;
const GROUP_LETTERS = 5;
const FIRST_PASSWORD = "first-password.txt";
const ADMIN = "admin";

/** Easy to read and type: `abcde-fghij-kmnpq-rstuv`, 100 random bits. */
export const readablePassword = (): string => {
  const bytes = crypto.getRandomValues(new Uint8Array(GROUPS * GROUP_LETTERS));
  // 256 is a multiple of 32, so each letter is equally likely.
  const letters = Array.from(bytes, (byte) => LETTERS[byte % LETTERS.length]!);
  return Array.from({ length: GROUPS }, (_, i) =>
    letters.slice(i * GROUP_LETTERS, (i + 1) * GROUP_LETTERS).join(""),
  ).join("-");
};

const writePrivate = (path: string, content: string): void => {
  const fd = openSync(path, "wx", 0o600);
  try {
    writeSync(fd, content);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  chmodSync(path, 0o600); // whatever the umask said
};

/** Puts a finished file in place unless there is one: link fails where rename would replace. */
const placeNew = (temporary: string, path: string): void => {
  try {
    linkSync(temporary, path);
    unlinkSync(temporary);
  } catch (error) {
    if ((error as { code?: string }).code === "EEXIST") throw error;
    renameSync(temporary, path); // a file system without links
  }
};

export type FirstStart = {
  username: string;
  /** Set only with a terminal: to be shown once. */
  shown?: { password: string; botToken: string };
  /** Set only without one: the file that holds the password. */
  passwordFile?: string;
};

/**
 * Writes config.json at `path` with the admin `admin`, whose display name is in `language`. With `terminal` the secrets come
 * back to be shown; without it the password is put into first-password.txt in the data folder, and nothing secret is returned.
 * Returns undefined when a config exists by now. Throws what the file system throws.
 */
export const firstStart = async (
  path: string,
  { terminal, language = "zh" }: { terminal: boolean; language?: "zh" | "en" },
): Promise<FirstStart | undefined> => {
  const full = resolve(path);
  const password = readablePassword();
  const botToken = newSecret("nxb_");
  const displayName = language === "zh" ? "管理员" : "Admin";
  const config = {
    port: DEFAULTS.port,
    sessionTTL: DEFAULTS.sessionTTL,
    pingInterval: DEFAULTS.pingInterval,
    botTimeout: DEFAULTS.botTimeout,
    botToken,
    users: { [ADMIN]: { password: await hashPassword(password), displayName, role: "admin" } },
  };
  const dataDir = resolve(dirname(full), DEFAULTS.dataDir);
  const passwordFile = join(dataDir, FIRST_PASSWORD);
  const temporary = `${full}.${process.pid}.tmp`;
  rmSync(temporary, { force: true });
  writePrivate(temporary, `${JSON.stringify(config, null, 2)}\n`);
  try {
    if (!terminal) {
      mkdirSync(dataDir, { recursive: true, mode: 0o700 });
      rmSync(passwordFile, { force: true }); // left by a start whose config was removed
      writePrivate(passwordFile, `username: ${ADMIN}\npassword: ${password}\n`);
    }
    placeNew(temporary, full);
  } catch (error) {
    rmSync(temporary, { force: true });
    if (!terminal) removeFirstPassword(dataDir);
    const { code, path: at } = error as { code?: string; path?: string };
    // Of the data folder it means that something else has its name.
    if (code === "EEXIST" && at !== dataDir) return undefined;
    throw error;
  }
  return terminal ? { username: ADMIN, shown: { password, botToken } } : { username: ADMIN, passwordFile };
};

/** Takes a first start back: the gateway did not come up, so nobody saw the password. The next start is the first again. */
export const undoFirstStart = (path: string, { passwordFile }: FirstStart): void => {
  rmSync(resolve(path), { force: true });
  if (passwordFile) rmSync(passwordFile, { force: true });
};

/** Removes first-password.txt, if there is one. To be called after each successful sign-in; costs one system call. */
export const removeFirstPassword = (dataDir: string): void => {
  try {
    unlinkSync(join(dataDir, FIRST_PASSWORD));
  } catch {
    // Not there, which is the usual case; or not ours to remove, which the operator sees for himself.
  }
};
