/**
 * What a model is asked: the system prompt, as much of the conversation as its budget holds, the question with its files.
 *
 * The history comes with every chat from the gateway, which stores it, so a model's bot remembers nothing itself and may be
 * restarted at any time. Files stay with the message they came with: the question's own go along in any case, earlier ones
 * while the budget lasts, newest first; what has no room is named.
 */
import type { BotError, Turn, TurnAttachment } from "../../plugin/client.ts";

/** `earlier`: it came with a message before the question. */
export type Picture = { name: string; mime: string; base64: string; earlier: boolean };
export type Spoken = { role: "user" | "assistant"; text: string; pictures: Picture[] };
export type Prompt = { system: string; messages: Spoken[] };

/** Together, before base64: what the large services take in one request. */
const PICTURE_BYTES = 15 * 1024 * 1024;
/** Of one text file. */
const TEXT_BYTES = 200_000;
/** What an earlier picture takes of the history's budget: the large services count from a hundred to two thousand. */
const PICTURE_TOKENS = 1_000;
const TEXT_TYPES = /^(?:text\/|application\/(?:json|xml|x-yaml|yaml|javascript|x-sh)\b)/;

/** About how many tokens a text has: a Chinese character is about one, four Latin letters are. */
export const tokensOf = (text: string): number => {
  let quarters = 0;
  for (let i = 0; i < text.length; i++) quarters += text.charCodeAt(i) > 0x2e7f ? 4 : 1;
  return Math.ceil(quarters / 4);
};

const fence = (name: string, text: string): string => `\n\n--- ${name} ---\n${text}\n--- / ${name} ---`;

const describe = ({ name, mime, size }: TurnAttachment): string => `\n\n[${name}, ${mime}, ${size} bytes]`;

type Files = { pictures: Picture[]; text: string };

/** How many bytes of pictures and tokens of text files may still go along. */
type Room = { bytes: number; tokens: number };

const isPicture = ({ mime }: TurnAttachment): boolean => /^image\/(?:png|jpeg|gif|webp)$/.test(mime);

/**
 * Files of one message: pictures as such, text as text, of the others what they are. Takes from the room. Rejects when a
 * file cannot be read.
 */
const filesOf = async (turn: Turn, files: readonly TurnAttachment[], room: Room): Promise<Files> => {
  const pictures: Picture[] = [];
  let text = "";
  for (const file of files) {
    const picture = isPicture(file) && file.size <= room.bytes && room.tokens >= PICTURE_TOKENS;
    // A token has at most four characters, and one of them is at least a byte.
    const readable = TEXT_TYPES.test(file.mime) && file.size <= Math.min(TEXT_BYTES, room.tokens * 4);
    if (!picture && !readable) {
      text += describe(file);
      continue;
    }
    const bytes = await turn.fetchAttachment(file);
    if (readable) {
      const fenced = fence(file.name, new TextDecoder().decode(bytes));
      room.tokens -= tokensOf(fenced);
      text += fenced;
    } else {
      room.bytes -= bytes.length;
      room.tokens -= PICTURE_TOKENS;
      const base64 = Buffer.from(bytes).toString("base64");
      pictures.push({ name: file.name, mime: file.mime, base64, earlier: false });
    }
  }
  return { pictures, text };
};

/** Of an earlier message. A file that is gone by now is named, because the question can still be answered. */
const earlierFilesOf = async (turn: Turn, files: readonly TurnAttachment[], room: Room): Promise<Files> => {
  const all: Files = { pictures: [], text: "" };
  for (const file of files) {
    const one = await filesOf(turn, [file], room).catch((error: BotError): Files => {
      if (turn.signal.aborted || error.code !== "not_found") throw error;
      return { pictures: [], text: describe(file) };
    });
    all.pictures.push(...one.pictures.map((picture) => ({ ...picture, earlier: true })));
    all.text += one.text;
  }
  return all;
};

/** Neighbours of one role become one message: some services insist on taking turns. */
const push = (messages: Spoken[], one: Spoken): void => {
  const last = messages.at(-1);
  if (last?.role !== one.role) messages.push(one);
  else {
    last.text = [last.text, one.text].filter(Boolean).join("\n\n");
    last.pictures.push(...one.pictures);
  }
};

/** `historyTokens`: how much of what came before may go along; the newest goes first. Rejects when a file cannot be read. */
export const promptOf = async (
  turn: Turn,
  { system, historyTokens }: { system?: string | undefined; historyTokens: number },
): Promise<Prompt> => {
  const room: Room = { bytes: PICTURE_BYTES, tokens: Number.POSITIVE_INFINITY };
  const { pictures, text } = await filesOf(turn, turn.attachments, room);
  const quote = turn.replyTo ? `> ${turn.replyTo.content.replaceAll("\n", "\n> ")}\n\n` : "";
  const prompts = turn.history.filter(({ role }) => role === "system").map(({ content }) => content);
  room.tokens = historyTokens;
  const kept: Spoken[] = [];
  for (const { role, content, attachments = [] } of turn.history.toReversed()) {
    if (role === "system" || (content.trim() === "" && attachments.length === 0)) continue;
    room.tokens -= tokensOf(content);
    if (room.tokens < 0) break;
    const files = await earlierFilesOf(turn, attachments, room);
    kept.push({ role, text: files.text === "" ? content : `${content}${files.text}`.trim(), pictures: files.pictures });
  }
  kept.reverse();
  // An answer without its question would be the first thing said.
  while (kept[0]?.role === "assistant") kept.shift();
  const messages: Spoken[] = [];
  for (const one of kept) push(messages, one);
  push(messages, { role: "user", text: `${quote}${turn.text}${text}`.trim(), pictures });
  return { system: [...(system ? [system] : []), ...prompts].join("\n\n"), messages };
};

/** For a model that takes no pictures, or only one: earlier ones by name. Undefined when there are none. */
export const withoutEarlierPictures = ({ system, messages }: Prompt): Prompt | undefined => {
  if (!messages.some(({ pictures }) => pictures.some(({ earlier }) => earlier))) return undefined;
  const plain = messages.map(({ role, text, pictures }) => {
    const names = pictures.filter(({ earlier }) => earlier).map(({ name, mime }) => `[${name}, ${mime}]`);
    return {
      role,
      text: [text, ...names].filter(Boolean).join("\n\n"),
      pictures: pictures.filter(({ earlier }) => !earlier),
    };
  });
  return { system, messages: plain };
};
