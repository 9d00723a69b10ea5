/**
 * The text of open turns: appended in batches, read back after a restart, pruned once the turns are folded into messages.
 * What must stay true: what is read back is exactly what was appended, in order, of the last generation. A piece of text
 * carries its seq and generation; the turn's own row says them only for what has no text (it was taken, or begins anew).
 */
import type { StoreBase } from "./base.ts";

export type ChunkBatch = { turn: number; generation: number; seq: number; text: string };

/**
 * A bot may cut a character in two (an emoji is two UTF-16 units), and SQLite keeps only whole ones: such a piece is kept as
 * JSON behind a mark, so that the halves meet again.
 */
const MARK = "\u0001";
const toStored = (text: string): string =>
  text.isWellFormed() && !text.startsWith(MARK) ? text : MARK + JSON.stringify(text);
const fromStored = (text: string): string =>
  text.startsWith(MARK) ? (JSON.parse(text.slice(MARK.length)) as string) : text;

/** Rows dropped in one commit: a few milliseconds. */
const PRUNE_ROWS = 1000;

export const createChunkLog = ({ db, write }: Pick<StoreBase, "db" | "write">) => {
  const insertChunk = db.prepare("INSERT INTO chunks (turn, generation, seq, text) VALUES (?, ?, ?, ?)");
  const turnSeq = db.prepare("UPDATE turns SET seq = ?, generation = ?, state = 'streaming' WHERE id = ?");
  const chunksOf = db.prepare<{ generation: number; seq: number; text: string }, [number]>(
    "SELECT generation, seq, text FROM chunks WHERE turn = ? ORDER BY id",
  );
  // From the front to the first chunk of an open turn; CROSS JOIN keeps that order, so the walk ends there.
  const pruneChunks = db.prepare(
    `DELETE FROM chunks WHERE id < (SELECT min(id) FROM chunks) + ? AND id < coalesce(
       (SELECT c.id FROM chunks c CROSS JOIN turns t ON t.id = c.turn WHERE t.ended_at IS NULL
          AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = t.id) ORDER BY c.id LIMIT 1), 9e18)`,
  );

  return {
    /** Text that arrived since the last batch; resolves once it would survive a kill. */
    log: (batch: ChunkBatch[]): Promise<void> =>
      write(() => {
        for (const { turn, generation, seq, text } of batch) {
          if (text !== "") insertChunk.run(turn, generation, seq, toStored(text));
          else turnSeq.run(seq, generation, turn);
        }
      }),

    /** What was stored of a turn's reply, and the row as its newest piece says it. */
    replyOf: <R extends { id: number; generation: number; seq: number; state: string }>(
      row: R,
    ): { row: R; text: string } => {
      const all = chunksOf.all(row.id);
      const generation = all.reduce((newest, chunk) => Math.max(newest, chunk.generation), row.generation);
      const current = all.filter((chunk) => chunk.generation === generation);
      const last = current.at(-1);
      if (!last) return { row, text: "" };
      return {
        row: {
          ...row,
          generation,
          seq: Math.max(row.generation === generation ? row.seq : 0, last.seq),
          state: "streaming",
        },
        text: current.map((chunk) => fromStored(chunk.text)).join(""),
      };
    },

    /** Drops the chunks of ended turns. Append-only and pruned from the front: cheaper than deleting per turn. */
    prune: async (): Promise<void> => {
      while ((await write(() => pruneChunks.run(PRUNE_ROWS).changes)) > 0);
    },
  };
};
