/**
 * The plugin on a scripted host and a scripted gateway, for everyday tests: loads the sources with the SDK replaced, and
 * starts accounts that end with their test.
 */
import { afterEach } from "bun:test";
import { tempDir, until } from "../harness.ts";
import { createScriptedGateway, type ScriptedOptions } from "./scripted-gateway.ts";
import { createScriptedHost, install } from "./scripted-host.ts";

export type Account = import("../../plugin/src/config.ts").NexusAccount;
export type Json = Record<string, unknown>;
export type Snapshot = Json & { accountId: string; lifecycle?: string; connected?: boolean; lastError?: string | null };

/** What the composed channel looks like with the scripted SDK. */
export type Channel = {
  gateway: { startAccount(context: object): Promise<void> };
  outbound: { attachedResults: { sendText(context: object): Promise<{ messageId: string; to: string }> } };
  messaging: { resolveOutboundSessionRoute(params: object): { key: string; to: string } | null };
  status: { probeAccount(params: object): Promise<{ ok: boolean; error?: string; proto?: number }> };
  pairing: { notifyApproval(params: object): Promise<void> };
};

/** The plugin's modules, imported after the SDK was replaced. */
export const loadPlugin = async () => {
  install();
  const [channel, config, identity, transcript, monitor, setup] = await Promise.all([
    import("../../plugin/src/channel.ts"),
    import("../../plugin/src/config.ts"),
    import("../../plugin/src/identity.ts"),
    import("../../plugin/src/transcript.ts"),
    import("../../plugin/src/monitor.ts"),
    import("../../plugin/src/setup.ts"),
  ]);
  return { ...channel, ...config, ...identity, ...transcript, ...monitor, ...setup };
};

/** Call once per test file. */
export const createPluginRig = (plugin: Awaited<ReturnType<typeof loadPlugin>>) => {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });
  /** A gateway, a host, and one account of the plugin that is started. `start` starts it once more. */
  const setup = async (options: { nexus?: Json; gateway?: ScriptedOptions; accountId?: string } = {}) => {
    const gateway = createScriptedGateway(options.gateway);
    const folder = await tempDir("plugin-state");
    const host = createScriptedHost(folder.path);
    const own = { serverUrl: gateway.url, botId: "bot", reconnectInterval: 100 };
    const cfg = { channels: { nexus: { ...own, ...options.nexus } } };
    const channel = plugin.createNexusPlugin({ runtime: () => host.runtime as never }) as unknown as Channel;
    const accountId = options.accountId ?? "default";
    const statuses: Snapshot[] = [];
    const logs: string[] = [];
    const account: Account = plugin.resolveAccount(cfg as never, accountId);
    const line = (text: string) => void logs.push(text);
    const start = () => {
      const stop = new AbortController();
      const running = channel.gateway.startAccount({
        cfg,
        accountId,
        account,
        abortSignal: stop.signal,
        log: { info: line, warn: line, error: line },
        setStatus: (next: Snapshot) => statuses.push(next),
      });
      running.catch(() => {});
      const end = async () => {
        stop.abort();
        await running.catch(() => {});
      };
      cleanups.push(end);
      return { running, end };
    };
    cleanups.push(folder.remove, () => gateway.stop());
    const first = start();
    return { gateway, host, cfg, channel, account, statuses, logs, start, ...first };
  };
  const online = (gateway: { online: number }) => until(() => gateway.online === 1, 5000, "the bot to be online");
  return { setup, online, after: (cleanup: () => unknown) => void cleanups.push(cleanup) };
};
