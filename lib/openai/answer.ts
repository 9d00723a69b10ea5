/**
 * A turn in the words of OpenAI's chat completions: the whole answer, the stream of chunks, the error object.
 *
 * That format cannot take text back: when a bot replaces its text, what the new text adds is appended, or all of it when it
 * does not begin with what was sent. What the caller was sent in the end is told to `sent`, because the caller will name it as
 * the answer next time.
 */
import { ERRORS, type Attachment, type ErrorBody, type ErrorCode, type Say, type Usage } from "../protocol.ts";
import { errorSentence, type Dialect, type Readable } from "../streams/reader.ts";

const TYPES: Record<number, string> = {
  401: "authentication_error",
  403: "permission_error",
  429: "rate_limit_error",
  500: "server_error",
  502: "server_error",
  503: "server_error",
  504: "server_error",
};
/** Where clients know a word of their own. */
const CODES: Partial<Record<string, string>> = {
  unauthorized: "invalid_api_key",
  bot_not_found: "model_not_found",
  rate_limited: "rate_limit_exceeded",
};

const errorObject = (message: string, code: string, status: number) => ({
  error: { message, type: TYPES[status] ?? "invalid_request_error", param: null, code: CODES[code] ?? code },
});

type TurnError = NonNullable<NonNullable<Readable["ended"]>["error"]>;

/** A turn that failed. `retryable` is ours: another attempt may help. */
export const turnError = (failed: TurnError, lang: "zh" | "en") => {
  const status = ERRORS[failed.code as ErrorCode]?.status ?? ERRORS.bot_failed.status;
  const { error } = errorObject(errorSentence(failed, lang), failed.code, status);
  return { status, body: { error: { ...error, retryable: failed.retryable } } };
};

/** Whoever comes with a key has no form to sign in with. */
const NO_KEY: Say = {
  zh: "密钥不对、已过期或已删除（在页面的设置里或用 nexus key add 新建）",
  en: "The API key is wrong, expired or removed (make one in the page's settings or with nexus key add)",
};

/** A refusal before anything was sent. */
export const openAiError = (body: ErrorBody, status: number): unknown => {
  const { zh, en } = ERRORS.unauthorized;
  const message = body.error === zh ? NO_KEY.zh : body.error === en ? NO_KEY.en : body.error;
  return errorObject(message, body.code, status);
};

const usageOf = (usage: Usage) => {
  const { prompt_tokens = 0, completion_tokens = 0 } = usage;
  return { prompt_tokens, completion_tokens, total_tokens: usage.total_tokens ?? prompt_tokens + completion_tokens };
};

/** A file of a reply as Markdown; whoever is signed in can open it. */
const linkTo = ({ name, mime, url }: Attachment, origin: string): string =>
  `\n\n${mime.startsWith("image/") ? "!" : ""}[${name.replace(/[[\]\\]/g, "\\$&")}](${origin}${url})`;

const createdOf = (at: number): number => Math.floor(at / 1000);

type Ended = Readable & { usage?: Usage | undefined };

/** The text of a whole answer as this format carries it. */
export const answerText = (turn: Ended, origin: string): string => {
  const links = turn.attachments.map((one) => linkTo(one, origin)).join("");
  return turn.text === "" ? links.trimStart() : turn.text + links;
};

export const wholeAnswer = (turn: Ended, model: string, at: number, text: string): unknown => ({
  id: `chatcmpl-${turn.key}`,
  object: "chat.completion",
  created: createdOf(at),
  model,
  choices: [
    {
      index: 0,
      message: { role: "assistant", content: text, refusal: null },
      logprobs: null,
      finish_reason: "stop",
    },
  ],
  ...(turn.usage && { usage: usageOf(turn.usage) }),
});

/** The stream of one turn. `sent` gets the whole text when it has ended well or badly. */
export const chunkDialect = (options: {
  model: string;
  at: number;
  origin: string;
  includeUsage: boolean;
  sent: (text: string) => void;
}): Dialect => {
  const { model, at, origin, includeUsage } = options;
  let head = "";
  let text = "";
  /** A replacement comes in slices: as long as it says what was sent before, it is only known how far it has come. */
  let same: { sent: string; upto: number } | undefined;
  const line = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`;
  const chunk = (delta: object, finish: string | null): string =>
    `data: ${head},"choices":[{"index":0,"delta":${JSON.stringify(delta)},"logprobs":null,"finish_reason":${JSON.stringify(finish)}}]${
      includeUsage ? ',"usage":null' : ""
    }}\n\n`;
  const append = (more: string): string => {
    if (more === "") return "";
    text += more;
    return chunk({ content: more }, null);
  };
  const appendAll = (more: string): string => append(text === "" || more === "" ? more : `\n\n${more}`);

  const take = (more: string): string => {
    if (!same) return append(more);
    const { sent, upto } = same;
    const left = sent.length - upto;
    const alike = more.slice(0, left) === sent.slice(upto, upto + more.length);
    if (alike && more.length <= left) {
      same.upto += more.length;
      return "";
    }
    same = undefined;
    return alike ? append(more.slice(left)) : appendAll(sent.slice(0, upto) + more);
  };

  /** It ended while it was still a part of what was sent. */
  const settle = (): string => {
    if (!same) return "";
    const { sent, upto } = same;
    same = undefined;
    return upto === sent.length ? "" : appendAll(sent.slice(0, upto));
  };

  const begin = (turn: Readable): string => {
    const fields = { id: `chatcmpl-${turn.key}`, object: "chat.completion.chunk", created: createdOf(at) };
    head = JSON.stringify({ ...fields, model: turn.botId ?? model }).slice(0, -1);
    return chunk({ role: "assistant", content: "" }, null);
  };

  return {
    shared: false,
    start: begin,
    chunk: (_generation, _upto, content, done) => take(content) + (done ? settle() : ""),
    replace: (_generation, _upto, content) => {
      same = { sent: text, upto: 0 };
      return take(content);
    },
    attachment: (attachment) => append(linkTo(attachment, origin)),
    activity: () => "",
    end: (turn: Ended, lang) => {
      const rest = settle();
      options.sent(text);
      const { error } = turn.ended!;
      if (error) return rest + line(turnError(error, lang).body);
      const first = head === "" ? begin(turn) : "";
      const usage =
        includeUsage && turn.usage
          ? `data: ${head},"choices":[],"usage":${JSON.stringify(usageOf(turn.usage))}}\n\n`
          : "";
      return `${first}${rest}${chunk({}, "stop")}${usage}data: [DONE]\n\n`;
    },
  };
};
