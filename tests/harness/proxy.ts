/**
 * A TCP proxy that misbehaves as networks do: delays, cuts, half-open connections, black holes. Which connection suffers
 * what is decided by a seed, so a run can be repeated as far as the timing of the machine allows.
 */
import type { Socket } from "bun";

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
};

type Side = Socket<{ other: Pipe; towards: "client" | "server" }>;
type Pipe = { client?: Side; server?: Side; silent: boolean; early: Uint8Array[]; timers: Set<Timer>; over: boolean };

/** Listens on a free port of 127.0.0.1 and passes everything to `target`, as well as `faults` let it. */
export const faultProxy = (target: number, faults: Faults, random: () => number) => {
  const pipes = new Set<Pipe>();
  const counts = { connections: 0, cut: 0, halfOpen: 0, delayed: 0, refused: 0 };
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
    const { late } = queues.get(side)!;
    const due = Math.max(late.at(-1)?.due ?? 0, performance.now() + random() * faults.delayMs);
    late.push({ bytes, due });
    if (late.length > 1) return;
    if (faults.delayMs > 0) counts.delayed++;
    passLate(pipe, side);
  };

  const shared = {
    drain: (side: Side): void => {
      const { full } = queues.get(side)!;
      for (const bytes of full.splice(0)) write(side, bytes);
    },
    close: (side: Side): void => {
      const pipe = side.data.other;
      // A half-open connection is one whose other end is not told.
      if (!pipe.silent && !holed) after(pipe, 0, () => destroy(pipe));
    },
    error: (side: Side): void => destroy(side.data.other),
  };

  const plan = (pipe: Pipe): void => {
    const fate = random();
    const at = random() * faults.withinMs;
    if (fate < faults.cut)
      after(pipe, at, () => {
        counts.cut++;
        destroy(pipe);
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
        const pipe: Pipe = { client, silent: false, early: [], timers: new Set(), over: false };
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
      data: (client, bytes) => pass(client.data.other, client.data.other.server, new Uint8Array(bytes)),
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

export const NO_FAULTS: Faults = { delayMs: 0, cut: 0, halfOpen: 0, withinMs: 0, silentMs: 0 };
