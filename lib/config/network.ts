/**
 * The network fields of config.json: addresses to listen on, proxies to believe, origins to answer, pages that may frame us.
 *
 * What must stay true: nothing that passes here can add a directive or a line to a header it is put into.
 */
import type { Shape } from "../shape.ts";
import { parseAddress, parseBlock } from "./address.ts";

const refusing =
  (zh: string, en: string, accept: (value: string) => string | undefined): Shape<string> =>
  (value, path, faults) => {
    const got = typeof value === "string" && value.length <= 2_048 ? accept(value) : undefined;
    if (got === undefined) faults.push({ path, say: { zh, en } });
    return got ?? "";
  };

const httpUrl = (value: string): URL | undefined => {
  // The URL parser drops tabs and newlines and forgives spaces at the ends; a config is not a place to guess.
  if (/[\s\p{Cc}]/u.test(value) || !URL.canParse(value)) return undefined;
  const url = new URL(value);
  const bare =
    url.username === "" && url.password === "" && url.pathname === "/" && url.search === "" && url.hash === "";
  return /^https?:$/.test(url.protocol) && bare && !/[?#]$/.test(value) ? url : undefined;
};

/** Where people open the page. Cookies and links are made for the root of a host, so it has no path. */
export const publicUrlShape = refusing(
  "应为 http(s) 地址，不带路径，如 https://nexus.example.com",
  "an http(s) URL without a path, for example https://nexus.example.com",
  (value) => httpUrl(value)?.origin,
);

/** `*` is refused by having no origin: an API that answers every page is not a setting to make in passing. */
export const originShape = refusing(
  "应为来源，如 https://chat.example.com（不带路径，不能用 *）",
  "an origin, for example https://chat.example.com (no path, no *)",
  (value) => httpUrl(value)?.origin,
);

export const blockShape = refusing(
  "应为 IP 地址或网段，如 10.0.0.0/8 或 ::1",
  "an IP address or block, for example 10.0.0.0/8 or ::1",
  (value) => (parseBlock(value) ? value : undefined),
);

const ANCESTOR =
  /^(?:'self'|'none'|(?:https?:\/\/)?(?:\*\.)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::(?:\d{1,5}|\*))?\/?)$/i;
/** One source of CSP `frame-ancestors`. */
export const ancestorShape = refusing(
  "应为 'self'、'none' 或主机，如 https://*.feishu.cn",
  "'self', 'none' or a host, for example https://*.feishu.cn",
  (value) => (ANCESTOR.test(value) ? value : undefined),
);

export const hostShape = refusing(
  "应为要监听的 IP 地址或主机名，如 0.0.0.0 或 127.0.0.1",
  "the IP address or host name to listen on, for example 0.0.0.0 or 127.0.0.1",
  (value) => (parseAddress(value) || /^[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?$/i.test(value) ? value : undefined),
);

/** Whether only this machine can reach a socket bound to `host`. */
export const isLoopback = (host: string): boolean => {
  if (/^(?:.*\.)?localhost$/i.test(host)) return true;
  const address = parseAddress(host.replace(/^\[|\]$/g, ""));
  return address !== undefined && (address.bits === 32 ? address.value >> 24n === 127n : address.value === 1n);
};
