/**
 * The bots that are connected: registration, heartbeat, frames in and out, and every reason to close a socket.
 *
 * Owns the Map of connections and is the only code that writes it. What must stay true: no frame to a bot is dropped in
 * silence (a 0 from ws.send ends the socket, PROMISES L3); a close of a replaced socket changes nothing; handlers are
 * synchronous, because a rejected async handler would end the process. Refuses to know what a turn is: frames and
 * departures go to the functions given at creation.
 */
import type { ServerWebSocket } from "bun";
import { createBotNames, listBots } from "./botlist.ts";
import { admit, mayUse, type Admitted, type Verdict } from "./admit.ts";
import { digest } from "./auth.ts";
import { closeSocket, refuseRegister } from "./bots/close.ts";
import { createOutlet, type Outlet } from "./bots/outlet.ts";
import type { BotHooks } from "./bots/hooks.ts";
import { createBotSessions } from "./bots/session.ts";
import type { Config } from "./config.ts";
import { messageIdOf, parseFrame } from "./frames.ts";
import type { Log } from "./log.ts";
import {
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

export type Connection = Admitted & {
  /** Tells instances of one botId apart, "" when the bot names none. */
  key: string;
  ws: Socket;
  connectedAt: number;
  seenAt: number;
  pingAt: number;
  inFlight: number;
  /** When it last finished a turn, or registered; never the same moment twice, so that ties are fair within a millisecond. */
  idleSince: number;
  draining: boolean;
  outlet: Outlet;
  badFrames: number;
  /** Frames about turns that were not given to it. */
  strays: number;
  gone: boolean;
  /** It presented the session of the connection before it, so that one's turns are its own. */
  resumed: boolean;
};

/** Without a register within this time a socket is closed (PROMISES L5). */
export const REGISTER_MS = 5_000;
/** Over this many frames that cannot be parsed, a bot is told not to come back. */
const MAX_BAD_FRAMES = 10;

export const createBots = (deps: {
  config: () => Config;
  store: Store;
  log: Log;
  now: () => number;
  hooks: BotHooks;
  ours: string; // as in admit.ts
}) => {
  const { config, store, log, now, hooks, ours } = deps;
  const connections = new Map<string, Connection>();
  const names = createBotNames(config);
  const sockets = new Set<Socket>();
  const sessions = createBotSessions(store, now);

  const mostBytes = (): number => config().limits.frameBytes;
  const keyOf = (botId: string, instance: string): string => `${botId}\n${instance}`;

  const sweepSilent = (): void => {
    for (const ws of [...sockets])
      if (!ws.data.connection && !ws.data.registering && now() - ws.data.openedAt >= REGISTER_MS)
        closeSocket(ws, "no_register");
  };

  const close = (connection: Connection, reason: CloseReason): void => {
    if (connection.gone) return;
    log("warn", "bot_closed", { bot: connection.botId, instance: connection.instance, reason });
    drop(connection);
    closeSocket(connection.ws, reason);
  };

  /** Takes it out of the Map and tells the turns. Idempotent. */
  const drop = (connection: Connection): void => {
    if (connection.gone) return;
    connection.gone = true;
    connection.outlet.drop();
    if (connections.get(connection.key) === connection) connections.delete(connection.key);
    hooks.left(connection);
    hooks.changed();
  };

  /** False when the frame could not be taken: the connection is closed then. */
  const sendText = (connection: Connection, json: string): boolean => {
    if (connection.gone) return false;
    if (connection.outlet.send(json)) return true;
    close(connection, "too_slow");
    return false;
  };

  const send = (connection: Connection, frame: GatewayFrame): boolean => sendText(connection, JSON.stringify(frame));

  const refuse = (ws: Socket, frame: RegisterFrame, { reason, error }: Verdict & { ok: false }): void => {
    log("warn", "bot_refused", { bot: frame.botId, address: ws.data.address, reason });
    refuseRegister(ws, error, frame.proto ? reason : undefined, reason, error);
  };

  const join = (ws: Socket, admitted: Admitted, resumed: boolean, session: string | undefined): void => {
    const key = keyOf(admitted.botId, admitted.instance);
    const replaced = connections.get(key);
    if (!replaced && isFull()) return refuseFull(ws, admitted);
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
      outlet: createOutlet(ws, mostBytes, now, () => close(connection, "too_slow")),
      badFrames: 0,
      strays: 0,
      gone: false,
      resumed,
    };
    if (replaced) {
      log("warn", "bot_replaced", { bot: replaced.botId, instance: replaced.instance, address: ws.data.address });
      replaced.gone = true;
      replaced.outlet.drop();
      closeSocket(replaced.ws, "replaced");
    }
    ws.data.connection = connection;
    connections.set(key, connection);
    names.remember(admitted);
    if (admitted.pools.length === 0)
      log("warn", "bot_without_pool", {
        bot: admitted.botId,
        hint: "every pool it asked for is reserved by an entry of `bots` in the config: people reach it only by name",
      });
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

  const isFull = (): boolean => config().limits.bots > 0 && connections.size >= config().limits.bots;

  /** Not a code of its own: a bot that comes back later may find room (4002 is in the range that comes back). */
  const refuseFull = (ws: Socket, { botId, proto }: Pick<Admitted, "botId" | "proto">): void => {
    const error = `At most ${config().limits.bots} bots (limits.bots)`;
    log("warn", "bot_refused", { bot: botId, address: ws.data.address, reason: "limits.bots" });
    refuseRegister(ws, error, proto === 2 ? "rate_limited" : undefined, "too_slow", "limits.bots");
  };

  const register = (ws: Socket, frame: RegisterFrame): void => {
    if (ws.data.registering || ws.data.connection)
      throw new Reject("bad_request", { zh: "这个连接已经注册", en: "this connection is registered already" });
    const { token, session, ...asked } = frame;
    const judge = (): Verdict => admit(config(), asked, digest(token ?? ""), ours);
    const verdict = judge();
    if (!verdict.ok) return refuse(ws, frame, verdict);
    if (isFull() && !connections.has(keyOf(verdict.botId, verdict.instance))) return refuseFull(ws, verdict);
    // It has spoken, so it knows its session; whoever shows the one before was overtaken on the way (a stalled proxy).
    const live = connections.get(keyOf(verdict.botId, verdict.instance));
    const spoke = live !== undefined && live.seenAt > live.connectedAt;
    if (verdict.proto === 2 && spoke && session && sessions.isOlder(verdict, session)) {
      log("warn", "bot_overtaken", { bot: verdict.botId, instance: verdict.instance, address: ws.data.address });
      return closeSocket(ws, "replaced");
    }
    ws.data.registering = true;
    if (verdict.proto === 1) return join(ws, verdict, false, undefined);
    sessions.rotate(verdict, session).then(
      ({ session, resumed }) => {
        if (!sockets.has(ws)) return;
        const still = judge(); // the config may have changed while the session was stored
        if (still.ok) join(ws, still, resumed, session);
        else refuse(ws, frame, still);
      },
      (error: unknown) => {
        log("error", "bot_session_failed", { bot: verdict.botId, error: String(error) });
        closeSocket(ws, "too_slow", "storage_failed");
      },
    );
  };

  /** A v1 bot speaks v1: what its frames would be in v2 is unknown to it, and so would be the answers. */
  const understood = (connection: Connection, type: BotFrame["type"]): boolean =>
    connection.proto === 2 || type === "reply" || type === "pong" || type === "register";

  const receive = (ws: Socket, data: string | Buffer): void => {
    const connection = ws.data.connection;
    if (connection?.gone) return; // replaced or closed: what it still says counts for nothing
    if (connection) connection.seenAt = now();
    try {
      if (typeof data !== "string")
        throw new Reject("bad_request", { zh: "帧应为文本", en: "frames are text, not binary" });
      const frame = parseFrame(data, config().limits);
      if (!connection) {
        if (frame?.type === "register") return register(ws, frame);
        if (!ws.data.registering) ws.send(JSON.stringify({ type: "error", message: "Not registered" }));
        return;
      }
      if (!frame) {
        if (connection.proto === 2)
          send(connection, { type: "error", code: "unknown_type", message: "Unknown frame type" });
        return;
      }
      if (frame.type === "pong" || !understood(connection, frame.type)) return;
      if (frame.type === "register") return register(ws, frame);
      if (frame.type === "event" && frame.kind === "draining" && frame.replyTo === undefined) {
        connection.draining = true;
        return hooks.changed();
      }
      hooks.frame(connection, frame);
    } catch (error) {
      badFrame(ws, connection, error, data);
    }
  };

  const badFrame = (ws: Socket, connection: Connection | undefined, error: unknown, data: string | Buffer): void => {
    const code = error instanceof Reject ? error.code : "internal";
    const message = error instanceof Reject ? error.say.en : "Internal error";
    if (!(error instanceof Reject))
      log("error", "frame_failed", { bot: connection?.botId, error: String(error), stack: (error as Error)?.stack });
    if (!connection) {
      // v1 bots understand `registered` best: a malformed register is refused as one.
      return refuseRegister(ws, message, undefined, "bad_frames", message.slice(0, 100));
    }
    const id = connection.proto === 2 && typeof data === "string" ? messageIdOf(data) : undefined;
    send(connection, { type: "error", code, message, ...(id !== undefined && { id }) });
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
    names: names.all,
    find: (botId: string, instance: string): Connection | undefined => connections.get(keyOf(botId, instance)),
    count: (): number => connections.size,
    /** The bot whose live v2 session this digest is, for file transfer over HTTP. */
    bySession: (hash: string): Connection | undefined => {
      const owner = sessions.owner(hash);
      return owner && connections.get(keyOf(owner.botId, owner.instance));
    },

    /** The `websocket` part of Bun.serve. */
    handlers: {
      open: (ws: Socket): void => {
        sockets.add(ws);
        ws.data.openedAt = now();
        // On top of the sweep, so that a silent socket lives 5 s and not up to 6.
        setTimeout(sweepSilent, REGISTER_MS).unref();
      },
      message: receive,
      drain: (ws: Socket): void => {
        const connection = ws.data.connection;
        if (connection && !connection.gone && !connection.outlet.drained()) close(connection, "too_slow");
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
      sweepSilent();
      for (const one of [...connections.values()]) {
        if (at - one.seenAt >= botTimeout) close(one, "no_pong");
        else if (one.outlet.stuck(at)) close(one, "too_slow");
        else if (at >= one.pingAt) {
          one.pingAt = at + pingInterval;
          send(one, { type: "ping" });
        }
      }
    },

    /** After a config change: who is no longer let in is closed, the others take on what their entry now says. */
    recheck: (): void => {
      for (const one of [...connections.values()]) {
        const verdict = admit(config(), one.asked, one.tokenDigest, ours);
        if (!verdict.ok) {
          close(one, verdict.reason);
          continue;
        }
        const { name, pools, weight, maxConcurrency } = verdict;
        Object.assign(one, { name, pools, weight, maxConcurrency });
        names.remember(one);
      }
      hooks.changed();
    },

    /** For the end of the process: nobody is told that they left, so that no turn goes to a bot that goes next. */
    closeAll: (): void => {
      for (const one of connections.values()) {
        one.gone = true;
        one.outlet.drop();
      }
      connections.clear();
      for (const ws of [...sockets]) closeSocket(ws, "shutting_down");
    },
  };
};

export type Bots = ReturnType<typeof createBots>;
