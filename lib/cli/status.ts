/**
 * `nexus status`: the numbers of the first admin page in the terminal, live.
 *
 * Reads /metrics of the gateway that this config belongs to, on this machine, as JSON; so it needs no sign-in and shows no
 * person. On a terminal it repaints every second until interrupted; elsewhere it prints once.
 */
import type { Say } from "../protocol.ts";
import type { Overview } from "../protocol/admin.ts";
import { urlOf } from "../serve.ts";
import { CONFIG_OPTION, type Command, type Context, EXIT, type Language } from "./command.ts";
import { PORT_OPTION, portOption } from "./operate.ts";
import { readSettings } from "./settings.ts";

const EVERY_MS = 1000;
/** A gateway that does not answer within this is not well. */
const PATIENCE_MS = 5000;

const bytes = (count: number): string => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
};
const span = (ms: number): string => {
  const minutes = Math.floor(ms / 60_000);
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24];
  if (days > 0) return `${days} d ${hours} h`;
  return hours > 0 ? `${hours} h ${minutes % 60} min` : `${minutes} min ${Math.floor(ms / 1000) % 60} s`;
};
const milliseconds = (ms: number | undefined): string => {
  if (ms === undefined) return "–";
  return ms >= 10_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms)} ms`;
};

/** Columns a character takes in a terminal: Chinese takes two. */
const width = (text: string): number => Bun.stringWidth(text);
const padded = (text: string, columns: number): string => text + " ".repeat(Math.max(0, columns - width(text)));

/** Rows a line takes on the screen: a narrow terminal breaks it. */
const rowsOf = (line: string, columns: number | undefined): number =>
  Math.max(1, Math.ceil(width(line) / (columns || 80)));

/** The numbers as lines of text. */
export const statusLines = (now: Overview, language: Language): string[] => {
  const zh = language === "zh";
  const say = (chinese: string, english: string): string => (zh ? chinese : english);
  const { turns, today, bots, store } = now;
  const rows: [string, string][] = [
    [
      say("正在回答", "answering"),
      `${turns.open}${turns.queued ? say(`（排队 ${turns.queued}）`, ` (${turns.queued} queued)`) : ""}`,
    ],
    [
      say("今天", "today"),
      say(
        `${today.messages} 条消息，${today.people} 人；完成 ${today.done}，失败 ${today.failed}，取消 ${today.cancelled}`,
        `${today.messages} messages by ${today.people} people; ${today.done} done, ${today.failed} failed, ${today.cancelled} cancelled`,
      ),
    ],
    [
      say("首字", "first text"),
      say(
        `一半在 ${milliseconds(now.firstChunkMs.p50)} 内，95% 在 ${milliseconds(now.firstChunkMs.p95)} 内`,
        `half within ${milliseconds(now.firstChunkMs.p50)}, 95 % within ${milliseconds(now.firstChunkMs.p95)}`,
      ),
    ],
    [
      say("机器人", "bots"),
      say(
        `${bots.online} 个在线，${bots.connections} 条连接${bots.busy ? `，${bots.busy} 条占满` : ""}`,
        `${bots.online} online, ${bots.connections} connections${bots.busy ? `, ${bots.busy} full` : ""}`,
      ),
    ],
    [
      say("用户", "people"),
      say(
        `${now.people} 人，${now.sessions} 个登录，${now.streams} 条流（已发 ${bytes(now.sentBytes)}）`,
        `${now.people}, ${now.sessions} signed in, ${now.streams} streams (${bytes(now.sentBytes)} sent)`,
      ),
    ],
    [say("死信", "dead letters"), String(now.deadLetters)],
    [
      say("数据库", "store"),
      say(
        `${bytes(store.bytes)}，${store.commits} 次提交，最长 ${milliseconds(store.maxCommitMs)}`,
        `${bytes(store.bytes)}, ${store.commits} commits, longest ${milliseconds(store.maxCommitMs)}`,
      ),
    ],
    [
      say("进程", "process"),
      say(
        `内存 ${bytes(now.memoryBytes)}，事件循环最多迟 ${milliseconds(now.loopDelayMs.max)}`,
        `${bytes(now.memoryBytes)} of memory, event loop late by at most ${milliseconds(now.loopDelayMs.max)}`,
      ),
    ],
  ];
  const widest = Math.max(...rows.map(([name]) => width(name)));
  const up = span(now.at - now.startedAt);
  const head = `nexus ${now.version} · ${now.draining ? say("正在停止", "stopping") : say(`已运行 ${up}`, `up ${up}`)}`;
  return [head, "", ...rows.map(([name, value]) => `${padded(name, widest)}  ${value}`)];
};

type Failed = { status?: number; why: string };

const read = async (url: string, token: string | undefined): Promise<Overview | Failed> => {
  try {
    const response = await fetch(`${url}/metrics`, {
      headers: { Accept: "application/json", ...(token !== undefined && { Authorization: `Bearer ${token}` }) },
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (response.ok) return (await response.json()) as Overview;
    return { status: response.status, why: `HTTP ${response.status}` };
  } catch (error) {
    return { why: error instanceof Error ? error.message : String(error) };
  }
};

type Access = { token?: string; lacks?: Say | undefined };

/** The token to send, or why the configured one cannot be had here: over 127.0.0.1 it goes without. */
const accessOf = ({ config, withheld }: NonNullable<ReturnType<typeof readSettings>>): Access => {
  const lacks = new Map(withheld.map(({ path, say }) => [path, say]));
  const at = (i: number): Say | undefined => lacks.get(`metricsToken[${i}]`) ?? lacks.get("metricsToken");
  const token = config.metricsTokens.find((_, i) => !at(i));
  return token === undefined ? { lacks: at(0) } : { token };
};

/** Why there are no numbers, and what to do. */
const explain = (url: string, { status, why }: Failed, { token, lacks }: Access): Say => {
  if (status !== 403)
    return {
      zh: `${url} 没有回答（${why}）；网关在运行吗？端口对吗？`,
      en: `${url} does not answer (${why}); is the gateway running, is the port right?`,
    };
  if (token !== undefined)
    return {
      zh: `${url} 不接受这份配置里的 metricsToken（403）；在那里运行的是用这份配置的网关吗？`,
      en: `${url} does not take the metricsToken of this config (403); is it the gateway of this config that runs there?`,
    };
  if (lacks)
    return {
      zh: `${url} 要带上 metricsToken 才能读取（403），但在这里取不到它：${lacks.zh}`,
      en: `${url} is read with metricsToken only (403), which cannot be had here: ${lacks.en}`,
    };
  return {
    zh: `${url} 只让本机经 127.0.0.1 读取（403）；请在 config.json 里设置 metricsToken，nexus status 会带上它`,
    en: `${url} may be read over 127.0.0.1 only (403); set metricsToken in config.json, and nexus status brings it`,
  };
};

const status = async (context: Context): Promise<number> => {
  const { options, stdout, language, complain } = context;
  const port = portOption(context);
  if (!port) return EXIT.usage;
  const settings = readSettings(context);
  if (!settings) return EXIT.usage;
  const { config } = settings;
  const url = urlOf(config.host, port.port ?? config.port);
  const access = accessOf(settings);
  const live = stdout.isTTY === true && !options.has("once") && !options.has("json");
  for (let shown = 0; ;) {
    const now = await read(url, access.token);
    if ("why" in now) {
      const said = explain(url, now, access);
      if (!live) {
        complain(said.zh, said.en);
        return EXIT.failed;
      }
      const line = said[language];
      stdout.write(`${up(shown)}${line}\n`);
      shown = rowsOf(line, stdout.columns);
    } else if (options.has("json")) stdout.write(`${JSON.stringify(now, null, 2)}\n`);
    else {
      const lines = statusLines(now, language);
      stdout.write(`${up(shown)}${lines.join("\n")}\n`);
      shown = lines.reduce((rows, line) => rows + rowsOf(line, stdout.columns), 0);
    }
    if (!live) return EXIT.ok;
    await Bun.sleep(EVERY_MS);
  }
};

/** Back to the first of these lines, and everything from there cleared. */
const up = (lines: number): string => (lines === 0 ? "" : `\x1b[${lines}A\x1b[J`);

export const STATUS: Command = {
  name: "status",
  summary: { zh: "运行中的网关的数字（每秒刷新）", en: "the numbers of the running gateway, live" },
  details: {
    zh: "和管理页的概览相同。从本机的 /metrics 读取，不需要登录；在终端里每秒刷新，按 Ctrl+C 结束。",
    en: "The same as on the admin page. Read from /metrics of this machine, so no sign-in; on a terminal it repaints every second until Ctrl+C.",
  },
  options: {
    ...CONFIG_OPTION,
    ...PORT_OPTION,
    once: { say: { zh: "只显示一次", en: "print once" } },
    json: { say: { zh: "JSON，只显示一次", en: "JSON, once" } },
  },
  run: status,
};
