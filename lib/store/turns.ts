/**
 * Turns on disk: begun with their question in one write, their text logged in chunks, folded into one message at the end.
 *
 * Owns `turns`; `chunks` are chunks.ts's, inserts into `messages` are messages.ts's. What must stay true: the question and
 * its turn are one commit; the reply is the turn's end, and has the turn's id. Three rows per turn: the question and
 * the turn when it begins, the reply at the end. The turn's own row is written again only when it goes to another bot or waits,
 * or is taken without a word.
 */
import type { Ids } from "../ids.ts";
import { Reject, type Usage } from "../protocol.ts";
import type { StoreBase } from "./base.ts";
import { createChunkLog } from "./chunks.ts";
import type { MessageWriter } from "./messages.ts";
import type { ConversationRow, MessageRow } from "./rows.ts";
import type { ThreadKeys } from "./threads.ts";
import type { UsageStore } from "./usage.ts";

export type TurnRow = {
  id: number;
  user: string;
  conversation: number;
  question: number;
  bot: string | null;
  bot_name: string | null;
  instance: string;
  proto: number;
  target: string | null;
  pool: string;
  only_bots: string | null;
  source: string;
  text: string | null;
  state: string;
  attempt: number;
  generation: number;
  seq: number;
  client_id: string | null;
  client_hash: string | null;
  created_at: number;
  ended_at: number | null;
};

/** The bots its caller may use, where that was less than what the user may. */
export const onlyOf = ({ only_bots }: Pick<TurnRow, "only_bots">): Set<string> | undefined =>
  only_bots === null ? undefined : new Set(JSON.parse(only_bots) as string[]);

export type BeginTurn = {
  user: string;
  /** Absent: the user's default conversation with `bot`, made when there is none. "new": one of its own. */
  conversation?: number | "new";
  /** By which a later request over /v1 finds the conversation again. */
  thread?: ThreadKeys;
  bot: string | null;
  botName: string | null;
  /** Of the connection it will be given to; proto 0: none yet. */
  instance: string;
  proto: number;
  target: string | null;
  pool: string;
  /** Bots the caller may use, where that is less than what the user may. */
  only: ReadonlySet<string> | null;
  source: string;
  /** As the person wrote it. */
  content: string;
  /** What the bot sees, where that differs (mention removed). */
  text: string | null;
  /** Attachment ids, checked to be the user's. */
  files: number[];
  replyTo: number | null;
  replaces: number | null;
  client: { id: string; hash: string } | null;
};

export type Begun =
  { existing: TurnRow } | { existing?: undefined; turn: number; question: MessageRow; conversation: ConversationRow };

export type EndTurn = {
  id: number;
  /** As they were stored when it began. */
  user: string;
  conversation: number;
  question: number;
  createdAt: number;
  state: "done" | "failed" | "cancelled";
  bot: string | null;
  botName: string | null;
  content: string;
  files: number[];
  error: { code: string; message: string } | null;
  usage: Usage | null;
  seq: number;
  generation: number;
  /** The bot chose not to answer: stored as an empty message that nobody has to read. */
  silent: boolean;
};

/** A turn as it is now: what its reply says of it, once that is there, stands above its own row. */
const TURN = `SELECT t.id, t.user, t.conversation, t.question, iif(m.id IS NULL, t.bot, m.bot) AS bot,
    iif(m.id IS NULL, t.bot_name, m.bot_name) AS bot_name, t.instance, t.proto, t.target, t.pool, t.only_bots, t.source, t.text,
    coalesce(m.state, t.state) AS state, t.attempt, max(t.generation, coalesce(m.generation, 0)) AS generation,
    max(t.seq, coalesce(m.seq, 0)) AS seq, t.client_id, t.client_hash, t.created_at, coalesce(m.updated_at, t.ended_at) AS ended_at
  FROM turns t LEFT JOIN messages m ON m.id = t.id`;

/** Turns looked at in one commit when `open_from` moves on. */
const OPEN_ROWS = 2000;

/** A clientId is remembered this long (docs/protocol.md). */
const CLIENT_ID_MS = 24 * 3600_000;

export const createTurnStore = ({
  db,
  write,
  writeTogether,
  ids,
  now,
  nextRev,
  usage,
  messages,
}: StoreBase & {
  ids: Ids;
  usage: Pick<UsageStore, "sent" | "ended">;
  messages: MessageWriter;
  /** As `write`, for what reads and changes conversations by `messages` only. */
  writeTogether: StoreBase["write"];
}) => {
  const { makeConversation, append, appendBotMessage, defaultConversation, ...read } = messages;
  const chunks = createChunkLog({ db, write: writeTogether });
  const byClient = db.prepare<TurnRow, [string, string]>(`${TURN} WHERE t.user = ? AND t.client_id = ?`);
  const forgetClient = db.prepare("UPDATE turns SET client_id = NULL WHERE id = ?");
  const byId = db.prepare<TurnRow, [number]>(`${TURN} WHERE t.id = ?`);
  const insertTurn = db.prepare(
    `INSERT INTO turns (id, user, conversation, question, bot, bot_name, instance, proto, target, pool, only_bots, source, text, state,
       attempt, client_id, client_hash, created_at)
     VALUES ($id, $user, $conversation, $question, $bot, $botName, $instance, $proto, $target, $pool, $onlyBots, $source, $text, $state,
       $attempt, $clientId, $clientHash, $at)`,
  );
  const insertThread = db.prepare(
    "INSERT INTO threads (turn, whole, tail, system) VALUES ($turn, $whole, $tail, $system)",
  );
  const assignTurn = db.prepare(
    `UPDATE turns SET bot = $bot, bot_name = $botName, instance = $instance, proto = $proto, attempt = $attempt,
       generation = $generation, state = $state WHERE id = $id`,
  );
  const openTurns = db.prepare<TurnRow, [number]>(
    `${TURN} WHERE t.id >= ? AND m.id IS NULL AND t.ended_at IS NULL ORDER BY t.id`,
  );
  const someTurns = db.prepare<{ id: number; over: number }, [number, number]>(
    `SELECT t.id, t.ended_at IS NOT NULL OR EXISTS (SELECT 1 FROM messages m WHERE m.id = t.id) AS over
     FROM turns t WHERE t.id >= ? ORDER BY t.id LIMIT ?`,
  );
  const fileThere = db.prepare<{ id: number }, [number]>("SELECT id FROM attachments WHERE id = ?");
  const openFrom = db.prepare<{ value: string }, []>("SELECT value FROM meta WHERE key = 'open_from'");
  const setOpenFrom = db.prepare("UPDATE meta SET value = ? WHERE key = 'open_from'");

  /** `open_from` up to the first open turn, a part of the way; true when there may be more of it. */
  const moveOpenFrom = (): boolean => {
    const from = Number(openFrom.get()!.value);
    const some = someTurns.all(from, OPEN_ROWS);
    const open = some.findIndex(({ over }) => over === 0);
    const to = open >= 0 ? some[open]!.id : (some.at(-1)?.id ?? from - 1) + 1;
    if (to > from) setOpenFrom.run(String(to));
    return open < 0 && some.length === OPEN_ROWS;
  };

  const conversationFor = (begin: BeginTurn): ConversationRow => {
    if (begin.conversation === "new") return makeConversation(begin.user, begin.bot, "", false);
    if (begin.conversation === undefined)
      return defaultConversation(begin.user, begin.bot) ?? makeConversation(begin.user, begin.bot, "", true);
    const row = read.conversation(begin.conversation);
    if (!row || row.user !== begin.user || row.deleted_at !== null) throw new Reject("not_found");
    return row;
  };

  const messageIn = (conversation: number, id: number): MessageRow => {
    const row = read.message(id);
    if (!row || row.conversation !== conversation) throw new Reject("not_found");
    return row;
  };

  const parentOf = (conversation: ConversationRow, begin: BeginTurn): number | null => {
    if (begin.replaces === null) return conversation.leaf;
    const replaced = messageIn(conversation.id, begin.replaces);
    if (replaced.role !== "user")
      throw new Reject("bad_request", {
        zh: "replaces 应为自己发的消息",
        en: "replaces must name a message of your own",
      });
    return replaced.parent;
  };

  /** The turn this clientId started, when it still counts. Throws `conflict` when the body was another. */
  const again = (user: string, client: { id: string; hash: string }): TurnRow | undefined => {
    const existing = byClient.get(user, client.id);
    if (!existing || existing.created_at <= now() - CLIENT_ID_MS) return undefined;
    if (existing.client_hash === client.hash) return existing;
    throw new Reject("conflict", {
      zh: "clientId 已用于另一条内容不同的消息",
      en: "clientId was used for a message with a different body",
    });
  };

  return {
    makeConversation,
    appendBotMessage,
    message: read.message,
    conversation: read.conversation,
    log: chunks.log,
    /** What only open turns need, given up for those that are over: their chunks, their place in the search for open ones. */
    prune: async (): Promise<void> => {
      while (await write(moveOpenFrom));
      await chunks.prune();
    },
    again,

    /**
     * Stores a question and its turn. Resolves once committed; `existing` when this user used the clientId within 24 h
     * for the same body. Rejects: `not_found` (conversation, replyTo, replaces), `conflict` (clientId, other body).
     */
    begin: (begin: BeginTurn): Promise<Begun> =>
      writeTogether(() => {
        const at = now();
        if (begin.client) {
          const existing = again(begin.user, begin.client);
          if (existing) return { existing };
          const old = byClient.get(begin.user, begin.client.id);
          if (old) forgetClient.run(old.id);
        }
        const conversation = conversationFor(begin);
        const parent = parentOf(conversation, begin);
        if (begin.replyTo !== null) messageIn(conversation.id, begin.replyTo);
        const question = ids.next();
        const turn = ids.next();
        const row: MessageRow = {
          id: question,
          conversation: conversation.id,
          role: "user",
          bot: null,
          bot_name: null,
          content: begin.content,
          state: "sent",
          error_code: null,
          error_text: null,
          turn,
          parent,
          reply_to: begin.replyTo,
          client_id: begin.client?.id ?? null,
          usage: null,
          files: begin.files.length,
          created_at: at,
          updated_at: at,
          rev: nextRev(),
          seq: 0,
          generation: 0,
        };
        // Titled by what is asked, not by whom: a leading @mention says nothing in a list.
        append(row, begin.files, conversation, 0, begin.text ?? begin.content);
        insertTurn.run({
          id: turn,
          user: begin.user,
          conversation: conversation.id,
          question,
          bot: begin.bot,
          botName: begin.botName,
          instance: begin.instance,
          proto: begin.proto,
          state: begin.proto === 0 ? "queued" : "sent",
          attempt: begin.proto === 0 ? 0 : 1,
          target: begin.target,
          pool: begin.pool,
          onlyBots: begin.only && JSON.stringify([...begin.only]),
          source: begin.source,
          text: begin.text,
          clientId: begin.client?.id ?? null,
          clientHash: begin.client?.hash ?? null,
          at,
        });
        if (begin.thread) insertThread.run({ ...begin.thread, turn });
        usage.sent(begin.user);
        return { turn, question: row, conversation };
      }),

    /** The turn was given to a connection (or back to the queue): attempt, bot and state for a restart. */
    assign: (turn: {
      id: number;
      bot: string | null;
      botName: string | null;
      instance: string;
      proto: number;
      attempt: number;
      generation: number;
      state: string;
    }): Promise<void> =>
      write(() => {
        assignTurn.run(turn);
      }),

    /** Folds the reply into its message, by which the turn is over. A file that is gone does not cost the text. */
    end: (end: EndTurn): Promise<{ row: MessageRow; conversation: ConversationRow }> =>
      writeTogether(() => {
        const at = now();
        const conversation = read.conversation(end.conversation)!;
        const files = end.files.length === 0 ? end.files : end.files.filter((id) => fileThere.get(id) !== null);
        const row: MessageRow = {
          id: end.id,
          conversation: end.conversation,
          role: "bot",
          bot: end.bot,
          bot_name: end.botName,
          content: end.content,
          state: end.state,
          error_code: end.error?.code ?? null,
          error_text: end.error?.message ?? null,
          turn: end.id,
          parent: end.question,
          reply_to: null,
          client_id: null,
          usage: end.usage ? JSON.stringify(end.usage) : null,
          files: files.length,
          created_at: end.createdAt,
          updated_at: at,
          rev: nextRev(),
          seq: end.seq,
          generation: end.generation,
        };
        append(row, files, conversation, end.silent ? 0 : 1);
        usage.ended({
          user: end.user,
          bot: end.bot ?? "",
          state: end.state,
          chars: end.content.length,
          usage: end.usage,
        });
        return { row, conversation };
      }),

    get: (id: number): TurnRow | undefined => byId.get(id) ?? undefined,

    /** Turns that were open when the process ended, each with the text that was stored of its last generation. */
    open: (): { row: TurnRow; text: string }[] => openTurns.all(Number(openFrom.get()!.value)).map(chunks.replyOf),
  };
};

export type TurnStore = ReturnType<typeof createTurnStore>;
