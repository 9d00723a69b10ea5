/**
 * What the transcript shows: stored messages, answers being written and messages on their way out, as one list.
 * Must stay true: an item keeps its key when its local form is replaced by the stored one. Touches no DOM.
 */
import type { Message } from "../lib/protocol.ts";
import type { Item } from "./message.ts";
import type { Unsent } from "./outbox.ts";
import type { Page } from "./page.ts";
import { byAge, type Thread, type Turn } from "./state.ts";
import { shownMessages, type Shown } from "./thread.ts";

const localMessage = (entry: Unsent, conversationId: string): Message => ({
  id: `local:${entry.clientId}`,
  conversationId,
  role: "user",
  content: entry.content,
  attachments: entry.attachments,
  state: "sent",
  clientId: entry.clientId,
  ...(entry.parentId ? { parentId: entry.parentId } : {}),
  ...(entry.replyTo ? { replyTo: entry.replyTo } : {}),
  createdAt: entry.createdAt,
  updatedAt: 0,
});

const isLocal = (shown: Shown | undefined): boolean => shown?.message.id.startsWith("local:") ?? false;

const turnMessage = (turn: Turn): Message => ({
  id: turn.turnId,
  conversationId: turn.conversationId,
  role: "bot",
  ...(turn.botId ? { botId: turn.botId } : {}),
  ...(turn.botName ? { botName: turn.botName } : {}),
  content: turn.text,
  attachments: [],
  state: "streaming",
  turnId: turn.turnId,
  ...(turn.parentId ? { parentId: turn.parentId } : {}),
  createdAt: turn.createdAt,
  updatedAt: turn.createdAt,
});

/** On its way it stands below everything; refused, it stays where it stood then, and what came later is below it. */
const putUnsent = (shown: Shown[], entry: Unsent, message: Message): void => {
  let at = entry.after === undefined ? -1 : shown.findIndex((s) => s.message.id === entry.after);
  if (at < 0) at = shown.length - 1;
  while (isLocal(shown[at + 1])) at++;
  shown.splice(at + 1, 0, { message, versions: undefined });
};

/** All items of the open conversation, in order. */
export const collectItems = (page: Page): Item[] => {
  const { state } = page;
  const current = state.current ? state.threads.get(state.current) : undefined;
  const id = state.current;
  const messages = current ? [...current.messages.values()] : [];
  const known = new Set(messages.map((m) => m.id));
  const clientIds = new Set(messages.map((m) => m.clientId));
  for (const turn of state.turns.values())
    if (turn.conversationId === id && !known.has(turn.turnId)) messages.push(turnMessage(turn));
  messages.sort(byAge);
  const unsent = page.outbox.of(id).filter((entry) => !clientIds.has(entry.clientId));
  // Only what takes the place of another message is a version of it, and only until it is refused: nothing else unsent has a
  // place in the tree yet, and as a version it would hide what is stored there.
  const isVersion = (entry: Unsent): boolean => entry.replaces !== undefined && entry.state !== "failed";
  for (const entry of unsent) if (isVersion(entry)) messages.push(localMessage(entry, id ?? ""));
  const shown = shownMessages(messages, current?.choice ?? new Map());
  for (const entry of unsent) if (!isVersion(entry)) putUnsent(shown, entry, localMessage(entry, id ?? ""));
  const byId = new Map(messages.map((m) => [m.id, m]));
  const versionsOf = new Map(shown.map((s) => [s.message.id, s.versions]));
  return shown.map(({ message, versions }, i) => {
    const before = shown[i - 1]?.message;
    return {
      key: message.clientId ? `c:${message.clientId}` : message.id,
      message,
      versions,
      // Not of what a bot says of itself, or later: it may stand below a question that it does not answer.
      answerVersions: message.id === message.turnId && message.parentId ? versionsOf.get(message.parentId) : undefined,
      turn: message.state === "streaming" ? state.turns.get(message.turnId ?? message.id) : undefined,
      unsent: unsent.find((entry) => entry.clientId === message.clientId),
      quoted: message.replyTo && (byId.get(message.replyTo) ?? (current?.next ? message.replyTo : undefined)),
      grouped: message.role === "bot" && before?.role === "bot" && before.botId === message.botId,
    };
  });
};

/** What is shown as Markdown; `you` names the person. */
export const asMarkdown = (items: readonly Item[], you: string): string =>
  items
    .map(({ message }) => `**${message.role === "user" ? you : (message.botName ?? "")}**\n\n${message.content}`)
    .join("\n\n");

/** The question a message answers: its turn's, else up the tree, or, where that is not loaded, the question before it. */
export const questionOf = (
  items: readonly Item[],
  thread: Thread | undefined,
  message: Message,
): Message | undefined => {
  const isAsked = (one: Message): boolean => one.role === "user" && one.turnId === message.turnId;
  let at: Message | undefined = (message.turnId && [...(thread?.messages.values() ?? [])].find(isAsked)) || message;
  for (let i = 0; at && at.role !== "user" && i < 20; i++)
    at = at.parentId ? thread?.messages.get(at.parentId) : undefined;
  if (at) return at;
  const index = items.findIndex((item) => item.message.id === message.id);
  return items
    .slice(0, index)
    .filter((item) => item.message.role === "user")
    .at(-1)?.message;
};
