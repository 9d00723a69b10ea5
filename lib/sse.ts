/**
 * One open SSE response: writing, backpressure, heartbeat, life span, cutting. Knows nothing of what it carries.
 *
 * Framing follows the WHATWG HTML standard, 9.2.6: every event is `id:`? + one `data:` line + a blank line, and the data is
 * JSON, so no line ending of anybody's text can break it. A direct stream is used because it tells when the reader is full
 * (a push stream does not) and took 4.7 kB against 11.4 per held stream (throwaway measurement, DESIGN.md).
 *
 * Policy (PROMISES L2, L4): a reader that takes nothing for BLOCKED_MS, or that lets QUEUE_BYTES of live events pile up, is
 * cut and can resume; a reader that catches up pulls at its own pace and is not counted.
 */

/** The Bun-only controller of a direct stream: write returns bytes, 0 when the reader has gone, a promise when it is full. */
type DirectController = {
  write(text: string): number | Promise<number | false>;
  flush(): unknown;
  end(): unknown;
  close(error?: Error): void;
};

export type Sse = {
  type: "direct";
  pull: typeof pull;
  cancel: typeof cancel;
  user: string;
  /** Digest of the session or id of the key it was opened with: signing out ends it. */
  access: string;
  /** Called once, when it is closed: gives back what was counted for it. */
  release: () => void;
  owner: Owner;
  /** Of all streams, before and after it came; streams.ts's. */
  older: Sse | undefined;
  newer: Sse | undefined;
  controller: DirectController | undefined;
  resolve: (() => void) | undefined;
  /** Waiting while the reader is full, or before the response has begun. */
  queue: string[];
  queued: number;
  /** The reader takes no more now; write nothing that can be pulled later. */
  blocked: boolean;
  blockedAt: number;
  wroteAt: number;
  /** Bytes the connection has taken. */
  sent: number;
  /** When a stream that can resume is ended, so that peers that vanished are noticed; Infinity: lives as long as its turn. */
  endsAt: number;
  closed: boolean;
};

export type SseInit = Pick<Sse, "user" | "access" | "release" | "endsAt" | "owner">;

/**
 * Who carries what: one for all streams of a kind. Functions of each stream's own, and objects beside it, were a third of
 * what a held stream took (8.7 functions and 7 scopes; docs/benchmarks.md).
 */
export type Owner = {
  now: () => number;
  /** The response has begun, or the reader has room again. */
  ready: (sse: never) => void;
  /** It is closed. */
  gone: (sse: never) => void;
};

/** Live events waiting for one reader, in UTF-16 units. */
export const QUEUE_BYTES = 1024 * 1024;
/** With the 5 s sweep: cut at most 65 s after the reader stopped. */
const BLOCKED_MS = 60_000;
/** With the 5 s sweep: a comment at least every 15 s, which proxies with a 30 s limit and phones expect. */
const HEARTBEAT_MS = 10_000;

export const SSE_HEADERS = {
  "Content-Type": "text/event-stream",
  "Cache-Control": "no-cache, no-transform",
  "X-Accel-Buffering": "no",
} as const;

/** Nobody's queue: made when the first event has to wait. */
export const EMPTY = [] as string[];
Object.freeze(EMPTY);

/** The part of a reader that is the stream. The runtime calls `pull` and `cancel` on the reader itself. */
export const sseFields = (init: SseInit): Sse => ({
  type: "direct",
  pull,
  cancel,
  user: init.user,
  access: init.access,
  release: init.release,
  owner: init.owner,
  older: undefined,
  newer: undefined,
  controller: undefined,
  resolve: undefined,
  queue: EMPTY,
  queued: 0,
  blocked: false,
  blockedAt: 0,
  wroteAt: init.owner.now(),
  sent: 0,
  endsAt: init.endsAt,
  closed: false,
});

/** The body of the response that `sse` writes. */
export const bodyOf = (sse: Sse): ReadableStream =>
  new ReadableStream(sse as unknown as ConstructorParameters<typeof ReadableStream>[0]);

export function pull(this: Sse, controller: DirectController): Promise<void> | undefined {
  if (this.closed) return undefined;
  this.controller = controller;
  const { promise: open, resolve } = Promise.withResolvers<void>();
  this.resolve = resolve;
  drainQueue(this, this.owner.now());
  if (!this.blocked && !this.closed) this.owner.ready(this as never);
  return open;
}

export function cancel(this: Sse): void {
  leave(this);
}

/** Takes it as closed by the reader. Idempotent. */
export const leave = (sse: Sse): void => {
  if (sse.closed) return;
  sse.closed = true;
  sse.queue = EMPTY;
  sse.controller = undefined;
  sse.resolve?.();
  sse.release();
  sse.owner.gone(sse as never);
};

const put = (sse: Sse, text: string, at: number): void => {
  const controller = sse.controller!;
  const taken = controller.write(text);
  controller.flush();
  sse.wroteAt = at;
  if (typeof taken === "number") {
    if (taken === 0) leave(sse);
    else sse.sent += taken;
    return;
  }
  sse.blocked = true;
  sse.blockedAt = at;
  taken.then(
    (count) => {
      if (sse.closed) return;
      if (count === false) return leave(sse);
      sse.sent += count;
      sse.blocked = false;
      drainQueue(sse, sse.owner.now());
      if (!sse.blocked && !sse.closed) sse.owner.ready(sse as never);
    },
    () => leave(sse),
  );
};

const drainQueue = (sse: Sse, at: number): void => {
  if (sse.queue.length === 0) return;
  const text = sse.queue.join("");
  sse.queue = EMPTY;
  sse.queued = 0;
  put(sse, text, at);
};

/** Writes now, or queues while the reader is full; over QUEUE_BYTES the stream is cut. `at`: the clock now. */
export const write = (sse: Sse, text: string, at: number): void => {
  if (sse.closed) return;
  if (sse.controller && !sse.blocked) return put(sse, text, at);
  if (sse.queue === EMPTY) sse.queue = [text];
  else sse.queue.push(text);
  sse.queued += text.length;
  if (sse.queued > QUEUE_BYTES) cut(sse);
};

/** Ends cleanly after what was written: the reader sees the end of the body. */
export const end = (sse: Sse): void => {
  if (sse.closed) return;
  const { controller } = sse;
  if (controller && sse.queue.length > 0) controller.write(sse.queue.join(""));
  controller?.end();
  leave(sse);
};

/** Resets the connection: the reader knows it was interrupted. */
export const cut = (sse: Sse): void => {
  if (sse.closed) return;
  const { controller } = sse;
  leave(sse);
  controller?.close(new Error("reader too slow"));
};

/** Heartbeats and deadlines of one stream; call it every 5 s. */
export const sweepSse = (sse: Sse, at: number): void => {
  if (sse.blocked) {
    if (at - sse.blockedAt >= BLOCKED_MS) cut(sse);
  } else if (at >= sse.endsAt) end(sse);
  else if (at - sse.wroteAt >= HEARTBEAT_MS) write(sse, ":\n\n", at);
};
