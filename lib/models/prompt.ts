/**
 * What a model is asked: the system prompt, as much of the conversation as its budget holds, the question with its files.
 *
 * The history comes with every chat from the gateway, which stores it, so a model's bot remembers nothing itself and may be
 * restarted at any time. Pictures go with the question they came with and are not repeated.
 */
import type { Turn, TurnAttachment } from "../../plugin/client.ts";

export type Picture = { mime: string; base64: string };
export type Spoken = { role: "user" | "assistant"; text: string; pictures: Picture[] };
export type Prompt = { system: string; messages: Spoken[] };

/** Together, before base64: what the large services take in one request. */
const PICTURE_BYTES = 15 * 1024 * 1024;
/** Of one text file. */
const TEXT_BYTES = 200_000;
const TEXT_TYPES = /^(?:text\/|application\/(?:json|xml|x-yaml|yaml|javascript|x-sh)\b)/;

/** About how many tokens a text has: a Chinese character is about one, four Latin letters are. */
export const tokensOf = (text: string): number => {
  let quarters = 0;
  for (let i = 0; i < text.length; i++) quarters += text.charCodeAt(i) > 0x2e7f ? 4 : 1;
  return Math.ceil(quarters / 4);
};

const fence = (name: string, text: string): string => `\n\n--- ${name} ---\n${text}\n--- / ${name} ---`;

const describe = ({ name, mime, size }: TurnAttachment): string => `\n\n[${name}, ${mime}, ${size} bytes]`;

/** The files of a turn: pictures as such, text as text, of the others what they are. */
const filesOf = async (turn: Turn): Promise<{ pictures: Picture[]; text: string }> => {
  const pictures: Picture[] = [];
  let text = "";
  let left = PICTURE_BYTES;
  for (const file of turn.attachments) {
    const picture = /^image\/(?:png|jpeg|gif|webp)$/.test(file.mime) && file.size <= left;
    const readable = TEXT_TYPES.test(file.mime) && file.size <= TEXT_BYTES;
    if (!picture && !readable) {
      text += describe(file);
      continue;
    }
    const bytes = await turn.fetchAttachment(file);
    if (readable) text += fence(file.name, new TextDecoder().decode(bytes));
    else {
      left -= bytes.length;
      pictures.push({ mime: file.mime, base64: Buffer.from(bytes).toString("base64") });
    }
  }
  return { pictures, text };
};

/** Neighbours of one role become one message: some services insist on taking turns. */
const push = (messages: Spoken[], one: Spoken): void => {
  const last = messages.at(-1);
  if (last?.role !== one.role) messages.push(one);
  else {
    last.text += `\n\n${one.text}`;
    last.pictures.push(...one.pictures);
  }
};

/** `historyTokens`: how much of what came before may go along; the newest goes first. Rejects when a file cannot be read. */
export const promptOf = async (
  turn: Turn,
  { system, historyTokens }: { system?: string | undefined; historyTokens: number },
): Promise<Prompt> => {
  const { pictures, text } = await filesOf(turn);
  const quote = turn.replyTo ? `> ${turn.replyTo.content.replaceAll("\n", "\n> ")}\n\n` : "";
  const prompts = turn.history.filter(({ role }) => role === "system").map(({ content }) => content);
  const spoken = turn.history.filter(({ role, content }) => role !== "system" && content.trim() !== "");
  let tokens = 0;
  let from = spoken.length;
  while (from > 0) {
    tokens += tokensOf(spoken[from - 1]!.content);
    if (tokens > historyTokens) break;
    from--;
  }
  // An answer without its question would be the first thing said.
  while (spoken[from]?.role === "assistant") from++;
  const messages: Spoken[] = [];
  for (const { role, content } of spoken.slice(from))
    push(messages, { role: role as Spoken["role"], text: content, pictures: [] });
  push(messages, { role: "user", text: `${quote}${turn.text}${text}`.trim(), pictures });
  return { system: [...(system ? [system] : []), ...prompts].join("\n\n"), messages };
};
