/**
 * Frames on their way to one bot: written now, or kept in order while its socket is full.
 *
 * What must stay true: no frame is dropped in silence. A 0 from `send`, too much waiting, or a socket that takes nothing for
 * too long gives the bot up as too slow (PROMISES L3). Refuses to close: the owner of the connection does.
 */
import type { ServerWebSocket } from "bun";

/** Frames waiting behind a full socket: three of the largest. */
const MOST_FRAMES = 3;
/** A bot whose socket takes nothing for this long is too slow. */
const BLOCKED_MS = 30_000;

export type Outlet = {
  /** False: the bot is too slow, nothing was written, and the connection must end. */
  send(json: string): boolean;
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
  let blockedAt: number | undefined;

  /** Bun drops a frame (0) once more is buffered than its backpressureLimit, so we stop at half of that and wait. */
  const full = (): boolean => ws.getBufferedAmount() > frameBytes();

  const send = (json: string): boolean => {
    if (waiting.length === 0 && !full()) return ws.send(json) !== 0;
    if (waiting.length > 0 && chars + json.length > frameBytes() * MOST_FRAMES) return false;
    waiting.push(json);
    chars += json.length;
    blockedAt ??= now();
    return true;
  };

  return {
    send,
    drained: () => {
      blockedAt = undefined;
      if (waiting.length === 0) return true;
      let sent = 0;
      while (sent < waiting.length && !full()) {
        if (ws.send(waiting[sent]!) === 0) return false;
        chars -= waiting[sent]!.length;
        sent++;
      }
      waiting = waiting.slice(sent);
      if (waiting.length > 0) blockedAt = now();
      return true;
    },
    stuck: (at) => blockedAt !== undefined && at - blockedAt > BLOCKED_MS,
    drop: () => {
      waiting = [];
      chars = 0;
    },
  };
};
