/**
 * Asking a model's HTTP service: one request, its stream of events, its failures as sentences, trying again.
 *
 * What must stay true: tried again only while nothing was said to the person; a cancelled turn ends the request; no key and
 * nothing like one gets into a sentence or the log. Redirects are refused: they could carry the key elsewhere.
 */
import { maskSecrets } from "../log.ts";
import type { Say } from "../protocol.ts";

/** Why a model did not answer. `say` is for the person who asked. */
export class ModelError extends Error {
  readonly code: string;
  readonly say: Say;
  /** Might go better at another time. */
  readonly passing: boolean;
  readonly retryAfterMs: number | undefined;
  constructor(code: string, say: Say, passing = false, retryAfterMs?: number) {
    super(say.en);
    this.code = code;
    this.say = say;
    this.passing = passing;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Tries in all. With the waits below about 7 s: longer than a hiccup, shorter than patience. */
const TRIES = 4;
const FIRST_WAIT_MS = 1_000;
/** A service that asks for more than this is told to the person instead. */
const LONGEST_WAIT_MS = 30_000;
/** Of an error's body; and of what it says to the person. */
const ERROR_BYTES = 64 * 1024;
const SAID_CHARS = 300;
/** One event of a stream; pictures do not come this way. */
const EVENT_CHARS = 8 * 1024 * 1024;

/** What a service says of an error, fit for a person: one line, bounded, without what looks like a key. */
export const tidy = (text: string, key: string | undefined): string => {
  const hidden = key ? text.replaceAll(key, "***") : text;
  return maskSecrets(hidden)
    .replace(/\b(?:sk|pk|rk|key|xai|gsk)-[\w*.-]{4,}/gi, "***")
    .replace(/[\p{Cc}\u2028\u2029]+/gu, " ")
    .trim()
    .slice(0, SAID_CHARS);
};

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

/** `{error: {message, code, type}}`, `{error: "…"}`, `{message: "…"}`: what services say in these shapes. */
export const errorIn = (json: unknown): { message: string; kind: string } => {
  const error = isRecord(json) ? (json.error ?? json) : undefined;
  if (typeof error === "string") return { message: error, kind: "" };
  if (!isRecord(error)) return { message: "", kind: "" };
  const kind = [error.code, error.type, error.status].filter((one) => typeof one !== "object").join(" ");
  return { message: typeof error.message === "string" ? error.message : "", kind };
};

const retryAfter = (header: string | null): number | undefined => {
  if (header === null) return undefined;
  const seconds = Number(header);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
};

const failure = (status: number, text: string, header: string | null, key: string | undefined): ModelError => {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // A page of a proxy: nothing in it is for a person.
  }
  const { message, kind } = errorIn(json);
  const said = tidy(message, key);
  const with_ = (zh: string, en: string): Say => ({
    zh: said ? `${zh}：${said}` : zh,
    en: said ? `${en}: ${said}` : en,
  });
  if (status === 401 || status === 403)
    return new ModelError("model_unauthorized", {
      zh: `模型服务拒绝了密钥（${status}），请管理员检查`,
      en: `The model's service refused the key (${status}); the administrator should look`,
    });
  if (status === 429 && /quota|billing|balance/i.test(`${kind} ${message}`))
    return new ModelError("model_quota", with_("模型服务的额度用完了", "The quota of the model's service is used up"));
  if (status === 429) {
    const wait = retryAfter(header);
    const later = wait === undefined ? "" : Math.ceil(wait / 1000);
    return new ModelError(
      "model_busy",
      later === ""
        ? with_("模型服务现在太忙，请稍后再试", "The model's service is too busy, try again later")
        : with_(`模型服务太忙，请 ${later} 秒后再试`, `The model's service is busy, try again in ${later} s`),
      true,
      wait,
    );
  }
  if (status >= 500 || status === 408)
    return new ModelError(
      "model_failed",
      with_(`模型服务出错（${status}），请稍后再试`, `The model's service failed (${status}), try again later`),
      true,
      retryAfter(header),
    );
  if (status === 404)
    return new ModelError("model_not_found", with_("没有这个模型或地址", "There is no such model or address"));
  return new ModelError(
    "model_refused",
    with_(`模型服务不接受这个请求（${status}）`, `The model's service refused the request (${status})`),
  );
};

/** An error that came inside a stream, which has no status. */
export const streamError = (json: unknown, key: string | undefined): ModelError => {
  const { message, kind } = errorIn(json);
  const told = isRecord(json) && isRecord(json.error) ? json.error.retryable : undefined;
  const kinds = /overloaded|rate.?limit|server_error|api_error|timeout|unavailable|\b(?:429|5\d\d)\b/i;
  // A gateway like this one says so itself.
  const passing = typeof told === "boolean" ? told : kinds.test(kind);
  const said = tidy(message, key);
  return new ModelError(
    "model_failed",
    {
      zh: said ? `模型服务中途出错：${said}` : "模型服务中途出错",
      en: said ? `The model's service failed half way: ${said}` : "The model's service failed half way",
    },
    passing,
  );
};

export const cutOff = (): ModelError =>
  new ModelError("model_cut", { zh: "模型的回答在中途断了", en: "The model's answer was cut off half way" }, true);

/** A request's end: the turn's own signal, or silence for `ms`. `touch` at every sign of life. */
export const silenceGuard = (signal: AbortSignal, ms: number) => {
  const silent = new AbortController();
  let timer: Timer | undefined;
  const touch = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => silent.abort(), ms);
  };
  touch();
  return {
    signal: AbortSignal.any([signal, silent.signal]),
    touch,
    end: (): void => clearTimeout(timer),
    /** What a throw means: silence and lost lines become a ModelError, a cancelled turn stays what it is. */
    explain: (error: unknown): unknown => {
      if (signal.aborted || error instanceof ModelError) return error;
      if (silent.signal.aborted)
        return new ModelError("model_timeout", {
          zh: `模型 ${Math.round(ms / 1000)} 秒没有回应`,
          en: `The model said nothing for ${Math.round(ms / 1000)} s`,
        });
      const broken = new ModelError(
        "model_unreachable",
        { zh: "连不上模型服务，或连接断了", en: "The model's service cannot be reached, or the line broke" },
        true,
      );
      broken.cause = error; // for the operator: the person cannot do anything with ECONNREFUSED
      return broken;
    },
  };
};

/** `url` with `path` added to its path, unless it ends so already; a query stays. Throws on what is no http(s) URL. */
export const endpoint = (url: string, path: string): string => {
  const parsed = new URL(url);
  const base = parsed.pathname.replace(/\/+$/, "");
  if (!base.endsWith(path)) parsed.pathname = base + path;
  return parsed.href;
};

/** POSTs JSON. Throws ModelError for everything that is no 200. */
export const post = async (options: {
  url: string;
  headers: Record<string, string>;
  body: unknown;
  key: string | undefined;
  signal: AbortSignal;
}): Promise<Response> => {
  const response = await fetch(options.url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/event-stream, application/json", ...options.headers },
    body: JSON.stringify(options.body),
    signal: options.signal,
    redirect: "manual",
    timeout: false, // silenceGuard decides; the runtime's own limit would cut a model that thinks for long
  } as RequestInit);
  if (response.ok) return response;
  const text = (await response.text().catch(() => "")).slice(0, ERROR_BYTES);
  const error = failure(response.status, text, response.headers.get("retry-after"), options.key);
  if (response.headers.get("x-should-retry") !== "false") throw error;
  throw new ModelError(error.code, error.say);
};

/** Events of an SSE body, whatever the boundaries of its pieces. Ends when the body does; throws when it breaks. */
export async function* sseEvents(
  body: ReadableStream<Uint8Array>,
  touch: () => void,
): AsyncGenerator<{ event: string; data: string; id: string }> {
  const decoder = new TextDecoder();
  let rest = "";
  let event = "";
  let id = "";
  let data: string[] = [];
  for await (const piece of body) {
    touch();
    rest += decoder.decode(piece, { stream: true });
    if (rest.length > EVENT_CHARS) throw new Error("an event of the stream is too large");
    // A CR at the end may be half of a CRLF: it waits for what follows.
    const whole = rest.endsWith("\r") ? rest.slice(0, -1) : rest;
    const lines = whole.split(/\r\n|\r|\n/);
    rest = lines.pop()! + rest.slice(whole.length);
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield { event, id, data: data.join("\n") };
        event = "";
        id = "";
        data = [];
      } else if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
      else if (line.startsWith("event:")) event = line.slice(6).trim();
      else if (line.startsWith("id:")) id = line.slice(3).trim();
    }
  }
  // Some services forget the blank line after the last event.
  if (rest.startsWith("data:")) data.push(rest.slice(5).trim());
  if (data.length > 0) yield { event, id, data: data.join("\n") };
}

const sleep = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });

/**
 * Runs `attempt` until it succeeds, at most TRIES times, with growing waits or what Retry-After asks for. Only while `spoke`
 * is false, the error is passing and the turn not over. `waiting` is told before each wait.
 */
export const persist = async <T>(
  attempt: () => Promise<T>,
  options: {
    signal: AbortSignal;
    spoke: () => boolean;
    waiting: (ms: number, error: ModelError) => void;
    firstWaitMs?: number | undefined;
  },
): Promise<T> => {
  const first = options.firstWaitMs ?? FIRST_WAIT_MS;
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (options.signal.aborted || !(error instanceof ModelError) || !error.passing || options.spoke()) throw error;
      const backoff = first * 2 ** (tries - 1) * (1 + Math.random() / 2);
      const wait = Math.max(backoff, error.retryAfterMs ?? 0);
      if (tries >= TRIES || wait > LONGEST_WAIT_MS) throw error;
      options.waiting(wait, error);
      await sleep(wait, options.signal);
      if (options.signal.aborted) throw error;
    }
  }
};
