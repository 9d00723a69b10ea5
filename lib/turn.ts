/** One open turn, as turns.ts writes it and streams.ts reads it. Only turns.ts changes one. */
import type { Connection } from "./bots.ts";
import type { Activity, Attachment, ChatFrame, ChatSource, Finish, Usage } from "./protocol.ts";
import type { AttachmentRow } from "./store/rows.ts";
import type { TurnReader } from "./streams/reader.ts";

export type TurnState = "queued" | "sent" | "accepted" | "streaming" | "done" | "failed" | "cancelled";

export type TurnEnd = {
  state: "done" | "failed" | "cancelled";
  finish: Finish;
  error?: { code: string; message: string; retryable: boolean };
};

/** Who may answer. */
export type Wanted = {
  /** The person named the bot: no failover to another one. */
  target: string | undefined;
  pool: string;
  /** The caller named the pool: nobody else may answer. */
  poolOnly: boolean;
  /** Answered last in this conversation: waited for while it is online. */
  sticky: string | undefined;
  /** Bots the caller may use, where that is less than what the user may (API keys). */
  only: Set<string> | undefined;
};

export type Turn = {
  id: number;
  /** The id on the wire. */
  key: string;
  user: string;
  conversation: number;
  conversationKey: string;
  question: number;
  source: ChatSource;
  /** Of the request that asked; not kept over a restart. */
  requestId: string | undefined;
  /** As stored and shown: the wall clock. */
  createdAt: number;
  /** Deadlines count from here: the steady clock. */
  beganAt: number;

  /** What the bot is asked; for another attempt. */
  ask: {
    content: string;
    image?: string;
    /** It stands in JSON as it is: see decodeImage. */
    plainImage?: boolean;
    replyTo?: NonNullable<ChatFrame["replyTo"]>;
    /** What the caller said came before, instead of what is stored (/v1); for bots that declared `history`. */
    context?: {
      before: NonNullable<ChatFrame["history"]>;
      /** What is stored comes after it. */
      stored: boolean;
    };
    /** The part of it that a bot with a memory of its own has not seen. */
    preface?: NonNullable<ChatFrame["history"]>;
  };
  hasFiles: boolean;
  wanted: Wanted;

  state: TurnState;
  attempt: number;
  botId: string | undefined;
  botName: string | undefined;
  instance: string;
  proto: number;
  connection: Connection | undefined;
  /** Hand-overs since this process started, against a question that no bot survives. */
  tries: number;
  /** Connections that answered with an error another one may be spared. */
  refusedBy: Set<string> | undefined;
  /** When it was written to the connection (Infinity: not yet), and when the last frame about it came. */
  sentAt: number;
  frameAt: number;
  /** The connection is gone; until then somebody may take the turn over. */
  orphanedUntil: number | undefined;

  /** Counts replacements of the text. */
  generation: number;
  /**
   * How far the next replacement counts: readers may have seen generations that the process before did not store, and
   * their numbers must not come again for another text.
   */
  leap: number;
  text: string;
  /**
   * What the last frame appended, and where (-1: nothing of use). Who kept up is given this; a slice of the text would make one
   * piece of all that was appended to it, anew with each chunk.
   */
  tail: string;
  tailFrom: number;
  /** It had text once, in whatever attempt: its first was counted. */
  spoke: boolean;
  /** UTF-8 bytes of text, against limits.replyBytes. */
  bytes: number;
  seq: number;
  storedSeq: number;
  /** Text that waits for the next batch, and its bound so that one long turn is written before the timer. */
  unlogged: string;
  usage: Usage | undefined;
  /** Once it has any, a new array with each attempt: readers tell by that which files they were sent. */
  attachments: Attachment[];
  files: number[];
  /** Files on their way to disk; the end waits for them, and so do acks. */
  storing: Set<Promise<void>> | undefined;
  /** Files found after a restart, until the bot has sent their frame again. */
  found: AttachmentRow[];
  activity: Activity | undefined;

  /** How much of the text readers may see: all, but what came with the last frame waits for its commit. */
  visible: number;
  /** No more frames count; the end is being stored. */
  ending: TurnEnd | undefined;
  /** Stored: readers may be told. */
  ended: TurnEnd | undefined;
  /** The first of its readers, nearly always the only one; streams.ts alone writes it. */
  readers: TurnReader | undefined;
  /** Who waits for the end; see whenEnded. */
  waiters: ((end: TurnEnd) => void)[] | undefined;
};

/** The caller may use this bot, as far as the caller is less than the user (`only` of Wanted). */
export const allows = (only: ReadonlySet<string> | undefined, botId: string): boolean => !only || only.has(botId);

/** The list of a turn that has nothing in it, which is nearly every one. */
export const NONE: never[] = [];
Object.freeze(NONE);

/** `list` with one more: the same list, or the first of its own. */
export const added = <T>(list: T[], item: T): T[] => {
  if (list === NONE) return [item];
  list.push(item);
  return list;
};

/** The text begins anew: from here on readers that hold the old one are given a replacement. */
export const newGeneration = (turn: Turn): void => {
  turn.generation += turn.leap;
  turn.leap = 1;
};

/** What readers may see of the text from `from` on. */
export const textFrom = (turn: Pick<Turn, "text" | "visible" | "tail" | "tailFrom">, from: number): string =>
  from === turn.tailFrom ? turn.tail : turn.text.slice(from, turn.visible);

/** Files of it are on their way to disk. */
export const isStoring = (turn: Turn): boolean => turn.storing !== undefined && turn.storing.size > 0;

/** Resolves with its end. Nothing is made for turns nobody waits for, which are those that stream. */
export const whenEnded = (turn: Turn): Promise<TurnEnd> =>
  turn.ended
    ? Promise.resolve(turn.ended)
    : new Promise((resolve) => {
        if (turn.waiters) turn.waiters.push(resolve);
        else turn.waiters = [resolve];
      });

/** Lets go of all who wait for the end. */
export const tellWaiters = (turn: Turn, end: TurnEnd): void => {
  const { waiters } = turn;
  turn.waiters = undefined;
  for (const resolve of waiters ?? []) resolve(end);
};
