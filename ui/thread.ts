/**
 * Which messages of a conversation are shown, and in which order.
 *
 * Messages form a tree by `parentId`. Several messages of the person under one parent are versions of each other (an edit, a
 * regeneration): one is shown, the newest unless chosen otherwise, and with it only what follows it. Several bot messages
 * under one parent are several answers, all shown. Pure: no DOM, no clock.
 */
import type { Message } from "../lib/protocol.ts";

export type Versions = { ids: string[]; index: number; same: boolean };
export type Shown = { message: Message; versions: Versions | undefined };

/** `choice`: chosen version by parent id ("" for the first message). `messages` in order of age. */
export const shownMessages = (messages: readonly Message[], choice: ReadonlyMap<string, string>): Shown[] => {
  const groups = new Map<string, Message[]>();
  for (const message of messages) {
    if (message.role !== "user") continue;
    const parent = message.parentId ?? "";
    const group = groups.get(parent);
    if (group) group.push(message);
    else groups.set(parent, [message]);
  }
  const hidden = new Set<string>();
  const shown: Shown[] = [];
  for (const message of messages) {
    if (message.parentId !== undefined && hidden.has(message.parentId)) {
      hidden.add(message.id);
      continue;
    }
    let versions: Versions | undefined;
    const group = message.role === "user" ? groups.get(message.parentId ?? "") : undefined;
    if (group && group.length > 1) {
      const ids = group.map((m) => m.id);
      const chosen = choice.get(message.parentId ?? "");
      const index = chosen !== undefined && ids.includes(chosen) ? ids.indexOf(chosen) : ids.length - 1;
      if (ids[index] !== message.id) {
        hidden.add(message.id);
        continue;
      }
      versions = { ids, index, same: group.every((m) => m.content === message.content) };
    }
    shown.push({ message, versions });
  }
  return shown;
};

/** Splits conversations by age for the list: pinned, today, yesterday, week, month, earlier. `now` in ms. */
export const ageGroup = (at: number, now: number): "today" | "yesterday" | "week" | "month" | "earlier" => {
  const midnight = new Date(now);
  midnight.setHours(0, 0, 0, 0);
  const start = midnight.getTime();
  if (at >= start) return "today";
  if (at >= start - 86_400_000) return "yesterday";
  if (at >= start - 6 * 86_400_000) return "week";
  return at >= start - 29 * 86_400_000 ? "month" : "earlier";
};
