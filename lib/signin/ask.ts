/**
 * Requests from the gateway to a sign-in provider.
 *
 * Owns their time limit and their count: every request is counted here and nowhere else. What must stay true: no code, token
 * or secret reaches the log or a sentence (WeCom has them in the address, so only host and path are told), and a redirect is
 * never followed, since it would carry a secret elsewhere.
 */
import type { Log } from "../log.ts";
import type { Say } from "../protocol.ts";
import { refusal } from "./provider.ts";

/** A person is looking at an empty page meanwhile. */
const TIMEOUT_MS = 10_000;
/** Tokens are kilobytes, key sets tens of them. */
const MOST_BYTES = 1024 * 1024;

export type Answer = { status: number; body: Record<string, unknown> };
export type Ask = (
  url: string,
  init?: { json?: unknown; form?: URLSearchParams; headers?: Record<string, string> },
) => Promise<Answer>;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Reads at most `most` bytes of a body; undefined when there are more. */
export const readAtMost = async (response: Response, most: number): Promise<Uint8Array | undefined> => {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of response.body ?? []) {
    length += part.length;
    if (length > most) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts);
};

/** GET, or POST when there is something to send; JSON back. `counted` is called once per request that leaves. */
export const createAsk = ({ name, counted, log }: { name: Say; counted: () => void; log: Log }): Ask => {
  return async (url, { json, form, headers = {} } = {}) => {
    const { host, pathname } = new URL(url);
    const body = json === undefined ? form : JSON.stringify(json);
    counted();
    try {
      const response = await fetch(url, {
        method: body === undefined ? "GET" : "POST",
        headers: {
          Accept: "application/json",
          ...(json !== undefined && { "Content-Type": "application/json; charset=utf-8" }),
          ...headers,
        },
        ...(body !== undefined && { body }),
        redirect: "manual",
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const bytes = await readAtMost(response, MOST_BYTES);
      const parsed: unknown = bytes && bytes.length > 0 ? JSON.parse(new TextDecoder().decode(bytes)) : {};
      if (!bytes || !isRecord(parsed) || (response.status >= 300 && response.status < 400))
        throw new Error("no JSON object");
      return { status: response.status, body: parsed };
    } catch (error) {
      log("warn", "sign_in_unreachable", { host, path: pathname, error: (error as Error).name });
      throw refusal(
        `网关连不上${name.zh}的服务器 ${host}，或收到了看不懂的回答；请管理员检查服务器到 ${host} 的网络和代理`,
        `The gateway cannot reach ${name.en} at ${host}, or got an answer it does not understand; ask the administrator to check the server's network and proxy towards ${host}`,
      );
    }
  };
};
