/**
 * The one stream the page lives on: `GET /api/events`, kept open, resumed by revision.
 *
 * Must stay true: what was shown is never repeated or skipped (state.ts says what fits, a gap asks for a snapshot by
 * reconnecting), and a dead network is noticed: the gateway sends something at least every 15 s.
 */
import type { UserEvent } from "../lib/protocol.ts";
import { ApiError, type Api } from "./api.ts";
import { createSseParser } from "./sse.ts";
import type { State } from "./state.ts";

export type Events = {
  start: () => void;
  stop: () => void;
  /** Reconnect now, for instance because the network came back. */
  nudge: () => void;
  /** Gives the stream up, or takes it up where it was. */
  rest: (on: boolean) => void;
};

const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 15_000;
/** Two missed heartbeats and a bit. */
const SILENCE_MS = 35_000;
/** Trouble shorter than this is not worth a word. */
const CALM_MS = 3000;
/** Snapshots of open turns follow `hello` at once. */
const SNAPSHOT_MS = 2000;

/** `fresh`: connected without history, so everything has to be fetched. `stale`: these conversations may lack an end. */
export const createEvents = (
  api: Api,
  state: State,
  on: {
    fresh: () => void;
    connected: () => void;
    stale: (conversationIds: string[]) => void;
    received: (event: UserEvent) => void;
  },
): Events => {
  let running = false;
  let resting = false;
  let abort: AbortController | undefined;
  let wake: (() => void) | undefined;
  let lastId: string | undefined;
  let heardAt = 0;
  let failures = 0;
  let calm: ReturnType<typeof setTimeout> | undefined;
  let snapshotTimer: ReturnType<typeof setTimeout> | undefined;
  let gapAt = 0;

  const setLink = (link: State["link"]): void => {
    clearTimeout(calm);
    if (state.link === link) return;
    state.link = link;
    state.emit("link");
  };

  const trouble = (): void => {
    if (state.link === "connecting" || state.link === "online") {
      clearTimeout(calm);
      calm = setTimeout(() => setLink(navigator.onLine ? "reconnecting" : "offline"), CALM_MS);
    } else setLink(navigator.onLine ? "reconnecting" : "offline");
  };

  const gap = (): void => {
    const now = Date.now();
    if (now - gapAt < 1000) return;
    gapAt = now;
    abort?.abort();
  };

  /** Turns we hold that the gateway does not name again ended while we were away. */
  const watchSnapshots = (): void => {
    clearTimeout(snapshotTimer);
    const held = new Map([...state.turns.values()].map((turn) => [turn.turnId, turn.heardAt]));
    if (held.size === 0) return;
    snapshotTimer = setTimeout(() => {
      const stale = [...state.turns.values()].filter((turn) => held.get(turn.turnId) === turn.heardAt);
      if (stale.length) on.stale([...new Set(stale.map((turn) => turn.conversationId))]);
    }, SNAPSHOT_MS);
  };

  const receive = (resumed: boolean, data: string, id: string | undefined): void => {
    let event: UserEvent;
    try {
      event = JSON.parse(data) as UserEvent;
    } catch {
      return;
    }
    if (event.type === "hello") {
      const other = state.user && state.user.username !== event.user.username;
      if (other) state.clear();
      failures = 0;
      setLink("online");
      // Without an id the changes since our own last one are still to come.
      if (id) lastId = id;
      state.apply(event);
      watchSnapshots();
      if (!resumed || other) on.fresh();
      on.connected();
      return;
    }
    if (event.type === "reset") {
      on.fresh();
      return;
    }
    if (state.link !== "online") setLink("online");
    if (!state.apply(event)) gap();
    if (id) lastId = id;
    on.received(event);
  };

  const connect = async (): Promise<void> => {
    abort = new AbortController();
    const resumed = lastId !== undefined;
    const response = await api.open("/api/events", lastId ? { "Last-Event-ID": lastId } : {}, abort.signal);
    const reader = response.body!.getReader();
    const decoder = new TextDecoder();
    const parse = createSseParser((item) => receive(resumed, item.data, item.id));
    heardAt = Date.now();
    const watchdog = setInterval(() => Date.now() - heardAt > SILENCE_MS && abort?.abort(), 5000);
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        heardAt = Date.now();
        parse(decoder.decode(value, { stream: true }));
      }
    } finally {
      clearInterval(watchdog);
      reader.cancel().catch(() => {});
    }
  };

  const pause = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  const loop = async (): Promise<void> => {
    while (running) {
      if (resting) {
        await pause(SILENCE_MS);
        continue;
      }
      let wait = FIRST_WAIT_MS;
      try {
        await connect();
      } catch (error) {
        if (error instanceof ApiError && error.status === 401) {
          running = false;
          return;
        }
        if (error instanceof ApiError && error.retryAfter) wait = error.retryAfter * 1000;
      }
      if (!running) return;
      if (resting) continue;
      trouble();
      const backoff = Math.min(MAX_WAIT_MS, wait * 2 ** Math.min(failures, 10));
      failures++;
      if (Date.now() - gapAt > 100) await pause(failures === 1 ? 50 : backoff * (0.5 + Math.random() / 2));
    }
  };

  const nudge = (): void => {
    if (!running) return;
    failures = Math.min(failures, 1);
    wake?.();
    // A stream that lived through the trouble may be dead without knowing: a new one costs little.
    if (state.link !== "online" || Date.now() - heardAt > 20_000) abort?.abort();
  };

  addEventListener("online", nudge);
  addEventListener("offline", () => running && trouble());
  addEventListener("pageshow", (event) => {
    if (!event.persisted || !running) return;
    abort?.abort(); // a page from the back/forward cache has a dead stream
    nudge();
  });
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && nudge());

  return {
    start: () => {
      if (running) return;
      running = true;
      failures = 0;
      void loop();
    },
    stop: () => {
      running = false;
      lastId = undefined;
      clearTimeout(calm);
      abort?.abort();
      wake?.();
    },
    nudge,
    rest: (next) => {
      if (resting === next) return;
      resting = next;
      failures = 0;
      if (next) {
        clearTimeout(calm);
        clearTimeout(snapshotTimer);
        abort?.abort();
      } else wake?.();
    },
  };
};
