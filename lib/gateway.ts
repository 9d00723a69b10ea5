/**
 * One gateway: the store, bots, turns, streams, sessions and routes put together, and one Bun.serve for all of them.
 *
 * Owns the wiring and the clocks (one sweep per concern, no timer per object). Several can live in one process: nothing is
 * module state. Refuses to decide anything the parts decide.
 */
import type { Server } from "bun";
import { createAudit } from "./audit.ts";
import { lazily, loadAssets, type Assets } from "./assets.ts";
import { digest, newSecret } from "./auth.ts";
import { createBotSettings } from "./botsettings.ts";
import { createBots, type Bots, type SocketData } from "./bots.ts";
import { createClocks, steadyFrom } from "./clocks.ts";
import type { Config } from "./config.ts";
import { asRunning } from "./config/running.ts";
import { createDays } from "./days.ts";
import type { Gate } from "./gate.ts";
import { createHearing } from "./hear.ts";
import { createHttp, type Call, type Route } from "./http.ts";
import { createIndexing } from "./indexing.ts";
import { createInbox, type Inbox } from "./inbox.ts";
import { createBuckets } from "./limits.ts";
import type { Log } from "./log.ts";
import { createMetrics } from "./metrics.ts";
import { createModels } from "./models/set.ts";
import { createOnline } from "./online.ts";
import { createPeople } from "./people.ts";
import { createPasswordCheck } from "./passwords.ts";
import { createQuota } from "./quota.ts";
import { createRoster } from "./roster.ts";
import { accountRoutes } from "./routes/account.ts";
import { adminRoutes } from "./routes/admin.ts";
import { chatRoutes } from "./routes/chat.ts";
import { conversationRoutes } from "./routes/conversations.ts";
import { fileRoutes } from "./routes/files.ts";
import { metricsRoutes } from "./routes/metrics.ts";
import { openAiRoutes } from "./routes/openai.ts";
import { createSignInDoor } from "./routes/signin.ts";
import { socketRoutes } from "./routes/socket.ts";
import { systemRoutes } from "./routes/system.ts";
import { createSessions, type Sessions } from "./sessions.ts";
import { createEntrance, serve, urlOf } from "./serve.ts";
import { openStore } from "./store.ts";
import { createStreams } from "./streams.ts";
import { createSync } from "./sync.ts";
import { createTurns, type Turns } from "./turns.ts";

/** A request that waits for an answer is looked after every 5 s, so this many seconds of silence are enough. */
const WAITING_S = 60;
/** Open turns get this long after SIGTERM. */
const DRAIN_MS = 25_000;

export type GatewayOptions = {
  config: Config;
  log: Log;
  /** The wall clock: what is stored and shown. Alone, it is also what deadlines count by. */
  now?: () => number;
  /** A clock that is never set: what deadlines, heartbeats and limits count by. */
  steady?: () => number;
  /** Instead of config.dataDir. */
  dataDir?: string;
  /** Called at the first sign-in with a password. */
  signedIn?: (user: string) => void;
  /** Where programs of `models` write what is for the operator; not the log, which must hold nothing of what people wrote. */
  stderr?: (text: string) => void;
  /** Given by tests that need no page. */
  assets?: Assets;
};

/** Opens the store (throws StoreRefused) and puts the parts together; nothing listens yet. */
export const createGateway = async ({
  config: initial,
  log: write,
  now: wall,
  steady = wall ?? steadyFrom(Date.now()),
  dataDir = initial.dataDir,
  signedIn = () => {},
  stderr = (text) => void process.stderr.write(text),
  assets,
}: GatewayOptions) => {
  const now = wall ?? Date.now;
  const metrics = createMetrics({ now });
  const log: Log = (level, event, fields) => {
    if (level !== "debug") metrics.logged(level, event); // those are not written, but for who looks for a fault
    write(level, event, fields);
  };
  /** As the file says it; `config` is what holds, with what admins set on the page over it. */
  let file = initial;
  let config = initial;
  let draining = false;
  let server: Server<SocketData> | undefined;
  const current = (): Config => config;
  const none = (limit: number): number => (limit === 0 ? Infinity : limit);

  const page = lazily(() => (assets ? Promise.resolve(assets) : loadAssets({ embedded: Bun.embeddedFiles })));
  const days = createDays({ now, timeZone: () => config.timeZone });
  const store = openStore({ dir: dataDir, synchronous: config.synchronous, now, log, today: days.today });
  const botSettings = createBotSettings({ store, now });
  config = botSettings.over(file);
  const people = createPeople({ config: current, store, now });
  const streams = createStreams({ config: current, now: steady });
  const quota = createQuota({ config: current, people, store, days, now, refused: metrics.quotaRefused });
  const turns: Turns = createTurns({
    config: current,
    store,
    people,
    bots: () => bots,
    streams,
    quota,
    metrics,
    log,
    now: steady,
  });
  const inbox: Inbox = createInbox({
    config: current,
    store,
    bots: () => bots,
    publish: turns.publish,
    isUser: people.has,
    log,
    now,
    steady,
  });

  const online = createOnline({ bots: () => bots, streams });
  const botsChanged = (): void => {
    online.changed();
    turns.roomChanged();
  };

  /** What its own models show: the operator's tokens come and go, and strangers may hold them. */
  const secret = newSecret("nxb_");
  const bots: Bots = createBots({
    config: current,
    store,
    log,
    now: steady,
    hooks: {
      pending: turns.pending,
      joined: (connection, replaced) => {
        turns.joined(connection, replaced);
        if (connection.caps.has("message")) inbox.receipts(connection);
      },
      left: turns.left,
      changed: botsChanged,
      frame: createHearing({ turns, inbox, send: (to, frame) => bots.send(to, frame), log }),
    },
    ours: digest(secret),
  });

  const sessions: Sessions = createSessions({
    config: current,
    store,
    people,
    now,
    ended: (access) => streams.endWhere((sse) => sse.access === access),
  });
  const passwords = createPasswordCheck({ users: people.all, now: steady, log });
  const sends = createBuckets({
    burst: () => none(config.limits.sendsPerMinute),
    refillMs: () => (config.limits.sendsPerMinute === 0 ? 0 : 60_000 / config.limits.sendsPerMinute),
    now: steady,
  });
  const enter = createEntrance({ config: current, log, now: steady });

  /** After any change of who may come in: nobody stays who must not. */
  const recheck = (): void => {
    sessions.recheck();
    bots.recheck();
    streams.endWhere((sse) => !people.has(sse.user));
  };

  const waiting = createRoster<Call>();
  let waited = 0;
  const gate: Gate = {
    config: current,
    log,
    now,
    steady,
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
    metrics,
    days,
    quota,
    audit: createAudit({ store, log, counted: metrics.audited }),
    botSettings,
    file: () => file,
    settled: () => {
      config = botSettings.over(file);
      recheck();
    },
    isDraining: () => draining,
    enter,
    signedIn,
    keepAlive: (call) => {
      const place = ++waited;
      waiting.set(place, call); // the next look comes well within IDLE_S
      return () => waiting.delete(place);
    },
    access: (call) => ({
      user: call.caller.user,
      access: call.caller.access,
      only: call.caller.key?.bots,
      lang: call.lang,
      release: enter(call),
    }),
  };

  const http = createHttp({
    config: current,
    people,
    sessions: () => sessions,
    botBySession: bots.bySession,
    answered: metrics.answered,
    log,
  });

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
    ...metricsRoutes(gate),
    ...adminRoutes(gate),
  ];

  const models = createModels({ log, env: process.env, token: secret, stderr });

  // ── clocks ──────────────────────────────────────────────────────────────────────────────────────────────────────

  const sweepConversations = async (): Promise<void> => {
    for (const { user, id, rev } of await store.conversations.sweep(config.retentionDays))
      turns.publish.deleted(user, id, rev);
  };
  const indexing = createIndexing(store);
  const clocks = createClocks(
    {
      second: () => {
        bots.sweep();
        turns.sweep();
        sessions.refreshKeys();
        const pass = indexing.beat();
        return pass ? { search: pass } : {};
      },
      fiveSeconds: () => {
        streams.sweep();
        inbox.sweep();
        for (const call of waiting.values()) call.server.timeout(call.request, WAITING_S);
        return { conversations: sweepConversations() };
      },
      minute: () => {
        sessions.sweep();
        signIn.sweep();
        return {
          chunks: store.turns.prune(),
          access: store.access.sweep(),
          inbox: store.inbox.sweep(),
          attachments: store.attachments.sweep(),
          usage: store.usage.sweep(days.daysAgo(store.usage.keepDays)),
          audit: store.audit.sweep(),
        };
      },
    },
    log,
  );
  let stopProbe = (): void => {};

  const listen = (): { port: number; url: string } => {
    server = serve({ config: current, routes, http, sockets: bots.handlers, page, beforePage: signIn.beforePage });
    turns.recover();
    clocks.start();
    stopProbe = metrics.probe();
    // A short botTimeout needs its pings in time; a second is enough for the usual ones.
    if (config.pingInterval < 2000) clocks.every(Math.max(20, config.pingInterval / 2), bots.sweep);
    const url = urlOf(config.host, server.port!);
    models.apply(config, url);
    return { port: server.port!, url };
  };

  const until = async (done: () => boolean, ms: number): Promise<void> => {
    const deadline = performance.now() + ms; // not the wall clock: a step of it would cut a drain short, or make it endless
    while (!done() && performance.now() < deadline) await Bun.sleep(50);
  };

  const stopNow = async (): Promise<void> => {
    clocks.stop();
    stopProbe();
    streams.closeAll();
    turns.leave(); // models and bots go one after the other, and nobody's answer is given to who goes next
    await models.close();
    bots.closeAll();
    online.stop();
    await turns.stop();
    await indexing.stop();
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
    sweeps: clocks.beats,
    page,

    /** Takes over a new config, but for what needs a restart (config/running.ts). Nobody who is still allowed is dropped. */
    reload: (next: Config): void => {
      const running = asRunning(initial, next);
      for (const setting of running.waits) log("warn", "config_needs_restart", { setting });
      file = running.config;
      config = botSettings.over(file);
      recheck();
      models.apply(config);
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
