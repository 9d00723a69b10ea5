/**
 * Giving turns to bots: choose, deliver, fail over, take back.
 *
 * Owns the link between a turn and its connection. What must stay true: a turn is counted in exactly one connection's
 * inFlight or waits in the queue or is an orphan; another bot gets it only before the first accepted it; a new attempt
 * begins a new generation, and nothing of an older one is left in it.
 */
import { choose, type Choice } from "../balance.ts";
import type { Connection } from "../bots.ts";
import { allows, newGeneration, NONE, type Turn, type TurnEnd } from "../turn.ts";
import type { Core } from "./core.ts";
import { createQueue } from "./queue.ts";

/** A v2 bot has this long to come back to its turns; it covers its backoff and a restart of either side. */
export const GRACE_V2_MS = 60_000;
/** A v1 bot cannot say where it was; a flicker of its network is all that can be mended. */
export const GRACE_V1_MS = 2_000;
/** A v1 bot that went within this time of being asked, without a chunk, has not begun. */
const V1_UNSEEN_MS = 1_000;
/** A question that so many connections did not survive is not given to a further one, nor to the same one again. */
const MAX_TRIES = 5;

export type Dispatch = ReturnType<typeof createDispatch>;

const failed = (code: string): TurnEnd => ({
  state: "failed",
  finish: "stop",
  error: { code, message: "", retryable: true },
});
const DISCONNECTED = failed("bot_disconnected");
const UNREADABLE = failed("storage_failed");

/** `finish` ends a turn; it belongs to ends.ts. */
export const createDispatch = (
  { config, store, bots, streams, asks, log, now, open, publish }: Core,
  finish: (turn: Turn, end: TurnEnd) => void,
) => {
  let idleSince = 0;
  let leaving = false;

  const mayTake = (turn: Pick<Turn, "user" | "wanted">, one: Connection): boolean =>
    bots().mayUse(turn.user, one.botId) && allows(turn.wanted.only, one.botId);

  const pick = (
    turn: Pick<Turn, "user" | "wanted"> & { refusedBy?: ReadonlySet<string> | undefined },
    except?: Connection,
  ): Choice<Connection> => {
    const { target, pool, poolOnly, sticky } = turn.wanted;
    return choose(
      bots().connections(),
      { ...(target !== undefined && { bot: target }), pool, poolOnly, ...(sticky !== undefined && { sticky }) },
      (one) => one !== except && !turn.refusedBy?.has(one.key) && mayTake(turn, one),
    );
  };

  /** Of those that would get it, the one online longest: where a turn without a bot waits. */
  const likely = (turn: Pick<Turn, "user" | "wanted">): string | undefined => {
    for (const one of bots().connections())
      if (!one.draining && one.pools.includes(turn.wanted.pool) && mayTake(turn, one)) return one.botId;
    return undefined;
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
    idleSince = Math.max(now(), idleSince) + 1 / 1024;
    connection.idleSince = idleSince;
    queue.hurry();
  };

  /** The turn is reserved and stored: hand it over as soon as the socket has room. */
  const deliver = (turn: Turn): void => {
    const connection = turn.connection!;
    turn.state = "sent";
    turn.attempt++;
    turn.tries++;
    turn.sentAt = Infinity;
    turn.frameAt = now();
    const { attempt } = turn;
    const mine = (): boolean => turn.attempt === attempt && turn.connection === connection;
    streams.touch(turn);
    connection.outlet.whenRoom(() => {
      if (!mine()) return undefined; // cancelled or moved while it waited
      const unreadable = (error: unknown): void => {
        log("error", "chat_unreadable", { turn: turn.key, error: String(error) });
        if (mine()) finish(turn, UNREADABLE);
      };
      try {
        const frame = asks.frame(turn, connection);
        if (typeof frame === "string") return handOver(turn, connection, frame);
        return frame.then((json) => {
          if (mine()) handOver(turn, connection, json);
        }, unreadable);
      } catch (error) {
        return unreadable(error);
      }
    });
  };

  const handOver = (turn: Turn, connection: Connection, json: string): void => {
    turn.sentAt = now();
    turn.frameAt = turn.sentAt;
    if (!bots().sendText(connection, json)) lost(turn, connection); // `left` has told us too; lost is idempotent
  };

  const persist = (turn: Turn): void => {
    const { id, generation } = turn;
    const lament = (error: unknown): void => log("error", "assign_failed", { turn: turn.key, error: String(error) });
    // Frames are counted anew by each attempt. In the commit of the `assign` below, which then says the state.
    if (turn.attempt > 1) {
      store.turns.log([{ turn: id, generation, seq: 0, text: "" }]).catch(lament);
      store.attachments.disown({ turn: id }).catch(lament);
    }
    store.turns
      .assign({
        id,
        bot: turn.botId ?? null,
        botName: turn.botName ?? null,
        instance: turn.instance,
        proto: turn.proto,
        attempt: turn.attempt,
        generation,
        state: turn.state,
      })
      .catch(lament);
  };

  /** Nothing of an earlier attempt may be mixed into the next. */
  const beginAnew = (turn: Turn): void => {
    newGeneration(turn);
    turn.text = "";
    turn.tailFrom = -1;
    turn.bytes = 0;
    turn.visible = 0;
    turn.unlogged = "";
    turn.seq = 0;
    turn.storedSeq = 0;
    turn.usage = undefined;
    turn.attachments = NONE;
    turn.files = NONE;
    turn.storing = undefined;
    turn.found = NONE;
  };

  /** To this connection, now: from the queue, as another attempt, or after a restart. */
  const give = (turn: Turn, connection: Connection): void => {
    release(turn);
    if (turn.attempt > 0) beginAnew(turn);
    turn.activity = undefined;
    reserve(turn, connection);
    deliver(turn);
    // It may be elsewhere by now, when the connection could not take it.
    if (turn.connection !== connection || turn.ending) return;
    persist(turn);
    publish.given(turn);
  };

  /** Another bot or instance, if one may have it. */
  const giveOther = (turn: Turn, from: Connection): boolean => {
    if (leaving || turn.tries >= MAX_TRIES) return false;
    const choice = pick(turn, from);
    if (!("connection" in choice)) return false;
    const { connection } = choice;
    const attempt = turn.attempt + 1;
    log("info", "turn_failover", { turn: turn.key, from: from.botId, to: connection.botId, attempt });
    give(turn, connection);
    return true;
  };

  /** To the bot it was with, or nobody: this one keeps failing it. */
  const giveAgain = (turn: Turn, connection: Connection): void => {
    if (turn.tries < MAX_TRIES) give(turn, connection);
    else finish(turn, DISCONNECTED);
  };

  const began = (turn: Turn, connection: Connection): boolean =>
    turn.state !== "sent" || (connection.proto === 1 && now() - turn.sentAt > V1_UNSEEN_MS);

  /** The connection of a turn is gone. */
  const lost = (turn: Turn, connection: Connection): void => {
    if (turn.connection !== connection || turn.ending) return;
    release(turn);
    if ((!began(turn, connection) || connection.caps.has("idempotent")) && giveOther(turn, connection)) return;
    orphan(turn, connection);
  };

  /** Nobody has it; until its grace is over a bot that returns is asked again or goes on, see `returned`. */
  const orphan = (turn: Turn, connection: Connection): void => {
    turn.orphanedUntil = now() + (connection.proto === 2 ? GRACE_V2_MS : GRACE_V1_MS);
    if (turn.state === "sent" && began(turn, connection)) turn.state = "accepted";
  };

  const enqueue = (turn: Turn): void => {
    release(turn);
    turn.state = "queued";
    turn.orphanedUntil = undefined;
    turn.botId = undefined;
    turn.botName = undefined;
    // On disk it is with a bot; after a restart it must be found waiting.
    if (turn.proto !== 0) {
      turn.proto = 0;
      persist(turn);
    }
    queue.add(turn);
  };

  const queue = createQueue({ config, streams }, (turn) => {
    if (leaving) return false;
    const choice = pick(turn);
    if (!("connection" in choice)) return false;
    give(turn, choice.connection);
    return true;
  });

  /** A bot is back. Does it go on with this orphan? */
  const rejoin = (turn: Turn, connection: Connection): void => {
    const same = turn.instance === connection.instance;
    if (!mayTake(turn, connection)) return; // the config changed meanwhile
    if (turn.state === "sent") return giveAgain(turn, connection);
    if (turn.proto === 1 && connection.proto === 1) return reserve(turn, connection);
    if (!same || connection.proto !== 2 || turn.proto !== 2) return;
    if (connection.caps.has("idempotent")) return giveAgain(turn, connection);
    // It came without the session, which is void from now on: nobody can take this turn back any more.
    if (!connection.resumed) finish(turn, DISCONNECTED);
  };

  return {
    pick,
    likely,
    reserve,
    release,
    deliver,
    lost,
    /** The process is about to end: who goes keeps its turns for the next start, and who waits goes on waiting. */
    leave: (): void => {
      leaving = true;
    },

    /** Stored, but its connection is gone or was never there: another one, or the queue. */
    place: (turn: Turn): void => {
      const choice = pick(turn);
      if ("connection" in choice) give(turn, choice.connection);
      else enqueue(turn);
    },
    takeSeat: queue.takeSeat,

    /** The bot asks for another to try: an instance or bot that has not refused it yet, else false and nothing changed. */
    retry: (turn: Turn): boolean => {
      const before = turn.connection!;
      turn.refusedBy ??= new Set();
      turn.refusedBy.add(before.key);
      if (!giveOther(turn, before)) return false;
      if (before.caps.has("cancel")) bots().send(before, { type: "cancel", id: turn.key, reason: "failover" });
      return true;
    },

    forget: queue.remove,

    /** Accepted turns this returning session owns, for `registered.pending`. They are its own again from here on. */
    takeBack: (connection: Connection): { id: string; seq: number }[] => {
      if (!connection.resumed) return [];
      const pending: { id: string; seq: number }[] = [];
      for (const turn of open.values()) {
        if (turn.botId !== connection.botId || turn.instance !== connection.instance) continue;
        if (turn.state === "sent" || turn.state === "queued") continue;
        // What it sent since the last batch comes again and is dropped by seq; frames without one were counted by us.
        const seq = connection.caps.has("seq") ? turn.storedSeq : turn.seq;
        // Its answer is here but the disk refused it so far: the bot keeps it until the ack, should we be killed.
        if (turn.ending) {
          if (turn.ending.state === "done") pending.push({ id: turn.key, seq });
          continue;
        }
        if (turn.connection && !turn.connection.gone) continue;
        release(turn);
        reserve(turn, connection);
        turn.frameAt = now();
        pending.push({ id: turn.key, seq });
      }
      return pending;
    },

    /** A connection joined: orphans it may have, then the queue. */
    returned: (connection: Connection, replaced: Connection | undefined): void => {
      for (const turn of open.values()) {
        if (turn.ending) continue;
        if (replaced && turn.connection === replaced) {
          release(turn);
          orphan(turn, replaced);
        }
        if (turn.orphanedUntil !== undefined && turn.botId === connection.botId) rejoin(turn, connection);
      }
      queue.hurry();
    },

    /** Its grace is over: somebody else if it had not begun, else nobody. */
    expire: (turn: Turn): void => {
      if (turn.state === "sent" && turn.tries < MAX_TRIES) {
        const choice = pick(turn);
        if ("connection" in choice) return give(turn, choice.connection);
        if (choice.none === "full") return enqueue(turn);
      }
      finish(turn, DISCONNECTED);
    },

    roomChanged: queue.hurry,
    queued: queue.length,
  };
};
