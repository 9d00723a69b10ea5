/** What every part of the page is given. A part takes what it needs from here and knows no other part. */
import type { Api } from "./api.ts";
import type { I18n } from "./i18n.ts";
import type { Keep } from "./keep.ts";
import type { Outbox } from "./outbox.ts";
import type { State } from "./state.ts";

export type Page = {
  api: Api;
  state: State;
  keep: Keep;
  i18n: I18n;
  t: I18n["t"];
  outbox: Outbox;
  /** Opens a conversation; undefined is a new one. */
  go: (conversationId: string | undefined, options?: { replace?: boolean; message?: string }) => void;
  /** A passing note at the bottom, with at most one action. */
  toast: (text: string, action?: { label: string; run: () => void }, ms?: number) => void;
  /** For screen readers. */
  announce: (text: string) => void;
  /** Copies text, on http too; tells how it went. */
  copy: (text: string) => Promise<void>;
  signOut: () => void;
};

/** True on devices whose main pointer is a finger: Enter makes a new line there, and nothing is focused unasked. */
export const isTouch = (): boolean => matchMedia("(pointer: coarse)").matches;

/** True while an input method composes, also in the order Safari sends its events. */
export const composing = (event: KeyboardEvent): boolean => event.isComposing || event.keyCode === 229;

/** One of eight colours for a bot, always the same for its id. */
export const hueOf = (id: string): number => {
  let sum = 0;
  for (let i = 0; i < id.length; i++) sum = (sum * 31 + id.charCodeAt(i)) >>> 0;
  return sum % 8;
};

/** The one character of a bot's seal: its first CJK character, else its first letter or digit. */
export const sealOf = (name: string): string => {
  const han = /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Hang}]/u.exec(name)?.[0];
  return han ?? /[\p{L}\p{N}]/u.exec(name)?.[0]?.toUpperCase() ?? "·";
};

/** Control and direction characters out of names: they could disguise one name as another. */
export const cleanName = (name: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is being removed
  name.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "");
