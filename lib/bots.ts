/**
 * The bots that are connected: registration, heartbeat, frames in and out, and every reason to close a socket.
 *
 * Owns the Map of connections and is the only code that writes it. What must stay true: no frame to a bot is dropped in
 * silence (a 0 from ws.send ends the socket, PROMISES L3); a close of a replaced socket changes nothing; handlers are
 * synchronous, because a rejected async handler would end the process. Refuses to know what a turn is: frames and
 * departures go to the functions given at creation.
 */
import type { ServerWebSocket } from "bun";
import { listBots } from "./botlist.ts";
import { admit, mayUse, type Admitted } from "./admit.ts";
import { digest, newSecret } from "./auth.ts";
import type { Config } from "./config.ts";
import { parseFrame } from "./frames.ts";
import type { Log } from "./log.ts";
import {
  CLOSE,
  PROTO,
  Reject,
  type BotFrame,
  type BotInfo,
  type CloseReason,
  type GatewayFrame,
  type RegisterFrame,
} from "./protocol.ts";
import type { Store } from "./store.ts";

/** What a socket carries: nothing about the bot before `registered`. */
export type SocketData = {
  address: string;
  openedAt: number;
  connection: Connection | undefined;
  registering: boolean;
  release: () => void;
};
export type Socket = ServerWebSocket<SocketData>;

export type Connection = Omit<Admitted, "caps"> & {
  caps: Admitted["caps"];
  /** Tells instances of one botId apart, "" when the bot names none. */
  key: string;
  ws: Socket;
  connectedAt: number;
  seenAt: number;
  pingAt: number;
  inFlight: number;
  idleSince: number;
  draining: boolean;
  /** Frames that must wait for the socket to drain, and since when. */
  outbox: string[];
  outboxBytes: number;
  blockedAt: number | undefined;
  badFrames: number;
  gone: boolean;
  /** It presented the session of the connection before it, so that one's turns are its own. */
  resumed: boolean;
};

export type BotHooks = {
  /** In the Map and told so; `replaced` is the connection it took the place of. Returns what to list as pending. */
  joined(connection: Connection, replaced: Connection | undefined): void;
  /** For `registered.pending`, asked before `joined`. */
  pending(connection: Connection): { id: string; seq: number }[];
  frame(connection: Connection, frame: Exclude<BotFrame, RegisterFrame | { type: "pong" }>): void;
  left(connection: Connection): void;
  /** Who is online, or what they can, changed. */
  changed(): void;
};

/** Without a register within this time a socket is closed (PROMISES L5). */
export const REGISTER_MS = 5_000;
/** Over this many frames that cannot be parsed, a bot is told not to come back. */
const MAX_BAD_FRAMES = 10;
/** Frames waiting behind a full socket: three of the largest. */
const OUTBOX_FRAMES_BYTES = 3;
/** A bot whose socket takes nothing for this long is too slow. */
const BLOCKED_MS = 30_000;

export const createBots = (deps: {
  config: () => Config;
  store: Store;
  log: Log;
  now: () => number;
  hooks: BotHooks;
}) => {
  const { config, store, log, now, hooks } = deps;
  const connections = new Map<string, Connection>();
  /** Names seen since the start: tells "offline" from "never heard of". */
  const known = new Map<string, string>();
  const sockets = new Set<Socket>();

  const keyOf = (botId: string, instance: string): string => `${botId}\n${instance}`;

  const closeSocket = (ws: Socket, reason: CloseReason, text: string = reason): void => {
    ws.close(CLOSE[reason], text);
  };

  const close = (connection: Connection, reason: CloseReason): void => {
    if (connection.gone) return;
    log("warn", "bot_closed", { bot: connection.botId, instance: connection.instance, reason });
    drop(connection);
    closeSocket(connection.ws, reason);
    // The close frame waits behind what the peer does not read: end the socket once it had its chance.
    if (reason === "too_slow" || reason === "no_pong") setTimeout(() => connection.ws.terminate(), 1000).unref();
  };

  /** Takes it out of the Map and tells the turns. Idempotent. */
  const drop = (connection: Connection): void => {
    if (connection.gone) return;
    connection.gone = true;
    connection.outbox = [];
    if (connections.get(connection.key) === connection) connections.delete(connection.key);
    hooks.left(connection);
    hooks.changed();
  };

  /** False when the frame could not be taken: the connection is closed then. */
  const sendText = (connection: Connection, json: string): boolean => {
    if (connection.gone) return false;
    const limit = config().limits.frameBytes;
    if (connection.outbox.length > 0 || connection.ws.getBufferedAmount() > limit) {
      connection.outboxBytes += json.length;
      if (connection.outboxBytes > limit * OUTBOX_FRAMES_BYTES) {
        close(connection, "too_slow");
        return false;
      }
      connection.outbox.push(json);
      connection.blockedAt ??= now();
      return true;
    }
    if (connection.ws.send(json) === 0) {
      close(connection, "too_slow");
      return false;
    }
    return true;
  };

  const send = (connection: Connection, frame: GatewayFrame): boolean => sendText(connection, JSON.stringify(frame));

  const refuse = (ws: Socket, frame: RegisterFrame, reason: CloseReason, error: string): void => {
    log("warn", "bot_refused", { bot: frame.botId, address: ws.data.address, reason });
    ws.send(JSON.stringify({ type: "registered", success: false, error, ...(frame.proto && { code: reason }) }));
    closeSocket(ws, reason, error);
  };

  /** The new session secret of a v2 bot, and whether it brought the old one. Rotated at each registration. */
  const rotate = async (
    admitted: Admitted,
    presented: string | undefined,
  ): Promise<{ session: string; resumed: boolean }> => {
    const row = store.access.botSession(admitted.botId, admitted.instance);
    const hash = presented === undefined ? undefined : digest(presented);
    const resumed = hash !== undefined && row !== undefined && (hash === row.hash || hash === row.previous);
    const session = newSecret("nxb_");
    await store.access.putBotSession({
      bot: admitted.botId,
      instance: admitted.instance,
      hash: digest(session),
      previous: resumed ? hash : null,
      updated_at: now(),
    });
    return { session, resumed };
  };

  const join = (ws: Socket, admitted: Admitted, resumed: boolean, session: string | undefined): void => {
    const key = keyOf(admitted.botId, admitted.instance);
    const replaced = connections.get(key);
    const at = now();
    const connection: Connection = {
      ...admitted,
      key,
      ws,
      connectedAt: at,
      seenAt: at,
      pingAt: at + config().pingInterval,
      inFlight: 0,
      idleSince: at,
      draining: false,
      outbox: [],
      outboxBytes: 0,
      blockedAt: undefined,
      badFrames: 0,
      gone: false,
      resumed,
    };
    if (replaced) {
      log("warn", "bot_replaced", { bot: replaced.botId, instance: replaced.instance, address: ws.data.address });
      replaced.gone = true;
      replaced.outbox = [];
      closeSocket(replaced.ws, "replaced");
    }
    ws.data.connection = connection;
    connections.set(key, connection);
    known.set(admitted.botId, admitted.name);
    const { frameBytes, attachmentBytes } = config().limits;
    const v2 = session !== undefined && {
      proto: PROTO,
      caps: [...admitted.caps],
      session,
      pingInterval: config().pingInterval,
      limits: { frameBytes, attachmentBytes },
      pending: hooks.pending(connection),
    };
    ws.send(JSON.stringify({ type: "registered", success: true, ...v2 }));
    log("info", "bot_joined", {
      bot: admitted.botId,
      instance: admitted.instance,
      proto: admitted.proto,
      address: ws.data.address,
      resumed,
    });
    hooks.joined(connection, replaced);
    hooks.changed();
  };

  const register = (ws: Socket, frame: RegisterFrame): void => {
    if (ws.data.registering || ws.data.connection)
      throw new Reject("bad_request", { zh: "这个连接已经注册", en: "this connection is registered already" });
    const { token, session, ...asked } = frame;
    const verdict = admit(config(), asked, digest(token ?? ""));
    if (!verdict.ok) return refuse(ws, frame, verdict.reason, verdict.error);
    const max = config().limits.bots;
    const key = keyOf(verdict.botId, verdict.instance);
    if (max > 0 && connections.size >= max && !connections.has(key)) {
      ws.send(
        JSON.stringify({
          type: "registered",
          success: false,
          error: `At most ${max} bots (limits.bots)`,
          ...(frame.proto && { code: "rate_limited" }),
        }),
      );
      return closeSocket(ws, "too_slow", "limits.bots");
    }
    if (verdict.proto === 1) return join(ws, verdict, false, undefined);
    ws.data.registering = true;
    rotate(verdict, session).then(
      ({ session, resumed }) => {
        if (sockets.has(ws)) join(ws, verdict, resumed, session);
      },
      (error: unknown) => {
        log("error", "bot_session_failed", { bot: verdict.botId, error: String(error) });
        closeSocket(ws, "too_slow", "storage_failed");
      },
    );
  };

  const receive = (ws: Socket, data: string | Buffer): void => {
    const connection = ws.data.connection;
    if (connection?.gone) return; // replaced or closed: what it still says counts for nothing
    try {
      if (typeof data !== "string")
        throw new Reject("bad_request", { zh: "帧应为文本", en: "frames are text, not binary" });
      const frame = parseFrame(data, config().limits);
      if (!connection) {
        if (frame?.type === "register") return register(ws, frame);
        if (!ws.data.registering) ws.send(JSON.stringify({ type: "error", message: "Not registered" }));
        return;
      }
      connection.seenAt = now();
      if (!frame) {
        if (connection.proto === 2)
          send(connection, { type: "error", code: "unknown_type", message: "Unknown frame type" });
        return;
      }
      if (frame.type === "pong") return;
      if (frame.type === "register") return register(ws, frame);
      if (frame.type === "event" && frame.kind === "draining") {
        connection.draining = true;
        return hooks.changed();
      }
      hooks.frame(connection, frame);
    } catch (error) {
      badFrame(ws, connection, error);
    }
  };

  const badFrame = (ws: Socket, connection: Connection | undefined, error: unknown): void => {
    const code = error instanceof Reject ? error.code : "internal";
    const message = error instanceof Reject ? error.say.en : "Internal error";
    if (!(error instanceof Reject))
      log("error", "frame_failed", { bot: connection?.botId, error: String(error), stack: (error as Error)?.stack });
    if (!connection) {
      // v1 bots understand `registered` best: a malformed register is refused as one.
      ws.send(JSON.stringify({ type: "registered", success: false, error: message }));
      return closeSocket(ws, "bad_frames", message.slice(0, 100));
    }
    send(connection, { type: "error", code, message });
    if (error instanceof Reject && ++connection.badFrames > MAX_BAD_FRAMES) close(connection, "bad_frames");
  };

  return {
    send,
    sendText,
    close,
    connections: (): Iterable<Connection> => connections.values(),
    mayUse: (user: string, botId: string): boolean => mayUse(config(), user, botId),
    /** Online bots, oldest first; those `user` may use when one is given. */
    list: (user?: string): BotInfo[] =>
      listBots(connections.values(), (id) => user === undefined || mayUse(config(), user, id)),
    isOnline: (botId: string): boolean => [...connections.values()].some((one) => one.botId === botId),
    /** Everyone seen since the start and everyone configured: id → name, for mentions. */
    names: (): Map<string, string> =>
      new Map([...[...config().bots].map(([id, entry]) => [id, entry.name ?? id] as const), ...known]),
    find: (botId: string, instance: string): Connection | undefined => connections.get(keyOf(botId, instance)),
    count: (): number => connections.size,
    /** The bot whose live v2 session this digest is, for file transfer over HTTP. */
    bySession: (hash: string): Connection | undefined => {
      const row = store.access.botSessionByHash(hash);
      return row && connections.get(keyOf(row.bot, row.instance));
    },

    /** The `websocket` part of Bun.serve. */
    handlers: {
      open: (ws: Socket): void => {
        sockets.add(ws);
      },
      message: receive,
      drain: (ws: Socket): void => {
        const connection = ws.data.connection;
        if (!connection || connection.gone) return;
        const waiting = connection.outbox;
        connection.outbox = [];
        connection.outboxBytes = 0;
        connection.blockedAt = undefined;
        for (const json of waiting) sendText(connection, json);
      },
      close: (ws: Socket, code: number, reason: string): void => {
        sockets.delete(ws);
        ws.data.release();
        const connection = ws.data.connection;
        if (!connection || connection.gone) return;
        log("info", "bot_left", { bot: connection.botId, instance: connection.instance, code, reason });
        drop(connection);
      },
    },

    /** Heartbeats and deadlines; call it about once a second. */
    sweep: (): void => {
      const at = now();
      const { pingInterval, botTimeout } = config();
      for (const ws of sockets)
        if (!ws.data.connection && !ws.data.registering && at - ws.data.openedAt >= REGISTER_MS)
          closeSocket(ws, "no_register");
      for (const one of [...connections.values()]) {
        if (at - one.seenAt > botTimeout) close(one, "no_pong");
        else if (one.blockedAt !== undefined && at - one.blockedAt > BLOCKED_MS) close(one, "too_slow");
        else if (at >= one.pingAt) {
          one.pingAt = at + pingInterval;
          send(one, { type: "ping" });
        }
      }
    },

    /** After a config change: who is no longer let in is closed, the others take on what their entry now says. */
    recheck: (): void => {
      for (const one of [...connections.values()]) {
        const verdict = admit(config(), one.asked, one.tokenDigest);
        if (!verdict.ok) close(one, verdict.reason);
        else
          Object.assign(one, {
            name: verdict.name,
            pools: verdict.pools,
            weight: verdict.weight,
            maxConcurrency: verdict.maxConcurrency,
          });
      }
      hooks.changed();
    },

    closeAll: (): void => {
      for (const ws of sockets) closeSocket(ws, "shutting_down");
    },
  };
};

export type Bots = ReturnType<typeof createBots>;
