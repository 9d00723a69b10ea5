/**
 * The load: one process that plays the bot and the people over raw sockets. Reads one job as JSON from its first argument,
 * prints one result as JSON. Prints its own CPU, so that a saturated client is seen.
 */
import type { Socket } from "bun";

export type Job = {
  port: number;
  token: string | undefined;
  botToken: string | undefined;
  v2: boolean;
  kind: "chat" | "burst" | "paced" | "image" | "held" | "idle" | "catchup";
  /** Requests, streams, pictures or bots at once. */
  wide: number;
  /** chat, image: requests in all; burst: chunks per stream; paced: seconds. */
  count: number;
  /** paced: chunks per second and stream. */
  rate?: number;
  /** image: of each; paced: of one that comes from a process and goes to a bot of its own when half of the time is over. */
  bytes?: number;
  /** image: the bot that is played and asked, and only when the parent says so. */
  botId?: string;
  /** paced: readers that take nothing. */
  stalled?: number;
};
/**
 * `delays`: p50, p99 and the longest, in ms; `before`: those of the first half, where something happens in the second;
 * `direct`: those of the same chunks on a connection of this process to itself, with nobody between.
 */
export type Result = {
  units: number;
  ms: number;
  clientCpuMs: number;
  delays?: number[];
  before?: number[];
  direct?: number[];
  errors: number;
};

const job = JSON.parse(process.argv[2]!) as Job;
const chunk = "流式输出的一小段文字 ok ";
const cpu = (): number => process.cpuUsage().user / 1000 + process.cpuUsage().system / 1000;
let errors = 0;

// ── the bot ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const bot = new WebSocket(`ws://127.0.0.1:${job.port}/bot-ws`);
const asked: string[] = [];
let onAsk: (id: string) => void = (id) => asked.push(id);

const say = (id: string, content: string, done: boolean, seq: number): void => {
  bot.send(
    `{"type":"reply","id":"r","replyTo":"${id}","content":${JSON.stringify(content)},"done":${done},"timestamp":${Date.now()}${job.v2 ? `,"seq":${seq}` : ""}}`,
  );
};

await new Promise<void>((resolve, reject) => {
  bot.onerror = () => reject(new Error("bot socket"));
  bot.onopen = () =>
    bot.send(
      JSON.stringify({
        type: "register",
        botId: job.botId ?? "bot",
        botName: "Bot",
        token: job.botToken,
        ...(job.v2 && { proto: 2, caps: ["ack", "seq", "cancel"] }),
      }),
    );
  bot.onmessage = (message) => {
    const text = String(message.data);
    if (text.startsWith('{"type":"chat"')) {
      const at = text.indexOf('"id":"') + 6;
      const id = text.slice(at, text.indexOf('"', at));
      if (job.v2) bot.send(`{"type":"ack","id":"${id}"}`);
      onAsk(id);
    } else if (text.startsWith('{"type":"registered"')) resolve();
    else if (text.startsWith('{"type":"ping"')) bot.send('{"type":"pong"}');
  };
});

// ── the people ──────────────────────────────────────────────────────────────────────────────────────────────────────

const request = (path: string, body: string): string =>
  `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n${job.token ? `Authorization: Bearer ${job.token}\r\n` : ""}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

type Person = { socket: Socket<undefined>; onData: (text: string) => void };

const person = async (): Promise<Person> => {
  const decoder = new TextDecoder();
  const one = { onData: () => {} } as unknown as Person;
  one.socket = await Bun.connect<undefined>({
    hostname: "127.0.0.1",
    port: job.port,
    socket: {
      data: (_socket, bytes) => one.onData(decoder.decode(bytes, { stream: true })),
      drain: () => {},
      close: () => {},
      error: () => {
        errors++;
      },
    },
  });
  return one;
};

/** Writes all of `text`, waiting for the socket when it is full. */
const writeAll = async (socket: Socket<undefined>, text: string): Promise<void> => {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length;) {
    at += socket.write(bytes.subarray(at));
    if (at < bytes.length) await Bun.sleep(1);
  }
};

const people = async (count: number): Promise<Person[]> => {
  const all: Person[] = [];
  for (let i = 0; i < count; i++) all.push(await person());
  return all;
};

/** Sync requests, one after the other on each of `wide` connections. */
const rounds = async (text: string, total: number): Promise<void> => {
  const all = await people(job.wide);
  let left = total;
  await Promise.all(
    all.map(async (one) => {
      while (left-- > 0)
        await new Promise<void>((resolve) => {
          let got = "";
          one.onData = (part) => {
            got += part;
            const head = got.indexOf("\r\n\r\n");
            if (head < 0) return;
            const length = /content-length: (\d+)/i.exec(got);
            if (!length || Buffer.byteLength(got.slice(head + 4)) < Number(length[1])) return;
            if (!got.startsWith("HTTP/1.1 200")) errors++;
            resolve();
          };
          void writeAll(one.socket, text);
        });
      one.socket.end();
    }),
  );
};

const chats = async (): Promise<number> => {
  onAsk = (id) => say(id, chunk, true, 1);
  await rounds(request("/api/chat", JSON.stringify({ message: "你好，今天的服务器怎么样？" })), job.count);
  return job.count;
};

/** Says how many are held and waits until the parent has measured. */
const held = async (count: number): Promise<void> => {
  process.stdout.write(`{"held":${count}}\n`);
  await new Promise<void>((resolve) => process.stdin.once("data", () => resolve()));
};

const images = async (): Promise<number> => {
  onAsk = (id) => say(id, "ok", true, 1);
  const image = `data:image/png;base64,${Buffer.from(`\x89PNG\r\n\x1a\n${"x".repeat(job.bytes! * 0.75)}`, "latin1").toString("base64")}`;
  // The sync call of v1 drops images, so the streamed one is what all three can do.
  const body = request("/api/chat/stream", JSON.stringify({ message: "看图", image, target: job.botId }));
  if (job.botId !== undefined) await held(0);
  const all = await people(job.wide);
  let left = job.count;
  await Promise.all(
    all.map(async (one) => {
      while (left-- > 0)
        await new Promise<void>((resolve) => {
          let got = "";
          one.onData = (part) => {
            got += part;
            if (got.includes('"type":"end"')) resolve();
          };
          void writeAll(one.socket, body);
        });
      one.socket.end();
    }),
  );
  return job.count;
};

const open = async (count: number): Promise<{ all: Person[]; ids: string[] }> => {
  const all = await people(count);
  const ids: string[] = [];
  onAsk = (id) => ids.push(id);
  const text = request("/api/chat/stream", JSON.stringify({ message: "开始" }));
  for (const one of all) {
    one.onData = () => {};
    one.socket.write(text);
    if (ids.length % 100 === 0) await Bun.sleep(1);
  }
  const deadline = Date.now() + 20_000;
  while (ids.length < count && Date.now() < deadline) await Bun.sleep(5);
  if (ids.length < count) errors += count - ids.length;
  return { all, ids };
};

const finished = (all: Person[]): Promise<unknown> =>
  Promise.all(
    all.map(
      (one) =>
        new Promise<void>((resolve) => {
          let tail = "";
          one.onData = (part) => {
            tail = (tail + part).slice(-200);
            if (tail.includes('"type":"end"')) resolve();
          };
        }),
    ),
  );

const burst = async (): Promise<number> => {
  const { all, ids } = await open(job.wide);
  const done = finished(all);
  for (let n = 1; n <= job.count; n++) {
    for (const id of ids) say(id, chunk, n === job.count, n);
    if (bot.bufferedAmount > 1024 * 1024) await Bun.sleep(0);
  }
  await done;
  return job.wide * job.count;
};

/** Another process that sends one picture when the returned function is called. */
const neighbour = async (bytes: number): Promise<() => void> => {
  const { v2, port, token, botToken } = job;
  const its: Job = { v2, port, token, botToken, kind: "image", wide: 1, count: 1, bytes, botId: "big" };
  const child = Bun.spawn([process.execPath, import.meta.path, JSON.stringify(its)], { stdin: "pipe", stdout: "pipe" });
  await child.stdout.getReader().read(); // it is ready
  return () => {
    child.stdin.write("now\n");
    child.stdin.flush();
  };
};

/** How long each chunk in `part` was on its way: it carries when it was sent. */
const noteDelays = (part: string, delays: number[]): void => {
  const at = performance.now();
  for (let i = part.indexOf("t="); i >= 0; i = part.indexOf("t=", i + 1))
    delays.push(at - Number.parseFloat(part.slice(i + 2, i + 16)));
};

/** Calls `send` for each of `wide` streams, `rate` times a second, for `ticks` of those; `halfway` in the middle. */
const keepPace = async (ticks: number, send: (stream: number, tick: number) => void, halfway = () => {}) => {
  const rate = job.rate!;
  const from = performance.now() + 50;
  for (let tick = 0; tick < ticks; tick++) {
    if (tick === ticks >> 1) halfway();
    for (let i = 0; i < job.wide; i++) {
      const due = from + (tick + i / job.wide) * (1000 / rate);
      const wait = due - performance.now();
      if (wait > 1) await Bun.sleep(wait);
      send(i, tick);
    }
  }
  await Bun.sleep(200);
};

const timed = (): string => `t=${performance.now().toFixed(3)} ${chunk}`;

/** The same chunks over a connection of this process to itself, for a second: what the machine and this load cost. */
const direct = async (): Promise<number[]> => {
  const delays: number[] = [];
  const socket = { data: () => {} };
  const reader = { data: (_: unknown, bytes: Uint8Array) => noteDelays(new TextDecoder().decode(bytes), delays) };
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: reader });
  const one = await Bun.connect({ hostname: "127.0.0.1", port: server.port, socket });
  await keepPace(job.rate!, () => one.write(timed()));
  one.end();
  server.stop(true);
  return delays;
};

const paced = async (): Promise<{ units: number; delays: number[]; before: number[]; direct: number[] }> => {
  const alone = await direct();
  const { all, ids } = await open(job.wide);
  let delays: number[] = [];
  const before: number[] = [];
  const big = job.bytes ? await neighbour(job.bytes) : undefined;
  for (const one of all.splice(0, job.stalled ?? 0)) one.socket.pause();
  for (const one of all) one.onData = (part) => noteDelays(part, delays);
  const ticks = job.count * job.rate!;
  await keepPace(
    ticks,
    (i, tick) => say(ids[i]!, timed(), false, tick + 1),
    () => {
      if (!big) return;
      before.push(...delays);
      delays = [];
      big();
    },
  );
  const done = finished(all);
  for (const id of ids) say(id, "", true, ticks + 1);
  await done;
  return { units: job.wide * ticks, delays, before, direct: alone };
};

/** A reader that returns to a turn of `count` chunks: ms until it holds them all. */
const catchUp = async (): Promise<number[]> => {
  const text = request("/api/chat/stream", JSON.stringify({ message: "开始" }));
  const asking = Promise.withResolvers<string>();
  onAsk = (id) => asking.resolve(id);
  const first = await person();
  first.socket.write(text);
  const id = await asking.promise;
  for (let n = 1; n <= job.count; n++) {
    say(id, chunk, false, n);
    if (bot.bufferedAmount > 1024 * 1024) await Bun.sleep(0);
  }
  await Bun.sleep(1000);
  const times: number[] = [];
  for (let i = 0; i < 5; i++) {
    const back = await person();
    const at = performance.now();
    await new Promise<void>((resolve) => {
      let chars = 0;
      back.onData = (part) => {
        chars += part.length;
        if (chars >= chunk.length * job.count) resolve();
      };
      back.socket.write(
        `GET /api/turns/${id}/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${job.token}\r\n\r\n`,
      );
    });
    times.push(performance.now() - at);
    back.socket.end();
  }
  return times;
};

const idleBot = (n: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const one = new WebSocket(`ws://127.0.0.1:${job.port}/bot-ws`);
    one.onerror = () => reject(new Error("idle bot"));
    one.onopen = () => one.send(JSON.stringify({ type: "register", botId: `idle-${n}`, token: job.botToken }));
    one.onmessage = () => resolve();
  });

const startedAt = performance.now();
const cpuBefore = cpu();
let units = 0;
let delays: number[] | undefined;
let before: number[] = [];
let alone: number[] | undefined;
if (job.kind === "chat") units = await chats();
else if (job.kind === "image") units = await images();
else if (job.kind === "burst") units = await burst();
else if (job.kind === "paced") ({ units, delays, before, direct: alone } = await paced());
else if (job.kind === "catchup") delays = await catchUp();
else if (job.kind === "idle") {
  for (const part of [job.wide / 5, job.wide]) {
    for (; units < part; units++) await idleBot(units);
    await held(units);
  }
} else {
  // Twice, so that the parent sees a slope: what the first fifth needed once, buffers and compiled code, is in neither.
  for (const part of [job.wide / 5, (job.wide * 4) / 5]) {
    await open(part);
    units += part;
    await held(units);
  }
}
const quantile = (sorted: number[], q: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
const spread = (values: number[]): number[] => {
  const sorted = values.sort((a, b) => a - b);
  return [quantile(sorted, 0.5), quantile(sorted, 0.99), sorted.at(-1) ?? 0];
};
const result: Result = {
  units,
  ms: performance.now() - startedAt,
  clientCpuMs: cpu() - cpuBefore,
  errors,
  ...(delays && { delays: spread(delays) }),
  ...(before.length > 0 && { before: spread(before) }),
  ...(alone && { direct: spread(alone) }),
};
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit(0);
