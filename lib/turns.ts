/**
 * The heart: a question and the reply being produced for it, from its start to its one end.
 *
 * Owns the roster of open turns; only this file and turns/ change a turn. What must stay true: the question is committed before
 * a bot sees it and before anyone is told it was accepted; every turn ends, once, as done, failed or cancelled; the end is
 * told only after it is stored; a bot writes only to turns it was given. Refuses to speak HTTP.
 *
 * turns/starts.ts begins, dispatch.ts hands over, replies.ts hears the bot, ends.ts ends, recover.ts goes on after a restart.
 */
import type { Bots, Connection } from "./bots.ts";
import type { Config } from "./config.ts";
import type { Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";
import type { People } from "./people.ts";
import type { EventFrame, ReplyFrame } from "./protocol.ts";
import type { Quota } from "./quota.ts";
import { createRoster } from "./roster.ts";
import type { Store } from "./store.ts";
import type { Streams } from "./streams.ts";
import { tellWaiters, type Turn } from "./turn.ts";
import { createAsks } from "./turns/ask.ts";
import type { Core } from "./turns/core.ts";
import { createDispatch, type Dispatch } from "./turns/dispatch.ts";
import { createEnds, type Ends } from "./turns/ends.ts";
import { createPublisher } from "./turns/publish.ts";
import { recoverTurns } from "./turns/recover.ts";
import { createReplies } from "./turns/replies.ts";
import { createStarts } from "./turns/starts.ts";
import { createTextLog } from "./turns/textlog.ts";

/** However it goes, a turn is over after this long. */
const TOTAL_MS = 60 * 60_000;

export const createTurns = (deps: {
  config: () => Config;
  store: Store;
  people: People;
  bots: () => Bots;
  streams: Streams;
  quota: Quota;
  metrics: Pick<Metrics, "firstChunk" | "turnEnded">;
  log: Log;
  now: () => number;
}) => {
  const { config, store, people, bots, streams, log, now } = deps;
  const open = createRoster<Turn>();
  const countByUser = new Map<string, number>();

  const hold = (user: string): void => {
    countByUser.set(user, (countByUser.get(user) ?? 0) + 1);
  };
  const unhold = (user: string): void => {
    const left = (countByUser.get(user) ?? 1) - 1;
    if (left === 0) countByUser.delete(user);
    else countByUser.set(user, left);
  };

  const core: Core = {
    ...deps,
    open,
    countOf: (user) => countByUser.get(user) ?? 0,
    hold,
    unhold,
    remember: (turn) => {
      open.set(turn.id, turn);
    },
    forget: (turn) => {
      if (open.delete(turn.id)) unhold(turn.user);
    },
    asks: createAsks(store, people),
    publish: createPublisher({ store, streams }),
    textLog: createTextLog({ store, bots, log }),
  };
  const ends: Ends = createEnds(core, () => dispatch);
  const dispatch: Dispatch = createDispatch(core, ends.finish);
  const { start } = createStarts(core, dispatch);
  const { onReply, onEvent, accept } = createReplies(core, dispatch, ends);
  const { finish, fail, tellCancel } = ends;

  const sweepTurn = (turn: Turn, at: number): void => {
    if (turn.ending) ends.retry(turn, at);
    else if (at - turn.beganAt > TOTAL_MS) {
      tellCancel(turn, "timeout");
      fail(turn, "turn_timeout", true);
    } else if (turn.orphanedUntil !== undefined) {
      if (at >= turn.orphanedUntil) dispatch.expire(turn);
    } else if (at - turn.frameAt > config().turnTimeout) {
      tellCancel(turn, "timeout");
      fail(turn, turn.state === "queued" ? "bot_busy" : "turn_timeout", true);
    }
  };

  return {
    start,
    get: (id: number): Turn | undefined => open.get(id),
    all: (): Iterable<Turn> => open.values(),
    openOf: (user: string): Turn[] => open.values().filter((turn) => turn.user === user),
    openIn: (conversation: number): Turn[] => open.values().filter((turn) => turn.conversation === conversation),
    count: (): number => open.size,
    queued: dispatch.queued,

    /** Stops it; the partial text is kept. */
    cancel: (turn: Turn): void => {
      if (turn.ending) return;
      tellCancel(turn, "user");
      finish(turn, { state: "cancelled", finish: "cancelled" });
    },

    /** A reply, event or ack of a bot for an open turn. False when this connection does not hold it. */
    frame: (
      connection: Connection,
      frame: ReplyFrame | EventFrame | { type: "ack"; id: string },
      turn: Turn,
    ): boolean => {
      // While the end is being stored its bot may still be talking; nothing of that counts.
      if (turn.ending) return turn.botId === connection.botId;
      if (turn.connection !== connection) return false;
      if (frame.type === "reply") onReply(turn, connection, frame);
      else if (frame.type === "event") onEvent(turn, frame);
      else accept(turn);
      return true;
    },

    pending: dispatch.takeBack,
    joined: (connection: Connection, replaced: Connection | undefined): void => dispatch.returned(connection, replaced),
    left: (connection: Connection): void => {
      for (const turn of open.values()) if (turn.connection === connection) dispatch.lost(turn, connection);
    },
    roomChanged: dispatch.roomChanged,
    leave: dispatch.leave,

    /** Open turns of the run before: those of v2 bots wait for them, those of v1 bots fail with their partial text. */
    recover: (): void =>
      recoverTurns(core, {
        wait: (turn) => {
          streams.touch(turn);
        },
        requeue: (turn) => dispatch.place(turn),
        fail: (turn) => fail(turn, "bot_disconnected", true),
      }),

    publish: core.publish,
    /** Deadlines; call it about once a second. */
    sweep: (): void => {
      const at = now();
      for (const turn of open.values()) sweepTurn(turn, at);
    },
    /**
     * For the end of the process: stores what was said so far, and lets go of callers that wait for an end. The turns stay
     * open on disk and go on after the next start.
     */
    stop: async (): Promise<void> => {
      await core.textLog.stop();
      const error = { code: "shutting_down", message: "", retryable: true };
      for (const turn of open.values()) tellWaiters(turn, { state: "failed", finish: "stop", error });
    },
  };
};

export type Turns = ReturnType<typeof createTurns>;
