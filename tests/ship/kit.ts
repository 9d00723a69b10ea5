/**
 * What the release tests share: the files of a release, unpacked where nothing else is; the way a person uses a gateway;
 * and saying by name what this machine cannot run.
 *
 * A step that cannot run here is not a passed test, and not a failed one either: it is a line of its own, in the output and
 * in the file that NEXUS_NOT_RUN names, from which `bun run test` repeats it before its last line.
 */
import { appendFileSync, existsSync, statSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { commit } from "../../deploy/compile.ts";
import { type Target, TARGETS } from "../../deploy/targets.ts";
import { v1Bot } from "../harness/bots.ts";
import { api, login } from "../harness/client.ts";
import { ROOT } from "../harness/process.ts";
import { until } from "../harness/wait.ts";

const RELEASE = join(ROOT, "dist", "release");

/** Programs that are not on everybody's PATH. */
export const find = (name: string): string | undefined =>
  Bun.which(name, { PATH: `${process.env.PATH}:/usr/sbin:/sbin` }) ?? undefined;

/** Says that `what` of `file` cannot be run here, and why. */
export const notRun = (file: string, what: string, why: string): void => {
  console.log(`not run here: ${what}: ${why}`);
  const path = process.env.NEXUS_NOT_RUN;
  if (path) appendFileSync(path, `tests/ship/${file}\t${what}\t${why}\n`);
};

/** Runs a command to its end. Throws with its output when it ends otherwise than with 0. */
export const sh = async (
  line: string[],
  options: { cwd?: string; env?: Record<string, string>; stdin?: string } = {},
): Promise<string> => {
  const child = Bun.spawn(line, {
    cwd: options.cwd ?? ROOT,
    env: options.env ?? (process.env as Record<string, string>),
    stdin: new TextEncoder().encode(options.stdin ?? ""),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const code = await child.exited;
  if (code !== 0) throw new Error(`${line.join(" ")} ended with ${code}:\n${out}${err}`);
  return out + err;
};

const usesMusl = (): boolean => existsSync("/lib/ld-musl-x86_64.so.1") && !existsSync("/lib64/ld-linux-x86-64.so.2");

/** What this machine runs without help; undefined: the release has nothing for it. */
export const own: Target | undefined = TARGETS.find(
  ({ platform, arch, libc }) =>
    platform === process.platform && arch === process.arch && (libc === undefined || (libc === "musl") === usesMusl()),
);

export const version = async (): Promise<string> => (await Bun.file(join(ROOT, "package.json")).json()).version;

/** Builds a release into `out` (default dist/release); what it printed. */
export const buildRelease = (out = RELEASE): Promise<string> =>
  sh([process.execPath, "deploy/release.ts", "--out", out]);

const newestSource = async (): Promise<number> => {
  const listed = await sh(["git", "ls-files", "--cached", "--others", "--exclude-standard"]);
  const files = listed.split("\n").filter((file) => file && !file.startsWith("tests/"));
  return Math.max(...files.map((file) => statSync(join(ROOT, file), { throwIfNoEntry: false })?.mtimeMs ?? 0));
};

/** The folder with a release of this very source and commit: the one in dist/ if nothing changed since, else a new one. */
export const release = async (): Promise<string> => {
  const made = Bun.file(join(RELEASE, "RELEASE"));
  const fresh =
    (await made.exists()) &&
    made.lastModified >= (await newestSource()) &&
    (await made.text()) === `nexus ${await version()} ${commit()}\n`;
  if (!fresh) await buildRelease();
  return RELEASE;
};

export const archiveOf = async ({ name, platform }: Target): Promise<string> =>
  `nexus-${await version()}-${name}${platform === "win32" ? ".zip" : ".tar.gz"}`;

/** Unpacks the archive of a target below `into`, with the system's own tar; the folder that came out. */
export const unpack = async (target: Target, into: string): Promise<string> => {
  await mkdir(into, { recursive: true });
  await sh(["tar", "-xzf", join(await release(), await archiveOf(target)), "-C", into]);
  return join(into, `nexus-${await version()}-${target.name}`);
};

/** What the first start wrote for a gateway without a terminal: who may sign in, and what bots say. */
export const firstSecrets = async (folder: string) => {
  const text = await until(
    () =>
      Bun.file(join(folder, "data", "first-password.txt"))
        .text()
        .catch(() => undefined),
    5000,
    "first-password.txt",
  );
  const password = /[a-z2-9]{5}(?:-[a-z2-9]{5}){3}/.exec(text)?.[0];
  const config = await Bun.file(join(folder, "config.json")).json();
  if (!password) throw new Error("no password in first-password.txt");
  return { password, botToken: config.botToken as string };
};

/** Signs in, lets a bot connect, and chats with it; the session's token and the answer. Throws when a step fails. */
export const useIt = async (url: string, { password, botToken }: { password: string; botToken: string }) => {
  const token = await login(url, "admin", password);
  const bot = await v1Bot(`${url.replace("http", "ws")}/bot-ws`, { botId: "ship", token: botToken });
  try {
    const answer = await api(url, token)("POST", "/api/chat", { message: "hello", target: "ship" });
    if (answer.status !== 200) throw new Error(`the chat was refused: ${answer.text}`);
    return { token, content: String(answer.body.content) };
  } finally {
    await bot.close();
  }
};
