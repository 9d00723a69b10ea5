/**
 * Text of open turns on its way to disk: in batches of 250 ms or 4 KB, acked to v2 bots once committed.
 *
 * A chunk has gone to its readers before it comes here; only `ack` waits. What must stay true: an ack never names a seq
 * whose text or files would not survive a kill; batches reach the disk in the order of the text, also when one is refused
 * (so one at a time).
 */
import type { Bots, Connection } from "../bots.ts";
import type { Log } from "../log.ts";
import { createRoster } from "../roster.ts";
import type { Store } from "../store.ts";
import { isStoring, type Turn } from "../turn.ts";

/** PROTOCOL 9: the most that a kill can cost a v1 bot's reader. */
const BATCH_MS = 250;
/**
 * A round of many turns goes in slices, each a commit: at 300 streams one commit for all stood 1.5 to 9 ms in the way of
 * everybody's chunks, every quarter of a second.
 */
const SLICES = 5;
const SLICE_TURNS = 32;
const SLICE_MS = 10;
const ROUND_MS = BATCH_MS - SLICES * SLICE_MS;
const BATCH_CHARS = 4096;
/** After a refusal (disk full): often enough to go on soon, seldom enough to leave the log readable. */
const RETRY_MS = 2_000;

type Batch = { turn: Turn; attempt: number; generation: number; seq: number; text: string };

export const createTextLog = (deps: { store: Store; bots: () => Bots; log: Log }) => {
  const { store, bots, log } = deps;
  const dirty = createRoster<Turn>();
  /** What is left of those that are written now. */
  let round: Turn[] = [];
  let slice = SLICE_TURNS;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let writing: Promise<void> | undefined;
  let refused = false;
  let stopped = false;

  const ack = (turn: Turn, connection: Connection): void => {
    if (!connection.caps.has("ack") || connection.gone) return;
    bots().send(connection, { type: "ack", replyTo: turn.key, seq: turn.ending ? turn.seq : turn.storedSeq });
  };

  /** What may be written now. A turn whose files are still on their way stays; it is added again when they are there. */
  const take = (): Batch[] => {
    const batch: Batch[] = [];
    if (round.length === 0) {
      round = dirty.values();
      slice = Math.max(SLICE_TURNS, Math.ceil(round.length / SLICES));
    }
    for (const turn of round.splice(0, slice)) {
      if (!dirty.has(turn.id) || (isStoring(turn) && !turn.ending)) continue;
      dirty.delete(turn.id);
      if (turn.ending) continue; // its end holds the whole text
      batch.push({
        turn,
        attempt: turn.attempt,
        generation: turn.generation,
        seq: turn.seq,
        text: turn.unlogged,
      });
      turn.unlogged = "";
    }
    return batch;
  };

  const later = (): void => {
    if (!stopped) timer ??= setTimeout(() => void flush(), refused ? RETRY_MS : round.length > 0 ? SLICE_MS : ROUND_MS);
  };

  const stored = ({ turn, attempt, generation, seq }: Batch): void => {
    if (turn.attempt !== attempt) return; // another bot has it by now
    if (turn.generation === generation) turn.storedSeq = Math.max(turn.storedSeq, seq);
    if (turn.connection && !turn.ending && turn.storedSeq > 0) ack(turn, turn.connection);
  };

  const write = async (): Promise<void> => {
    const batch = take();
    if (batch.length === 0) return;
    try {
      await store.turns.log(batch.map(({ turn, generation, seq, text }) => ({ turn: turn.id, generation, seq, text })));
      refused = false;
    } catch (error) {
      refused = true;
      log("error", "text_not_stored", { turns: batch.length, error: String(error) });
      for (const { turn, attempt, generation, text } of batch) {
        if (turn.attempt === attempt && turn.generation === generation) turn.unlogged = text + turn.unlogged;
        dirty.set(turn.id, turn);
      }
      return;
    }
    batch.forEach(stored);
  };

  /** Writes what waits; while a batch is on its way, what comes meanwhile waits for the next. */
  const flush = (): Promise<void> => {
    clearTimeout(timer);
    timer = undefined;
    writing ??= write().finally(() => {
      writing = undefined;
      if (round.length > 0 || dirty.values().some((turn) => !isStoring(turn))) later();
    });
    return writing;
  };

  /** `text`: what was appended; undefined: the whole text is new (a replacement). */
  const add = (turn: Turn, text: string | undefined): void => {
    if (turn.unlogged === "") dirty.set(turn.id, turn); // with text that waits it is there already
    turn.unlogged = text === undefined ? turn.text : turn.unlogged + text;
    const large = turn.unlogged.length >= BATCH_CHARS && !isStoring(turn);
    if (large && writing === undefined && !refused) void flush();
    else later();
  };

  return {
    add,
    /** It has begun to end, and its end holds the whole text. Kept until the next batch, turns would outlive a collection. */
    forget: (turn: Turn): void => {
      dirty.delete(turn.id);
    },
    ack,
    flush,
    /** The last of it, and nothing after. */
    stop: async (): Promise<void> => {
      stopped = true;
      await writing;
      do await flush();
      while (round.length > 0 && !refused);
    },
  };
};

export type TextLog = ReturnType<typeof createTextLog>;
