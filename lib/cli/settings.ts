/** The config as commands read it that need no secret of it: theirs is the data folder, the port, the names of users. */
import type { ParsedConfig } from "../config.ts";
import { faultLine, loadConfig } from "../config/file.ts";
import type { Context } from "./command.ts";

/** Undefined after every fault was told. An operator's shell, cron or sudo has not the environment of the gateway. */
export const readSettings = ({ configPath, env, complain }: Context): (ParsedConfig & { ok: true }) | undefined => {
  const loaded = loadConfig(configPath, env, { withoutSecrets: true });
  if (loaded.ok) return loaded;
  for (const fault of loaded.faults) complain(faultLine(fault, "zh"), faultLine(fault, "en"));
  return undefined;
};
