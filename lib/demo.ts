/**
 * `nexus demo`: a gateway to try in one command, with a bot connected over the real socket.
 *
 * What must stay true: nothing in it is weaker than in a real gateway (random password and token, the same routes and
 * limits); it touches nothing but ./data/demo, or a folder in the system's temporary one. Its chats stay there for the next
 * demo; its password is new each time.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import packageJson from "../package.json" with { type: "json" };
import { newSecret } from "./auth.ts";
import { banner, lanAddresses } from "./banner.ts";
import { type Command, type Context, EXIT } from "./cli/command.ts";
import { isLaunched, untilStopped } from "./cli/lifetime.ts";
import { PORT_OPTION, portOption } from "./cli/operate.ts";
import { explainStart } from "./cli/start.ts";
import { type Config, parseConfig } from "./config.ts";
import { DEFAULTS } from "./config/defaults.ts";
import { readablePassword } from "./config/first.ts";
import { startDemoBot } from "./demo/bot.ts";
import { createGateway } from "./gateway.ts";
import { createLog, logStyle } from "./log.ts";
import { hashPassword } from "./passwords.ts";

/** After these, something else is wrong than a second demo. */
const PORTS_TRIED = 50;
/** A demo is stopped by the person who looks at it: nobody waits 25 s for a chat with a demo bot. */
const DRAIN_MS = 3_000;
/** The bot connects to its own process; if that takes longer, say so rather than look ready. */
const BOT_MS = 5_000;
const USERNAME = "admin";

const isFree = (hostname: string, port: number): boolean => {
  try {
    Bun.listen({ hostname, port, socket: { data() {} } }).stop(true);
    return true;
  } catch {
    return false;
  }
};

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

type Folder = { path: string; remove(): void };

/** ./data/demo, unless another demo lives in it or it cannot be written: then one that disappears afterwards. */
const demoFolder = (cwd: string): Folder => {
  const path = resolve(cwd, "data", "demo");
  const claim = join(path, "demo.pid");
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    try {
      const owner = Number(readFileSync(claim, "utf8"));
      if (Number.isInteger(owner) && owner > 0 && owner !== process.pid && isAlive(owner)) throw new Error("in use");
      rmSync(claim); // left by a demo that was killed
    } catch (error) {
      if ((error as { code?: string }).code !== "ENOENT") throw error;
    }
    writeFileSync(claim, String(process.pid), { flag: "wx" });
    return { path, remove: () => rmSync(claim, { force: true }) };
  } catch {
    const temporary = mkdtempSync(join(tmpdir(), "nexus-demo-"));
    return { path: temporary, remove: () => rmSync(temporary, { recursive: true, force: true }) };
  }
};

const demoConfig = (context: Context, port: number, dataDir: string, hash: string, botToken: string): Config => {
  const { language } = context;
  const users = { [USERNAME]: { password: hash, displayName: language === "zh" ? "管理员" : "Admin", role: "admin" } };
  const parsed = parseConfig({ port, dataDir, botToken, users, language });
  if (!parsed.ok) throw new Error(`the demo's own config is refused: ${JSON.stringify(parsed.faults)}`);
  return parsed.config;
};

const run = async (context: Context): Promise<number> => {
  const { stdout, env, cwd, complain, say } = context;
  const option = portOption(context);
  if (!option) return EXIT.usage;
  const fromEnv = parseConfig({}, env.PORT ? { PORT: env.PORT } : {});
  if (!fromEnv.ok) {
    complain("环境变量 PORT 应为 0–65535 的端口号", "PORT should be a port number (0–65535)");
    return EXIT.usage;
  }
  const wanted = option.port ?? fromEnv.config.port;
  const free = Array.from({ length: PORTS_TRIED }, (_, i) => wanted + i).find((port) => isFree(DEFAULTS.host, port));
  const port = free ?? wanted;
  if (port !== wanted) say(`端口 ${wanted} 已被占用，改用 ${port}`, `port ${wanted} is in use, taking ${port} instead`);

  const folder = demoFolder(cwd);
  const style = logStyle(stdout, env);
  // On a terminal the person reads the banner; only what went wrong belongs between.
  const log = createLog({ ...style, level: style.json ? "info" : "warn", write: (line) => void stdout.write(line) });
  const password = readablePassword();
  const botToken = newSecret("nxb_");
  try {
    const config = demoConfig(context, port, folder.path, await hashPassword(password), botToken);
    const gateway = await createGateway({ config, log });
    const address = await gateway.listen();
    let stopping = false;
    const bot = startDemoBot({
      url: `http://127.0.0.1:${address.port}`,
      token: botToken,
      language: context.language,
      // That the bot goes offline at the end is no news.
      log: (level, event, fields) => log(stopping && level === "warn" ? "info" : level, event, fields),
    });
    const deadline = performance.now() + BOT_MS;
    while (bot.state.state !== "online" && performance.now() < deadline) await Bun.sleep(5);
    if (bot.state.state !== "online") complain("演示机器人还没有连上", "the demo bot is not connected yet");
    stdout.write(
      banner({
        version: packageJson.version,
        config,
        language: context.language,
        port: address.port,
        addresses: lanAddresses(),
        colour: style.colour,
        shown: { username: USERNAME, password, botToken },
        demo: true,
      }),
    );
    const code = await untilStopped({
      drain: () => {
        stopping = true;
        return gateway.drain();
      },
      close: () => gateway.close(),
      log,
      drainMs: DRAIN_MS,
      launched: isLaunched(env),
    });
    await bot.close();
    return code;
  } catch (error) {
    const { zh, en } = await explainStart(error, { port, host: DEFAULTS.host });
    complain(zh, en);
    return EXIT.failed;
  } finally {
    folder.remove();
  }
};

export const DEMO: Command = {
  name: "demo",
  summary: { zh: "启动一个带演示机器人的网关，马上可以试", en: "run a gateway with a demo bot, to try at once" },
  details: {
    zh: "密码和机器人令牌每次随机，打印在屏幕上；对话保存在 ./data/demo。端口被占用时用下一个空闲的。",
    en: "The password is random and printed each time, and so is a token for bots of your own; chats are kept in ./data/demo. A port in use gives way to the next free one.",
  },
  options: PORT_OPTION,
  run,
};
