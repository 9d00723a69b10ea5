/**
 * Text of open turns on its way to disk: in batches of 250 ms or 4 KB, acked to v2 bots once committed.
 *
 * A chunk has gone to its readers before it comes here; only `ack` waits. What must stay true: an ack never names a seq
 * whose text would not survive a kill.
 */
import type { Bots, Connection } from "../bots.ts";
import type { Log } from "../log.ts";
import type { Store } from "../store.ts";
import type { Turn } from "../turn.ts";

/** PROTOCOL 9: the most that a kill can cost a v1 bot's reader. */
const BATCH_MS = 250;
const BATCH_CHARS = 4096;

export const createTextLog = (deps: { store: Store; bots: () => Bots; log: Log }) => {
  const { store, bots, log } = deps;
  const dirty = new Set<Turn>();
  let timer: ReturnType<typeof setTimeout> | undefined;

  const ack = (turn: Turn, connection: Connection): void => {
    if (!connection.caps.has("ack") || connection.gone) return;
    bots().send(connection, {
      type: "ack",
      replyTo: turn.key,
      seq: turn.ended || turn.ending ? turn.seq : turn.storedSeq,
    });
  };

  const flush = async (): Promise<void> => {
    clearTimeout(timer);
    timer = undefined;
    if (dirty.size === 0) return;
    const turns = [...dirty].filter((turn) => !turn.ending);
    dirty.clear();
    const batch = turns.map((turn) => {
      const text = turn.unlogged;
      turn.unlogged = "";
      return { turn: turn.id, generation: turn.generation, seq: turn.seq, text };
    });
    try {
      await store.turns.log(batch);
    } catch (error) {
      log("error", "text_not_stored", { turns: batch.length, error: String(error) });
      batch.forEach(({ text, generation }, i) => {
        const turn = turns[i]!;
        if (turn.generation === generation) turn.unlogged = text + turn.unlogged;
        add(turn, "");
      });
      return;
    }
    turns.forEach((turn, i) => {
      if (turn.generation === batch[i]!.generation) turn.storedSeq = Math.max(turn.storedSeq, batch[i]!.seq);
      if (turn.connection?.proto === 2 && !turn.ending && turn.storedSeq > 0) ack(turn, turn.connection);
    });
  };

  /** `text`: what was appended; undefined: the whole text is new (a replacement). */
  const add = (turn: Turn, text: string | undefined): void => {
    turn.unlogged = text === undefined ? turn.text : turn.unlogged + text;
    dirty.add(turn);
    if (turn.unlogged.length >= BATCH_CHARS) void flush();
    else timer ??= setTimeout(() => void flush(), BATCH_MS);
  };

  return { add, ack, flush };
};

export type TextLog = ReturnType<typeof createTextLog>;
