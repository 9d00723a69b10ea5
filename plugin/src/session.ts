/**
 * Keeps the gateway's session secret across restarts of the host, in a file of the host's state folder (mode 600).
 *
 * With it a restarted host ends at once what it had open, instead of leaving people waiting for the grace time. Bound to
 * account, gateway and bot, so that a changed config starts afresh. Losing it costs that wait and nothing else. A file,
 * because the host opens its keyed store only to plugins from its own catalogue.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { PluginRuntime } from "openclaw/plugin-sdk/channel-core";
import type { NexusAccount } from "./config.ts";
import type { SessionStore } from "./monitor.ts";

export const sessionStore = (runtime: PluginRuntime, account: NexusAccount): SessionStore => {
  const { serverUrl, botId } = account.config;
  const name = createHash("sha256")
    .update(JSON.stringify([account.accountId, serverUrl, botId]))
    .digest("hex")
    .slice(0, 32);
  const folder = join(runtime.state.resolveStateDir(), "nexus-sessions");
  const file = join(folder, name);
  return {
    load: async () => {
      try {
        return (await readFile(file, "utf8")).trim() || undefined;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
        throw error;
      }
    },
    save: async (session) => {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      // Renamed into place: a crash in between leaves the old secret, which the gateway still accepts once.
      await writeFile(`${file}.new`, session, { mode: 0o600 });
      await rename(`${file}.new`, file);
    },
  };
};
