/**
 * The gateway as a separate process: from source, as the binary, or any other command that serves the same contract.
 * Each process lives in its own folder, is ended by its own pid and never outlives the test run.
 */
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type ConfigJson, testConfig } from "./config.ts";
import { tempDir, until, within } from "./wait.ts";

export const ROOT = resolve(import.meta.dir, "../..");
export const BINARY = join(ROOT, "dist", "nexus");

export type ProcessOptions = {
  /** What to run: the source tree, dist/nexus, or a command of one's own. Default: source. */
  run?: "source" | "binary" | string[];
  /** After the program's name. */
  args?: string[];
  /** Working folder; default a new one, removed at `stop`. */
  cwd?: string;
  /** Written as config.json over the test defaults; null writes no file. Left alone when the file is already there. */
  config?: ConfigJson | null;
  /** The whole environment; default PATH and HOME only. */
  env?: Record<string, string>;
  /** Known in advance for programs that do not print their port. */
  port?: number;
  /** Milliseconds until /health must answer. */
  readyMs?: number;
  /** false: do not wait for /health (for runs that are meant to fail, or that serve nothing). */
  wait?: boolean;
};

export type RunningProcess = {
  pid: number;
  cwd: string;
  url: string;
  wsUrl: string;
  port: number;
  /** Milliseconds from spawn to the first 200 on /health. */
  startMs: number;
  /** Everything printed so far. */
  stdout: () => string;
  stderr: () => string;
  kill: (signal?: NodeJS.Signals) => void;
  /** Exit code, or -1 when a signal ended it. */
  exited: Promise<number>;
  /** Writes to its standard input. */
  type: (text: string) => void;
  /** Ends it (SIGKILL) if it still runs, and removes the folder it was given. */
  stop: () => Promise<void>;
};

const collect = (stream: ReadableStream<Uint8Array>) => {
  let text = "";
  const done = (async () => {
    const decoder = new TextDecoder();
    for await (const piece of stream) text += decoder.decode(piece, { stream: true });
  })();
  return { text: () => text, done };
};

/** The port in a JSON log line or in a printed address. */
const portIn = (output: string): number | undefined => {
  const found = /"port":\s*(\d+)/.exec(output) ?? /https?:\/\/[\w.[\]:-]*?:(\d+)/.exec(output);
  return found ? Number(found[1]) : undefined;
};

const command = (run: ProcessOptions["run"]): string[] => {
  if (run === "binary") return [BINARY];
  return Array.isArray(run) ? run : [process.execPath, join(ROOT, "server.ts")];
};

/** Starts the process and waits until /health answers. Throws with its output when it ends before that. */
export const startProcess = async (options: ProcessOptions = {}): Promise<RunningProcess> => {
  const folder = options.cwd ? undefined : await tempDir("run");
  const cwd = options.cwd ?? folder!.path;
  await mkdir(cwd, { recursive: true });
  const file = Bun.file(join(cwd, "config.json"));
  if (options.config !== null && !(await file.exists()))
    await Bun.write(file, JSON.stringify(testConfig(options.config), null, 2), { mode: 0o600 });

  const began = performance.now();
  const child = Bun.spawn([...command(options.run), ...(options.args ?? [])], {
    cwd,
    env: options.env ?? { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? tmpdir() },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
  });
  const lastResort = () => child.kill("SIGKILL");
  process.once("exit", lastResort);
  const out = collect(child.stdout);
  const err = collect(child.stderr);
  const exited = child.exited.then(async (code) => {
    process.removeListener("exit", lastResort);
    await Promise.all([out.done, err.done]);
    return child.signalCode ? -1 : code;
  });

  const running: RunningProcess = {
    pid: child.pid,
    cwd,
    url: "",
    wsUrl: "",
    port: 0,
    startMs: 0,
    stdout: out.text,
    stderr: err.text,
    kill: (signal = "SIGTERM") => child.kill(signal),
    exited,
    type: (text) => {
      child.stdin.write(text);
      child.stdin.flush();
    },
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await within(exited, 10_000, "the process to end");
      await folder?.remove();
    },
  };
  if (options.wait === false) return running;

  try {
    const found = await until(
      async () => {
        if (child.exitCode !== null || child.signalCode !== null) {
          await exited;
          throw new Error(`the process ended by itself (${child.exitCode}):\n${out.text()}\n${err.text()}`);
        }
        const port = options.port ?? portIn(out.text()) ?? portIn(err.text());
        if (!port) return undefined;
        const health = await fetch(`http://127.0.0.1:${port}/health`).catch(() => undefined);
        await health?.text();
        return health?.status === 200 && { port, startMs: performance.now() - began };
      },
      options.readyMs ?? 10_000,
      `/health of ${command(options.run).join(" ")}`,
    );
    const url = `http://127.0.0.1:${found.port}`;
    return Object.assign(running, { ...found, url, wsUrl: `ws://127.0.0.1:${found.port}/bot-ws` });
  } catch (error) {
    await running.stop();
    throw new Error(`${error instanceof Error ? error.message : error}\n${out.text()}\n${err.text()}`);
  }
};
