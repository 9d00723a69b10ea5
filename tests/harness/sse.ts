/**
 * An exact, incremental reader of server-sent events, written from the WHATWG text and not from what the gateway
 * happens to send: CR, LF and CRLF end a line, also when a read splits them; comments and `retry` are kept for the
 * tests that look at them. Refuses to guess: data that is not JSON is a failure unless the test reads `text`.
 */
import { until, within } from "./wait.ts";

export type SseItem<T> = {
  /** The last event id as a browser would hold it after this event. */
  id: string;
  event: string;
  text: string;
  /** The data as JSON. */
  data: T;
};

type Raw = { id: string; event: string; text: string };

/** Feeds text in any pieces; calls back for every dispatched event, comment and retry value. */
export const sseParser = (on: {
  event: (item: Raw) => void;
  comment?: (text: string) => void;
  retry?: (ms: number) => void;
}) => {
  let rest = "";
  let first = true;
  let swallowLf = false;
  let id = "";
  let event = "";
  let data: string[] = [];

  const field = (name: string, value: string) => {
    if (name === "data") data.push(value);
    else if (name === "event") event = value;
    else if (name === "id" && !value.includes("\0")) id = value;
    else if (name === "retry" && /^\d+$/.test(value)) on.retry?.(Number(value));
  };

  const line = (text: string) => {
    if (text === "") {
      if (data.length) on.event({ id, event: event || "message", text: data.join("\n") });
      data = [];
      event = "";
      return;
    }
    const colon = text.indexOf(":");
    if (colon === 0) return on.comment?.(text.slice(1).replace(/^ /, ""));
    if (colon < 0) return field(text, "");
    const value = text.slice(colon + 1);
    field(text.slice(0, colon), value.startsWith(" ") ? value.slice(1) : value);
  };

  return {
    push(text: string) {
      let input = text;
      if (first && input.length) {
        first = false;
        if (input.startsWith("\uFEFF")) input = input.slice(1);
      }
      // A CR ended the last piece: a LF that opens this one belongs to it.
      if (swallowLf && input.length) {
        swallowLf = false;
        if (input.startsWith("\n")) input = input.slice(1);
      }
      rest += input;
      let from = 0;
      for (;;) {
        const match = /[\r\n]/g;
        match.lastIndex = from;
        const hit = match.exec(rest);
        if (!hit) break;
        const at = hit.index;
        const end = rest[at] === "\r" && rest[at + 1] === "\n" ? at + 2 : at + 1;
        if (rest[at] === "\r" && at + 1 === rest.length) swallowLf = true;
        line(rest.slice(from, at));
        from = end;
      }
      rest = rest.slice(from);
    },
  };
};

/** One open SSE response. `events` grows as they arrive; the waits throw after their milliseconds. */
export type SseReader<T> = {
  events: SseItem<T>[];
  comments: string[];
  retries: number[];
  /** The next event not yet handed out. */
  next: (ms?: number) => Promise<SseItem<T>>;
  /** The first event, past or coming, that `match` accepts. */
  find: (match: (data: T, item: SseItem<T>) => boolean, ms?: number) => Promise<SseItem<T>>;
  /** Every event until the server closes the stream. */
  all: (ms?: number) => Promise<SseItem<T>[]>;
  /** Settles when the stream is over: "end" if the server closed it, "cut" if it broke. */
  ended: Promise<"end" | "cut">;
  /** Goes away like a closed tab. */
  leave: () => Promise<void>;
};

/** Reads `response` as SSE in the background. Throws if it is not an event stream. */
export const readSse = <T = Record<string, unknown>>(response: Response): SseReader<T> => {
  const type = response.headers.get("content-type") ?? "none";
  if (!type.startsWith("text/event-stream") || !response.body)
    throw new Error(`not an event stream: ${response.status} ${type}`);
  const body = response.body.getReader();
  const events: SseItem<T>[] = [];
  const comments: string[] = [];
  const retries: number[] = [];
  let handed = 0;
  let fault: unknown;
  let over = false;

  const parser = sseParser({
    event: (raw) => events.push({ ...raw, data: JSON.parse(raw.text) }),
    comment: (text) => comments.push(text),
    retry: (ms) => retries.push(ms),
  });

  const pump = async (): Promise<"end" | "cut"> => {
    const decoder = new TextDecoder();
    try {
      for (;;) {
        const { done, value } = await body.read();
        if (done) return "end";
        parser.push(decoder.decode(value as Uint8Array, { stream: true }));
      }
    } catch (error) {
      if (error instanceof SyntaxError) fault = error;
      return "cut";
    } finally {
      over = true;
    }
  };
  const ended = pump();

  const check = () => {
    if (fault) throw fault;
  };

  return {
    events,
    comments,
    retries,
    ended,
    async next(ms = 5000) {
      await until(() => events.length > handed || over, ms, "an SSE event");
      check();
      const item = events[handed];
      if (!item) throw new Error("the stream ended before another event");
      handed++;
      return item;
    },
    async find(match, ms = 5000) {
      let seen = 0;
      const hit = await until<SseItem<T> | "over">(
        () => {
          check();
          const finished = over;
          for (; seen < events.length; seen++) if (match(events[seen]!.data, events[seen]!)) return events[seen];
          return finished && "over";
        },
        ms,
        `a matching SSE event; seen: ${events.map((item) => item.text.slice(0, 80)).join(" | ")}`,
      );
      if (hit === "over") throw new Error("the stream ended without the event that was waited for");
      return hit;
    },
    async all(ms = 10_000) {
      await within(ended, ms, "the end of the stream");
      check();
      return events;
    },
    async leave() {
      await body.cancel().catch(() => {});
    },
  };
};
