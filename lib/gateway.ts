/**
 * One gateway: the store, bots, turns, streams, sessions and routes put together, and one Bun.serve for all of them.
 *
 * Owns the wiring and the clocks (one sweep per concern, no timer per object). Several can live in one process: nothing is
 * module state. Refuses to decide anything the parts decide.
 */
import type { Server } from "bun";
import { assetResponse, loadAssets, type Assets } from "./assets.ts";
import { createBots, type Bots, type SocketData } from "./bots.ts";
import type { Config } from "./config.ts";
import { decodeId } from "./ids.ts";
import type { Gate } from "./gate.ts";
import { createHttp, type Call, type Route } from "./http.ts";
import { createInbox, type Inbox } from "./inbox.ts";
import { addressKey, createBuckets, createCounter } from "./limits.ts";
import type { Log } from "./log.ts";
import { createModels } from "./models/set.ts";
import { createOnline } from "./online.ts";
import { createPeople } from "./people.ts";
import { createPasswordCheck } from "./passwords.ts";
import { ERRORS, Reject } from "./protocol.ts";
import { accountRoutes } from "./routes/account.ts";
import { chatRoutes } from "./routes/chat.ts";
import { conversationRoutes } from "./routes/conversations.ts";
import { fileRoutes } from "./routes/files.ts";
import { openAiRoutes } from "./routes/openai.ts";
import { createSignInDoor } from "./routes/signin.ts";
import { socketRoutes } from "./routes/socket.ts";
import { systemRoutes } from "./routes/system.ts";
import { createSessions, type Sessions } from "./sessions.ts";
import { openStore } from "./store.ts";
import { createStreams } from "./streams.ts";
import { createSync } from "./sync.ts";
import { createTurns, type Turns } from "./turns.ts";

/** Bun's granularity is coarse: 12 s means closed after 12 to 24 s (measured), within the 30 s of PROMISES B5. */
const IDLE_S = 12;
/** A request that waits for an answer is looked after every 5 s, so this many seconds of silence are enough. */
const WAITING_S = 60;
/** Upload limits are checked by the routes; Bun's own refusal, which has no JSON, is only for what is far over. */
const BODY_SLACK = 1024 * 1024;
/** Bots' sockets answer protocol pings too; this only catches a peer that vanished under our JSON heartbeat. */
const SOCKET_IDLE_S = 120;
/** Open turns get this long after SIGTERM. */
const DRAIN_MS = 25_000;

export type GatewayOptions = {
  config: Config;
  log: Log;
  now?: () => number;
  /** Instead of config.dataDir. */
  dataDir?: string;
  /** Called at the first sign-in with a password. */
  signedIn?: (user: string) => void;
  /** Given by tests that need no page. */
  assets?: Assets;
};

/** Opens the store (throws StoreRefused) and puts the parts together; nothing listens yet. */
export const createGateway = async ({
  config: initial,
  log,
  now = Date.now,
  dataDir = initial.dataDir,
  signedIn = () => {},
  assets,
}: GatewayOptions) => {
  let config = initial;
  let draining = false;
  let server: Server<SocketData> | undefined;
  const current = (): Config => config;
  const none = (limit: number): number => (limit === 0 ? Infinity : limit);

  // Unpacked (or, from source, built) at the first request for it: /health answers before that, and tests need no page.
  let loading: Promise<Assets> | undefined;
  const page = (): Promise<Assets> => {
    loading ??= assets ? Promise.resolve(assets) : loadAssets({ embedded: Bun.embeddedFiles });
    loading.catch(() => {
      loading = undefined;
    });
    return loading;
  };
  const store = openStore({ dir: dataDir, synchronous: config.synchronous, now, log });
  const people = createPeople({ config: current, store, now });
  const streams = createStreams({ config: current, now });
  const turns: Turns = createTurns({ config: current, store, people, bots: () => bots, streams, log, now });
  const inbox: Inbox = createInbox({
    config: current,
    store,
    bots: () => bots,
    publish: turns.publish,
    isUser: people.has,
    log,
    now,
  });

  const online = createOnline({ bots: () => bots, streams });
  const botsChanged = (): void => {
    online.changed();
    turns.roomChanged();
  };

  const bots: Bots = createBots({
    config: current,
    store,
    log,
    now,
    hooks: {
      pending: turns.pending,
      joined: (connection, replaced) => {
        turns.joined(connection, replaced);
        if (connection.caps.has("message")) inbox.receipts(connection);
      },
      left: turns.left,
      changed: botsChanged,
      frame: (connection, frame) => {
        if (frame.type === "message") return inbox.message(connection, frame);
        const id = frame.type === "ack" ? frame.id : (frame.replyTo ?? "");
        const turn = turns.get(decodeId(id));
        if (!turn) return inbox.stray(connection, frame);
        if (turns.frame(connection, frame, turn)) return;
        // One line per doubling: a bot that lost a turn may go on talking about it.
        const strays = ++connection.strays;
        if ((strays & (strays - 1)) === 0) log("warn", "not_your_turn", { bot: connection.botId, turn: id, strays });
        bots.send(connection, {
          type: "error",
          code: "not_your_turn",
          id,
          message: "This turn was not given to this connection",
        });
      },
    },
  });

  const sessions: Sessions = createSessions({
    config: current,
    store,
    people,
    now,
    ended: (access) => streams.endWhere((sse) => sse.access === access),
  });
  const passwords = createPasswordCheck({ users: people.all, now, log });
  const sends = createBuckets({
    burst: () => none(config.limits.sendsPerMinute),
    refillMs: () => (config.limits.sendsPerMinute === 0 ? 0 : 60_000 / config.limits.sendsPerMinute),
    now,
  });
  const addresses = createCounter({ most: () => none(config.limits.connectionsPerAddress) });

  /** Counts a connection toward its address; the returned function takes it back. Rejects `rate_limited`. */
  const enter = ({ address, countsAddress }: Call): (() => void) => {
    if (!countsAddress) return () => {};
    const key = addressKey(address);
    if (!addresses.enter(key)) throw new Reject("rate_limited", ERRORS.rate_limited, 15);
    let left = false;
    return () => {
      if (!left) addresses.leave(key);
      left = true;
    };
  };

  const waiting = new Set<Call>();
  const gate: Gate = {
    config: current,
    log,
    now,
    store,
    people,
    sessions,
    passwords,
    bots,
    turns,
    streams,
    inbox,
    sync: createSync({ people, store, bots, streams, turns }),
    sends,
    isDraining: () => draining,
    enter,
    signedIn,
    keepAlive: (call) => {
      waiting.add(call);
      call.server.timeout(call.request, WAITING_S);
      return () => waiting.delete(call);
    },
    access: (call) => ({
      user: call.caller.user,
      access: call.caller.access,
      lang: call.lang,
      release: enter(call),
    }),
  };

  const http = createHttp({ config: current, people, sessions: () => sessions, botBySession: bots.bySession, log });

  const signIn = createSignInDoor(gate);
  const routes: Route[] = [
    ...systemRoutes(gate),
    ...accountRoutes(gate),
    ...chatRoutes(gate),
    ...conversationRoutes(gate),
    ...fileRoutes(gate),
    ...openAiRoutes(gate),
    ...socketRoutes(gate),
    ...signIn.routes,
  ];

  const models = createModels({ log, env: process.env });
  let ownUrl: string | undefined;

  // ── clocks ──────────────────────────────────────────────────────────────────────────────────────────────────────

  const timers: ReturnType<typeof setInterval>[] = [];
  const every = (ms: number, run: () => void): void => {
    timers.push(setInterval(run, ms));
  };
  const quietly = (what: string, job: Promise<unknown>): void => {
    job.catch((error: unknown) => log("error", "sweep_failed", { what, error: String(error) }));
  };
  const indexSearch = async (): Promise<void> => {
    while (!stopping && (await store.search.indexSome())) await Bun.sleep(20);
  };
  let indexing: Promise<void> | undefined;

  const sweeps = {
    second: (): void => {
      bots.sweep();
      turns.sweep();
      sessions.refreshKeys();
      indexing ??= indexSearch().finally(() => {
        indexing = undefined;
      });
      quietly("search", indexing);
    },
    fiveSeconds: (): void => {
      streams.sweep();
      inbox.sweep();
      for (const call of waiting) call.server.timeout(call.request, WAITING_S);
      quietly("conversations", store.conversations.sweep(config.retentionDays));
    },
    minute: (): void => {
      sessions.sweep();
      signIn.sweep();
      quietly("chunks", store.turns.prune());
      quietly("access", store.access.sweep());
      quietly("inbox", store.inbox.sweep());
      quietly("attachments", store.attachments.sweep());
    },
  };

  const listen = (): { port: number; url: string } => {
    server = Bun.serve<SocketData>({
      port: config.port,
      hostname: config.host,
      development: false,
      idleTimeout: IDLE_S,
      maxRequestBodySize: Math.max(config.limits.bodyBytes, config.limits.attachmentBytes) + BODY_SLACK,
      routes: http.table(routes) as never,
      fetch: http.fallback(
        routes,
        async (request, path) =>
          signIn.beforePage(request, path) ??
          assetResponse(await page(), request, path, {
            frameAncestors: config.frameAncestors,
            language: config.language,
          }),
      ),
      error: http.failed,
      websocket: {
        data: {} as SocketData,
        maxPayloadLength: config.limits.frameBytes,
        // Twice a frame: after one of the largest, the small ones behind it still fit (measured; see facts on 0 from send).
        backpressureLimit: 2 * config.limits.frameBytes + BODY_SLACK,
        idleTimeout: SOCKET_IDLE_S,
        sendPings: true,
        perMessageDeflate: false,
        ...bots.handlers,
      },
    });
    turns.recover();
    every(1000, sweeps.second);
    // A short botTimeout needs its pings in time; a second is enough for the usual ones.
    if (config.pingInterval < 2000) every(Math.max(20, config.pingInterval / 2), bots.sweep);
    every(5000, sweeps.fiveSeconds);
    every(60_000, sweeps.minute);
    const host =
      config.host === "0.0.0.0" || config.host === "::"
        ? "127.0.0.1"
        : config.host.includes(":")
          ? `[${config.host}]`
          : config.host;
    const port = server.port!;
    ownUrl = `http://${host}:${port}`;
    models.apply(config, ownUrl);
    return { port, url: ownUrl };
  };

  const until = async (done: () => boolean, ms: number): Promise<void> => {
    const deadline = Date.now() + ms;
    while (!done() && Date.now() < deadline) await Bun.sleep(50);
  };

  const stopNow = async (): Promise<void> => {
    for (const timer of timers.splice(0)) clearInterval(timer);
    streams.closeAll();
    await models.close();
    bots.closeAll();
    online.stop();
    await turns.stop();
    await indexing?.catch(() => {}); // logged by the sweep
    await Bun.sleep(20); // close frames and last bytes leave before the sockets are cut
    await server?.stop(true);
    store.close();
  };
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => (stopping ??= stopNow());

  return {
    routes,
    listen,
    gate,
    /** For tests with a clock of their own. */
    sweeps,
    page,

    /** Takes over a new config. Nobody who is still allowed is dropped. host, port, dataDir and synchronous need a restart. */
    reload: (next: Config): void => {
      const { host, port, synchronous } = config;
      for (const [name, was, is] of [
        ["host", host, next.host],
        ["port", port, next.port],
        ["dataDir", config.dataDir, next.dataDir],
        ["synchronous", synchronous, next.synchronous],
      ] as const)
        if (was !== is) log("warn", "config_needs_restart", { setting: name });
      config = { ...next, host, port, dataDir: config.dataDir, synchronous };
      sessions.recheck();
      bots.recheck();
      if (ownUrl !== undefined) models.apply(config, ownUrl);
      streams.endWhere((sse) => !people.has(sse.user));
    },

    /** No new turns; open ones get 25 s; then everything is closed and stored. Resolves when the process may exit. */
    drain: async (): Promise<void> => {
      draining = true;
      log("info", "draining", { turns: turns.count() });
      await until(() => turns.count() === 0, DRAIN_MS);
      await stop();
    },

    /** Closes at once; open turns go on after the next start. */
    close: async (): Promise<void> => {
      draining = true;
      await stop();
    },
  };
};

export type Gateway = Awaited<ReturnType<typeof createGateway>>;
