/** Why the gateway could not start, as one sentence that says what to do. */
import { isIP } from "node:net";
import { lookup } from "node:dns/promises";
import { dirname, resolve } from "node:path";
import { DEFAULTS } from "../config/defaults.ts";
import type { Say } from "../protocol.ts";

const codeOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";

/** Whether the file system refused `folder` itself or what lies directly in it. */
const isWithin = (folder: string, error: unknown): boolean => {
  const path = typeof error === "object" && error !== null && "path" in error ? String(error.path) : "";
  return path === folder || dirname(path) === folder;
};

const sayOf = (error: unknown): Say | undefined =>
  typeof error === "object" && error !== null && "say" in error ? (error.say as Say) : undefined;

const noAddress = (host: string): Say => ({
  zh: `这台机器没有地址 ${host}；请修改 config.json 的 host`,
  en: `this machine has no address ${host}; change "host" in config.json`,
});

/** Whether `host` is a name that stands for no address. Of such a one the runtime says whatever error came before. */
const isUnknownName = async (host: string): Promise<boolean> => {
  if (host === "" || isIP(host) !== 0) return false;
  return lookup(host).then(
    () => false,
    () => true,
  );
};

/** A sentence for an error of the first start, the store or the socket. What is not known keeps the system's own words. */
export const explainStart = async (
  error: unknown,
  { port = 0, host = "", folder = "" }: { port?: number; host?: string; folder?: string },
): Promise<Say> => {
  const said = sayOf(error);
  if (said) return said;
  const why = error instanceof Error ? error.message : String(error);
  const dataDir = resolve(folder, DEFAULTS.dataDir);
  if (folder && isWithin(dataDir, error))
    return {
      zh: `无法写入 ${dataDir}（${codeOf(error) || why}）；它应是运行 nexus 的用户可写的文件夹`,
      en: `cannot write to ${dataDir} (${codeOf(error) || why}); it should be a folder that the user who runs nexus may write to`,
    };
  if (folder)
    return {
      zh: `无法在 ${folder} 创建 config.json（${codeOf(error) || why}）；请换一个可写的文件夹，或用 --config 指定`,
      en: `cannot make config.json in ${folder} (${codeOf(error) || why}); use a folder that can be written, or --config`,
    };
  if (await isUnknownName(host)) return noAddress(host);
  switch (codeOf(error)) {
    case "EADDRINUSE":
      return {
        zh: `端口 ${port} 已被占用；用 --port、环境变量 PORT 或 config.json 的 port 换一个`,
        en: `port ${port} is in use; choose another with --port, PORT or "port" in config.json`,
      };
    case "EACCES":
      return {
        zh: `没有权限监听端口 ${port}；1024 以下的端口需要特权，请用 --port 换一个`,
        en: `not allowed to listen on port ${port}; ports below 1024 need privileges, choose another with --port`,
      };
    case "EADDRNOTAVAIL":
    case "EINVAL": // a link-local address without its scope
      return noAddress(host);
    default:
      return { zh: `无法启动：${why}`, en: `cannot start: ${why}` };
  }
};
