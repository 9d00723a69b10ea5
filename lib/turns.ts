/**
 * The heart: a question and the reply being produced for it, from its start to its one end.
 *
 * Owns the Map of open turns and is the only code that changes a turn. What must stay true: the question is committed before
 * a bot sees it and before anyone is told it was accepted; every turn ends, once, as done, failed or cancelled; the end is
 * told only after it is stored; a bot writes only to turns it was given. Refuses to speak HTTP.
 */
import type { Bots, Connection } from "./bots.ts";
import type { Config } from "./config.ts";
import { decodeId, encodeId } from "./ids.ts";
import type { Log } from "./log.ts";
import {
  Reject,
  type Activity,
  type Attachment,
  type ChatSource,
  type EventFrame,
  type ReplyFile,
  type ReplyFrame,
} from "./protocol.ts";
import type { Store } from "./store.ts";
import { toAttachment } from "./store/rows.ts";
import type { TurnRow } from "./store/turns.ts";
import type { Streams } from "./streams.ts";
import type { Turn, TurnEnd, Wanted } from "./turn.ts";
import { createAsks, decodeImage, readMention } from "./turns/ask.ts";
import { createDispatch } from "./turns/dispatch.ts";
import { createTextLog } from "./turns/textlog.ts";
import { createPublisher } from "./turns/publish.ts";
import { recoverTurns } from "./turns/recover.ts";

/** However it goes, a turn is over after this long. */
const TOTAL_MS = 60 * 60_000;
/** Storing an end that failed (disk full) is tried again this often, with the answer kept in memory. */
const RETRY_END_MS = 5_000;

export type Ask = {
  user: string;
  message: string;
  target?: string;
  image?: string;
  /** Ids of uploads of this user. */
  attachments?: number[];
  conversation?: number;
  client?: { id: string; hash: string };
  replyTo?: number;
  replaces?: number;
  source: ChatSource;
  pool?: string;
  /** Bots the caller may use, where that is less than what the user may (API keys). */
  onlyBots?: Set<string>;
};

export const createTurns = (deps: {
  config: () => Config;
  store: Store;
  bots: () => Bots;
  streams: Streams;
  log: Log;
  now: () => number;
}) => {
  const { config, store, bots, streams, log, now } = deps;
  const open = new Map<number, Turn>();
  const countByUser = new Map<string, number>();
  const asks = createAsks(store, config);
  const publish = createPublisher({ store, streams });
  const textLog = createTextLog({ store, bots, log });
  const failedEnds = new Map<Turn, number>();

  // ── ends ────────────────────────────────────────────────────────────────────────────────────────────────────────

  const finish = (turn: Turn, end: TurnEnd): void => {
    if (turn.ending) return;
    turn.ending = end;
    turn.state = end.state;
    dispatch.forget(turn);
    void storeEnd(turn, end);
  };

  const storeEnd = async (turn: Turn, end: TurnEnd): Promise<void> => {
    const { connection } = turn;
    dispatch.release(turn);
    if (turn.storing.length > 0) await Promise.allSettled(turn.storing);
    let stored: Awaited<ReturnType<Store["turns"]["end"]>>;
    try {
      stored = await store.turns.end({
        id: turn.id,
        state: end.state,
        bot: turn.botId ?? null,
        botName: turn.botName ?? null,
        content: turn.text,
        files: turn.files,
        error: end.error ?? null,
        usage: turn.usage ?? null,
        seq: turn.seq,
        generation: turn.generation,
        silent: end.finish === "silent" && turn.text === "" && turn.files.length === 0,
      });
    } catch (error) {
      log("error", "end_not_stored", { turn: turn.key, error: String(error) });
      failedEnds.set(turn, now() + RETRY_END_MS);
      return;
    }
    failedEnds.delete(turn);
    forget(turn);
    if (connection && turn.proto === 2) textLog.ack(turn, connection);
    turn.visible = turn.text.length;
    turn.ended = end;
    streams.touch(turn);
    publish.message(turn.user, stored.row, stored.conversation);
    turn.whenEnded.resolve(end);
    log(end.state === "failed" ? "info" : "debug", "turn_ended", {
      turn: turn.key,
      user: turn.user,
      bot: turn.botId,
      state: end.state,
      error_code: end.error?.code,
      chars: turn.text.length,
      ms: now() - turn.createdAt,
    });
  };

  const forget = (turn: Turn): void => {
    if (!open.delete(turn.id)) return;
    const left = (countByUser.get(turn.user) ?? 1) - 1;
    if (left === 0) countByUser.delete(turn.user);
    else countByUser.set(turn.user, left);
  };

  const remember = (turn: Turn): void => {
    open.set(turn.id, turn);
    countByUser.set(turn.user, (countByUser.get(turn.user) ?? 0) + 1);
  };

  const tellCancel = (turn: Turn, reason: "user" | "timeout" | "failover"): void => {
    const { connection } = turn;
    if (connection?.caps.has("cancel")) bots().send(connection, { type: "cancel", id: turn.key, reason });
  };

  const fail = (turn: Turn, code: string, retryable: boolean, message = ""): void =>
    finish(turn, { state: "failed", finish: "stop", error: { code, message, retryable } });

  const dispatch = createDispatch({ config, store, bots, streams, asks, log, now, open, finish });

  // ── starts ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The bot named by `target` or by a mention, and the text that is left. Rejects `bot_not_found`. */
  const whom = (ask: Ask): { target: string | undefined; text: string } => {
    const allowed = (id: string): boolean => bots().mayUse(ask.user, id) && (!ask.onlyBots || ask.onlyBots.has(id));
    if (ask.target !== undefined) {
      if (!allowed(ask.target) || !bots().isOnline(ask.target)) throw new Reject("bot_not_found");
      return { target: ask.target, text: ask.message };
    }
    if (!ask.message.startsWith("@")) return { target: undefined, text: ask.message };
    const mention = readMention(ask.message, new Map([...bots().names()].filter(([id]) => allowed(id))));
    if (!mention) return { target: undefined, text: ask.message };
    if (!bots().isOnline(mention.botId)) throw new Reject("bot_not_found");
    return { target: mention.botId, text: mention.rest };
  };

  const checkRoom = (user: string): void => {
    const max = config().limits.turnsPerUser;
    if (max > 0 && (countByUser.get(user) ?? 0) >= max)
      throw new Reject(
        "rate_limited",
        {
          zh: `同时进行的对话过多（上限 ${max}），请等前面的回答完成`,
          en: `Too many open turns (at most ${max}); wait for an answer`,
        },
        5,
      );
  };

  const ownFiles = (ask: Ask): number[] =>
    (ask.attachments ?? []).map((id) => {
      const row = store.attachments.get(id);
      if (!row || row.user !== ask.user) throw new Reject("not_found", { zh: "附件不存在", en: "No such attachment" });
      return id;
    });

  const keepImage = async (user: string, image: string): Promise<number> => {
    const { bytes, mime } = decodeImage(image);
    const max = config().limits.attachmentBytes;
    if (bytes.length > max)
      throw new Reject("too_large", { zh: `图片超过 ${max} 字节`, en: `The image is over ${max} bytes` });
    return (
      await store.attachments.add({
        user,
        name: `image.${mime.split("/")[1]?.replace(/\W.*/, "") || "bin"}`,
        mime,
        bytes,
        turn: null,
      })
    ).id;
  };

  /**
   * Starts a turn. Resolves once the question is committed, with the open turn, or with the row of the turn that this
   * clientId started before. Rejects: bad_request, not_found, conflict, too_large, bot_not_found, no_bot, bot_busy,
   * rate_limited, storage_failed.
   */
  const start = async (ask: Ask): Promise<{ turn: Turn; again: boolean } | { row: TurnRow }> => {
    const known = ask.client && store.turns.again(ask.user, ask.client);
    if (known) return again(known);
    checkRoom(ask.user);
    const { target, text } = whom(ask);
    const files = ownFiles(ask);
    const conversation =
      ask.conversation === undefined ? undefined : store.conversations.find(ask.user, ask.conversation);
    if (ask.conversation !== undefined && !conversation) throw new Reject("not_found");
    const wanted: Wanted = {
      target,
      pool: ask.pool ?? "default",
      sticky: conversation?.bot ?? undefined,
      only: ask.onlyBots,
    };
    const choice = dispatch.pick({ user: ask.user, wanted });
    if ("none" in choice) {
      if (choice.none === "offline") throw new Reject(target === undefined ? "no_bot" : "bot_not_found");
      if (!dispatch.queueHasRoom()) throw new Reject("bot_busy", undefined, 5);
    }
    const turn = blank(ask, wanted, text);
    if ("connection" in choice) dispatch.reserve(turn, choice.connection);
    try {
      if (ask.image) files.unshift(await keepImage(ask.user, ask.image));
      turn.hasFiles = files.length > 0;
      const begun = await store.turns.begin({
        user: ask.user,
        ...(ask.conversation !== undefined && { conversation: ask.conversation }),
        // A queued turn without a bot lives in the default conversation of whoever would get it.
        bot: turn.botId ?? target ?? bots().list(ask.user)[0]?.id ?? null,
        botName: turn.botName ?? null,
        instance: turn.instance,
        proto: turn.proto,
        target: target ?? null,
        pool: wanted.pool,
        source: ask.source,
        content: ask.message,
        text: text === ask.message ? null : text,
        files,
        replyTo: ask.replyTo ?? null,
        replaces: ask.replaces ?? null,
        client: ask.client ?? null,
      });
      if (begun.existing) {
        dispatch.release(turn);
        return again(begun.existing);
      }
      turn.id = begun.turn;
      turn.key = encodeId(begun.turn);
      turn.question = begun.question.id;
      turn.conversation = begun.conversation.id;
      turn.conversationKey = encodeId(begun.conversation.id);
      turn.createdAt = begun.question.created_at;
      if (ask.replyTo !== undefined) turn.ask.replyTo = asks.quote(ask.replyTo)!;
      remember(turn);
      publish.started(turn, begun.question, begun.conversation);
    } catch (error) {
      dispatch.release(turn);
      throw error;
    }
    if (turn.connection && !turn.connection.gone) dispatch.deliver(turn);
    else dispatch.place(turn);
    return { turn, again: false };
  };

  const again = (row: TurnRow): { turn: Turn; again: boolean } | { row: TurnRow } => {
    const turn = open.get(row.id);
    return turn ? { turn, again: true } : { row };
  };

  const blank = (ask: Ask, wanted: Wanted, text: string): Turn => ({
    id: 0,
    key: "",
    user: ask.user,
    conversation: 0,
    conversationKey: "",
    question: 0,
    source: ask.source,
    createdAt: now(),
    ask: { content: text, ...(ask.image && { image: ask.image }) },
    hasFiles: false,
    wanted,
    state: "queued",
    attempt: 0,
    botId: undefined,
    botName: undefined,
    instance: "",
    proto: 0,
    connection: undefined,
    sentAt: 0,
    frameAt: now(),
    orphanedUntil: undefined,
    generation: 0,
    text: "",
    bytes: 0,
    seq: 0,
    storedSeq: 0,
    unlogged: "",
    usage: undefined,
    attachments: [],
    files: [],
    storing: [],
    activity: undefined,
    visible: 0,
    ending: undefined,
    ended: undefined,
    whenEnded: Promise.withResolvers<TurnEnd>(),
  });

  // ── what a bot says about a turn it holds ───────────────────────────────────────────────────────────────────────

  const onReply = (turn: Turn, connection: Connection, frame: ReplyFrame): void => {
    if (turn.ending) return;
    if (frame.seq !== undefined && connection.proto === 2) {
      if (frame.seq !== turn.seq + 1) {
        // Seen before, or beyond a gap the bot is about to learn of: it tells by the ack where to go on.
        if (frame.seq <= turn.storedSeq) textLog.ack(turn, connection);
        return;
      }
      turn.seq = frame.seq;
    } else turn.seq++;
    turn.frameAt = now();
    if (frame.error) return onError(turn, frame.error);
    turn.state = "streaming";
    turn.activity = undefined;
    if (frame.mode === "replace") replaceText(turn, frame.content);
    else if (frame.content !== "") {
      turn.text += frame.content;
      turn.bytes += Buffer.byteLength(frame.content);
    }
    if (turn.bytes > config().limits.replyBytes) {
      tellCancel(turn, "timeout");
      return fail(turn, "too_large", false);
    }
    if (frame.image) keepFile(turn, { name: "image", mime: "", data: frame.image });
    for (const file of frame.attachments ?? []) keepFile(turn, file);
    if (frame.usage) turn.usage = frame.usage;
    if (frame.done)
      return finish(turn, {
        state: frame.finish === "cancelled" ? "cancelled" : "done",
        finish: frame.finish ?? "stop",
      });
    turn.visible = turn.text.length;
    textLog.add(turn, frame.mode === "replace" ? undefined : frame.content);
    streams.touch(turn);
  };

  const replaceText = (turn: Turn, content: string): void => {
    turn.generation++;
    turn.text = content;
    turn.bytes = Buffer.byteLength(content);
    turn.visible = 0;
  };

  const onError = (turn: Turn, error: NonNullable<ReplyFrame["error"]>): void => {
    if (error.retryable && turn.text === "" && dispatch.retry(turn)) return;
    fail(turn, "bot_failed", error.retryable ?? false, error.message);
  };

  /** Stores a file of a reply; readers see it when it is stored, and the end waits for it. */
  const keepFile = (turn: Turn, file: ReplyFile): void => {
    turn.storing.push(
      storeFile(turn, file).then(
        (row) => {
          if (turn.files.includes(row.id)) return; // sent again after a restart
          turn.files.push(row.id);
          turn.attachments.push(row.attachment);
          streams.touch(turn);
        },
        (error: unknown) => log("warn", "reply_file_refused", { turn: turn.key, error: String(error) }),
      ),
    );
  };

  const storeFile = async (turn: Turn, file: ReplyFile): Promise<{ id: number; attachment: Attachment }> => {
    if ("id" in file) {
      const row = store.attachments.get(decodeId(file.id));
      if (!row || row.turn !== turn.id) throw new Reject("not_found");
      return { id: row.id, attachment: toAttachment(row) };
    }
    const { bytes, mime } = decodeImage(file.data);
    if (bytes.length > config().limits.attachmentBytes) throw new Reject("too_large");
    const type = file.mime || mime;
    const name = file.name === "image" && !file.mime ? `image.${type.split("/")[1] ?? "bin"}` : file.name;
    const row = await store.attachments.add({ user: turn.user, name, mime: type, bytes, turn: turn.id });
    return { id: row.id, attachment: toAttachment(row) };
  };

  const onEvent = (turn: Turn, frame: EventFrame): void => {
    if (turn.ending || frame.kind === "draining") return;
    turn.frameAt = now();
    if (turn.state === "sent") turn.state = "accepted";
    const activity: Activity = {
      kind: frame.kind,
      ...(frame.text !== undefined && { text: frame.text }),
      ...(frame.tool && { tool: frame.tool }),
    };
    streams.activity(turn, activity);
  };

  const accept = (turn: Turn): void => {
    turn.frameAt = now();
    if (turn.state !== "sent") return;
    turn.state = "accepted";
    textLog.add(turn, "");
  };

  const sweepTurn = (turn: Turn, at: number): void => {
    const retryAt = failedEnds.get(turn);
    if (turn.ending) {
      if (retryAt !== undefined && at >= retryAt) {
        failedEnds.set(turn, Infinity);
        void storeEnd(turn, turn.ending);
      }
    } else if (at - turn.createdAt > TOTAL_MS) {
      tellCancel(turn, "timeout");
      fail(turn, "turn_timeout", true);
    } else if (turn.orphanedUntil !== undefined) {
      if (at >= turn.orphanedUntil) dispatch.expire(turn);
    } else if (at - turn.frameAt > config().turnTimeout) {
      tellCancel(turn, "timeout");
      fail(turn, turn.state === "queued" ? "bot_busy" : "turn_timeout", true);
    }
  };

  return {
    start,
    get: (id: number): Turn | undefined => open.get(id),
    all: (): Iterable<Turn> => open.values(),
    openOf: (user: string): Turn[] => [...open.values()].filter((turn) => turn.user === user),
    openIn: (conversation: number): Turn[] => [...open.values()].filter((turn) => turn.conversation === conversation),
    count: (): number => open.size,
    queued: dispatch.queued,

    /** Stops it; the partial text is kept. */
    cancel: (turn: Turn): void => {
      if (turn.ending) return;
      tellCancel(turn, "user");
      finish(turn, { state: "cancelled", finish: "cancelled" });
    },

    /** A reply, event or ack of a bot for an open turn. False when this connection does not hold it. */
    frame: (
      connection: Connection,
      frame: ReplyFrame | EventFrame | { type: "ack"; id: string },
      turn: Turn,
    ): boolean => {
      if (turn.connection !== connection) return turn.ending !== undefined && turn.botId === connection.botId;
      if (frame.type === "reply") onReply(turn, connection, frame);
      else if (frame.type === "event") onEvent(turn, frame);
      else accept(turn);
      return true;
    },

    pending: dispatch.takeBack,
    joined: (connection: Connection, replaced: Connection | undefined): void => dispatch.returned(connection, replaced),
    left: (connection: Connection): void => {
      for (const turn of [...open.values()]) if (turn.connection === connection) dispatch.lost(turn, connection);
    },
    roomChanged: dispatch.drainSoon,

    /** Open turns of the run before: those of v2 bots wait for them, those of v1 bots fail with their partial text. */
    recover: (): void =>
      recoverTurns({
        store,
        now,
        asks,
        blank,
        remember,
        wait: (turn) => {
          streams.touch(turn);
        },
        requeue: (turn) => dispatch.place(turn),
        fail: (turn) => fail(turn, "bot_disconnected", true),
      }),

    publish,
    /** Deadlines; call it about once a second. */
    sweep: (): void => {
      const at = now();
      for (const turn of [...open.values()]) sweepTurn(turn, at);
    },
    /** Stores what was said so far, now. For shutdown. */
    flush: textLog.flush,
  };
};

export type Turns = ReturnType<typeof createTurns>;
