/**
 * Giving turns to bots: choose, deliver, queue, fail over, take back.
 *
 * Owns the queue and the link between a turn and its connection. What must stay true: a turn is counted in exactly one
 * connection's inFlight or waits in the queue or is an orphan; another bot gets it only before the first accepted it.
 */
import { choose, type Choice } from "../balance.ts";
import type { Connection } from "../bots.ts";
import type { Turn, TurnEnd } from "../turn.ts";
import type { Core } from "./core.ts";

/** A v2 bot has this long to come back to its turns; it covers its backoff and a restart of either side. */
export const GRACE_V2_MS = 60_000;
/** A v1 bot cannot say where it was; a flicker of its network is all that can be mended. */
export const GRACE_V1_MS = 2_000;
/** A v1 bot that went within this time of being asked, without a chunk, has not begun. */
const V1_UNSEEN_MS = 1_000;

export type Dispatch = ReturnType<typeof createDispatch>;

/** `finish` ends a turn; it belongs to ends.ts. */
export const createDispatch = (
  { config, store, bots, streams, asks, log, now, open }: Core,
  finish: (turn: Turn, end: TurnEnd) => void,
) => {
  let queue: Turn[] = [];
  let draining = false;

  const mayTake = (turn: Pick<Turn, "user" | "wanted">, one: Connection): boolean =>
    bots().mayUse(turn.user, one.botId) && (!turn.wanted.only || turn.wanted.only.has(one.botId));

  const pick = (turn: Pick<Turn, "user" | "wanted">, except?: Connection): Choice<Connection> => {
    const { target, pool, sticky } = turn.wanted;
    return choose(
      bots().connections(),
      { ...(target !== undefined && { bot: target }), pool, ...(sticky !== undefined && { sticky }) },
      (one) => one !== except && mayTake(turn, one),
    );
  };

  /** Counts the turn in the connection. Before any await, so that two choices never see the same free place. */
  const reserve = (turn: Turn, connection: Connection): void => {
    connection.inFlight++;
    turn.connection = connection;
    turn.botId = connection.botId;
    turn.botName = connection.name;
    turn.instance = connection.instance;
    turn.proto = connection.proto;
    turn.orphanedUntil = undefined;
  };

  const release = (turn: Turn): void => {
    const { connection } = turn;
    if (!connection) return;
    turn.connection = undefined;
    connection.inFlight--;
    connection.idleSince = now();
    drainSoon();
  };

  /** The turn is reserved and stored: hand it over. */
  const deliver = (turn: Turn): void => {
    const connection = turn.connection!;
    turn.state = "sent";
    turn.attempt++;
    turn.sentAt = now();
    turn.frameAt = turn.sentAt;
    const frame = asks.frame(turn, connection);
    streams.touch(turn);
    if (typeof frame === "string") return handOver(turn, connection, frame);
    frame.then(
      (json) => handOver(turn, connection, json),
      (error: unknown) => {
        log("error", "files_unreadable", { turn: turn.key, error: String(error) });
        finish(turn, {
          state: "failed",
          finish: "stop",
          error: { code: "storage_failed", message: "", retryable: true },
        });
      },
    );
  };

  const handOver = (turn: Turn, connection: Connection, json: string): void => {
    if (turn.connection !== connection || turn.ending) return; // cancelled or moved while its files were read
    if (!bots().sendText(connection, json)) lost(turn, connection); // `left` has told us too; lost is idempotent
  };

  const persist = (turn: Turn): void => {
    store.turns
      .assign({
        id: turn.id,
        bot: turn.botId!,
        botName: turn.botName!,
        instance: turn.instance,
        proto: turn.proto,
        attempt: turn.attempt,
        generation: turn.generation,
        state: turn.state,
      })
      .catch((error: unknown) => log("error", "assign_failed", { turn: turn.key, error: String(error) }));
  };

  const enqueue = (turn: Turn): void => {
    turn.state = "queued";
    queue.push(turn);
    announce();
  };

  /** Everyone waiting learns their place, when it changed. */
  const announce = (): void => {
    queue.forEach((turn, i) => {
      if (turn.activity?.position === i + 1) return;
      turn.activity = { kind: "queued", position: i + 1 };
      streams.activity(turn, turn.activity);
    });
  };

  const drainSoon = (): void => {
    if (draining || queue.length === 0) return;
    draining = true;
    setImmediate(() => {
      draining = false;
      const waiting = queue;
      queue = [];
      for (const turn of waiting) {
        if (turn.ending) continue;
        const choice = pick(turn);
        if ("connection" in choice) give(turn, choice.connection);
        else queue.push(turn);
      }
      announce();
    });
  };

  /** To this connection, now: from the queue, as another attempt, or after a restart. */
  const give = (turn: Turn, connection: Connection): void => {
    release(turn);
    if (turn.text !== "") {
      turn.generation++;
      turn.text = "";
      turn.visible = 0;
      turn.bytes = 0;
      turn.unlogged = "";
    }
    turn.seq = 0;
    turn.storedSeq = 0;
    turn.activity = undefined;
    reserve(turn, connection);
    deliver(turn);
    persist(turn);
  };

  const began = (turn: Turn, connection: Connection): boolean =>
    turn.state !== "sent" || (connection.proto === 1 && now() - turn.sentAt > V1_UNSEEN_MS);

  /** The connection of a turn is gone. */
  const lost = (turn: Turn, connection: Connection): void => {
    if (turn.connection !== connection || turn.ending) return;
    release(turn);
    if (!began(turn, connection) || connection.caps.has("idempotent")) {
      const choice = pick(turn);
      if ("connection" in choice) {
        log("info", "turn_failover", {
          turn: turn.key,
          from: connection.botId,
          to: choice.connection.botId,
          attempt: turn.attempt + 1,
        });
        return give(turn, choice.connection);
      }
    }
    orphan(turn, connection);
  };

  /** Nobody has it; until its grace is over a bot that returns is asked again or goes on, see `returned`. */
  const orphan = (turn: Turn, connection: Connection): void => {
    turn.orphanedUntil = now() + (connection.proto === 2 ? GRACE_V2_MS : GRACE_V1_MS);
    if (turn.state === "sent" && began(turn, connection)) turn.state = "accepted";
  };

  return {
    pick,
    reserve,
    release,
    deliver,
    lost,

    /** Stored, but its connection is gone or was never there: another one, or the queue. */
    place: (turn: Turn): void => {
      const choice = pick(turn);
      if ("connection" in choice) return give(turn, choice.connection);
      release(turn);
      enqueue(turn);
    },
    queueHasRoom: (): boolean => config().limits.queuedTurns === 0 || queue.length < config().limits.queuedTurns,

    /** Not answerable here any more: another instance or bot, else false. */
    retry: (turn: Turn): boolean => {
      const before = turn.connection;
      release(turn);
      const choice = pick(turn, before);
      if (!("connection" in choice)) return false;
      if (before) bots().send(before, { type: "cancel", id: turn.key, reason: "failover" });
      give(turn, choice.connection);
      return true;
    },

    forget: (turn: Turn): void => {
      const at = queue.indexOf(turn);
      if (at < 0) return;
      queue.splice(at, 1);
      announce();
    },

    /** Accepted turns this returning session owns, for `registered.pending`. They are its own again from here on. */
    takeBack: (connection: Connection): { id: string; seq: number }[] => {
      if (!connection.resumed) return [];
      const pending: { id: string; seq: number }[] = [];
      for (const turn of open.values()) {
        if (turn.ending || turn.botId !== connection.botId || turn.instance !== connection.instance) continue;
        if (turn.state !== "accepted" && turn.state !== "streaming") continue;
        if (turn.connection && !turn.connection.gone) continue;
        release(turn);
        reserve(turn, connection);
        turn.frameAt = now();
        // What it sent since the last batch comes again and is dropped by seq.
        pending.push({ id: turn.key, seq: turn.storedSeq });
      }
      return pending;
    },

    /** A connection joined: orphans it may have, then the queue. */
    returned: (connection: Connection, replaced: Connection | undefined): void => {
      for (const turn of [...open.values()]) {
        if (turn.ending) continue;
        if (replaced && turn.connection === replaced) {
          release(turn);
          orphan(turn, replaced);
        }
        if (turn.connection || turn.state === "queued" || turn.botId !== connection.botId) continue;
        const same = turn.instance === connection.instance;
        if (turn.state === "sent") give(turn, connection);
        else if (turn.proto === 1 && connection.proto === 1) reserve(turn, connection);
        else if (same && connection.caps.has("idempotent")) give(turn, connection);
        else turn.orphanedUntil ??= now() + GRACE_V2_MS;
      }
      drainSoon();
    },

    /** Its grace is over: somebody else if it had not begun, else nobody. */
    expire: (turn: Turn): void => {
      if (turn.state === "sent") {
        const choice = pick(turn);
        if ("connection" in choice) return give(turn, choice.connection);
        if (choice.none === "full") {
          turn.orphanedUntil = undefined;
          return enqueue(turn);
        }
      }
      finish(turn, {
        state: "failed",
        finish: "stop",
        error: { code: "bot_disconnected", message: "", retryable: true },
      });
    },

    drainSoon,
    queued: (): number => queue.length,
  };
};
