/**
 * The real OpenClaw host, pinned, as a process on loopback: installed once into a cached folder, run with a home of its own.
 *
 * Owns the processes it starts and ends them by their pid. What must stay true: nothing of the person's own OpenClaw is
 * read or written, because every path of the host is set to the test's folder. Refuses to skip: without the host, it throws.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { installPackages } from "../harness/packages.ts";
import { freePort, tempDir, until } from "../harness/wait.ts";

export const HOST_VERSION = "2026.9.6";

/** A Node the host accepts, as a package of this platform. */
const NODE = `node-${process.platform}-${process.arch}`;

/**
 * The pinned host and its Node. Takes about a minute the first time. npm runs on that Node too: on an older one it leaves
 * out the host's native parts, which sending a local file needs.
 */
export const installHost = async (): Promise<{ modules: string; node: string; cli: string }> => {
  const modules = await installPackages(`openclaw-${HOST_VERSION}`, [
    { packages: [`${NODE}@24`] },
    { packages: [`openclaw@${HOST_VERSION}`], path: join(NODE, "bin") },
  ]);
  return { modules, node: join(modules, NODE, "bin", "node"), cli: join(modules, "openclaw", "openclaw.mjs") };
};

/** The published v1 gateway: path of its entry. */
export const installV1Gateway = async (): Promise<string> => {
  const modules = await installPackages("gateway-1.0.6", [{ packages: ["@houchenyang/nexus-gateway@1.0.6"] }]);
  return join(modules, "@houchenyang", "nexus-gateway", "dist", "index.js");
};

export type HostResult = { code: number; out: string; ms: number };

/** A home for one host, its CLI, and the means to start and stop its gateway process. */
export const createHost = async (options: { modelUrl: string }) => {
  const { node, cli } = await installHost();
  const home = await tempDir("openclaw");
  const state = join(home.path, ".openclaw");
  const workspace = join(home.path, "workspace");
  const logFile = join(home.path, "host.log");
  await mkdir(state, { recursive: true });
  await mkdir(workspace, { recursive: true });
  const port = freePort();
  const env = {
    PATH: `${join(node, "..")}:${process.env.PATH}`,
    HOME: home.path,
    OPENCLAW_HOME: home.path,
    OPENCLAW_STATE_DIR: state,
    OPENCLAW_CONFIG_PATH: join(state, "openclaw.json"),
    OPENCLAW_OFFLINE: "1",
    OPENCLAW_NO_AUTO_UPDATE: "1",
    OPENCLAW_SKIP_STARTUP_MODEL_PREWARM: "1",
    TMPDIR: join(home.path, "tmp"),
    NO_COLOR: "1",
    NEXUS_BOT_TOKEN: "token-from-the-environment",
  };
  await mkdir(env.TMPDIR);
  const config = {
    gateway: {
      mode: "local",
      bind: "loopback",
      port,
      auth: { mode: "token", token: "openclaw-test-token" },
      controlUi: { enabled: false },
    },
    models: {
      providers: {
        fake: {
          baseUrl: options.modelUrl,
          apiKey: "fake-key",
          api: "openai-completions",
          models: [
            {
              id: "fake-1",
              name: "Fake One",
              reasoning: false,
              input: ["text", "image"],
              cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
              contextWindow: 128_000,
              maxTokens: 4096,
            },
          ],
        },
      },
      catalogRefresh: { enabled: false },
    },
    agents: {
      defaults: { model: { primary: "fake/fake-1" }, workspace, skipBootstrap: true, heartbeat: { every: "0m" } },
    },
    plugins: { allow: ["nexus"], slots: { memory: "none" } },
    update: { checkOnStart: false },
    tools: { toolSearch: false },
    logging: { file: logFile },
  };
  await Bun.write(env.OPENCLAW_CONFIG_PATH, JSON.stringify(config, null, 2));

  let child: Bun.Subprocess<"ignore", "pipe", "pipe"> | undefined;
  let output = "";
  let lastRunMs = 0;
  const read = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder();
    for await (const piece of stream) output += decoder.decode(piece, { stream: true });
  };

  /**
   * `openclaw <args>` as a person would run it. Once more when the host's own lock was taken, which it says before it has
   * done anything: a busy machine holds it for long.
   */
  const run = async (...args: string[]): Promise<HostResult> => {
    for (let tries = 1; ; tries++) {
      const startedAt = performance.now();
      const call = Bun.spawn([node, cli, ...args], {
        cwd: home.path,
        env,
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
      });
      const [code, out, err] = await Promise.all([call.exited, call.stdout.text(), call.stderr.text()]);
      lastRunMs = performance.now() - startedAt;
      const result = { code, out: `${out}\n${err}`, ms: Math.round(lastRunMs) };
      if (code === 0 || tries >= 4 || !result.out.includes("another OpenClaw process owns")) return result;
      await Bun.sleep(2000);
    }
  };

  const stop = async (signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> => {
    const ending = child;
    child = undefined;
    if (!ending) return;
    ending.kill(signal);
    const timer = setTimeout(() => ending.kill("SIGKILL"), 60_000);
    await ending.exited;
    clearTimeout(timer);
  };

  const ready = () =>
    until(
      async () => {
        if (child?.exitCode != null) throw new Error(`the host ended with ${child.exitCode}:\n${output.slice(-3000)}`);
        const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
        return answer?.ok;
      },
      120_000,
      "the host to be ready",
    );

  return {
    home: home.path,
    workspace,
    port,
    run,
    ready,
    /** How long the latest command took: what this machine is worth just now. */
    get lastRunMs() {
      return lastRunMs;
    },
    /** Everything the host's gateway process printed. */
    get output() {
      return output;
    },
    /** `openclaw gateway run` in the foreground; does not wait until it is ready. */
    start: () => {
      child = Bun.spawn([node, cli, "gateway", "run"], {
        cwd: home.path,
        env,
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
      });
      void read(child.stdout);
      void read(child.stderr);
    },
    stop,
    readConfig: () => Bun.file(env.OPENCLAW_CONFIG_PATH).json() as Promise<Record<string, never>>,
    writeConfig: (next: object) => Bun.write(env.OPENCLAW_CONFIG_PATH, JSON.stringify(next, null, 2)),
    remove: async () => {
      await stop();
      await home.remove();
    },
  };
};
export type Host = Awaited<ReturnType<typeof createHost>>;
