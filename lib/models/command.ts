/**
 * A program as a bot: run once per message, the text on its standard input, its standard output the answer as it comes.
 *
 * What must stay true: it is its own process group, and nothing of the group outlives the turn; what it is told about the
 * message is in NEXUS_TURN (JSON), files are in a folder of their own that is removed. Its errors are for the operator
 * (`stderr`), never for the person.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Turn } from "../../plugin/client.ts";
import { ModelError } from "./upstream.ts";

/** Between asking it to end and ending it. */
const GRACE_MS = 2_000;
/** A child that keeps the output open after the program ended is not waited for longer. */
const AFTER_MS = 1_000;
/** One variable of the environment holds at most 128 KiB on Linux. The system prompt is bounded where the entry is read. */
const CONTEXT_BYTES = 100_000;

export type CommandOptions = {
  command: string;
  system: string | undefined;
  timeoutMs: number;
  env: Record<string, string | undefined>;
  stderr: (text: string) => void;
};

type File = { name: string; mime: string; size: number; path: string };

const keepFiles = async (turn: Turn): Promise<{ folder: string | undefined; files: File[] }> => {
  if (turn.attachments.length === 0) return { folder: undefined, files: [] };
  const folder = await mkdtemp(join(tmpdir(), "nexus-turn-"));
  const files: File[] = [];
  for (const [i, { name, mime, size, ...file }] of turn.attachments.entries()) {
    // The name is a stranger's: only its ending is used.
    const path = join(folder, `${i + 1}${/\.[a-z0-9]{1,8}$/i.exec(name)?.[0] ?? ""}`);
    await Bun.write(path, await turn.fetchAttachment({ name, mime, size, ...file }));
    files.push({ name, mime, size, path });
  }
  return { folder, files };
};

/** Everything about the message but its text; as much of the history as fits. */
const contextOf = (turn: Turn, system: string | undefined, files: File[]): string => {
  const { id, conversationId, userId, userName, source, replyTo } = turn;
  const base = { id, conversationId, userId, userName, source, replyTo, system, files };
  // A program is given the files of the message alone, so earlier ones are not told of.
  let history = turn.history.flatMap(({ role, content }) => (content === "" ? [] : [{ role, content }]));
  for (;;) {
    const json = JSON.stringify({ ...base, history });
    if (history.length === 0 || Buffer.byteLength(json) <= CONTEXT_BYTES) return json;
    history = history.slice(Math.ceil(history.length / 4));
  }
};

const killGroup = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(-pid, signal);
  } catch {
    // Nobody is left in it.
  }
};

const shell = (command: string): string[] =>
  process.platform === "win32" ? ["cmd", "/d", "/s", "/c", command] : ["sh", "-c", command];

/** A program that does not read its input, or has ended before, is no fault; both throw in their own way. */
const feed = async (stdin: Bun.FileSink, text: string): Promise<void> => {
  try {
    await stdin.write(text);
    await stdin.end();
  } catch {
    // Nobody reads.
  }
};

/** Runs the program for one turn. Resolves when it ended with 0, to whether it wrote anything; throws ModelError otherwise. */
export const runCommand = async (turn: Turn, options: CommandOptions): Promise<boolean> => {
  const { folder, files } = await keepFiles(turn);
  try {
    return await run(turn, options, contextOf(turn, options.system, files));
  } finally {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  }
};

const run = async (
  turn: Turn,
  { command, env, timeoutMs, stderr }: CommandOptions,
  context: string,
): Promise<boolean> => {
  if (turn.signal.aborted) return false;
  let spoke = false;
  const say = (text: string): void => {
    spoke ||= text.trim() !== "";
    turn.write(text);
  };
  const child = Bun.spawn(shell(command), {
    env: { ...env, NEXUS_TURN: context },
    detached: true, // its own group: children it leaves behind end with it
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
  });
  let late = false;
  let hard: Timer | undefined;
  const end = (): void => {
    killGroup(child.pid, "SIGTERM");
    hard ??= setTimeout(() => killGroup(child.pid, "SIGKILL"), GRACE_MS);
  };
  turn.signal.addEventListener("abort", end, { once: true });
  let silence: Timer | undefined;
  const touch = (): void => {
    clearTimeout(silence);
    silence = setTimeout(() => {
      late = true;
      end();
    }, timeoutMs);
  };
  const read = async (stream: ReadableStream<Uint8Array>, take: (text: string) => void): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const piece of stream) {
      touch();
      take(decoder.decode(piece, { stream: true }));
    }
  };
  touch();
  try {
    const reading = Promise.all([read(child.stdout, say), read(child.stderr, stderr)]);
    await feed(child.stdin, turn.text);
    const code = await child.exited;
    await Promise.race([reading, Bun.sleep(AFTER_MS)]);
    if (turn.signal.aborted) return spoke;
    if (late)
      throw new ModelError("command_timeout", {
        zh: `程序 ${Math.round(timeoutMs / 1000)} 秒没有输出，已停止`,
        en: `The program wrote nothing for ${Math.round(timeoutMs / 1000)} s and was stopped`,
      });
    const how = child.signalCode ?? String(code);
    if (code !== 0) {
      const say = { zh: `程序没有正常结束（${how}）`, en: `The program did not end well (${how})` };
      throw Object.assign(new ModelError("command_failed", say), { cause: { code: how } });
    }
    return spoke;
  } finally {
    clearTimeout(silence);
    clearTimeout(hard);
    turn.signal.removeEventListener("abort", end);
    killGroup(child.pid, "SIGKILL");
  }
};
