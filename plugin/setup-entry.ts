/** Entry for setup and read-only commands: names and config access without the running channel. */
import { defineSetupPluginEntry } from "openclaw/plugin-sdk/channel-core";
import { createBase } from "./src/setup.ts";

// biome-ignore lint/style/noDefaultExport: the host's contract
export default defineSetupPluginEntry(createBase());
