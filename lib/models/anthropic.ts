/** A model behind Anthropic's Messages API, asked once. An answer counts as whole when `message_stop` came. */
import type { Usage } from "../protocol.ts";
import { type Asking, parse, usageOf, usedUp } from "./openai.ts";
import type { Spoken } from "./prompt.ts";
import { cutOff, endpoint, post, sseEvents, streamError } from "./upstream.ts";

/** The version of the API that this file speaks. */
const VERSION = "2023-06-01";
/** The API wants a bound; this one is taken by every model it serves. */
const MAX_TOKENS = 4_096;

type Event = {
  type?: string;
  message?: { usage?: { input_tokens?: unknown } };
  delta?: { type?: string; text?: string; thinking?: string; stop_reason?: string };
  usage?: { input_tokens?: unknown; output_tokens?: unknown };
};

const contentOf = ({ text, pictures }: Spoken): unknown =>
  pictures.length === 0
    ? text
    : [
        ...pictures.map(({ mime, base64 }) => ({
          type: "image",
          source: { type: "base64", media_type: mime, data: base64 },
        })),
        ...(text === "" ? [] : [{ type: "text", text }]),
      ];

/** Resolves when the answer is whole. Throws ModelError, or what the signal made fetch throw. */
export const askAnthropic = async (asking: Asking): Promise<Usage | undefined> => {
  const { url, model, key, prompt, maxTokens, options, user, signal, touch, say, think } = asking;
  const base = new URL(url).pathname.replace(/\/+$/, "");
  const response = await post({
    url: endpoint(url, /\/v1(?:\/messages)?$/.test(base) ? "/messages" : "/v1/messages"),
    headers: { "anthropic-version": VERSION, ...(key && { "x-api-key": key }) },
    body: {
      model,
      max_tokens: maxTokens ?? MAX_TOKENS,
      messages: prompt.messages.map((one) => ({ role: one.role, content: contentOf(one) })),
      stream: true,
      ...(prompt.system !== "" && { system: prompt.system }),
      ...(user !== undefined && { metadata: { user_id: user } }),
      ...options,
    },
    key,
    signal,
  });
  touch();
  if (!response.body) throw cutOff();
  let input: unknown;
  let output: unknown;
  let spoke = false;
  let reason: string | undefined;
  for await (const { data } of sseEvents(response.body, touch)) {
    const event = parse(data) as Event | null;
    if (typeof event !== "object" || event === null) continue;
    if (event.type === "error") throw streamError(event, key);
    if (event.type === "message_start") input = event.message?.usage?.input_tokens;
    if (event.type === "content_block_delta" && event.delta) {
      if (event.delta.type === "text_delta" && event.delta.text) {
        spoke = true;
        say(event.delta.text);
      }
      if (event.delta.type === "thinking_delta" && event.delta.thinking) think(event.delta.thinking);
    }
    if (event.type === "message_delta") {
      input = event.usage?.input_tokens ?? input;
      output = event.usage?.output_tokens;
      reason = event.delta?.stop_reason ?? reason;
    }
    if (event.type !== "message_stop") continue;
    if (!spoke && reason === "max_tokens") throw usedUp();
    return usageOf(input, output);
  }
  throw cutOff();
};
