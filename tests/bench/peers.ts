/** The peers of a comparison: how each is started, and what the operating system says it used. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { openStore } from "../../lib/store.ts";
import { freePort } from "../harness/wait.ts";

export type Peer = {
  name: string;
  pid: number;
  port: number;
  token: string | undefined;
  botToken: string | undefined;
  v2: boolean;
  stop: () => Promise<void>;
};

const ROOT = join(import.meta.dir, "../..");
const HERE = import.meta.dir;
const PASSWORD = "bench-password";
const BOT_TOKEN = "bench-token";

const hasTaskset = Bun.which("taskset") !== null;
/** The gateway on one core, the load on the other, where the machine has two. */
export const pinned = (core: number, command: string[]): string[] =>
  hasTaskset && navigator.hardwareConcurrency > 1 ? ["taskset", "-c", String(core), ...command] : command;

/** User and system time of a process so far, in milliseconds (proc(5), fields 14 and 15, ticks of 10 ms). */
export const cpuOf = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
};

/** Resident and peak memory in kB. */
export const memoryOf = (pid: number): { rss: number; peak: number } => {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kb = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]);
  return { rss: kb("VmRSS"), peak: kb("VmHWM") };
};

const healthy = async (port: number): Promise<void> => {
  const deadline = Date.now() + 15_000;
  for (;;) {
    const ok = await fetch(`http://127.0.0.1:${port}/health`).then(
      (response) => response.ok,
      () => false,
    );
    if (ok) return;
    if (Date.now() > deadline) throw new Error(`nothing answers on port ${port}`);
    await Bun.sleep(10);
  }
};

const login = async (port: number): Promise<string> => {
  const response = await fetch(`http://127.0.0.1:${port}/api/login`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ username: "admin", password: PASSWORD }),
  });
  return ((await response.json()) as { token: string }).token;
};

const stopper = (child: Bun.Subprocess, folder?: string) => async (): Promise<void> => {
  child.kill("SIGKILL");
  await child.exited;
  if (folder) rmSync(folder, { recursive: true, force: true });
};

const relay = async (name: string, folder?: string): Promise<Peer> => {
  const command = [process.execPath, join(HERE, "bare.ts"), ...(folder ? [join(folder, "bare.db")] : [])];
  const child = Bun.spawn(pinned(0, command), { stdout: "pipe", stderr: "inherit" });
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  reader.releaseLock();
  const { port } = JSON.parse(new TextDecoder().decode(value)) as { port: number };
  return { name, pid: child.pid, port, token: undefined, botToken: undefined, v2: false, stop: stopper(child, folder) };
};

export const startBare = (): Promise<Peer> => relay("bare");

/** The same that keeps each question and each answer: what that promise costs anybody. */
export const startStoring = (): Promise<Peer> =>
  relay("bare that stores", mkdtempSync(join(tmpdir(), "nexus-bench-bare-")));

/** As many conversations of a question and an answer, by the gateway's own store. */
const fillStore = async (dir: string, conversations: number): Promise<void> => {
  const store = openStore({ dir, synchronous: "normal", now: Date.now, log: () => {} });
  const say = { bot: "bot", botName: "Bot", files: [], turn: null, parent: null };
  for (let i = 0; i < conversations; i++) {
    const row = await store.conversations.create("admin", `第 ${i} 个`, "bot");
    await store.write(() => {
      store.turns.appendBotMessage(row, { ...say, content: `第 ${i} 条消息：磁盘满了` });
      store.turns.appendBotMessage(row, { ...say, content: `第 ${i} 条回答：先看 df` });
    });
  }
  while (await store.search.indexSome());
  store.close();
};

/** Ours with everything on: login, storage, and the counting limits active but set above the load. */
export const startOurs = async (
  from: "source" | "binary",
  options: { login: boolean; conversations?: number } = { login: true },
): Promise<Peer> => {
  const folder = mkdtempSync(join(tmpdir(), "nexus-bench-"));
  const port = freePort();
  const limits = {
    turnsPerUser: 100_000,
    streamsPerUser: 100_000,
    sendsPerMinute: 100_000_000,
    streams: 100_000,
    bots: 100_000,
    connectionsPerAddress: 1_000_000,
  };
  writeFileSync(
    join(folder, "config.json"),
    JSON.stringify({
      port,
      host: "127.0.0.1",
      botToken: BOT_TOKEN,
      dataDir: join(folder, "data"),
      users: { admin: { password: PASSWORD, displayName: "Admin" } },
      limits,
    }),
  );
  if (options.conversations) await fillStore(join(folder, "data"), options.conversations);
  const command = from === "binary" ? [join(ROOT, "dist/nexus")] : [process.execPath, join(ROOT, "server.ts")];
  const child = Bun.spawn(pinned(0, command), {
    cwd: folder,
    stdout: "ignore",
    stderr: "ignore",
    env: { PATH: process.env.PATH, NODE_ENV: "production" },
  });
  await healthy(port);
  return {
    name: from === "binary" ? "ours" : "ours (source)",
    pid: child.pid,
    port,
    token: options.login ? await login(port) : undefined,
    botToken: BOT_TOKEN,
    v2: true,
    stop: stopper(child, folder),
  };
};

/** The v1 package on Node, in a scratch folder; undefined where npm cannot install it. */
export const startV1 = async (): Promise<Peer | undefined> => {
  const scratch = join(homedir(), ".cache/nexus-tests/v1-gateway");
  mkdirSync(scratch, { recursive: true });
  const entry = join(scratch, "node_modules/@houchenyang/nexus-gateway/dist/index.js");
  if (!(await Bun.file(entry).exists())) {
    const install = Bun.spawnSync([
      "npm",
      "install",
      "--silent",
      "--no-save",
      "--prefix",
      scratch,
      "@houchenyang/nexus-gateway@1.0.6",
    ]);
    if (install.exitCode !== 0) return undefined;
  }
  const folder = mkdtempSync(join(tmpdir(), "nexus-bench-v1-"));
  const port = freePort();
  writeFileSync(
    join(folder, "config.json"),
    JSON.stringify({
      port,
      sessionTTL: 86400000,
      pingInterval: 30000,
      botTimeout: 90000,
      botToken: BOT_TOKEN,
      users: { admin: { password: PASSWORD, displayName: "Admin" } },
    }),
  );
  const child = Bun.spawn(pinned(0, ["node", entry]), { cwd: folder, stdout: "ignore", stderr: "ignore" });
  await healthy(port);
  return {
    name: "v1",
    pid: child.pid,
    port,
    token: await login(port),
    botToken: BOT_TOKEN,
    v2: false,
    stop: stopper(child, folder),
  };
};
