/**
 * What a terminal shows when the gateway is up: where to go, and how a bot gets in. Everything a newcomer needs next.
 *
 * Shown on a terminal only. The only secrets in it are those of a first start, which are shown this once.
 */
import { type NetworkInterfaceInfo, networkInterfaces } from "node:os";
import type { Language } from "./cli/command.ts";
import type { Config } from "./config.ts";
import { isLoopback } from "./config/network.ts";

/** More than these is a machine with virtual networks, not with more ways to reach it. */
const MOST_ADDRESSES = 3;

/** Private ranges of homes and offices before others: that is where the phone is. */
const rank = (address: string): number => (/^(?:192\.168|10)\./.test(address) ? 0 : /^172\./.test(address) ? 1 : 2);
const isVirtual = (name: string): boolean =>
  /^(?:docker|br-|veth|virbr|vmnet|vboxnet|utun|tailscale|zt|lxc|cni|flannel)/.test(name);

/** IPv4 addresses of this machine that a phone in the same network can open, likeliest first. */
export const lanAddresses = (
  interfaces: Record<string, NetworkInterfaceInfo[] | undefined> = networkInterfaces(),
): string[] =>
  Object.entries(interfaces)
    .filter(([name]) => !isVirtual(name))
    .flatMap(([, list]) => list ?? [])
    .filter(({ family, internal, address }) => family === "IPv4" && !internal && !address.startsWith("169.254."))
    .map(({ address }) => address)
    .sort((a, b) => rank(a) - rank(b))
    .slice(0, MOST_ADDRESSES);

export type Banner = {
  version: string;
  config: Pick<Config, "host" | "publicUrl" | "botTokens">;
  /** The terminal's, which need not be that of the page. */
  language: Language;
  port: number;
  addresses: string[];
  colour: boolean;
  /** Of a first start or a demo: shown this once. */
  shown?: { username: string; password: string; botToken: string };
  /** A demo keeps none of it, so there is nothing to set up by it. */
  demo?: boolean;
};

const TEXTS = {
  zh: {
    running: "已启动",
    open: "打开网页",
    phone: "手机打开",
    user: "用户名",
    password: "密码",
    token: "机器人令牌",
    once: "密码只显示这一次；config.json 里只有它的哈希。",
    demo: "密码和令牌每次都是新的。",
    bots: "连接机器人",
    openclaw: "OpenClaw（先装插件，见 README）：",
    yourToken: "config.json 里的 botToken",
    stop: "按 Ctrl-C 停止",
  },
  en: {
    running: "is running",
    open: "Open",
    phone: "On a phone",
    user: "User",
    password: "Password",
    token: "Bot token",
    once: "The password is shown this once; config.json holds only its hash.",
    demo: "Password and token are new each time.",
    bots: "Connect bots",
    openclaw: "OpenClaw (install the plugin first, see README):",
    yourToken: "botToken of config.json",
    stop: "Ctrl-C stops it",
  },
};

/** Columns on a terminal: Chinese characters take two. */
const width = (text: string): number => Bun.stringWidth(text);

const hostInUrl = (host: string): string => (host.includes(":") ? `[${host}]` : host);

/** The banner as text, with a newline at its end. */
export const banner = ({ version, config, language, port, addresses, colour, shown, demo }: Banner): string => {
  const t = TEXTS[language];
  const paint = (code: string, text: string): string => (colour ? `\x1b[${code}m${text}\x1b[0m` : text);
  const everywhere = config.host === "0.0.0.0" || config.host === "::";
  const local = `http://${everywhere || isLoopback(config.host) ? "localhost" : hostInUrl(config.host)}:${port}`;
  const reachable = everywhere ? addresses.map((address) => `http://${address}:${port}`) : [];
  const page = config.publicUrl ?? local;
  const socket = `${(config.publicUrl ?? reachable[0] ?? local).replace(/^http/, "ws")}/bot-ws`;

  const labels = [t.open, t.phone, t.user, t.password, t.token, t.bots];
  const column = Math.max(...labels.map(width)) + 2;
  const row = (label: string, value: string): string =>
    `  ${paint("2", label)}${" ".repeat(column - width(label))}${value}`;

  const lines = ["", `  ${paint("1;36", `Nexus ${version}`)} ${t.running}`, "", row(t.open, paint("1", page))];
  if (config.publicUrl === undefined)
    for (const [i, url] of reachable.entries()) lines.push(row(i === 0 ? t.phone : "", url));
  if (shown) {
    lines.push("", row(t.user, shown.username), row(t.password, paint("1", shown.password)));
    lines.push(row(t.token, shown.botToken), "", `  ${paint("2", demo ? t.demo : t.once)}`);
  }
  lines.push("", row(t.bots, socket));
  if (config.botTokens.length > 0 && !demo) {
    const token = shown?.botToken ?? `<${t.yourToken}>`;
    lines.push(
      "",
      `  ${paint("2", t.openclaw)}`,
      `    openclaw channels add --channel nexus --server-url "${socket}" --bot-id my-bot --token "${token}"`,
      "    openclaw gateway restart",
    );
  }
  lines.push("", `  ${paint("2", t.stop)}`, "");
  return `${lines.join("\n")}\n`;
};
