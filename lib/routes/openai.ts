/**
 * `/v1`: every client of OpenAI's chat completions talks to every bot. `model` is a bot or a pool.
 *
 * What must stay true: the same checks as for a chat from the page (who may use which bot, sends, turns, streams); a closed
 * connection stops the turn, as callers of this API expect; one chat of a client is one conversation (openai/threads.ts).
 */
import type { Gate } from "../gate.ts";
import type { Call, Route } from "../http.ts";
import { decodeId, encodeId } from "../ids.ts";
import { answerText, chunkDialect, openAiError, turnError, wholeAnswer } from "../openai/answer.ts";
import { type Completion, readCompletion, type Said } from "../openai/request.ts";
import { createThreads, questionText, type Belongs, type Found } from "../openai/threads.ts";
import { Reject } from "../protocol.ts";
import { allows, whenEnded, type Turn } from "../turn.ts";
import { decodeImage, withMark } from "../turns/ask.ts";
import type { Ask } from "../turns/starts.ts";
import { checkSends, onlyBots } from "./chat.ts";

type Context = NonNullable<Turn["ask"]["preface"]>;

/** What came before goes to a bot whole; beyond this (a book) the oldest is left out. */
const CONTEXT_CHARS = 400_000;

/** Of what came before, in a new conversation: more pictures than people talk about at once. */
const EARLIER_FILES = 20;

const toContext = ({ role, text, files }: Said): Context[number] => ({
  role,
  content: withMark(text, files.length),
});

const filesIn = (messages: readonly Said[]): Said["files"] => messages.flatMap(({ files }) => files);

const newest = (messages: Context): Context => {
  let chars = 0;
  const from = messages.findLastIndex(({ content }) => {
    chars += content.length;
    return chars > CONTEXT_CHARS;
  });
  return messages.slice(from + 1);
};

export const openAiRoutes = (gate: Gate): Route[] => {
  const { config, store, bots, turns, streams, now, log } = gate;
  const threads = createThreads(store, now);

  const mayUse = (call: Call, bot: string): boolean =>
    bots.mayUse(call.caller.user, bot) && allows(call.caller.key?.bots, bot);

  /** Everything that can be asked: bots by id, then pools; a bot wins over a pool of its name. */
  const models = (call: Call): { id: string; created: number }[] => {
    const found = new Map<string, number>();
    const pools = new Map<string, number>();
    for (const { botId, connectedAt, pools: its } of bots.connections()) {
      if (!mayUse(call, botId)) continue;
      const created = Math.floor(connectedAt / 1000);
      if (!found.has(botId)) found.set(botId, created);
      for (const pool of its) if (!pools.has(pool)) pools.set(pool, created);
    }
    for (const [pool, created] of pools) if (!found.has(pool)) found.set(pool, created);
    return [...found].map(([id, created]) => ({ id, created }));
  };

  const whom = (call: Call, model: string): Pick<Ask, "target" | "pool"> => {
    if (bots.isOnline(model) && mayUse(call, model)) return { target: model };
    for (const { botId, pools } of bots.connections())
      if (pools.includes(model) && mayUse(call, botId)) return { pool: model };
    throw new Reject("bot_not_found", {
      zh: `没有叫 ${model} 的机器人或池，或它不在线（GET /v1/models 列出可用的）`,
      en: `There is no bot or pool ${model}, or it is offline (GET /v1/models lists what there is)`,
    });
  };

  /** Who did not hear what was said must not be asked as if, and who is in no such pool must not be asked at all. */
  const belongsTo = ({ target, pool = "" }: Pick<Ask, "target" | "pool">): Belongs => {
    if (target !== undefined) return ({ bot }) => bot === target;
    const members = new Set<string | null>();
    for (const { botId, pools } of bots.connections()) if (pools.includes(pool)) members.add(botId);
    // Which pools a bot is in is known only while it is online; of one that is away, which pool was asked.
    const isAway = (bot: string | null): boolean => bot === null || !bots.isOnline(bot);
    return (row) => members.has(row.bot) || (isAway(row.bot) && row.target === null && row.pool === pool);
  };

  const keepFiles = async (user: string, files: Said["files"]): Promise<number[]> => {
    const ids: number[] = [];
    for (const { data, name } of files) {
      const { bytes, mime } = decodeImage(data);
      const max = config().limits.attachmentBytes;
      if (bytes.length > max)
        throw new Reject("too_large", { zh: `文件超过 ${max} 字节`, en: `The file is over ${max} bytes` });
      const called = name || `image.${mime.split("/")[1]?.replace(/\W.*/, "") || "bin"}`;
      ids.push((await store.attachments.add({ user, name: called, mime, bytes, turn: null })).id);
    }
    return ids;
  };

  /** The conversation the caller named, the one that has these messages, or none. */
  const conversationOf = (
    call: Call,
    owner: string,
    asked: Completion,
    belongs: Belongs,
  ): Partial<Found> & { empty: boolean } => {
    const named = call.request.headers.get("x-nexus-conversation");
    if (!named) {
      const found = threads.find(owner, asked, belongs);
      return { ...found, empty: !found };
    }
    const row = store.conversations.find(call.caller.user, decodeId(named));
    if (!row) throw new Reject("not_found", { zh: "没有这个对话", en: "There is no such conversation" });
    const system = threads.systemOf(row.leaf);
    return { conversation: row.id, empty: row.leaf === null, ...(system !== undefined && { system }) };
  };

  const start = async (call: Call, asked: Completion): Promise<Turn> => {
    const { user, key } = call.caller;
    const to = whom(call, asked.model);
    checkSends(gate, user);
    const files = await keepFiles(user, filesIn(asked.asked));
    const owner = JSON.stringify([key ? encodeId(key.row.id) : "", user, asked.user]);
    const { conversation, replaces, system, empty } = conversationOf(call, owner, asked, belongsTo(to));
    const release = conversation === undefined ? () => {} : threads.claim(conversation);
    const keys = threads.keys(owner, asked);
    const prompt: Context = asked.system.trim() === "" ? [] : [{ role: "system", content: asked.system }];
    const before = newest(asked.earlier.map(toContext));
    const preface = empty ? [...prompt, ...before] : system === keys.system ? [] : prompt;
    try {
      // What came before is stored nowhere, so its files come with the question; newest first, as the bot sees them.
      if (empty) files.push(...(await keepFiles(user, filesIn(asked.earlier.toReversed()).slice(0, EARLIER_FILES))));
      const started = await turns.start({
        user,
        ...to,
        message: questionText(asked.asked),
        attachments: files,
        conversation: conversation ?? "new",
        ...(replaces !== undefined && { replaces }),
        source: "openai",
        requestId: call.requestId(),
        context: { before: [...prompt, ...before], stored: !empty && before.length === 0 },
        preface,
        thread: keys,
        ...onlyBots(call),
      });
      // Only a clientId could lead to an older turn, and none was given.
      if ("row" in started) throw new Error("a turn without a clientId was found again");
      return started.turn;
    } finally {
      release();
    }
  };

  /** Remembers what the caller was given, where it is not what is stored: it will be sent back as the answer. */
  const remember = (turn: Turn, sent: string): void => {
    if (sent.trim() === turn.text.trim()) return;
    threads
      .gave(turn.id, sent)
      .catch((error: unknown) => log("warn", "said_not_stored", { turn: turn.key, error: String(error) }));
  };

  const stop = (turn: Turn): void => {
    if (!turn.ended) turns.cancel(turn);
  };

  const headersOf = (call: Call, turn: Turn): Record<string, string> => ({
    "X-Nexus-Conversation": turn.conversationKey,
    "X-Request-Id": call.requestId(),
  });

  const stream = async (call: Call, asked: Completion): Promise<Response> => {
    const access = gate.access(call);
    let turn: Turn;
    let giveRoom = (): void => {};
    try {
      // Refused only after the bot was asked, a client would by itself have it asked again.
      giveRoom = streams.takeRoom(call.caller.user);
      turn = await start(call, asked);
    } catch (error) {
      access.release();
      throw error;
    } finally {
      giveRoom();
    }
    const dialect = chunkDialect({
      model: asked.model,
      at: turn.createdAt,
      origin: call.own.origin,
      includeUsage: asked.includeUsage,
      sent: (text) => remember(turn, text),
    });
    const release = (): void => {
      access.release();
      stop(turn);
    };
    call.request.signal.addEventListener("abort", () => stop(turn), { once: true });
    const body = streams.openTurn(turn, undefined, { ...access, release }, false, dialect);
    call.server.timeout(call.request, 60);
    return call.events(body, headersOf(call, turn));
  };

  const whole = async (call: Call, asked: Completion): Promise<Response> => {
    const turn = await start(call, asked);
    const { signal } = call.request;
    const gone = (): void => stop(turn);
    signal.addEventListener("abort", gone, { once: true });
    if (signal.aborted) gone();
    const release = gate.keepAlive(call);
    const end = await whenEnded(turn).finally(release);
    signal.removeEventListener("abort", gone);
    if (end.error) {
      const { status, body } = turnError(end.error, call.lang);
      // The official clients try again at every 5xx unless told that it is of no use.
      return call.json(body, status, { ...headersOf(call, turn), "X-Should-Retry": String(end.error.retryable) });
    }
    const text = answerText(turn, call.own.origin);
    remember(turn, text);
    return call.json(wholeAnswer(turn, turn.botId ?? asked.model, turn.createdAt, text), 200, headersOf(call, turn));
  };

  const toModel = ({ id, created }: { id: string; created: number }) => ({
    id,
    object: "model",
    created,
    owned_by: "nexus",
  });
  const shared = { auth: "user", scope: "chat", refusal: openAiError } as const;

  return [
    {
      ...shared,
      method: "GET",
      path: "/v1/models",
      handle: (call) => call.json({ object: "list", data: models(call).map(toModel) }),
    },
    {
      ...shared,
      method: "GET",
      path: "/v1/models/:id",
      handle: (call) => {
        const model = models(call).find(({ id }) => id === call.params.id);
        if (!model) throw new Reject("bot_not_found");
        return call.json(toModel(model));
      },
    },
    {
      ...shared,
      method: "POST",
      path: "/v1/chat/completions",
      handle: async (call) => {
        const asked = readCompletion(await call.body(), config().limits.textChars);
        return asked.stream ? stream(call, asked) : whole(call, asked);
      },
    },
  ];
};
