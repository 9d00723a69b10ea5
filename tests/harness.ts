/**
 * The test harness: a gateway in this process over a real socket, and the way in to the other helpers, so that a test
 * needs one import. Owns nothing that outlives a test; everything opened here is closed by `stop`.
 */
import type { Assets } from "../lib/assets.ts";
import { parseConfig } from "../lib/config.ts";
import { createGateway } from "../lib/gateway.ts";
import { CHEAP_HASHES, type ConfigJson, testConfig } from "./harness/config.ts";
import { tempDir } from "./harness/wait.ts";

export { rawSocket, v1Bot, v2Bot, type BotSocket, type V1Bot, type V2Bot } from "./harness/bots.ts";
export { api, login, PASSWORD, type Answer, type Call, type Json } from "./harness/client.ts";
export { BOT_TOKEN, testConfig, type ConfigJson } from "./harness/config.ts";
export { BINARY, ROOT, startProcess, type ProcessOptions, type RunningProcess } from "./harness/process.ts";
export { readSse, sseParser, type SseItem, type SseReader } from "./harness/sse.ts";
export { freePort, tempDir, until, within } from "./harness/wait.ts";

/** One line the gateway logged. */
export type LogLine = { level: string; event: string; fields: Record<string, unknown> };

export type GatewayOptions = {
  /** Milliseconds since 1970; a fake clock for the tests of time. */
  now?: () => number;
  /** Where the wall clock and the clock of deadlines differ; default: `now` is both. */
  steady?: () => number;
  /** Default: a new folder, removed at `stop`. Given: left alone, so that a second gateway can open it. */
  dataDir?: string;
  /** What programs of `models` write to their standard error. */
  stderr?: (text: string) => void;
  /** Instead of the real page, which takes 0.3 s to build. */
  assets?: Assets;
};

/**
 * A gateway in this process on a free port of 127.0.0.1. `config` is config.json as a person would write it, over the
 * defaults of harness/config.ts. `logs` is everything it logged. `stop` closes it and removes its folder.
 */
export const startGateway = async (config: ConfigJson = {}, options: GatewayOptions = {}) => {
  const folder = options.dataDir ? undefined : await tempDir("data");
  const dataDir = options.dataDir ?? folder!.path;
  const parse = (json: ConfigJson) => {
    const parsed = parseConfig(testConfig({ dataDir, ...json }, true), {}, undefined, CHEAP_HASHES);
    if (!parsed.ok)
      throw new Error(`test config: ${parsed.faults.map((fault) => `${fault.path}: ${fault.say.en}`).join("; ")}`);
    return parsed.config;
  };
  const logs: LogLine[] = [];
  const gateway = await createGateway({
    config: parse(config),
    log: (level: string, event: string, fields: Record<string, unknown> = {}) => logs.push({ level, event, fields }),
    dataDir,
    ...(options.now ? { now: options.now } : {}),
    ...(options.steady ? { steady: options.steady } : {}),
    ...(options.stderr ? { stderr: options.stderr } : {}),
    ...(options.assets ? { assets: options.assets } : {}),
  });
  const { port } = await gateway.listen();
  return {
    gateway,
    logs,
    dataDir,
    port,
    url: `http://127.0.0.1:${port}`,
    wsUrl: `ws://127.0.0.1:${port}/bot-ws`,
    /** Replaces the running config, as an edit of the file would. */
    reload: (next: ConfigJson) => gateway.reload(parse(next)),
    async stop() {
      await gateway.close();
      await folder?.remove();
    },
  };
};
