/**
 * How a turn ends: once, stored before anyone is told, acked to its bot, tried again when the disk refused.
 */
import type { Connection } from "../bots.ts";
import type { Store } from "../store.ts";
import type { Turn, TurnEnd } from "../turn.ts";
import type { Core } from "./core.ts";
import type { Dispatch } from "./dispatch.ts";

/** Storing an end that failed (disk full) is tried again this often, with the answer kept in memory. */
const RETRY_END_MS = 5_000;

export const createEnds = (
  { store, bots, streams, log, now, forget, publish, textLog }: Core,
  dispatch: () => Dispatch,
) => {
  const failedEnds = new Map<Turn, { at: number; connection: Connection | undefined }>();

  const finish = (turn: Turn, end: TurnEnd): void => {
    if (turn.ending) return;
    turn.ending = end;
    turn.state = end.state;
    const { connection } = turn;
    dispatch().forget(turn);
    dispatch().release(turn);
    void storeEnd(turn, end, connection);
  };

  const storeEnd = async (turn: Turn, end: TurnEnd, connection: Connection | undefined): Promise<void> => {
    if (turn.storing.length > 0) await Promise.allSettled(turn.storing);
    let stored: Awaited<ReturnType<Store["turns"]["end"]>>;
    try {
      stored = await store.turns.end({
        id: turn.id,
        state: end.state,
        bot: turn.botId ?? null,
        botName: turn.botName ?? null,
        content: turn.text,
        files: turn.files,
        error: end.error ?? null,
        usage: turn.usage ?? null,
        seq: turn.seq,
        generation: turn.generation,
        silent: end.finish === "silent" && turn.text === "" && turn.files.length === 0,
      });
    } catch (error) {
      log("error", "end_not_stored", { turn: turn.key, error: String(error) });
      failedEnds.set(turn, { at: now() + RETRY_END_MS, connection });
      return;
    }
    failedEnds.delete(turn);
    forget(turn);
    if (connection && turn.proto === 2) textLog.ack(turn, connection);
    turn.visible = turn.text.length;
    turn.ended = end;
    streams.touch(turn);
    publish.message(turn.user, stored.row, stored.conversation);
    turn.whenEnded.resolve(end);
    log(end.state === "failed" ? "info" : "debug", "turn_ended", {
      turn: turn.key,
      user: turn.user,
      bot: turn.botId,
      state: end.state,
      error_code: end.error?.code,
      chars: turn.text.length,
      ms: now() - turn.createdAt,
    });
  };

  const tellCancel = (turn: Turn, reason: "user" | "timeout" | "failover"): void => {
    const { connection } = turn;
    if (connection?.caps.has("cancel")) bots().send(connection, { type: "cancel", id: turn.key, reason });
  };

  const fail = (turn: Turn, code: string, retryable: boolean, message = ""): void =>
    finish(turn, { state: "failed", finish: "stop", error: { code, message, retryable } });

  return {
    finish,
    fail,
    tellCancel,
    /** An end the disk refused: once more, when it is time. */
    retry: (turn: Turn, at: number): void => {
      const failed = failedEnds.get(turn);
      if (!failed || at < failed.at || !turn.ending) return;
      failed.at = Infinity;
      void storeEnd(turn, turn.ending, failed.connection);
    },
  };
};

export type Ends = ReturnType<typeof createEnds>;
