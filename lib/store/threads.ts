/**
 * Which messages a conversation over /v1 consists of, as digests: one row per question, written in the commit of its turn.
 * Refuses to compare texts: lib/openai/threads.ts decides what is the same conversation.
 */
import type { StoreBase } from "./base.ts";

export type ThreadKeys = {
  /** Digest of the caller and every message up to the question. */
  whole: string;
  /** Digest of the caller and the last exchange up to the question; null when there was none before it. */
  tail: string | null;
  /** Digest of the system prompt. */
  system: string;
};

/** A question with these digests, and where its conversation stands now. */
export type ThreadRow = {
  turn: number;
  question: number;
  system: string;
  said: string | null;
  conversation: number;
  leaf: number | null;
  /** Whose the conversation is, and who was asked: a bot, or (target null) a pool. */
  bot: string | null;
  target: string | null;
  pool: string;
};

/** Chats that begin alike ("hello") share a digest; the newest of them are enough to look at. */
const MOST = 100;

export const createThreadStore = ({ db, write }: StoreBase) => {
  const select = `SELECT th.turn, t.question, th.system, th.said, t.conversation, c.leaf, c.bot, t.target, t.pool FROM threads th
    JOIN turns t ON t.id = th.turn JOIN conversations c ON c.id = t.conversation
    WHERE c.deleted_at IS NULL AND`;
  const newest = `ORDER BY th.turn DESC LIMIT ${MOST}`;
  const byWhole = db.prepare<ThreadRow, [string]>(`${select} th.whole = ? ${newest}`);
  const byTail = db.prepare<ThreadRow, [string]>(`${select} th.tail = ? ${newest}`);
  const byTurn = db.prepare<ThreadRow, [number]>(`${select} th.turn = ?`);
  const putSaid = db.prepare("UPDATE threads SET said = ? WHERE turn = ?");

  return {
    /** Newest first. */
    byWhole: (digest: string): ThreadRow[] => byWhole.all(digest),
    byTail: (digest: string): ThreadRow[] => byTail.all(digest),
    ofTurn: (turn: number): ThreadRow | undefined => byTurn.get(turn) ?? undefined,
    /** The caller got another text than the one that is stored. */
    said: (turn: number, digest: string): Promise<void> =>
      write(() => {
        putSaid.run(digest, turn);
      }),
  };
};

export type ThreadStore = ReturnType<typeof createThreadStore>;
