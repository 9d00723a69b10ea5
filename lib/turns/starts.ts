/**
 * How a turn starts: who is asked, is there room, the question committed, then handed to a bot.
 */
import { encodeId } from "../ids.ts";
import { Reject, type ChatSource } from "../protocol.ts";
import type { ThreadKeys } from "../store/threads.ts";
import type { BeginTurn, TurnRow } from "../store/turns.ts";
import { allows, NONE, type Turn, type Wanted } from "../turn.ts";
import { decodeImage, readMention } from "./ask.ts";
import type { Core } from "./core.ts";
import type { Dispatch } from "./dispatch.ts";

export type Ask = {
  user: string;
  message: string;
  target?: string;
  image?: string;
  /** Ids of uploads of this user. */
  attachments?: number[];
  /** Absent: the default conversation with the bot. "new": one of its own. */
  conversation?: number | "new";
  client?: { id: string; hash: string };
  replyTo?: number;
  replaces?: number;
  source: ChatSource;
  pool?: string;
  /** Bots the caller may use, where that is less than what the user may (API keys). */
  onlyBots?: Set<string>;
  /** For /v1: see Turn.ask and store/threads.ts. */
  context?: Turn["ask"]["context"];
  preface?: Turn["ask"]["preface"];
  thread?: ThreadKeys;
  /** By which a proxy and the bot know this request. */
  requestId?: string;
};

/** A turn in which nothing has happened yet. */
export const blankTurn = (ask: Ask, wanted: Wanted, text: string, at: number): Turn => {
  const asked: Turn["ask"] = { content: text };
  if (ask.image) asked.image = ask.image;
  if (ask.context) asked.context = ask.context;
  if (ask.preface) asked.preface = ask.preface;
  return {
    id: 0,
    key: "",
    user: ask.user,
    conversation: 0,
    conversationKey: "",
    question: 0,
    source: ask.source,
    requestId: ask.requestId,
    createdAt: at,
    beganAt: at,
    ask: asked,
    hasFiles: false,
    wanted,
    state: "queued",
    attempt: 0,
    botId: undefined,
    botName: undefined,
    instance: "",
    proto: 0,
    connection: undefined,
    tries: 0,
    refusedBy: undefined,
    sentAt: 0,
    frameAt: at,
    orphanedUntil: undefined,
    generation: 0,
    leap: 1,
    text: "",
    tail: "",
    tailFrom: -1,
    spoke: false,
    bytes: 0,
    seq: 0,
    storedSeq: 0,
    unlogged: "",
    usage: undefined,
    attachments: NONE,
    files: NONE,
    storing: undefined,
    found: NONE,
    activity: undefined,
    visible: 0,
    ending: undefined,
    ended: undefined,
    readers: undefined,
    waiters: undefined,
  };
};

/** An open turn (`again`: this clientId started it before), or the row of one that is over. */
export type Started = { turn: Turn; again: boolean } | { row: TurnRow };

export const createStarts = (
  { config, store, bots, quota, log, now, open, countOf, hold, unhold, remember, asks, publish }: Core,
  dispatch: Dispatch,
) => {
  /** The bot named by `target` or by a mention, and the text that is left. Rejects `bot_not_found`. */
  const whom = (ask: Ask): { target: string | undefined; text: string } => {
    const allowed = (id: string): boolean => bots().mayUse(ask.user, id) && allows(ask.onlyBots, id);
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

  const ownFiles = (ask: Ask): number[] =>
    (ask.attachments ?? []).map((id) => {
      const row = store.attachments.get(id);
      if (!row || row.user !== ask.user) throw new Reject("not_found", { zh: "附件不存在", en: "No such attachment" });
      return id;
    });

  const keepImage = async (user: string, image: string): Promise<{ id: number; plain: boolean }> => {
    const { bytes, mime, plain } = decodeImage(image);
    const max = config().limits.attachmentBytes;
    if (bytes.length > max)
      throw new Reject("too_large", { zh: `图片超过 ${max} 字节`, en: `The image is over ${max} bytes` });
    const { id } = await store.attachments.add({
      user,
      name: `image.${mime.split("/")[1]?.replace(/\W.*/, "") || "bin"}`,
      mime,
      bytes,
      turn: null,
    });
    return { id, plain };
  };

  /** By user and clientId, until it is known whether it started. */
  const starting = new Map<string, Promise<unknown>>();

  /**
   * Starts a turn. Resolves once the question is committed, with the open turn, or with the row of the turn that this
   * clientId started before. Rejects: bad_request, not_found, conflict, too_large, bot_not_found, no_bot, bot_busy,
   * rate_limited, storage_failed.
   */
  const start = async (ask: Ask): Promise<Started> => {
    const known = ask.client && store.turns.again(ask.user, ask.client);
    if (known) return again(known);
    if (!ask.client) return startNew(ask);
    // The same send at the same moment waits for the first: it needs no room of its own.
    const key = `${ask.user}\n${ask.client.id}`;
    const first = starting.get(key);
    if (first) return first.then(() => start(ask));
    const started = startNew(ask);
    const settled = started.then(
      () => starting.delete(key),
      () => starting.delete(key),
    );
    starting.set(key, settled);
    return started;
  };

  const startNew = async (ask: Ask): Promise<Started> => {
    quota.checkOpen(ask.user, countOf(ask.user));
    const { target, text } = whom(ask);
    const files = ownFiles(ask);
    const conversation =
      typeof ask.conversation === "number" ? store.conversations.find(ask.user, ask.conversation) : undefined;
    if (typeof ask.conversation === "number" && !conversation) throw new Reject("not_found");
    const wanted: Wanted = {
      target,
      pool: ask.pool ?? "default",
      poolOnly: ask.pool !== undefined,
      sticky: conversation?.bot ?? undefined,
      only: ask.onlyBots,
    };
    const choice = dispatch.pick({ user: ask.user, wanted });
    if ("none" in choice && choice.none === "offline")
      throw new Reject(target === undefined ? "no_bot" : "bot_not_found");
    const counted = quota.take(ask.user);
    const leave = "none" in choice ? dispatch.takeSeat() : () => {};
    if (!leave) {
      counted();
      throw new Reject("bot_busy", undefined, 5);
    }
    // Places are taken before the first await, so that sends at the same moment cannot have the same one.
    const turn = blankTurn(ask, wanted, text, now());
    if ("connection" in choice) dispatch.reserve(turn, choice.connection);
    hold(ask.user);
    try {
      if (ask.image) {
        const { id, plain } = await keepImage(ask.user, ask.image);
        files.unshift(id);
        turn.ask.plainImage = plain;
      }
      turn.hasFiles = files.length > 0;
      const begin: BeginTurn = {
        user: ask.user,
        // A queued turn without a bot lives in the default conversation of whoever would get it.
        bot: turn.botId ?? target ?? dispatch.likely(turn) ?? null,
        botName: turn.botName ?? null,
        instance: turn.instance,
        proto: turn.proto,
        target: target ?? null,
        pool: wanted.pool,
        only: wanted.only ?? null,
        source: ask.source,
        content: ask.message,
        text: text === ask.message ? null : text,
        files,
        replyTo: ask.replyTo ?? null,
        replaces: ask.replaces ?? null,
        client: ask.client ?? null,
      };
      if (ask.conversation !== undefined) begin.conversation = ask.conversation;
      if (ask.thread) begin.thread = ask.thread;
      const begun = await store.turns.begin(begin);
      if (begun.existing) {
        dispatch.release(turn);
        unhold(ask.user);
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
      unhold(ask.user);
      throw error;
    } finally {
      leave();
      counted();
    }
    log("debug", "turn_started", { turn: turn.key, request: turn.requestId, user: turn.user, bot: turn.botId });
    if (turn.connection && !turn.connection.gone) dispatch.deliver(turn);
    else dispatch.place(turn);
    return { turn, again: false };
  };

  const again = (row: TurnRow): Started => {
    const turn = open.get(row.id);
    return turn ? { turn, again: true } : { row };
  };

  return { start };
};
