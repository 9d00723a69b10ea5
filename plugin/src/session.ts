/**
 * Keeps the gateway's session secret across restarts of the host, in the host's own state store.
 *
 * With it a restarted host ends at once what it had open, instead of leaving people waiting for the grace time. Bound to
 * account, gateway and bot, so that a changed config starts afresh. Losing it costs that wait and nothing else.
 */
import { createHash } from "node:crypto";
import type { PluginRuntime } from "openclaw/plugin-sdk/channel-core";
import type { NexusAccount } from "./config.ts";
import type { SessionStore } from "./monitor.ts";

/** Well above the gateway's grace time; an older session resumes nothing. */
const TTL_MS = 24 * 3600_000;

export const sessionStore = (runtime: PluginRuntime, account: NexusAccount): SessionStore => {
  const { serverUrl, botId } = account.config;
  const key = createHash("sha256")
    .update(JSON.stringify([account.accountId, serverUrl, botId]))
    .digest("hex");
  const open = () =>
    runtime.state.openKeyedStore<{ session: string }>({ namespace: "gateway-sessions", maxEntries: 64 });
  return {
    load: async () => (await open().lookup(key))?.session,
    save: async (session) => open().register(key, { session }, { ttlMs: TTL_MS }),
  };
};
