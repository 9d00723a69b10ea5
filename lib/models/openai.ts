/**
 * A model behind OpenAI's chat completions, asked once: the request, and its stream read into text.
 *
 * Takes what the many services of this format do differently: no stream at all, no [DONE], usage or not, reasoning beside
 * the text. An answer counts as whole when a finish reason or [DONE] came, whatever becomes of the line after that.
 */
import type { Usage } from "../protocol.ts";
import type { Prompt, Spoken } from "./prompt.ts";
import { cutOff, endpoint, ModelError, post, sseEvents, streamError } from "./upstream.ts";

/** What one request of a model needs. `say` gets text for the person, `think` what a model tells of its thoughts. */
export type Asking = {
  url: string;
  model: string;
  key: string | undefined;
  prompt: Prompt;
  maxTokens: number | undefined;
  /** Further fields of the request, as the operator wrote them. */
  options: Record<string, unknown>;
  /** Tells conversations apart for the service; never a person's name. */
  user: string | undefined;
  signal: AbortSignal;
  touch: () => void;
  say: (text: string) => void;
  think: (text: string) => void;
};

type Json = Record<string, unknown>;
const isRecord = (value: unknown): value is Json => typeof value === "object" && value !== null;

const contentOf = ({ text, pictures }: Spoken): unknown =>
  pictures.length === 0
    ? text
    : [
        ...(text === "" ? [] : [{ type: "text", text }]),
        ...pictures.map(({ mime, base64 }) => ({
          type: "image_url",
          image_url: { url: `data:${mime};base64,${base64}` },
        })),
      ];

/** Text as a string, or as a list of parts. */
const textOf = (content: unknown): string => {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => (isRecord(part) && typeof part.text === "string" ? part.text : "")).join("");
};

const count = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;

/** The token counts of an answer; what is no count is left out. */
export const usageOf = (prompt: unknown, completion: unknown, total?: unknown): Usage | undefined => {
  const counts = { prompt_tokens: count(prompt), completion_tokens: count(completion), total_tokens: count(total) };
  const known = Object.entries(counts).filter(([, value]) => value !== undefined);
  return known.length === 0 ? undefined : (Object.fromEntries(known) as Usage);
};

const filtered = (): ModelError =>
  new ModelError("model_filtered", {
    zh: "模型服务的内容过滤拦下了这个回答",
    en: "The content filter of the model's service held this answer back",
  });

/** Thinking costs tokens too. */
export const usedUp = (): ModelError =>
  new ModelError("model_length", {
    zh: "模型还没开口就用完了 token 上限（maxTokens），请管理员调大",
    en: "The model used up its tokens (maxTokens) before it said anything; the administrator should allow more",
  });

const createReading = ({ say, think, key }: Asking) => {
  let spoke = false;
  let finish: string | undefined;
  let usage: Usage | undefined;
  /** Whether only the rest is to come: this piece came after the finish, or with it, and had no text. */
  const take = (json: unknown): boolean => {
    if (!isRecord(json)) return finish !== undefined;
    if (json.error) throw streamError(json, key);
    if (isRecord(json.usage))
      usage = usageOf(json.usage.prompt_tokens, json.usage.completion_tokens, json.usage.total_tokens) ?? usage;
    const choice = Array.isArray(json.choices) && isRecord(json.choices[0]) ? json.choices[0] : undefined;
    if (!choice) return finish !== undefined;
    const delta = isRecord(choice.delta) ? choice.delta : isRecord(choice.message) ? choice.message : {};
    const thought = textOf(delta.reasoning_content ?? delta.reasoning);
    if (thought !== "") think(thought);
    const text = textOf(delta.content) || textOf(delta.refusal);
    if (text !== "") {
      spoke = true;
      say(text);
      finish = undefined; // some services send one with every piece
    }
    // Or an empty one, where others send null.
    if (typeof choice.finish_reason === "string" && choice.finish_reason !== "") finish = choice.finish_reason;
    return finish !== undefined && text === "";
  };
  return {
    take,
    isFinished: (): boolean => finish !== undefined,
    end: (done: boolean): Usage | undefined => {
      if (!done && finish === undefined) throw cutOff();
      if (finish === "content_filter" && !spoke) throw filtered();
      if (finish === "length" && !spoke) throw usedUp();
      return usage;
    },
  };
};

/** After the finish reason only the usage and [DONE] are to come, at once: whoever reads the answer waits for them. */
const REST_MS = 2_000;

/** Fields that not every service of this format knows: left out when it says so. */
const EXTRAS = ["stream_options", "user"] as const;

/** The body that a service would rather have, by what it says of the one it refused; undefined: it is about something else. */
const instead = (body: Json, about: string): Json | undefined => {
  // Newer models take the bound under another name, and refuse the older one.
  if ("max_tokens" in body && about.includes("max_completion_tokens")) {
    const { max_tokens: max_completion_tokens, ...rest } = body;
    return { ...rest, max_completion_tokens };
  }
  if (!EXTRAS.some((field) => field in body)) return undefined;
  if (!EXTRAS.some((field) => about.includes(field)) && !/extra (?:fields|inputs)/i.test(about)) return undefined;
  return Object.fromEntries(Object.entries(body).filter(([name]) => !EXTRAS.some((field) => field === name)));
};

const send = async (asking: Asking, body: Json): Promise<Response> => {
  const { url, key, signal } = asking;
  const headers: Record<string, string> = key ? { Authorization: `Bearer ${key}` } : {};
  try {
    return await post({ url: endpoint(url, "/chat/completions"), headers, body, key, signal });
  } catch (error) {
    const refused = error instanceof ModelError && error.code === "model_refused";
    // Each rewrite removes what it is about, so this ends.
    const next = refused ? instead(body, error.message) : undefined;
    if (!next) throw error;
    return send(asking, next);
  }
};

/** Resolves when the answer is whole. Throws ModelError, or what the signal made fetch throw. */
export const askOpenAi = async (asking: Asking): Promise<Usage | undefined> => {
  const { model, prompt, maxTokens, options, user, touch } = asking;
  const rest = new AbortController();
  const signal = AbortSignal.any([asking.signal, rest.signal]);
  const response = await send(
    { ...asking, signal },
    {
      model,
      messages: [
        ...(prompt.system === "" ? [] : [{ role: "system", content: prompt.system }]),
        ...prompt.messages.map((one) => ({ role: one.role, content: contentOf(one) })),
      ],
      stream: true,
      stream_options: { include_usage: true },
      ...(maxTokens !== undefined && { max_tokens: maxTokens }),
      ...(user !== undefined && { user }),
      ...options,
    },
  );
  touch();
  const reading = createReading(asking);
  if (response.headers.get("content-type")?.includes("application/json")) {
    reading.take(await response.json());
    return reading.end(true);
  }
  if (!response.body) throw cutOff();
  let timer: Timer | undefined;
  try {
    for await (const { data } of sseEvents(response.body, touch)) {
      if (data.trim() === "[DONE]") return reading.end(true);
      const onlyRest = reading.take(parse(data));
      clearTimeout(timer);
      if (onlyRest) timer = setTimeout(() => rest.abort(), REST_MS);
    }
  } catch (error) {
    // A line that breaks after the finish takes nothing away; what a service says of itself counts even then.
    if (error instanceof ModelError || !reading.isFinished()) throw error;
  } finally {
    clearTimeout(timer);
  }
  return reading.end(false);
};

/** JSON of an event. Throws ModelError: a service that sends something else is broken. */
export const parse = (data: string): unknown => {
  try {
    return JSON.parse(data);
  } catch {
    throw new ModelError("model_failed", {
      zh: "模型服务发来的内容无法读取",
      en: "What the model's service sent cannot be read",
    });
  }
};
