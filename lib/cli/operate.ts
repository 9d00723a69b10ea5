/** `nexus serve`, `check` and `backup`: running the gateway and looking after it. */
import { resolve } from "node:path";
import { describeConfig } from "../config/describe.ts";
import { loadConfig } from "../config/file.ts";
import { StoreRefused } from "../store.ts";
import { backupStore } from "../store/backup.ts";
import { CONFIG_OPTION, type Command, type Context, EXIT } from "./command.ts";
import { complainAll, readSettings } from "./settings.ts";

/** A port given on the command line; undefined after saying why not. */
export const portOption = ({ options, complain }: Context): { port?: number } | undefined => {
  const given = options.get("port");
  if (given === undefined) return {};
  if (/^\d{1,5}$/.test(given) && Number(given) <= 65_535) return { port: Number(given) };
  complain(`--port 应为 0–65535 的端口号，不能是 ${given}`, `--port should be a port number (0–65535), not ${given}`);
  return undefined;
};

const serve = async (context: Context): Promise<number> => {
  const port = portOption(context);
  return port ? context.serve(context, { configPath: context.configPath, ...port }) : EXIT.usage;
};

const check = async ({ configPath, env, stdout, complain }: Context): Promise<number> => {
  const loaded = loadConfig(configPath, env);
  if (!loaded.ok) {
    complainAll({ complain }, loaded.faults);
    return EXIT.usage;
  }
  for (const { zh, en } of loaded.warnings) complain(`提醒：${zh}`, `warning: ${en}`);
  stdout.write(`${JSON.stringify(describeConfig(loaded.config), null, 2)}\n`);
  return EXIT.ok;
};

const backup = async (context: Context): Promise<number> => {
  const { cwd, positional, complain, say } = context;
  const settings = readSettings(context);
  if (!settings) return EXIT.usage;
  const file = resolve(cwd, positional[0]!);
  const stop = new AbortController();
  const onSignal = (): void =>
    stop.abort(new StoreRefused({ zh: "已停止，没有留下备份", en: "stopped, nothing was kept" }));
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, onSignal);
  try {
    const { bytes, files } = await backupStore(settings.config.dataDir, file, stop.signal);
    say(
      `已备份到 ${file}（${bytes} 字节，${files} 个附件在 ${file}.files）`,
      `backed up to ${file} (${bytes} bytes, ${files} attachments in ${file}.files)`,
    );
    return EXIT.ok;
  } catch (error) {
    if (error instanceof StoreRefused) complain(error.say.zh, error.say.en);
    else {
      const why = error instanceof Error ? error.message : String(error);
      complain(`无法备份到 ${file}：${why}`, `cannot back up to ${file}: ${why}`);
    }
    return EXIT.failed;
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.removeListener(signal, onSignal);
  }
};

export const PORT_OPTION = {
  port: { value: "N", say: { zh: "端口（优先于 PORT 和配置）", en: "the port (before PORT and the config)" } },
} satisfies Command["options"];

export const SERVE: Command = {
  name: "serve",
  summary: { zh: "启动网关（默认命令）", en: "run the gateway (the default command)" },
  details: {
    zh:
      "首次启动会创建配置：随机的管理员密码和机器人令牌，只在终端上显示一次。\n" +
      "修改配置文件或发送 SIGHUP 后立即生效；SIGTERM 等正在进行的回复写完（至多 25 秒）再退出，再发一次则马上退出。\n" +
      "环境变量 PORT 优先于配置中的 port。",
    en:
      "The first start makes the config with a random admin password and bot token, shown once on the terminal.\n" +
      "An edited config (or SIGHUP) counts at once; SIGTERM lets open answers finish (up to 25 s), a second one ends at once.\n" +
      "The environment's PORT overrides the config's.",
  },
  options: { ...CONFIG_OPTION, ...PORT_OPTION },
  run: serve,
};

export const CHECK: Command = {
  name: "check",
  summary: { zh: "检查配置并显示最终生效的值", en: "check the config and show what it comes to" },
  details: {
    zh: "标准输出是 JSON，密码和令牌已遮盖；提醒和错误在标准错误。配置有误时退出码为 2。",
    en: "Standard output is JSON with secrets masked; warnings and faults go to standard error. Exit code 2 on faults.",
  },
  options: CONFIG_OPTION,
  run: check,
};

export const BACKUP: Command = {
  name: "backup",
  args: "FILE",
  summary: {
    zh: "备份数据库和附件（网关可以正在运行）",
    en: "back up the store and attachments (the gateway may run)",
  },
  details: {
    zh: "FILE 是数据库的一致副本，附件在 FILE.files。恢复：停止网关，把它们放回 dataDir，改名为 nexus.db 和 files。",
    en: "FILE is a consistent copy of the database, attachments are in FILE.files. To restore: stop the gateway and put them into dataDir as nexus.db and files.",
  },
  options: CONFIG_OPTION,
  run: backup,
};
