/**
 * Frames on their way to one bot: written now, or kept in order while its socket is full.
 *
 * What must stay true: no frame is dropped in silence. A 0 from `send`, too much waiting, or a socket that takes nothing for
 * too long gives the bot up as too slow (PROMISES L3). Large frames (a chat with its files) are made only when there is room
 * for them, one at a time, so that ten pictures at once neither fill the memory nor end a healthy bot. Refuses to close: the
 * owner of the connection does.
 */
import type { ServerWebSocket } from "bun";

/** Small frames waiting behind a full socket: as much as three of the largest. */
const MOST_FRAMES = 3;
/** A bot whose socket takes nothing for this long is too slow. */
const BLOCKED_MS = 30_000;

/** Frames that fill less than this leave together: past it a write of its own costs nothing that counts. */
const TOGETHER_CHARS = 64 * 1024;

export type Outlet = {
  /** Written at the end of this turn of the event loop, or `failed` is called. False: too much waits already. */
  send(json: string): boolean;
  /** Runs it when the ones before are done and the socket has room. Its promise must not reject. */
  whenRoom(job: () => void | Promise<void>): void;
  /** The socket took something: what waits goes on. False as for `send`. */
  drained(): boolean;
  /** It has taken nothing for BLOCKED_MS. */
  stuck(at: number): boolean;
  /** What waits is not wanted any more; what was sent before still leaves. */
  drop(): void;
};

/**
 * `frameBytes`: limits.frameBytes, asked each time because a reload may change it. `failed`: the socket dropped a frame; the
 * connection must end.
 */
export const createOutlet = (
  ws: ServerWebSocket<unknown>,
  frameBytes: () => number,
  now: () => number,
  failed: () => void,
): Outlet => {
  /** Of this turn of the event loop: one write for all. */
  let fresh: string[] = [];
  let freshChars = 0;
  let waiting: string[] = [];
  let chars = 0;
  let jobs: (() => void | Promise<void>)[] = [];
  let working = false;
  let blockedAt: number | undefined;

  /** Bun drops a frame (0) once more is buffered than its backpressureLimit, so we stop at half of that and wait. */
  const full = (): boolean => waiting.length > 0 || ws.getBufferedAmount() + freshChars > frameBytes();

  const flush = (): void => {
    if (fresh.length === 0) return;
    const frames = fresh;
    fresh = [];
    freshChars = 0;
    let taken = true;
    ws.cork(() => {
      for (const json of frames) if (taken) taken = ws.send(json) !== 0;
    });
    if (!taken) failed();
  };

  const put = (json: string): void => {
    if (fresh.length === 0) queueMicrotask(flush);
    fresh.push(json);
    freshChars += json.length;
    if (freshChars > TOGETHER_CHARS) flush();
  };

  const work = (): void => {
    while (jobs.length > 0 && !working && !full()) {
      const busy = jobs.shift()!();
      if (!busy) continue;
      working = true;
      void busy.then(() => {
        working = false;
        work();
      });
    }
    if (jobs.length > 0 && full()) blockedAt ??= now();
  };

  return {
    send: (json) => {
      if (!full()) {
        put(json);
        return true;
      }
      if (waiting.length > 0 && chars + json.length > frameBytes() * MOST_FRAMES) return false;
      waiting.push(json);
      chars += json.length;
      blockedAt ??= now();
      return true;
    },
    whenRoom: (job) => {
      jobs.push(job);
      work();
    },
    drained: () => {
      flush();
      blockedAt = undefined;
      let sent = 0;
      for (; sent < waiting.length && ws.getBufferedAmount() <= frameBytes(); sent++) {
        if (ws.send(waiting[sent]!) === 0) return false;
        chars -= waiting[sent]!.length;
      }
      waiting = waiting.slice(sent);
      if (waiting.length > 0) blockedAt = now();
      work();
      return true;
    },
    stuck: (at) => blockedAt !== undefined && at - blockedAt > BLOCKED_MS,
    drop: () => {
      flush();
      waiting = [];
      chars = 0;
      jobs = [];
    },
  };
};
