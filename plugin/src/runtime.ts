/** The host's runtime, handed over once at registration and asked for when an account starts. */
import type { PluginRuntime } from "openclaw/plugin-sdk/channel-core";
import { createPluginRuntimeStore } from "openclaw/plugin-sdk/runtime-store";

export const createRuntimeSlot = () =>
  createPluginRuntimeStore<PluginRuntime>({
    pluginId: "nexus",
    errorMessage: "The Nexus plugin was not registered by a host",
  });
