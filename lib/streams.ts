/**
 * Every open stream: readers of one turn and readers of everything of a user.
 *
 * Owns the sets of readers and is the only code that writes them. Chunks that arrive in one turn of the event loop are
 * joined into one event per turn, built once for all its readers. A reader resumes by how much text it holds, so catching
 * up is a slice of the turn's text, pulled while it drains. Refuses to change a turn, and to show what is not stored
 * except text in flight.
 */
import type { Config } from "./config.ts";
import { ERRORS, Reject, type Activity, type BotInfo, type UserEvent } from "./protocol.ts";
import { createRoster } from "./roster.ts";
import { bodyOf, end, sseFields, sweepSse, write, type Owner, type Sse, type SseInit } from "./sse.ts";
import {
  event,
  NATIVE,
  newTurnReader,
  pumpShared,
  pumpTurn,
  type Access,
  type After,
  type Dialect,
  type Readable,
  type TurnReader,
} from "./streams/reader.ts";
import { textFrom } from "./turn.ts";

/** A GET stream ends after 30 min ± 25 %, so peers that vanished without a word cost at most that (PocketBase's cure). */
const LIFE_MS = 30 * 60_000;
const JITTER = 0.25;

type UserReader = Sse & {
  live: boolean;
  only: Access["only"];
  /** The event by which it was last told who is online. */
  bots: string;
  catchUp: Iterator<string, string>;
};

export const createStreams = (deps: { config: () => Config; now: () => number }) => {
  const { config, now } = deps;
  /**
   * All of them, a list from the newest on. A Set of them and a Map of the readers by turn took 0.28 kB of the objects of each
   * held stream, a tenth (docs/benchmarks.md).
   */
  let newest: Sse | undefined;
  let count = 0;
  const byUser = new Map<string, Set<UserReader>>();
  const countByUser = new Map<string, number>();
  /** How much of each open turn the live user readers were sent. */
  const shown = new Map<number, After>();
  const dirty = createRoster<Readable>();
  let scheduled = false;
  /** Bytes of streams that are closed. */
  let sentBefore = 0;

  const checkRoom = (user: string): void => {
    const { streams, streamsPerUser } = config().limits;
    const mine = countByUser.get(user) ?? 0;
    if (streamsPerUser > 0 && mine >= streamsPerUser)
      throw new Reject(
        "rate_limited",
        { zh: `同时打开的连接过多（上限 ${streamsPerUser}）`, en: `Too many open streams (at most ${streamsPerUser})` },
        5,
      );
    if (streams > 0 && count >= streams) throw new Reject("rate_limited", ERRORS.rate_limited, 15);
  };

  const enlist = (sse: Sse): void => {
    sse.older = newest;
    if (newest) newest.newer = sse;
    newest = sse;
    count++;
  };

  /** `act` may end the one it is given. */
  const forEach = (act: (sse: Sse) => void): void => {
    for (let one = newest, older: Sse | undefined; one; one = older) {
      older = one.older;
      act(one);
    }
  };

  const uncount = (user: string): void => {
    const left = (countByUser.get(user) ?? 1) - 1;
    if (left === 0) countByUser.delete(user);
    else countByUser.set(user, left);
  };

  const dismiss = (sse: Sse): void => {
    if (sse.newer) sse.newer.older = sse.older;
    else newest = sse.older;
    if (sse.older) sse.older.newer = sse.newer;
    sse.older = undefined; // whoever still holds this one does not hold the others
    sse.newer = undefined;
    count--;
    sentBefore += sse.sent;
    uncount(sse.user);
  };

  /** Counts a stream of this user, or gives back what its access took and rejects `rate_limited`. */
  const open = (access: Access, lives: boolean, owner: Owner): SseInit => {
    try {
      checkRoom(access.user);
    } catch (error) {
      access.release();
      throw error;
    }
    countByUser.set(access.user, (countByUser.get(access.user) ?? 0) + 1);
    const endsAt = lives ? now() + LIFE_MS * (1 + JITTER * (2 * Math.random() - 1)) : Infinity;
    return { user: access.user, access: access.access, release: access.release, endsAt, owner };
  };

  // ── everything of a user ────────────────────────────────────────────────────────────────────────────────────────

  const toUser = (user: string, bytes: string): void => {
    for (const reader of byUser.get(user) ?? []) if (reader.live) write(reader, bytes, now());
  };

  const showToUser = (turn: Readable): void => {
    const last = shown.get(turn.id) ?? { generation: 0, offset: 0 };
    if (last.generation !== turn.generation) {
      // One event whatever its size: a replaced text is rare, and bounded by limits.replyBytes.
      const content = turn.text.slice(0, turn.visible);
      toUser(turn.user, event({ type: "replace", turnId: turn.key, generation: turn.generation, content }));
    } else if (turn.visible > last.offset) {
      const content = JSON.stringify(textFrom(turn, last.offset));
      toUser(
        turn.user,
        `data: {"type":"chunk","turnId":"${turn.key}","generation":${turn.generation},"offset":${last.offset},"content":${content}}\n\n`,
      );
    } else return;
    show(turn);
  };

  /** Live user readers hold all of it. */
  const show = (turn: Readable): void => {
    const last = shown.get(turn.id);
    if (!last) {
      shown.set(turn.id, { generation: turn.generation, offset: turn.visible });
      return;
    }
    last.generation = turn.generation;
    last.offset = turn.visible;
  };

  /** Nobody looks: whoever comes is given what is there then. The end is the stored `message`, nothing is said after that. */
  const unseen = (turn: Readable): void => {
    if (turn.ended) shown.delete(turn.id);
    else if (turn.visible > 0) show(turn);
  };

  const flushTurn = (turn: Readable): void => {
    pumpShared(turn, turn.readers, now());
    if (byUser.has(turn.user) && !turn.ended) showToUser(turn);
    else unseen(turn);
  };

  const flush = (): void => {
    scheduled = false;
    const turns = dirty.values();
    dirty.clear();
    for (const turn of turns) flushTurn(turn);
  };

  const pullUser = (reader: UserReader): void => {
    while (!reader.live && !reader.blocked && !reader.closed) {
      const next = reader.catchUp.next();
      if (next.done) {
        reader.live = true;
        reader.bots = next.value;
      } else write(reader, next.value, now());
    }
  };

  const ofTurns: Owner = {
    now,
    ready: (reader: TurnReader): void => {
      // The head of a response leaves with its first byte: who has nothing to catch up must not wait for a heartbeat.
      if (!reader.greeted) write(reader, ":\n\n", now());
      reader.greeted = true;
      pumpTurn(reader, now());
    },
    gone: (reader: TurnReader): void => {
      dismiss(reader);
      let one = reader.turn.readers;
      if (one === reader) {
        reader.turn.readers = reader.next;
        return;
      }
      while (one && one.next !== reader) one = one.next;
      if (one) one.next = reader.next;
    },
  };

  const ofUsers: Owner = {
    now,
    ready: (reader: UserReader): void => pullUser(reader),
    gone: (reader: UserReader): void => {
      dismiss(reader);
      const readers = byUser.get(reader.user);
      readers?.delete(reader);
      if (readers?.size === 0) byUser.delete(reader.user);
    },
  };

  return {
    /**
     * Rejects `rate_limited` when no stream of this user would be let in: asked before a turn is started for one. The
     * person's room is kept until the returned function is called: of many sends at the same moment all would else be let in
     * while there is room for one. Call it once, right before the stream is opened.
     */
    takeRoom: (user: string): (() => void) => {
      checkRoom(user);
      countByUser.set(user, (countByUser.get(user) ?? 0) + 1);
      return () => uncount(user);
    },

    /**
     * A stream of one turn from `after` on. `lives`: a GET stream, which ends after LIFE_MS and resumes.
     * `dialect`: told in another format than ours. Rejects `rate_limited`.
     */
    openTurn: (
      turn: Readable,
      after: After | undefined,
      access: Access,
      lives: boolean,
      dialect: Dialect = NATIVE,
    ): ReadableStream => {
      const init = open(access, lives, ofTurns);
      const reader = newTurnReader(init, turn, dialect, access.lang, after);
      enlist(reader);
      turn.readers = reader;
      return bodyOf(reader);
    },

    /**
     * A stream of everything of a user. `catchUp` yields what it missed, lazily, and returns the last it said of who is online;
     * then it is live. Rejects `rate_limited`.
     */
    openUser: (access: Access, catchUp: Iterator<string, string>): ReadableStream => {
      const { only } = access;
      const reader: UserReader = { ...sseFields(open(access, true, ofUsers)), live: false, only, bots: "", catchUp };
      enlist(reader);
      const readers = byUser.get(access.user);
      if (readers) readers.add(reader);
      else byUser.set(access.user, new Set([reader]));
      return bodyOf(reader);
    },

    /** The turn's text, bot or end changed: its readers are told at the end of this turn of the event loop. */
    touch: (turn: Readable): void => {
      if (turn.readers === undefined && !byUser.has(turn.user)) return unseen(turn);
      dirty.set(turn.id, turn);
      if (scheduled) return;
      scheduled = true;
      setImmediate(flush);
    },

    activity: (turn: Readable, activity: Activity): void => {
      if (dirty.delete(turn.id)) flushTurn(turn); // what was said before it stays before it
      const bytes = event({ type: "activity", ...activity });
      for (let reader = turn.readers, next: TurnReader | undefined; reader; reader = next) {
        next = reader.next;
        // Before `start` only the place in the queue; a response that has not begun asks for that itself.
        if (reader.blocked || !reader.controller || !(reader.started || activity.kind === "queued")) continue;
        const told = reader.dialect.shared ? bytes : reader.dialect.activity(activity);
        if (told !== "") write(reader, told, now());
      }
      if (byUser.has(turn.user)) toUser(turn.user, event({ type: "activity", turnId: turn.key, ...activity }));
    },

    /** Live readers of this user, so that nobody builds an event for no one. */
    watches: (user: string): boolean => byUser.has(user),
    users: (): Iterable<string> => byUser.keys(),
    /** One event to every live reader of the user. `id`: epoch:rev, for stored changes. */
    toUser: (user: string, value: UserEvent, id?: string): void => toUser(user, event(value, id)),
    /** Who is online, to every live reader of the user that was told otherwise, each as far as it may know. */
    botsToUser: (user: string, list: BotInfo[]): void => {
      const all = event({ type: "bots", bots: list });
      for (const reader of byUser.get(user) ?? []) {
        if (!reader.live) continue;
        const { only } = reader;
        const bots = only ? event({ type: "bots", bots: list.filter(({ id }) => only.has(id)) }) : all;
        if (reader.bots === bots) continue;
        reader.bots = bots;
        write(reader, bots, now());
      }
    },
    event,

    /** Ends the streams a sign-out, a removed user or a revoked key no longer permits. */
    endWhere: (match: (sse: Sse) => boolean): void => {
      forEach((sse) => {
        if (match(sse)) end(sse);
      });
    },

    /** Heartbeats, slow readers, life spans; call it every 5 s. */
    sweep: (): void => {
      const at = now();
      forEach((sse) => sweepSse(sse, at));
    },

    /** Before a shutdown: tells readers when to return, spread over two seconds, and ends every stream. */
    closeAll: (): void => {
      flush(); // an end that was stored in this very turn of the event loop is still told
      forEach((sse) => {
        write(sse, `retry: ${500 + Math.floor(Math.random() * 2000)}\n\n`, now());
        end(sse);
      });
    },

    count: (): number => count,
    countsByUser: (): ReadonlyMap<string, number> => countByUser,
    /** Bytes written to readers since the start. */
    sentBytes: (): number => {
      let sum = sentBefore;
      forEach(({ sent }) => {
        sum += sent;
      });
      return sum;
    },
  };
};

export type Streams = ReturnType<typeof createStreams>;
