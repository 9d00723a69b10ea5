/**
 * A reader of one turn: what it holds, and what it is sent next. Works on one reader at a time; streams.ts keeps the sets.
 *
 * What must stay true: the ids count the text a reader holds; the last chunk, and only it, says done; `start` once and first.
 */
import { ERRORS, Reject, type ErrorCode, type TurnEvent, type UserEvent } from "../protocol.ts";
import { cancel, EMPTY, end, pull, write, type Sse, type SseInit } from "../sse.ts";
import { textFrom, type Turn } from "../turn.ts";

/** Catching up and snapshots go out in slices of this many characters, so one reader never holds a megabyte in its socket. */
export const SLICE = 256 * 1024;

export type After = { generation: number; offset: number };
export type Access = {
  user: string;
  access: string;
  /** Bots it may ask and is told of when they come and go, where those are less than the user's (API keys). */
  only: ReadonlySet<string> | undefined;
  lang: "zh" | "en";
  /** Called once, when the stream is closed. */
  release: () => void;
};

/** The part of a turn a reader needs; ended turns are replayed from their stored message in the same shape. */
export type Readable = Pick<
  Turn,
  | "id"
  | "key"
  | "user"
  | "conversationKey"
  | "botId"
  | "botName"
  | "generation"
  | "text"
  | "visible"
  | "tail"
  | "tailFrom"
  | "attachments"
  | "activity"
  | "ended"
  | "readers"
>;

/** How a reader of one kind is told what happens. An empty text: nothing. */
export type Dialect = {
  /** The same bytes serve every reader that holds the same text. */
  shared: boolean;
  start: (turn: Readable) => string;
  chunk: (generation: number, upto: number, content: string, done: boolean) => string;
  replace: (generation: number, upto: number, content: string) => string;
  attachment: (attachment: Readable["attachments"][number]) => string;
  activity: (activity: NonNullable<Readable["activity"]>) => string;
  end: (turn: Readable, lang: "zh" | "en") => string;
};

export type TurnReader = Sse & {
  lang: "zh" | "en";
  /** Of the same turn. */
  next: TurnReader | undefined;
  /** Something was written, or will be at once. */
  greeted: boolean;
  dialect: Dialect;
  turn: Readable;
  generation: number;
  offset: number;
  started: boolean;
  /** The list of files it was sent from: another attempt has another one. */
  files: Readable["attachments"];
  filesSent: number;
};

/**
 * A reader that nothing was sent to yet, which holds `after`. In one literal, with the fields of sseFields written again: spread
 * into another object they took a second piece of memory for each held stream.
 */
export const newTurnReader = (
  init: SseInit,
  turn: Readable,
  dialect: Dialect,
  lang: "zh" | "en",
  after: After | undefined,
): TurnReader => ({
  type: "direct",
  pull,
  cancel,
  user: init.user,
  access: init.access,
  release: init.release,
  owner: init.owner,
  older: undefined,
  newer: undefined,
  controller: undefined,
  resolve: undefined,
  queue: EMPTY,
  queued: 0,
  blocked: false,
  blockedAt: 0,
  wroteAt: init.owner.now(),
  sent: 0,
  endsAt: init.endsAt,
  closed: false,
  lang,
  next: turn.readers,
  greeted: after === undefined,
  dialect,
  turn,
  generation: after?.generation ?? 0,
  offset: after?.offset ?? 0,
  started: after !== undefined,
  files: turn.attachments,
  filesSent: 0,
});

export const event = (value: TurnEvent | UserEvent, id?: string): string =>
  `${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(value)}\n\n`;

const chunkEvent = (generation: number, upto: number, content: string, done: boolean): string =>
  `id: ${generation}:${upto}\ndata: {"type":"chunk","content":${JSON.stringify(content)},"done":${done}}\n\n`;

/** Reads `g:n`; undefined for "from the beginning". Throws Reject for anything else. */
export const parseAfter = (text: string | null): After | undefined => {
  if (text === null || text === "" || text === "0") return undefined;
  const match = /^(\d{1,9}):(\d{1,9})$/.exec(text);
  if (!match)
    throw new Reject("bad_request", {
      zh: "Last-Event-ID 应为 generation:offset",
      en: "Last-Event-ID: generation:offset",
    });
  const after = { generation: Number(match[1]), offset: Number(match[2]) };
  return after.generation === 0 && after.offset === 0 ? undefined : after;
};

type TurnError = NonNullable<NonNullable<Turn["ended"]>["error"]>;

/** What a person is told of a turn that failed. */
export const errorSentence = (error: TurnError, lang: "zh" | "en"): string => {
  const say = ERRORS[error.code as ErrorCode] as { zh: string; en: string } | undefined;
  return error.message || (say ? say[lang] : error.code);
};

const errorEvent = (error: TurnError, lang: "zh" | "en"): string =>
  event({ type: "error", error: errorSentence(error, lang), code: error.code, retryable: error.retryable });

const startEvent = (turn: Readable): string =>
  event(
    {
      type: "start",
      botId: turn.botId!,
      botName: turn.botName ?? turn.botId!,
      turnId: turn.key,
      conversationId: turn.conversationKey,
      messageId: turn.key,
    },
    "0:0",
  );

/** The events of docs/protocol.md. */
export const NATIVE: Dialect = {
  shared: true,
  start: startEvent,
  chunk: chunkEvent,
  replace: (generation, upto, content) => event({ type: "replace", content }, `${generation}:${upto}`),
  attachment: (attachment) => event({ type: "attachment", attachment }),
  activity: (activity) => event({ type: "activity", ...activity }),
  end: ({ ended }, lang) =>
    ended!.error ? errorEvent(ended!.error, lang) : event({ type: "end", finish: ended!.finish }),
};

const say = (reader: TurnReader, text: string, at: number): void => {
  if (text !== "") write(reader, text, at);
};

/** Text the reader lacks, one slice at a time. False when it holds all there is. */
const pumpText = (reader: TurnReader, at: number): boolean => {
  const { turn } = reader;
  // Who holds nothing has nothing to be replaced.
  if (reader.offset === 0) reader.generation = turn.generation;
  const replaced = reader.generation !== turn.generation;
  // After a restart a reader may hold more than was stored; the bot sends it again, so it waits. Only a turn that ends
  // shorter takes text back.
  const ahead = reader.offset > turn.visible && turn.ended !== undefined;
  if (!replaced && !ahead && reader.offset >= turn.visible) return false;
  const from = replaced || ahead ? 0 : reader.offset;
  const upto = Math.min(turn.visible, from + SLICE);
  const content = turn.text.slice(from, upto);
  const last = turn.ended !== undefined && upto === turn.visible;
  reader.generation = turn.generation;
  reader.offset = upto;
  const closing = last && !turn.ended?.error;
  if (replaced || ahead) say(reader, reader.dialect.replace(turn.generation, upto, content), at);
  else say(reader, reader.dialect.chunk(turn.generation, upto, content, closing), at);
  if (closing && !replaced && !ahead) finish(reader, at);
  return true;
};

/** Attachments, then `end` or `error`, then the end of the body. The last chunk has been written. */
const finish = (reader: TurnReader, at: number): void => {
  pumpFiles(reader, at);
  say(reader, reader.dialect.end(reader.turn, reader.lang), at);
  end(reader);
};

const pumpFiles = (reader: TurnReader, at: number): void => {
  if (reader.files !== reader.turn.attachments) {
    reader.files = reader.turn.attachments;
    reader.filesSent = 0;
  }
  for (; reader.filesSent < reader.turn.attachments.length; reader.filesSent++)
    say(reader, reader.dialect.attachment(reader.turn.attachments[reader.filesSent]!), at);
};

export const pumpTurn = (reader: TurnReader, at: number): void => {
  const { turn } = reader;
  if (reader.closed || reader.blocked || !reader.controller) return;
  if (!reader.started) {
    if (turn.botId === undefined && !turn.ended) {
      if (turn.activity) say(reader, reader.dialect.activity(turn.activity), at);
      return;
    }
    reader.started = true;
    if (turn.botId !== undefined) say(reader, reader.dialect.start(turn), at);
  }
  if (!turn.ended) pumpFiles(reader, at);
  while (!reader.closed && !reader.blocked && pumpText(reader, at));
  if (reader.closed || reader.blocked || !turn.ended) return;
  if (!turn.ended.error) say(reader, reader.dialect.chunk(turn.generation, turn.visible, "", true), at);
  finish(reader, at);
};

/** The common case: a reader that keeps up gets the same bytes as all the others. */
export const pumpShared = (turn: Readable, first: TurnReader | undefined, at: number): void => {
  let from = -1;
  let bytes = "";
  for (let reader = first, next: TurnReader | undefined; reader; reader = next) {
    next = reader.next; // one that is cut leaves the list
    const plain =
      reader.dialect.shared &&
      reader.started &&
      !turn.ended &&
      !reader.blocked &&
      !reader.closed &&
      reader.controller !== undefined &&
      reader.generation === turn.generation &&
      reader.files === turn.attachments &&
      reader.filesSent === turn.attachments.length &&
      turn.visible - reader.offset <= SLICE &&
      turn.visible > reader.offset;
    if (!plain) {
      pumpTurn(reader, at);
      continue;
    }
    if (reader.offset !== from) {
      from = reader.offset;
      bytes = chunkEvent(turn.generation, turn.visible, textFrom(turn, from), false);
    }
    reader.offset = turn.visible;
    write(reader, bytes, at);
  }
};
