/**
 * A gateway of one file for tests of the bot client and of the OpenClaw plugin: protocol v2 or v1 on a real socket.
 *
 * Owns what a gateway would have stored, apart from its sockets, so that `kill()` and `start()` act like kill -9 and a
 * restart: what was not acked is forgotten. It checks what a bot sends (seq, session, own turns) and keeps every fault
 * in `faults`, which a test expects to be empty. Refuses to be a gateway: no logins, no people, no limits.
 */
import type {
  BotFrame,
  ChatFrame,
  GatewayFrame,
  MessageFrame,
  RegisterFrame,
  ReplyFile,
  ReplyFrame,
  EventFrame,
} from "../../lib/protocol.ts";

export type ScriptedTurn = {
  id: string;
  chat: ChatFrame;
  accepted: boolean;
  seq: number;
  text: string;
  /** Every frame that counted, as it came; replays after a kill included. */
  frames: ReplyFrame[];
  events: EventFrame[];
  files: ReplyFile[];
  done: ReplyFrame | undefined;
  over: boolean;
  stored: { seq: number; text: string; files: number };
};

export type ScriptedOptions = {
  proto?: 1 | 2;
  port?: number;
  token?: string;
  pingInterval?: number;
  frameBytes?: number;
  attachmentBytes?: number;
  /** Milliseconds from a frame to its ack: what comes within it is lost in a kill. */
  ackMs?: number;
  /** Answers a proactive message; undefined: stored. Return "silent" to say nothing. */
  onMessage?(message: MessageFrame): { code: string; message: string } | "silent" | undefined;
  /** Called on every register; return a close code to refuse. */
  onRegister?(frame: RegisterFrame): { close: number; error: string } | undefined;
};

type Peer = { registered?: RegisterFrame };

export const createScriptedGateway = (options: ScriptedOptions = {}) => {
  const turns = new Map<string, ScriptedTurn>();
  const messages = new Map<string, MessageFrame>();
  const uploads = new Map<string, { name: string; mime: string; data: Uint8Array; turnId: string }>();
  const downloads = new Map<string, { mime: string; data: Uint8Array }>();
  const registers: RegisterFrame[] = [];
  const faults: string[] = [];
  const raw: BotFrame[] = [];
  const sockets = new Set<Bun.ServerWebSocket<Peer>>();
  let session = "";
  let previousSession = "";
  let server: Bun.Server<Peer> | undefined;
  let port = options.port ?? 0;
  let pings: ReturnType<typeof setInterval> | undefined;
  let mute = false;
  let acks = new Set<ReturnType<typeof setTimeout>>();
  let proto = options.proto ?? 2;
  let counter = 0;

  const put = (ws: Bun.ServerWebSocket<Peer>, frame: GatewayFrame | object) => {
    if (!mute) ws.send(JSON.stringify(frame));
  };
  const later = (run: () => void) => {
    const timer = setTimeout(() => {
      acks.delete(timer);
      run();
    }, options.ackMs ?? 5);
    acks.add(timer);
  };

  const onReply = (ws: Bun.ServerWebSocket<Peer>, frame: ReplyFrame) => {
    const turn = turns.get(frame.replyTo);
    if (!turn) return void faults.push(`reply to unknown turn ${frame.replyTo}`);
    if (proto === 1) {
      if (
        frame.seq !== undefined ||
        frame.mode !== undefined ||
        frame.error !== undefined ||
        frame.attachments !== undefined
      )
        faults.push(`v2 fields sent to a v1 gateway: ${Object.keys(frame)}`);
      if (turn.done) return void faults.push("a reply after done");
      turn.text += frame.content;
      turn.frames.push(frame);
      if (frame.done) turn.done = frame;
      return;
    }
    if (turn.over) return put(ws, { type: "error", id: turn.id, code: "not_your_turn", message: "over" });
    if (!turn.accepted) faults.push(`reply before the ack of turn ${turn.id}`);
    const seq = frame.seq ?? 0;
    if (seq <= turn.seq) return; // a duplicate
    if (seq > turn.seq + 1) return void faults.push(`seq ${seq} after ${turn.seq}`);
    if (turn.done) return void faults.push(`frame ${seq} after done`);
    turn.seq = seq;
    turn.frames.push(frame);
    turn.text = frame.mode === "replace" ? frame.content : turn.text + frame.content;
    turn.files.push(...(frame.attachments ?? []));
    if (frame.done) turn.done = frame;
    later(() => {
      turn.stored = { seq: turn.seq, text: turn.text, files: turn.files.length };
      put(ws, { type: "ack", replyTo: turn.id, seq: turn.seq });
    });
  };

  const onRegister = (ws: Bun.ServerWebSocket<Peer>, frame: RegisterFrame) => {
    registers.push(frame);
    const refusal =
      options.onRegister?.(frame) ??
      (options.token !== undefined && frame.token !== options.token
        ? { close: 4501, error: "Invalid token" }
        : undefined);
    if (refusal) {
      put(ws, { type: "registered", success: false, error: refusal.error });
      return ws.close(refusal.close, refusal.error);
    }
    ws.data.registered = frame;
    if (proto === 1) return put(ws, { type: "registered", success: true });
    const returning = frame.session !== undefined && (frame.session === session || frame.session === previousSession);
    if (frame.session !== undefined && !returning) faults.push("an unknown session");
    previousSession = frame.session ?? "";
    session = `nxs_${++counter}_${Math.random().toString(36).slice(2)}`;
    const open = [...turns.values()].filter((turn) => !turn.over && !turn.done);
    put(ws, {
      type: "registered",
      success: true,
      proto: 2,
      caps: ["ack", "seq", "replace", "event", "cancel", "attachments", "message", "history"],
      session,
      pingInterval: options.pingInterval ?? 30_000,
      limits: { frameBytes: options.frameBytes ?? 20_971_520, attachmentBytes: options.attachmentBytes ?? 20_971_520 },
      pending: returning
        ? open.filter((turn) => turn.accepted).map((turn) => ({ id: turn.id, seq: turn.stored.seq }))
        : [],
    });
    for (const turn of open)
      if (!turn.accepted) {
        turn.chat.attempt = (turn.chat.attempt ?? 1) + 1;
        put(ws, turn.chat);
      }
  };

  const onFrame = (ws: Bun.ServerWebSocket<Peer>, text: string) => {
    const frame = JSON.parse(text) as BotFrame;
    raw.push(frame);
    if (frame.type === "register") return onRegister(ws, frame);
    if (frame.type === "reply") return onReply(ws, frame);
    if (frame.type === "pong") return;
    if (proto === 1) return void faults.push(`a v1 gateway got ${frame.type}`);
    if (frame.type === "ack") {
      const turn = turns.get(frame.id);
      if (turn) turn.accepted = true;
      else faults.push(`ack of unknown turn ${frame.id}`);
      return;
    }
    if (frame.type === "event") {
      if (frame.replyTo !== undefined) turns.get(frame.replyTo)?.events.push(frame);
      return;
    }
    const answer = options.onMessage?.(frame);
    if (answer === "silent") return;
    if (answer) return put(ws, { type: "error", id: frame.id, ...answer });
    messages.set(frame.id, frame);
    put(ws, { type: "ack", id: frame.id, state: "stored" });
  };

  const api = async (request: Request, url: URL): Promise<Response> => {
    const bearer = request.headers.get("authorization");
    if (bearer !== `Bearer ${session}`) return Response.json({ error: "no", code: "unauthorized" }, { status: 401 });
    const id = url.pathname.split("/")[3];
    if (request.method === "GET") {
      const file = downloads.get(id ?? "");
      if (!file) return Response.json({ error: "no such file", code: "not_found" }, { status: 404 });
      return new Response(file.data as Uint8Array<ArrayBuffer>, { headers: { "Content-Type": file.mime } });
    }
    const made = `up${++counter}`;
    uploads.set(made, {
      name: decodeURIComponent(request.headers.get("x-filename") ?? ""),
      mime: request.headers.get("content-type") ?? "",
      data: new Uint8Array(await request.arrayBuffer()),
      turnId: url.searchParams.get("turn") ?? "",
    });
    return Response.json({ id: made }, { status: 201 });
  };

  const start = () => {
    mute = false;
    server = Bun.serve<Peer>({
      hostname: "127.0.0.1",
      port,
      fetch: (request, self) => {
        const url = new URL(request.url);
        if (url.pathname === "/bot-ws" && self.upgrade(request, { data: {} })) return;
        if (url.pathname === "/health")
          return Response.json({
            status: "ok",
            bots: sockets.size,
            botIds: [...sockets].map((ws) => ws.data.registered?.botId),
          });
        if (url.pathname.startsWith("/api/attachments")) return api(request, url);
        return new Response("no", { status: 404 });
      },
      websocket: {
        maxPayloadLength: 32 * 1024 * 1024,
        open: (ws) => void sockets.add(ws),
        close: (ws) => void sockets.delete(ws),
        message: (ws, text) => {
          if (!mute) onFrame(ws, String(text));
        },
      },
    });
    port = server.port ?? port;
    pings = setInterval(() => {
      for (const ws of sockets) put(ws, { type: "ping" });
    }, options.pingInterval ?? 30_000);
  };

  const registered = () => [...sockets].filter((ws) => ws.data.registered);

  start();
  return {
    turns,
    messages,
    uploads,
    downloads,
    registers,
    faults,
    raw,
    get port() {
      return port;
    },
    get url() {
      return `ws://127.0.0.1:${port}/bot-ws`;
    },
    get online() {
      return registered().length;
    },
    setProto: (next: 1 | 2) => {
      proto = next;
    },
    /** Gives a chat to the connected bot (or keeps it until one comes). */
    chat: (content: string, fields: Partial<ChatFrame> = {}): ScriptedTurn => {
      const id = fields.id ?? `turn${++counter}`;
      const v2 = { conversationId: "c1", userId: "alice", userName: "Alice", source: "web" as const, attempt: 1 };
      const chat: ChatFrame = {
        type: "chat",
        id,
        content,
        from: "Alice",
        timestamp: Date.now(),
        ...(proto === 2 ? v2 : {}),
        ...fields,
      };
      const turn: ScriptedTurn = {
        id,
        chat,
        accepted: false,
        seq: 0,
        text: "",
        frames: [],
        events: [],
        files: [],
        done: undefined,
        over: false,
        stored: { seq: 0, text: "", files: 0 },
      };
      turns.set(id, turn);
      for (const ws of registered()) put(ws, chat);
      return turn;
    },
    cancel: (turn: ScriptedTurn, reason: "user" | "timeout" | "failover" = "user") => {
      turn.over = true;
      for (const ws of registered()) put(ws, { type: "cancel", id: turn.id, reason });
    },
    /** Any frame to every registered bot. */
    push: (frame: object) => {
      for (const ws of registered()) put(ws, frame);
    },
    closeBots: (code: number, reason = "") => {
      for (const ws of sockets) ws.close(code, reason);
    },
    /** From now on the sockets are open and dead: nothing is read, nothing is said. */
    goSilent: () => {
      mute = true;
    },
    /** kill -9: sockets drop without a word, what was not acked never was. */
    kill: async () => {
      clearInterval(pings);
      for (const timer of acks) clearTimeout(timer);
      acks = new Set();
      mute = true;
      for (const ws of [...sockets]) ws.terminate();
      sockets.clear();
      await server?.stop(true);
      for (const turn of turns.values()) {
        if (turn.done && turn.stored.seq < turn.seq) turn.done = undefined;
        turn.seq = turn.stored.seq;
        turn.text = turn.stored.text;
        turn.files.length = turn.stored.files;
      }
    },
    start,
    stop: async () => {
      clearInterval(pings);
      for (const timer of acks) clearTimeout(timer);
      await server?.stop(true);
    },
  };
};
export type ScriptedGateway = ReturnType<typeof createScriptedGateway>;
