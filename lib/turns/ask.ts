/**
 * What a person asks, made ready for a bot: the mention read, the display name made unmistakable, pictures and files loaded,
 * the chat frame in the form this bot understands. Reads the store; changes nothing.
 */
import type { Connection } from "../bots.ts";
import { encodeId } from "../ids.ts";
import { jsonWith, jsonWithText } from "../json.ts";
import type { People } from "../people.ts";
import { Reject, type ChatFrame } from "../protocol.ts";
import type { Store } from "../store.ts";
import { excerpt, toAttachment, type AttachmentRow } from "../store/rows.ts";
import type { Turn } from "../turn.ts";

/** Inline bytes of all files of one chat frame; larger ones are fetched by the bot. */
const INLINE_BYTES = 1024 * 1024;
/** History for a bot that keeps none: enough to go on, small beside a model's window. */
export const HISTORY_MESSAGES = 40;
const HISTORY_CHARS = 60_000;
/** A quoted message as the bot sees it. */
const QUOTE_CHARS = 2000;

/** What came before, in words, for a bot that takes only a message. */
const withPreface = (preface: NonNullable<Turn["ask"]["preface"]>, content: string): string =>
  [...preface, { role: "user", content }].map((one) => `[${one.role}]\n${one.content}`).join("\n\n");

/**
 * A leading `@bot-id ` or `@Exact Name ` (case-insensitive; the longest match wins, names may contain spaces).
 * `names`: id → name of every bot the person may use, online or not. Undefined: no mention.
 */
export const readMention = (
  message: string,
  names: Map<string, string>,
): { botId: string; rest: string } | undefined => {
  if (!message.startsWith("@")) return undefined;
  let found: { botId: string; length: number } | undefined;
  for (const [botId, name] of names)
    for (const call of [botId, name]) {
      const end = 1 + call.length;
      const called = message.slice(1, end).toLowerCase() === call.toLowerCase();
      if (!called || (end < message.length && !/\s/.test(message[end]!))) continue;
      if (!found || call.length > found.length) found = { botId, length: call.length };
    }
  return found && { botId: found.botId, rest: message.slice(1 + found.length).trimStart() };
};

/**
 * A data URL or bare base64 as v1 clients send it. Throws Reject when it is not base64. `plain`: nothing but that, so that JSON
 * holds it as it is (base64 that decodes to fewer bytes than it should has something else in it).
 */
export const decodeImage = (image: string): { bytes: Uint8Array; mime: string; plain: boolean } => {
  const match = /^data:([a-z0-9.+/-]{0,100})[^,]{0,100};base64,/i.exec(image.slice(0, 300));
  const start = match ? match[0].length : 0;
  const sample = image.slice(start, start + 64);
  const bytes = Buffer.from(start === 0 ? image : image.slice(start), "base64");
  if (bytes.length === 0 || !/^[A-Za-z0-9+/_-]+={0,2}\s*$/.test(sample))
    throw new Reject("bad_request", { zh: "image：应为 data URL 或 base64", en: "image: a data URL or base64" });
  const digits = image.length - start - (image.endsWith("==") ? 2 : image.endsWith("=") ? 1 : 0);
  // 4n + 1 digits are no base64, and the one too many could be anything: it would not show in the length.
  const plain =
    digits % 4 !== 1 &&
    bytes.length === Math.floor((digits * 3) / 4) &&
    (!match || /^data:[\w.+/-]*;base64,$/i.test(match[0]));
  return { bytes, mime: match?.[1] || "image/png", plain };
};

/** What a person would take for the same name: case, full-width forms, invisible characters and spaces do not count. */
const foldName = (name: string): string =>
  name
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[\p{Cf}\s]/gu, "");

type History = NonNullable<ChatFrame["history"]>;

/** What a caller said, and how many files with it. */
export const withMark = (text: string, files: number): string =>
  files === 0 ? text : `${text}${text === "" ? "" : "\n"}[${files} × file]`;

/** Nothing but the words of a stored message, with such a mark or without: else they are another message's. */
const isSame = (told: string, stored: string): boolean =>
  told !== "" && [told, told.replace(/(?:^|\n)\[\d+ × file\]$/, "")].some((words) => words.trim() === stored.trim());

/**
 * What a caller said came before, with the files that are stored with the same messages: both are walked from the newest
 * on, as long as they take turns in the same way.
 */
const withFiles = (told: History, stored: History): History => {
  const out = [...told];
  for (let i = 1; i <= Math.min(told.length, stored.length); i++) {
    const [one, same] = [told[told.length - i]!, stored[stored.length - i]!];
    if (one.role !== same.role) break;
    if (same.attachments && isSame(one.content, same.content))
      out[told.length - i] = { ...one, content: same.content, attachments: same.attachments };
  }
  return out;
};

export const createAsks = (store: Store, people: People) => {
  /** Counted once per change of who exists, because it is asked for every chat; `names`: what fromName said. */
  let counted = { of: -1, bearers: new Map<string, number>(), names: new Map<string, string>() };
  const count = (): typeof counted => {
    if (counted.of === people.version()) return counted;
    counted = { of: people.version(), bearers: new Map(), names: new Map() };
    for (const [user, { displayName }] of people.all())
      for (const one of new Set([foldName(displayName), foldName(user)]))
        counted.bearers.set(one, (counted.bearers.get(one) ?? 0) + 1);
    return counted;
  };
  /** How many people go by this name, as display name or as username. */
  const bearers = (name: string): number => count().bearers.get(foldName(name)) ?? 0;

  /** "Ann (bob)" would pass for the form that is given to a second Ann whose username is bob. */
  const looksQualified = (name: string): boolean => {
    const inside = /[(（]([^()（）]*)[)）]\s*$/.exec(name.normalize("NFKC"))?.[1];
    return inside !== undefined && bearers(inside) > 0;
  };

  /** Display names may repeat or imitate; then, and for people made by sign-in, the username goes with them. */
  const fromName = (user: string): string => {
    const { names } = count();
    const known = names.get(user);
    if (known !== undefined) return known;
    const name = nameFor(user);
    names.set(user, name);
    return name;
  };

  const nameFor = (user: string): string => {
    const entry = people.get(user);
    if (!entry) return user;
    const { displayName } = entry;
    if (bearers(displayName) === 1 && !user.includes(":") && !looksQualified(displayName)) return displayName;
    return `${displayName.replace(/[()（）]/g, "")} (${user})`;
  };

  const dataUrl = async (row: AttachmentRow): Promise<string> =>
    `data:${row.mime};base64,${(await store.attachments.bytes(row)).toBase64()}`;

  /** As JSON, because their data is long. */
  const withData = async (rows: AttachmentRow[]): Promise<string> => {
    let left = INLINE_BYTES;
    const out: string[] = [];
    for (const row of rows) {
      const inline = row.size <= left;
      if (inline) left -= row.size;
      const shape = toAttachment(row);
      const bytes = inline ? await store.attachments.bytes(row) : undefined;
      out.push(bytes ? jsonWithText(shape, "data", bytes.toBase64()) : JSON.stringify(shape));
    }
    return `[${out.join(",")}]`;
  };

  /** The branch above the question, oldest first, within the bounds. */
  const history = (turn: Turn): History => {
    const out: History = [];
    let chars = 0;
    let at = store.turns.message(turn.question)?.parent ?? null;
    let last = 0;
    while (at !== null && out.length < HISTORY_MESSAGES) {
      const row = store.turns.message(at);
      if (!row) break;
      chars += row.content.length;
      if (chars > HISTORY_CHARS) break;
      // A question sent before the answer to the one above came has that question as parent: its answer belongs between.
      const answer =
        row.role === "user" && row.turn !== null && row.turn !== last ? store.turns.message(row.turn) : undefined;
      if (answer && answer.id !== turn.id && answer.content !== "") {
        chars += answer.content.length;
        if (chars > HISTORY_CHARS) break;
        out.push({ role: "assistant", content: answer.content });
      }
      const attachments = row.role === "user" ? store.attachments.ofMessage(row.id) : [];
      if (row.content !== "" || attachments.length > 0)
        out.push({
          role: row.role === "bot" ? "assistant" : "user",
          content: row.content,
          ...(attachments.length > 0 && { attachments }),
        });
      last = row.id;
      at = row.parent;
    }
    return out.slice(0, HISTORY_MESSAGES).reverse();
  };

  const before = (turn: Turn): History => {
    const { context } = turn.ask;
    if (!context) return history(turn);
    return context.stored ? [...context.before, ...history(turn)] : withFiles(context.before, history(turn));
  };

  const v1 = (turn: Turn): ChatFrame => ({
    type: "chat",
    id: turn.key,
    content: turn.ask.preface?.length ? withPreface(turn.ask.preface, turn.ask.content) : turn.ask.content,
    from: fromName(turn.user),
    timestamp: turn.createdAt,
  });

  /** Filled in place: made for every chat, and a spread costs as much as the whole literal. */
  const v2 = (turn: Turn, connection: Connection): ChatFrame => {
    const frame = v1(turn);
    frame.conversationId = turn.conversationKey;
    frame.userId = turn.user;
    frame.userName = people.get(turn.user)?.displayName ?? turn.user;
    frame.source = turn.source;
    frame.attempt = turn.attempt;
    if (turn.requestId !== undefined) frame.requestId = turn.requestId;
    if (turn.ask.replyTo) frame.replyTo = turn.ask.replyTo;
    if (connection.caps.has("history")) {
      frame.content = turn.ask.content;
      frame.history = before(turn);
    }
    return frame;
  };

  return {
    /** The frame for this connection. Without files it is made at once; with files they are read first. */
    frame: (turn: Turn, connection: Connection): string | Promise<string> => {
      const frame = connection.proto === 2 ? v2(turn, connection) : v1(turn);
      if (!turn.hasFiles) return JSON.stringify(frame);
      return addFiles(turn, connection, frame);
    },

    quote: (id: number): NonNullable<ChatFrame["replyTo"]> | undefined => {
      const row = store.turns.message(id);
      return row && { id: encodeId(id), role: row.role, content: excerpt(row.content, QUOTE_CHARS) };
    },
  };

  async function addFiles(turn: Turn, connection: Connection, frame: ChatFrame): Promise<string> {
    const rows = store.attachments.rowsOfMessage(turn.question);
    if (connection.caps.has("attachments")) return jsonWith(frame, "attachments", await withData(rows));
    const first = rows.find((row) => row.mime.startsWith("image/"));
    const image = turn.ask.image ?? (first && (await dataUrl(first)));
    if (image === undefined) return JSON.stringify(frame);
    return turn.ask.plainImage ? jsonWith(frame, "image", `"${image}"`) : jsonWithText(frame, "image", image);
  }
};

export type Asks = ReturnType<typeof createAsks>;
