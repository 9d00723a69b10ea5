/** Entry of the OpenClaw plugin: the host imports this file's default export, which its contract asks for. */
import { defineChannelPluginEntry } from "openclaw/plugin-sdk/channel-core";
import { createNexusPlugin } from "./src/channel.ts";
import { createRuntimeSlot } from "./src/runtime.ts";

const slot = createRuntimeSlot();

// biome-ignore lint/style/noDefaultExport: the host's contract
export default defineChannelPluginEntry({
  id: "nexus",
  name: "Nexus",
  description: "OpenClaw channel for the Nexus gateway.",
  plugin: createNexusPlugin({ runtime: slot.getRuntime }),
  setRuntime: slot.setRuntime,
});
