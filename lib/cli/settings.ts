/** The config as commands read it that need no secret of it: theirs is the data folder, the port, the names of users. */
import type { ParsedConfig } from "../config.ts";
import { faultLine, loadConfig } from "../config/file.ts";
import type { Fault } from "../shape.ts";
import type { Context } from "./command.ts";

/** Tells every fault, one a line. */
export const complainAll = ({ complain }: Pick<Context, "complain">, faults: readonly Fault[]): undefined => {
  for (const fault of faults) complain(faultLine(fault, "zh"), faultLine(fault, "en"));
  return undefined;
};

/** Undefined after every fault was told. An operator's shell, cron or sudo has not the environment of the gateway. */
export const readSettings = (context: Context): (ParsedConfig & { ok: true }) | undefined => {
  const loaded = loadConfig(context.configPath, context.env, { withoutSecrets: true });
  return loaded.ok ? loaded : complainAll(context, loaded.faults);
};
