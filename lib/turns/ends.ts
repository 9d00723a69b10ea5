/**
 * How a turn ends: once, stored before anyone is told, acked to its bot, tried again when the disk refused.
 */
import type { Connection } from "../bots.ts";
import { Reject } from "../protocol.ts";
import type { Store } from "../store.ts";
import { tellWaiters, type Turn, type TurnEnd } from "../turn.ts";
import type { Core } from "./core.ts";
import type { Dispatch } from "./dispatch.ts";

/** Storing an end that failed (disk full) is tried again this often, with the answer kept in memory. */
const RETRY_END_MS = 5_000;

export const createEnds = (
  { store, bots, streams, metrics, log, now, forget, publish, textLog }: Core,
  dispatch: () => Dispatch,
) => {
  /** When to try again; Infinity: being tried. */
  const refused = new Map<Turn, number>();

  const finish = (turn: Turn, end: TurnEnd): void => {
    if (turn.ending) return;
    turn.ending = end;
    turn.state = end.state;
    textLog.forget(turn);
    dispatch().forget(turn);
    dispatch().release(turn);
    void storeEnd(turn, end);
  };

  /** Its bot as it is connected now: it may have gone and come back while the disk refused. */
  const botOf = (turn: Turn): Connection | undefined =>
    turn.botId === undefined || turn.proto !== 2 ? undefined : bots().find(turn.botId, turn.instance);

  const over = (turn: Turn, end: TurnEnd): void => {
    refused.delete(turn);
    forget(turn);
    turn.visible = turn.text.length;
    turn.ended = end;
    streams.touch(turn);
    tellWaiters(turn, end);
    metrics.turnEnded(end.state, now() - turn.beganAt, turn.bytes);
  };

  const notStored = (turn: Turn, error: unknown): void => {
    if (error instanceof Reject && error.code === "shutting_down") return; // it goes on after the next start
    log("error", "end_not_stored", { turn: turn.key, error: String(error) });
    if (error instanceof Reject) {
      refused.set(turn, now() + RETRY_END_MS);
      return;
    }
    // Not the disk, so trying again would not help: nobody is left waiting, and a restart takes it up once more.
    over(turn, { state: "failed", finish: "stop", error: { code: "internal", message: "", retryable: false } });
    publish.unstored(turn, "internal");
  };

  const storeEnd = async (turn: Turn, end: TurnEnd): Promise<void> => {
    if (turn.storing && turn.storing.size > 0) await Promise.allSettled(turn.storing);
    let stored: Awaited<ReturnType<Store["turns"]["end"]>>;
    try {
      stored = await store.turns.end({
        id: turn.id,
        user: turn.user,
        conversation: turn.conversation,
        question: turn.question,
        createdAt: turn.createdAt,
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
      return notStored(turn, error);
    }
    const bot = botOf(turn);
    if (bot) textLog.ack(turn, bot);
    over(turn, end);
    publish.message(turn.user, stored.row, stored.conversation);
    log(end.state === "failed" ? "info" : "debug", "turn_ended", {
      turn: turn.key,
      request: turn.requestId,
      user: turn.user,
      bot: turn.botId,
      state: end.state,
      error_code: end.error?.code,
      chars: turn.text.length,
      ms: now() - turn.beganAt,
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
      const due = refused.get(turn);
      if (due === undefined || at < due || !turn.ending) return;
      refused.set(turn, Infinity);
      void storeEnd(turn, turn.ending);
    },
  };
};

export type Ends = ReturnType<typeof createEnds>;
