/**
 * Who is who: from a gateway's user and conversation to the host's session, and from a target someone typed to a person.
 *
 * What must stay true: two people, or two conversations of one person, never share a session key. The host folds session
 * keys to lower case and splits them at colons, usernames do neither, so every name that the host would change is
 * replaced by a readable rest plus a digest. Display names are never an identity.
 */
import { createHash } from "node:crypto";

/** Names that survive the host's folding unchanged. */
const PLAIN = /^[a-z0-9][a-z0-9._-]{0,63}$/;

const digest = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 16);

/** A part of a session key that is unique for `text`; `~` is in no plain name, so the two kinds never meet. */
export const keyPart = (text: string): string => {
  if (PLAIN.test(text)) return text;
  const readable = text
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, "-")
    .slice(0, 24);
  return `${readable}~${digest(text)}`;
};

export type Person = {
  /** What allow lists, pairing and targets name. Undefined: a v1 gateway, which knows only display names. */
  userId: string | undefined;
  /** For the session key. */
  peerId: string;
  /** For the host's thread suffix. */
  threadId: string | undefined;
  /** What the agent sees. */
  name: string;
};

/** `userName` may repeat among people and is used for display alone. */
export const person = (from: {
  userId?: string | undefined;
  userName: string;
  conversationId?: string | undefined;
}): Person => ({
  userId: from.userId,
  // A v1 display name must not open the session of the v2 user whose id looks the same.
  peerId: from.userId === undefined ? keyPart(`v1 name: ${from.userName}`) : keyPart(from.userId),
  threadId: from.conversationId === undefined ? undefined : keyPart(from.conversationId),
  name: from.userName,
});

/** Session peer of a person we write to first. */
export const peerOf = (userId: string): string => keyPart(userId);

/** `nexus:alice`, `user:alice` or `alice` → `alice`; undefined when nothing is left. */
export const parseTarget = (raw: string): string | undefined => {
  const rest = raw
    .trim()
    .replace(/^nexus:/i, "")
    .replace(/^user:/i, "")
    .trim();
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  return rest === "" || rest.length > 256 || /[\u0000-\u001f\u007f]/.test(rest) ? undefined : rest;
};

/** The address that the host stores as origin of a message, and gives back for replies and deliveries. */
export const address = (userId: string): string => `nexus:${userId}`;
