/**
 * What a bot may send, parsed: one JSON text in, one frame out, or a Reject that names the field.
 *
 * Synchronous and total: never throws anything but Reject, whatever the bytes (PROMISES P1). The reply frame, which
 * arrives by the thousand, is read by hand; the rare ones go through shape.ts. Unknown fields are ignored, an unknown type is `undefined`.
 */
import {
  Reject,
  type BotFrame,
  type EventFrame,
  type MessageFrame,
  type RegisterFrame,
  type ReplyFile,
  type ReplyFrame,
  type Usage,
} from "./protocol.ts";
import { fields, flag, int, list, maybe, num, oneOf, parse, text, type Shape } from "./shape.ts";

/** Control characters, spaces and @ would break mentions, logs and the page. */
const BOT_ID = /^[^\s@\p{Cc}\p{Cf}]+$/u;
const NO_CONTROLS = /^[^\p{Cc}\u202a-\u202e\u2066-\u2069]*$/u;
const noControls = { zh: "不能含控制字符", en: "no control characters" };

/** Avatars and inline files are bounded by the frame; ids, keys and names by what a person could mean. */
export const botIdShape = text(1, 64, BOT_ID, {
  zh: "不能含空格、控制字符或 @",
  en: "no spaces, control characters or @",
});
const name = text(1, 64, NO_CONTROLS, noControls);
const key = text(1, 128);

/** Model and plugin authors send null for "none"; weight and the like beyond their range are refused, not clamped. */
const register: Shape<Omit<RegisterFrame, "type">> = fields({
  botId: botIdShape,
  botName: maybe(name),
  token: maybe(text(0, 512)),
  proto: maybe(int(0, 1000)),
  caps: maybe(list(text(1, 64), 64)),
  instanceId: maybe(text(1, 128, NO_CONTROLS, noControls)),
  pools: maybe(list(text(1, 64, BOT_ID), 16)),
  weight: maybe(num(0, 1000)),
  maxConcurrency: maybe(int(1, 100_000)),
  session: maybe(text(0, 256)),
  description: maybe(text(0, 500)),
  avatar: maybe(text(0, 200_000)),
  suggestions: maybe(list(text(1, 200), 8)),
});

const toolShape = fields({ id: key, name: text(1, 200), phase: oneOf("start", "update", "end"), ok: maybe(flag) });
const event: Shape<Omit<EventFrame, "type">> = fields({
  replyTo: maybe(key),
  kind: oneOf("typing", "status", "tool", "reasoning", "draining"),
  text: maybe(text(0, 20_000)),
  tool: maybe(toolShape),
});

const file: Shape<ReplyFile> = (value, path, faults) =>
  typeof value === "object" && value !== null && "id" in value
    ? fields({ id: text(1, 64) })(value, path, faults)
    : fields({ name: text(1, 255), mime: text(1, 127), data: text(0, 30_000_000) })(value, path, faults);
const files = maybe(list(file, 20));

const count = maybe(int(0));
const usage: Shape<Usage | undefined> = maybe(
  fields({ prompt_tokens: count, completion_tokens: count, total_tokens: count }),
);
const replyError = maybe(fields({ code: text(1, 64), message: text(0, 2000), retryable: maybe(flag) }));

const to: Shape<MessageFrame["to"]> = (value, path, faults) =>
  typeof value === "object" && value !== null && "conversationId" in value
    ? fields({ conversationId: text(1, 64) })(value, path, faults)
    : fields({ userId: text(1, 256) })(value, path, faults);
const message = (textChars: number): Shape<Omit<MessageFrame, "type">> =>
  fields({ id: key, to, content: text(0, textChars), attachments: files, title: maybe(text(1, 200)) });

const ack = fields({ id: key });

/** The rare optional parts of a reply; absent from nearly every frame, so not looked at one by one. */
const replyExtras = fields({ image: maybe(text(0, 30_000_000)), attachments: files, usage, error: replyError });

const bad = (zh: string, en: string): Reject => new Reject("bad_request", { zh, en });

const parseReply = (raw: Record<string, unknown>): ReplyFrame => {
  const { replyTo, content, done, seq, mode, finish } = raw;
  if (typeof replyTo !== "string" || replyTo.length === 0 || replyTo.length > 256)
    throw bad("replyTo：应为回合的 id", "replyTo: the id of a turn");
  // v1 bots leave content out of an image-only reply; a missing done was "not done" there.
  if (content !== undefined && content !== null && typeof content !== "string")
    throw bad("content：应为文字", "content: text");
  if (done !== undefined && done !== null && typeof done !== "boolean")
    throw bad("done：应为 true 或 false", "done: true or false");
  const frame: ReplyFrame = { type: "reply", replyTo, content: content ?? "", done: done ?? false };
  if (seq !== undefined && seq !== null) {
    if (typeof seq !== "number" || !Number.isSafeInteger(seq) || seq < 1)
      throw bad("seq：应为从 1 起的整数", "seq: a whole number from 1");
    frame.seq = seq;
  }
  if (mode === "replace") frame.mode = mode;
  else if (mode !== undefined && mode !== null && mode !== "delta")
    throw bad("mode：应为 delta 或 replace", "mode: delta or replace");
  if (finish === "stop" || finish === "cancelled" || finish === "silent") frame.finish = finish;
  if ("image" in raw || "attachments" in raw || "usage" in raw || "error" in raw)
    Object.assign(frame, parse(replyExtras, raw));
  return frame;
};

/**
 * `json`: the text of one frame. Returns undefined for a type this gateway does not know.
 * Throws Reject("bad_request") for anything malformed.
 */
export const parseFrame = (json: string, limits: { textChars: number }): BotFrame | undefined => {
  let raw: unknown;
  try {
    raw = JSON.parse(json);
  } catch {
    throw bad("不是合法的 JSON", "not valid JSON");
  }
  if (typeof raw !== "object" || raw === null || Array.isArray(raw))
    throw bad("应为 JSON 对象", "a frame is a JSON object");
  const type = (raw as { type?: unknown }).type;
  switch (type) {
    case "reply":
      return parseReply(raw as Record<string, unknown>);
    case "pong":
      return { type: "pong" };
    case "ack": {
      const { id } = raw as { id?: unknown }; // one comes with every turn
      return { type: "ack", id: typeof id === "string" && id !== "" && id.length <= 128 ? id : parse(ack, raw).id };
    }
    case "event":
      return { type: "event", ...parse(event, raw) };
    case "message":
      return { type: "message", ...parse(message(limits.textChars), raw) };
    case "register":
      return { type: "register", ...parse(register, raw) };
    default:
      if (typeof type !== "string") throw bad("type：应为文字", "type: text");
      return undefined;
  }
};

/** The id of a `message` frame that could not be taken, so that its sender learns which; undefined for anything else. */
export const messageIdOf = (json: string): string | undefined => {
  if (!json.includes('"message"')) return undefined;
  try {
    const { type, id } = JSON.parse(json) as { type?: unknown; id?: unknown };
    return type === "message" && typeof id === "string" && id.length <= 128 ? id : undefined;
  } catch {
    return undefined;
  }
};
