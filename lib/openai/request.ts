/**
 * The body of `POST /v1/chat/completions`, parsed: who is asked, what is new, what came before.
 *
 * Takes what OpenAI's clients send and ignores what a bot decides for itself (temperature, tools, …). Refuses what it could
 * only get wrong: pictures by address (the gateway fetches nothing), sound, several choices.
 */
import { Reject } from "../protocol.ts";

export type Said = {
  role: "system" | "user" | "assistant";
  text: string;
  /** Data URLs. */
  files: { data: string; name: string }[];
};

export type Completion = {
  /** A bot id or a pool. */
  model: string;
  /** The caller's own word for the person or chat; "" when none. */
  user: string;
  stream: boolean;
  includeUsage: boolean;
  system: string;
  /** Everything up to the last answer, without the system prompt. */
  earlier: Said[];
  /** What was said after it: at least one message. */
  asked: Said[];
};

const MAX_MESSAGES = 10_000;
const MAX_NAME = 512;

const bad = (path: string, zh: string, en: string): Reject =>
  new Reject("bad_request", { zh: `${path}：${zh}`, en: `${path}: ${en}` });

type Json = Record<string, unknown>;
const isRecord = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const ROLES: Record<string, Said["role"]> = {
  system: "system",
  developer: "system",
  user: "user",
  tool: "user",
  function: "user",
  assistant: "assistant",
};

const dataUrl = (value: unknown, path: string): string => {
  if (typeof value === "string" && /^data:[^,]{0,200};base64,/i.test(value)) return value;
  throw bad(path, "只接受 data: 地址（网关不替你下载）", "only data: URLs are taken; the gateway fetches nothing");
};

const readPart = (part: unknown, path: string, into: Said): void => {
  if (!isRecord(part)) throw bad(path, "应为 JSON 对象", "a JSON object");
  const { type } = part;
  if ((type === "text" || type === "input_text" || type === "output_text") && typeof part.text === "string") {
    into.text += (into.text === "" ? "" : "\n") + part.text;
  } else if (type === "refusal" && typeof part.refusal === "string") {
    into.text += part.refusal;
  } else if (type === "image_url" || type === "input_image") {
    const url = isRecord(part.image_url) ? part.image_url.url : part.image_url;
    into.files.push({ data: dataUrl(url, `${path}.image_url.url`), name: "" });
  } else if (type === "file" && isRecord(part.file)) {
    const { file_data: data, filename } = part.file;
    into.files.push({
      data: dataUrl(data, `${path}.file.file_data`),
      name: typeof filename === "string" ? filename : "file",
    });
  } else throw bad(`${path}.type`, "应为 text、image_url 或 file", "text, image_url or file");
};

const readMessage = (value: unknown, path: string): Said => {
  if (!isRecord(value)) throw bad(path, "应为 JSON 对象", "a JSON object");
  const role = typeof value.role === "string" && Object.hasOwn(ROLES, value.role) ? ROLES[value.role] : undefined;
  if (!role) throw bad(`${path}.role`, "应为 system、user 或 assistant", "system, user or assistant");
  const said: Said = { role, text: "", files: [] };
  const { content } = value;
  if (typeof content === "string") said.text = content;
  else if (Array.isArray(content))
    for (const [i, part] of content.entries()) readPart(part, `${path}.content[${i}]`, said);
  else if (content !== null && content !== undefined)
    throw bad(`${path}.content`, "应为文字或内容列表", "text or a list of parts");
  return said;
};

const name = (value: unknown, path: string): string => {
  if (value === undefined || value === null) return "";
  if (typeof value !== "string" || value.length > MAX_NAME)
    throw bad(path, `应为至多 ${MAX_NAME} 个字符的文字`, `text, at most ${MAX_NAME} characters`);
  return value;
};

/** Throws Reject: `bad_request`, and `too_large` when the new text is over `textChars`. */
export const readCompletion = (body: unknown, textChars: number): Completion => {
  if (!isRecord(body)) throw bad("body", "应为 JSON 对象", "a JSON object");
  const model = name(body.model, "model");
  if (model === "")
    throw bad("model", "应为机器人的 id 或池的名字", "the id of a bot or the name of a pool (GET /v1/models)");
  if (body.n !== undefined && body.n !== null && body.n !== 1) throw bad("n", "只支持 1", "only 1");
  if (!Array.isArray(body.messages) || body.messages.length === 0 || body.messages.length > MAX_MESSAGES)
    throw bad("messages", `应为 1 到 ${MAX_MESSAGES} 项的列表`, `a list of 1 to ${MAX_MESSAGES} items`);
  const all = body.messages.map((message, i) => readMessage(message, `messages[${i}]`));
  const system = all
    .filter(({ role }) => role === "system")
    .map(({ text }) => text)
    .join("\n\n");
  const spoken = all.filter(({ role }) => role !== "system");
  const answered = spoken.findLastIndex(({ role }) => role === "assistant");
  const asked = spoken.slice(answered + 1);
  if (asked.every(({ text, files }) => text.trim() === "" && files.length === 0))
    throw bad("messages", "最后一条应为用户的话，且不能为空", "the last one must be the user's, and not empty");
  if (asked.reduce((sum, { text }) => sum + text.length, 0) > textChars)
    throw new Reject("too_large", {
      zh: `消息超过 ${textChars} 个字符`,
      en: `The message is over ${textChars} characters`,
    });
  const options = isRecord(body.stream_options) ? body.stream_options : {};
  return {
    model,
    user: name(body.user, "user") || name(body.safety_identifier, "safety_identifier"),
    stream: body.stream === true,
    includeUsage: options.include_usage === true,
    system,
    earlier: spoken.slice(0, answered + 1),
    asked,
  };
};
