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

export type Outlet = {
  /** False: the bot is too slow, nothing was written, and the connection must end. */
  send(json: string): boolean;
  /** Runs it when the ones before are done and the socket has room. Its promise must not reject. */
  whenRoom(job: () => void | Promise<void>): void;
  /** The socket took something: what waits goes on. False as for `send`. */
  drained(): boolean;
  /** It has taken nothing for BLOCKED_MS. */
  stuck(at: number): boolean;
  /** What waits is not wanted any more. */
  drop(): void;
};

/** `frameBytes`: limits.frameBytes, asked each time because a reload may change it. */
export const createOutlet = (ws: ServerWebSocket<unknown>, frameBytes: () => number, now: () => number): Outlet => {
  let waiting: string[] = [];
  let chars = 0;
  let jobs: (() => void | Promise<void>)[] = [];
  let working = false;
  let blockedAt: number | undefined;

  /** Bun drops a frame (0) once more is buffered than its backpressureLimit, so we stop at half of that and wait. */
  const full = (): boolean => waiting.length > 0 || ws.getBufferedAmount() > frameBytes();

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
      if (!full()) return ws.send(json) !== 0;
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
      waiting = [];
      chars = 0;
      jobs = [];
    },
  };
};
