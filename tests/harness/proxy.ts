/**
 * A TCP proxy that misbehaves as networks do: delays, cuts, half-open connections, black holes, bytes that dribble, requests
 * and frames that come twice, last words that arrive after the next connection's first. Which connection suffers what is
 * decided by a seed, so a run can be repeated as far as the timing of the machine allows.
 */
import type { Socket } from "bun";
import { repeater } from "./repeat.ts";

/** Numbers in [0, 1) from a seed (mulberry32). */
export const seeded = (seed: number): (() => number) => {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
};

export type Faults = {
  /** Each read is passed on up to so many milliseconds later; order is kept. */
  delayMs: number;
  /** Chances per connection, and the milliseconds after its beginning within which it happens. */
  cut: number;
  halfOpen: number;
  withinMs: number;
  /** How long a half-open connection says nothing before it is reset. */
  silentMs: number;
  /** Chance per connection that its reads are passed on in bits of a few bytes. */
  dribble: number;
  /** Chance per WebSocket frame, and per request that came in one read, that it arrives twice. */
  duplicate: number;
  /**
   * Of the connections that are cut, the part whose last words reach the server late: up to `lateMs` after the client was
   * cut off, so after its next connection has spoken. What TCP never does within one connection happens between two.
   */
  reorder: number;
  lateMs: number;
};

/** The first bytes of each direction dribble; all of a megabyte in bits of four would only measure the proxy. */
const DRIBBLED = 4000;
/** How long what a client sends is held back before it is cut off, so that there are last words. */
const HOLD_MS = 250;

type Side = Socket<{ other: Pipe; towards: "client" | "server" }>;
type Pipe = {
  client?: Side;
  server?: Side;
  silent: boolean;
  early: Uint8Array[];
  timers: Set<Timer>;
  over: boolean;
  /** Bytes of each direction that still dribble. */
  dribble: { client: number; server: number };
  /** Collected while the client's last words are held back. */
  held?: Uint8Array[];
  repeat: { client: (bytes: Uint8Array) => Uint8Array[]; server: (bytes: Uint8Array) => Uint8Array[] };
};

/** Listens on a free port of 127.0.0.1 and passes everything to `target`, as well as `faults` let it. */
export const faultProxy = (target: number, faults: Faults, random: () => number) => {
  const pipes = new Set<Pipe>();
  const counts = { connections: 0, cut: 0, halfOpen: 0, delayed: 0, refused: 0, dribbled: 0, twice: 0, late: 0 };
  let holed = false;

  const after = (pipe: Pipe, ms: number, run: () => void): void => {
    const timer = setTimeout(() => {
      pipe.timers.delete(timer);
      if (!pipe.over) run();
    }, ms);
    pipe.timers.add(timer);
  };

  /** Both sides end at once, as by a reset. */
  const destroy = (pipe: Pipe): void => {
    if (pipe.over) return;
    pipe.over = true;
    pipes.delete(pipe);
    for (const timer of pipe.timers) clearTimeout(timer);
    pipe.client?.terminate();
    pipe.server?.terminate();
  };

  /** `late`: delayed, in order; `full`: what the socket did not take. */
  type Queue = { late: { bytes: Uint8Array; due: number }[]; full: Uint8Array[] };
  const queues = new WeakMap<Side, Queue>();
  const write = (side: Side, bytes: Uint8Array): void => {
    const { full } = queues.get(side)!;
    if (full.length > 0) return void full.push(bytes);
    const sent = Math.max(side.write(bytes), 0);
    if (sent < bytes.length) full.push(bytes.subarray(sent));
  };
  /** One timer per direction, because timers of almost the same moment may overtake each other. */
  const passLate = (pipe: Pipe, side: Side): void => {
    const { late } = queues.get(side)!;
    if (pipe.silent || holed) late.length = 0;
    while (late.length > 0 && late[0]!.due <= performance.now()) write(side, late.shift()!.bytes);
    if (late.length > 0) after(pipe, Math.max(0, late[0]!.due - performance.now()), () => passLate(pipe, side));
  };
  const pass = (pipe: Pipe, side: Side | undefined, bytes: Uint8Array): void => {
    if (pipe.silent || holed || pipe.over) return; // swallowed: nobody is told
    if (!side) return void pipe.early.push(bytes);
    const to = side === pipe.server ? "server" : "client";
    if (pipe.held && to === "client") return;
    const { late } = queues.get(side)!;
    const idle = late.length === 0;
    for (const piece of pipe.repeat[to](bytes))
      for (const bit of bits(pipe, to, piece)) {
        const due = Math.max(late.at(-1)?.due ?? 0, performance.now() + random() * faults.delayMs);
        late.push({ bytes: bit, due });
      }
    if (!idle || late.length === 0) return;
    if (faults.delayMs > 0) counts.delayed++;
    passLate(pipe, side);
  };
  const bits = (pipe: Pipe, to: "client" | "server", bytes: Uint8Array): Uint8Array[] => {
    const out: Uint8Array[] = [];
    let at = 0;
    while (pipe.dribble[to] > 0 && at < bytes.length) {
      const size = Math.min(1 + Math.floor(random() * 40), bytes.length - at);
      out.push(bytes.subarray(at, at + size));
      pipe.dribble[to] -= size;
      at += size;
    }
    if (at < bytes.length) out.push(bytes.subarray(at));
    return out;
  };
  const fromClient = (pipe: Pipe, bytes: Uint8Array): void => {
    if (pipe.held) pipe.held.push(bytes);
    else pass(pipe, pipe.server, bytes);
  };

  /** The client is cut off; what it said last reaches the server when it may have come back already. */
  const lateWords = (pipe: Pipe): void => {
    pipe.held = [];
    after(pipe, HOLD_MS, () => {
      pipe.client?.terminate();
      after(pipe, random() * faults.lateMs, () => {
        const words = pipe.held!;
        if (words.length > 0 && pipe.server) counts.late++;
        if (pipe.server) for (const bytes of words) write(pipe.server, bytes);
        after(pipe, 50, () => destroy(pipe));
      });
    });
  };

  /** The same request once more, on a connection of its own whose answer nobody reads: what a retrying middlebox does. */
  const again = (request: Uint8Array): void => {
    counts.twice++;
    const socket = Bun.connect({
      hostname: "127.0.0.1",
      port: target,
      socket: { open: (to) => void to.write(request), data: () => {} },
    });
    void socket.then((one) => setTimeout(() => one.terminate(), 1000)).catch(() => {});
  };

  const shared = {
    drain: (side: Side): void => {
      const { full } = queues.get(side)!;
      for (const bytes of full.splice(0)) write(side, bytes);
    },
    close: (side: Side): void => {
      const pipe = side.data.other;
      // A half-open connection is one whose other end is not told; late words still have to arrive.
      if (!pipe.silent && !holed && !(pipe.held && side.data.towards === "server")) after(pipe, 0, () => destroy(pipe));
    },
    error: (side: Side): void => destroy(side.data.other),
  };

  const plan = (pipe: Pipe): void => {
    const fate = random();
    const at = random() * faults.withinMs;
    // Half of those that are overtaken are so from their first byte: a whole request or register that comes late.
    const overtaken = random() < faults.reorder;
    if (fate < faults.cut)
      after(pipe, overtaken && random() < 0.5 ? 0 : at, () => {
        counts.cut++;
        if (overtaken) lateWords(pipe);
        else destroy(pipe);
      });
    else if (fate < faults.cut + faults.halfOpen)
      after(pipe, at, () => {
        counts.halfOpen++;
        pipe.silent = true;
        after(pipe, faults.silentMs, () => destroy(pipe));
      });
  };

  const listener = Bun.listen<Side["data"]>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: (client) => {
        counts.connections++;
        const dribbles = random() < faults.dribble;
        if (dribbles) counts.dribbled++;
        const left = dribbles ? DRIBBLED : 0;
        const twice = (): boolean => {
          if (random() >= faults.duplicate) return false;
          counts.twice++;
          return true;
        };
        const pipe: Pipe = {
          client,
          silent: false,
          early: [],
          timers: new Set(),
          over: false,
          dribble: { client: left, server: left },
          repeat: {
            server: repeater(twice, (request) => random() < faults.duplicate && again(request)),
            client: repeater(twice),
          },
        };
        client.data = { other: pipe, towards: "server" };
        queues.set(client, { late: [], full: [] });
        pipes.add(pipe);
        plan(pipe);
        Bun.connect<Side["data"]>({
          hostname: "127.0.0.1",
          port: target,
          data: { other: pipe, towards: "client" },
          socket: {
            open: (server) => {
              if (pipe.over) return void server.terminate();
              pipe.server = server;
              queues.set(server, { late: [], full: [] });
              for (const bytes of pipe.early.splice(0)) pass(pipe, server, bytes);
            },
            data: (_, bytes) => pass(pipe, pipe.client, new Uint8Array(bytes)),
            ...shared,
          },
        }).catch(() => {
          counts.refused++;
          destroy(pipe);
        });
      },
      data: (client, bytes) => fromClient(client.data.other, new Uint8Array(bytes)),
      ...shared,
    },
  });

  return {
    port: listener.port,
    counts,
    /** From now on nothing passes and nobody is told, in both directions, on old and new connections. */
    blackHole: (on: boolean): void => {
      holed = on;
    },
    cutAll: (): void => {
      for (const pipe of [...pipes]) destroy(pipe);
    },
    stop: (): void => {
      listener.stop(true);
      for (const pipe of [...pipes]) destroy(pipe);
    },
  };
};

export const NO_FAULTS: Faults = {
  delayMs: 0,
  cut: 0,
  halfOpen: 0,
  withinMs: 0,
  silentMs: 0,
  dribble: 0,
  duplicate: 0,
  reorder: 0,
  lateMs: 0,
};
