/**
 * Every open stream: readers of one turn and readers of everything of a user.
 *
 * Owns the sets of readers and is the only code that writes them. Chunks that arrive in one turn of the event loop are
 * joined into one event per turn, built once for all its readers. A reader resumes by how much text it holds, so catching
 * up is a slice of the turn's text, pulled while it drains. Refuses to change a turn, and to show what is not stored
 * except text in flight.
 */
import type { Config } from "./config.ts";
import { ERRORS, Reject, type Activity, type UserEvent } from "./protocol.ts";
import { createRoster } from "./roster.ts";
import { end, openSse, sweepSse, write, type Sse } from "./sse.ts";
import {
  event,
  NATIVE,
  pumpShared,
  pumpTurn,
  type Access,
  type After,
  type Dialect,
  type Readable,
  type TurnReader,
} from "./streams/reader.ts";

/** A GET stream ends after 30 min ± 25 %, so peers that vanished without a word cost at most that (PocketBase's cure). */
const LIFE_MS = 30 * 60_000;
const JITTER = 0.25;

type UserReader = { sse: Sse; user: string; live: boolean; catchUp: Iterator<string> };

export const createStreams = (deps: { config: () => Config; now: () => number }) => {
  const { config, now } = deps;
  const all = new Set<Sse>();
  const byUser = new Map<string, Set<UserReader>>();
  const countByUser = new Map<string, number>();
  const byTurn = new Map<number, Set<TurnReader>>();
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
    if (streams > 0 && all.size >= streams) throw new Reject("rate_limited", ERRORS.rate_limited, 15);
  };

  const dismiss = (sse: Sse): void => {
    if (all.delete(sse)) sentBefore += sse.sent;
    const left = (countByUser.get(sse.user) ?? 1) - 1;
    if (left === 0) countByUser.delete(sse.user);
    else countByUser.set(sse.user, left);
  };

  const open = (access: Access, lives: boolean, ready: () => void, gone: () => void) => {
    try {
      checkRoom(access.user);
    } catch (error) {
      access.release();
      throw error;
    }
    countByUser.set(access.user, (countByUser.get(access.user) ?? 0) + 1);
    const endsAt = lives ? now() + LIFE_MS * (1 + JITTER * (2 * Math.random() - 1)) : Infinity;
    const opened = openSse({
      user: access.user,
      access: access.access,
      endsAt,
      now,
      ready,
      gone: () => {
        dismiss(opened.sse);
        access.release();
        gone();
      },
    });
    all.add(opened.sse);
    return opened;
  };

  // ── everything of a user ────────────────────────────────────────────────────────────────────────────────────────

  const toUser = (user: string, bytes: string): void => {
    for (const reader of byUser.get(user) ?? []) if (reader.live) write(reader.sse, bytes, now());
  };

  const showToUser = (turn: Readable): void => {
    const last = shown.get(turn.id) ?? { generation: 0, offset: 0 };
    if (last.generation !== turn.generation) {
      // One event whatever its size: a replaced text is rare, and bounded by limits.replyBytes.
      const content = turn.text.slice(0, turn.visible);
      toUser(turn.user, event({ type: "replace", turnId: turn.key, generation: turn.generation, content }));
    } else if (turn.visible > last.offset) {
      const content = JSON.stringify(turn.text.slice(last.offset, turn.visible));
      toUser(
        turn.user,
        `data: {"type":"chunk","turnId":"${turn.key}","generation":${turn.generation},"offset":${last.offset},"content":${content}}\n\n`,
      );
    } else return;
    shown.set(turn.id, { generation: turn.generation, offset: turn.visible });
  };

  const flushTurn = (turn: Readable): void => {
    const readers = byTurn.get(turn.id);
    if (readers) pumpShared(turn, readers, now());
    // The end is the stored `message`, which holds the whole text: nothing of it is said after that.
    if (turn.ended) shown.delete(turn.id);
    else if (byUser.has(turn.user)) showToUser(turn);
    else if (turn.visible > 0) shown.set(turn.id, { generation: turn.generation, offset: turn.visible });
  };

  const flush = (): void => {
    scheduled = false;
    const turns = dirty.values();
    dirty.clear();
    for (const turn of turns) flushTurn(turn);
  };

  const pullUser = (reader: UserReader): void => {
    while (!reader.live && !reader.sse.blocked && !reader.sse.closed) {
      const next = reader.catchUp.next();
      if (next.done) reader.live = true;
      else write(reader.sse, next.value, now());
    }
  };

  return {
    /** Rejects `rate_limited` when no stream of this user would be let in: asked before a turn is started for one. */
    checkRoom,

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
      const reader: TurnReader = {
        ...access,
        turn,
        dialect,
        sse: undefined as unknown as Sse,
        generation: after?.generation ?? 0,
        offset: after?.offset ?? 0,
        started: after !== undefined,
        files: turn.attachments,
        filesSent: 0,
      };
      // The head of a response leaves with its first byte: who has nothing to catch up must not wait for a heartbeat.
      let greeted = after === undefined;
      const { sse, body } = open(
        access,
        lives,
        () => {
          if (!greeted) write(sse, ":\n\n", now());
          greeted = true;
          pumpTurn(reader, now());
        },
        () => {
          const readers = byTurn.get(turn.id);
          readers?.delete(reader);
          if (readers?.size === 0) byTurn.delete(turn.id);
        },
      );
      reader.sse = sse;
      const readers = byTurn.get(turn.id);
      if (readers) readers.add(reader);
      else byTurn.set(turn.id, new Set([reader]));
      return body;
    },

    /** A stream of everything of a user. `catchUp` yields what it missed, lazily; then it is live. Rejects `rate_limited`. */
    openUser: (access: Access, catchUp: Iterator<string>): ReadableStream => {
      const reader: UserReader = { sse: undefined as unknown as Sse, user: access.user, live: false, catchUp };
      const { sse, body } = open(
        access,
        true,
        () => pullUser(reader),
        () => {
          const readers = byUser.get(access.user);
          readers?.delete(reader);
          if (readers?.size === 0) byUser.delete(access.user);
        },
      );
      reader.sse = sse;
      const readers = byUser.get(access.user);
      if (readers) readers.add(reader);
      else byUser.set(access.user, new Set([reader]));
      return body;
    },

    /** The turn's text, bot or end changed: its readers are told at the end of this turn of the event loop. */
    touch: (turn: Readable): void => {
      dirty.set(turn.id, turn);
      if (scheduled) return;
      scheduled = true;
      setImmediate(flush);
    },

    activity: (turn: Readable, activity: Activity): void => {
      if (dirty.delete(turn.id)) flushTurn(turn); // what was said before it stays before it
      const bytes = event({ type: "activity", ...activity });
      for (const { sse, dialect, started } of byTurn.get(turn.id) ?? []) {
        // Before `start` only the place in the queue; a response that has not begun asks for that itself.
        if (sse.blocked || !sse.controller || !(started || activity.kind === "queued")) continue;
        const told = dialect.shared ? bytes : dialect.activity(activity);
        if (told !== "") write(sse, told, now());
      }
      if (byUser.has(turn.user)) toUser(turn.user, event({ type: "activity", turnId: turn.key, ...activity }));
    },

    /** Live readers of this user, so that nobody builds an event for no one. */
    watches: (user: string): boolean => byUser.has(user),
    users: (): Iterable<string> => byUser.keys(),
    /** One event to every live reader of the user. `id`: epoch:rev, for stored changes. */
    toUser: (user: string, value: UserEvent, id?: string): void => toUser(user, event(value, id)),
    event,

    /** Ends the streams a sign-out, a removed user or a revoked key no longer permits. */
    endWhere: (match: (sse: Sse) => boolean): void => {
      for (const sse of [...all]) if (match(sse)) end(sse);
    },

    /** Heartbeats, slow readers, life spans; call it every 5 s. */
    sweep: (): void => {
      const at = now();
      for (const sse of [...all]) sweepSse(sse, at);
    },

    /** Before a shutdown: tells readers when to return, spread over two seconds, and ends every stream. */
    closeAll: (): void => {
      flush(); // an end that was stored in this very turn of the event loop is still told
      for (const sse of [...all]) {
        write(sse, `retry: ${500 + Math.floor(Math.random() * 2000)}\n\n`, now());
        end(sse);
      }
    },

    count: (): number => all.size,
    countsByUser: (): ReadonlyMap<string, number> => countByUser,
    /** Bytes written to readers since the start. */
    sentBytes: (): number => [...all].reduce((sum, { sent }) => sum + sent, sentBefore),
  };
};

export type Streams = ReturnType<typeof createStreams>;
