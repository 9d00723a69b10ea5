/** HTTP bodies, parsed. Every limit of length that a person could meet is here or in config.limits. */
import { usernameShape } from "./config/fields.ts";
import { PASSWORD_CHARS } from "./config/secrets.ts";
import { botIdShape } from "./frames.ts";
import { decodeId } from "./ids.ts";
import { Reject } from "./protocol.ts";
import { fields, flag, int, list, maybe, oneOf, parse, text, type Shape } from "./shape.ts";

const id = text(1, 16);
const clientId = text(1, 64);
/** A data URL; bounded by bodyBytes before it gets here. */
const image = text(1, 40_000_000);
const attachments = maybe(list(id, 20));
const title = text(1, 200);

export const loginBody = (body: unknown) => parse(fields({ username: text(1, 256), password: text(1, 1024) }), body);

const checkLength = (content: string | undefined, textChars: number): void => {
  if (content !== undefined && content.length > textChars)
    throw new Reject("too_large", {
      zh: `消息超过 ${textChars} 个字符`,
      en: `The message is over ${textChars} characters`,
    });
};

const notEmpty = (content: string, hasFile: boolean): void => {
  if (content.trim() === "" && !hasFile)
    throw new Reject("bad_request", { zh: "消息不能为空", en: "The message must not be empty" });
};

/** The wire's ids as numbers; 0, which nothing has, for what is none. */
const numbers = (ids: string[] | undefined): number[] => (ids ?? []).map(decodeId);

/** Its length is checked against the config, with a status of its own. */
const anyText: Shape<string> = (value, path, faults) => {
  if (typeof value === "string") return value;
  faults.push({ path, say: { zh: "应为文字", en: "text" } });
  return "";
};
/** An empty text is none, as v1 took it. */
const unlessEmpty = <T>(shape: Shape<T>): Shape<T | undefined> => {
  const one = maybe(shape);
  return Object.assign(
    ((value, path, faults) => (value === "" ? undefined : one(value, path, faults))) satisfies Shape<T | undefined>,
    { optional: true as const },
  );
};
const chatShape = fields({
  message: maybe(anyText),
  target: unlessEmpty(botIdShape),
  image: unlessEmpty(image),
  conversationId: unlessEmpty(id),
  clientId: unlessEmpty(clientId),
  attachments,
});

export type ChatBody = {
  clientId: string | undefined;
  /** What makes two sends the same send, in the order in which it is digested. */
  sent: { message: string; target?: string; image?: string; attachments: number[]; conversation?: number };
};

/** `POST /api/chat` and `/api/chat/stream`. An empty `target` or `image` is none, as v1 took it. */
export const chatBody = (body: unknown, textChars: number): ChatBody => {
  const {
    message = "",
    target,
    image: picture,
    conversationId,
    clientId: client,
    attachments: files,
  } = parse(chatShape, body);
  checkLength(message, textChars);
  notEmpty(message, picture !== undefined || (files?.length ?? 0) > 0);
  const sent = { message } as ChatBody["sent"];
  if (target !== undefined) sent.target = target;
  if (picture !== undefined) sent.image = picture;
  sent.attachments = numbers(files);
  if (conversationId !== undefined) sent.conversation = decodeId(conversationId);
  return { clientId: client, sent };
};

const sendShape = fields({
  clientId,
  content: anyText,
  target: maybe(botIdShape),
  image: maybe(image),
  attachments,
  replyTo: maybe(id),
  replaces: maybe(id),
});

/** `POST /api/conversations/:id/messages`. */
export const sendBody = (body: unknown, textChars: number) => {
  const { content, attachments: files, replyTo, replaces, ...rest } = parse(sendShape, body);
  checkLength(content, textChars);
  notEmpty(content, rest.image !== undefined || (files?.length ?? 0) > 0);
  return {
    message: content,
    ...rest,
    attachments: numbers(files),
    ...(replyTo !== undefined && { replyTo: decodeId(replyTo) }),
    ...(replaces !== undefined && { replaces: decodeId(replaces) }),
  };
};

export const newConversationBody = (body: unknown) =>
  parse(fields({ title: maybe(title), botId: maybe(botIdShape) }), body);

export const patchConversationBody = (body: unknown) => {
  const { read, ...rest } = parse(fields({ title: maybe(title), pinned: maybe(flag), read: maybe(id) }), body);
  return { ...rest, ...(read !== undefined && { read: decodeId(read) }) };
};

export const newKeyBody = (body: unknown) =>
  parse(
    fields({
      name: text(1, 100),
      expiresAt: maybe(int(1)),
      bots: maybe(list(botIdShape, 100)),
      scope: maybe(oneOf("chat", "all")),
    }),
    body,
  );

/** Absent: as it is; null: as config.json says. */
const orNull =
  <T>(shape: Shape<T>): Shape<T | null | undefined> =>
  (value, path, faults) =>
    value === undefined || value === null ? value : shape(value, path, faults);

/** What a person may set as their password. */
const newPassword = text(8, PASSWORD_CHARS);
const displayName = text(1, 256, /^[^\p{Cc}]+$/u, { zh: "不能含控制字符", en: "no control characters" });
/**
 * Names made here stand in addresses and lists: browsers and proxies resolve "." and ".." away, and blanks at an end or
 * direction marks make two names look alike. Names of config.json may be such; they are not for changing here.
 */
const madeName =
  (shape: Shape<string>): Shape<string> =>
  (value, path, faults) => {
    const name = shape(value, path, faults);
    if (/^\.{1,2}$|^\s|\s$|[\p{Cf}\p{Cs}]/u.test(name))
      faults.push({
        path,
        say: {
          zh: "不能是 . 或 ..，首尾不能是空格，不能含不可见字符",
          en: "not . or .., no blank at an end, no invisible characters",
        },
      });
    return name;
  };
const quota = orNull(int(0, 1_000_000_000));
const usernames = list(text(1, 1024), 100_000);

export const passwordBody = (body: unknown) => parse(fields({ current: text(1, 1024), password: newPassword }), body);

export const newUserBody = (body: unknown) =>
  parse(
    fields({
      username: madeName(usernameShape),
      displayName: maybe(displayName),
      password: maybe(newPassword),
      role: maybe(oneOf("admin", "user")),
      messagesPerDay: quota,
      turnsAtOnce: quota,
    }),
    body,
  );

export const userBody = (body: unknown) =>
  parse(
    fields({
      displayName: maybe(displayName),
      password: maybe(newPassword),
      role: maybe(oneOf("admin", "user")),
      disabled: maybe(flag),
      messagesPerDay: quota,
      turnsAtOnce: quota,
    }),
    body,
  );

const botFields = {
  name: orNull(displayName),
  users: orNull(usernames),
  pools: orNull(list(botIdShape, 100)),
  maxConcurrency: orNull(int(1, 100_000)),
};
export const newBotBody = (body: unknown) => parse(fields({ id: madeName(botIdShape), ...botFields }), body);
export const botBody = (body: unknown) => parse(fields({ ...botFields, disabled: maybe(flag) }), body);
export const disconnectBody = (body: unknown) => parse(fields({ instance: maybe(text(0, 64)) }), body);

/** `limit` (or another `name`) of a query: a whole number from 1 to `most`. */
export const limitOf = (value: string | null, usual: number, most: number, name = "limit"): number => {
  if (value === null || value === "") return usual;
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 1)
    throw new Reject("bad_request", { zh: `${name}：应为正整数`, en: `${name}: a whole number from 1` });
  return Math.min(number, most);
};
