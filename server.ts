/**
 * The start-up story: command line → config → log → gateway → listen → signals → drain → exit code.
 *
 * Owns the process: its streams, signals and exit. Everything it starts is a factory that knows none of these.
 */
import { basename, dirname } from "node:path";
import { banner, lanAddresses } from "./lib/banner.ts";
import { EXIT, type Io, type ServeOptions } from "./lib/cli/command.ts";
import { languageOf } from "./lib/cli/language.ts";
import { isLaunched, untilStopped } from "./lib/cli/lifetime.ts";
import { createNotify } from "./lib/cli/notify.ts";
import { explainStart } from "./lib/cli/start.ts";
import { run, VERSION } from "./lib/cli.ts";
import { faultLine, loadConfig, watchConfig } from "./lib/config/file.ts";
import { type FirstStart, firstStart, removeFirstPassword, undoFirstStart } from "./lib/config/first.ts";
import { createGateway } from "./lib/gateway.ts";
import { createLog, logStyle } from "./lib/log.ts";

const serve = async (io: Io, { configPath, port }: ServeOptions): Promise<number> => {
  // A port of the command line stands above PORT, also when the config is read again.
  const env = port === undefined ? io.env : { ...io.env, PORT: String(port) };
  const terminal = io.stdout.isTTY === true;
  const language = languageOf(io.env, configPath);
  const complain = (sentence: string): void => void io.stderr.write(`nexus: ${sentence}\n`);

  let first: FirstStart | undefined;
  let loaded = loadConfig(configPath, env);
  if (!loaded.ok && "missing" in loaded) {
    try {
      first = await firstStart(configPath, { terminal, language });
    } catch (error) {
      complain((await explainStart(error, { folder: dirname(configPath) }))[language]);
      return EXIT.failed;
    }
    loaded = loadConfig(configPath, env);
  }
  if (!loaded.ok) {
    for (const fault of loaded.faults) complain(faultLine(fault, language));
    return EXIT.usage;
  }
  const { config, warnings } = loaded;
  const style = logStyle(io.stdout, io.env);
  const log = createLog({ ...style, write: (line) => void io.stdout.write(line) });
  for (const warning of warnings) log("warn", "config", { hint: warning[language] });
  if (first?.passwordFile) log("warn", "first_start", { user: first.username, passwordFile: first.passwordFile });

  let gateway: Awaited<ReturnType<typeof createGateway>>;
  let address: { port: number; url: string };
  try {
    gateway = await createGateway({ config, log, signedIn: () => removeFirstPassword(config.dataDir) });
    address = await gateway.listen();
  } catch (error) {
    if (first) undoFirstStart(configPath, first);
    complain((await explainStart(error, { port: config.port, host: config.host }))[language]);
    return EXIT.failed;
  }
  log("info", "listening", { version: VERSION, host: config.host, port: address.port, url: address.url });
  if (terminal) {
    const { username, shown } = first ?? {};
    const secrets = username && shown ? { shown: { username, ...shown } } : {};
    const look = { version: VERSION, config, language, port: address.port, addresses: lanAddresses() };
    io.stdout.write(banner({ ...look, colour: style.colour, ...secrets }));
  }

  const reload = (): void => {
    const next = loadConfig(configPath, env);
    if (!next.ok) {
      const faults = next.faults.map((fault) => faultLine(fault, language));
      log("error", "config_refused", { file: basename(configPath), faults, kept: "the config before it" });
      return;
    }
    for (const warning of next.warnings) log("warn", "config", { hint: warning[language] });
    gateway.reload(next.config);
    log("info", "config_applied", { users: next.config.users.size, bots: next.config.bots.size });
  };
  const stopWatching = watchConfig(configPath, reload);
  process.on("SIGHUP", reload);

  const notify = createNotify({ env: io.env, log });
  const drain = (): Promise<void> => {
    void notify("STOPPING=1");
    return gateway.drain();
  };
  const stopped = untilStopped({ drain, close: () => gateway.close(), log, launched: isLaunched(io.env) });
  // Ready to be stopped, too: from here on signals are handled.
  void notify("READY=1");
  const code = await stopped;
  stopWatching();
  return code;
};

const { stdout, stderr, stdin, env } = process;
// Whoever read our output may go away; that is no reason to drop everybody's chats.
for (const output of [stdout, stderr]) output.on("error", () => {});
process.exit(await run(Bun.argv.slice(2), { stdout, stderr, stdin, env, cwd: process.cwd(), serve }));
