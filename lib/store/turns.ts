/**
 * Turns on disk: begun with their question in one write, their text logged in chunks, folded into one message at the end.
 *
 * Owns `turns` and `chunks` and the inserts into `messages`. What must stay true: the question and its turn are one
 * commit; the reply and the turn's end are one commit; a turn's reply has the turn's id. Two message rows per turn, the
 * bot's written once, at the end.
 */
import type { Ids } from "../ids.ts";
import { Reject, type Usage } from "../protocol.ts";
import type { StoreBase } from "./base.ts";
import { excerpt, type ConversationRow, type MessageRow } from "./rows.ts";
import type { ThreadKeys } from "./threads.ts";

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

export type ChunkBatch = { turn: number; generation: number; seq: number; text: string };

/** Longest automatic title: one line of the sidebar. */
const TITLE_CHARS = 40;
/** Preview under a title. */
const PREVIEW_CHARS = 120;
/** A clientId is remembered this long (docs/protocol.md). */
const CLIENT_ID_MS = 24 * 3600_000;

/**
 * A bot may cut a character in two (an emoji is two UTF-16 units), and SQLite keeps only whole ones: such a piece is kept as
 * JSON behind a mark, so that the halves meet again.
 */
const MARK = "\u0001";
const toStored = (text: string): string =>
  text.isWellFormed() && !text.startsWith(MARK) ? text : MARK + JSON.stringify(text);
const fromStored = (text: string): string =>
  text.startsWith(MARK) ? (JSON.parse(text.slice(MARK.length)) as string) : text;

export const createTurnStore = ({ db, write, ids, now, nextRev }: StoreBase & { ids: Ids }) => {
  const byClient = db.prepare<TurnRow, [string, string]>("SELECT * FROM turns WHERE user = ? AND client_id = ?");
  const forgetClient = db.prepare("UPDATE turns SET client_id = NULL WHERE id = ?");
  const byId = db.prepare<TurnRow, [number]>("SELECT * FROM turns WHERE id = ?");
  const conversationById = db.prepare<ConversationRow, [number]>("SELECT * FROM conversations WHERE id = ?");
  const defaultConversation = db.prepare<ConversationRow, [string, string]>(
    "SELECT * FROM conversations WHERE user = ? AND bot IS ? AND is_default = 1",
  );
  const insertConversation = db.prepare(
    `INSERT INTO conversations (id, user, bot, is_default, title, titled, created_at, updated_at, rev)
     VALUES ($id, $user, $bot, $isDefault, $title, $titled, $at, $at, $rev)`,
  );
  const messageById = db.prepare<MessageRow, [number]>("SELECT * FROM messages WHERE id = ?");
  const insertMessage = db.prepare(
    `INSERT INTO messages (id, conversation, role, bot, bot_name, content, state, error_code, error_text, turn, parent,
       reply_to, client_id, usage, files, created_at, updated_at, rev)
     VALUES ($id, $conversation, $role, $bot, $bot_name, $content, $state, $error_code, $error_text, $turn, $parent,
       $reply_to, $client_id, $usage, $files, $created_at, $updated_at, $rev)`,
  );
  const insertFile = db.prepare("INSERT INTO message_files (message, place, attachment) VALUES (?, ?, ?)");
  const touchConversation = db.prepare(
    `UPDATE conversations SET bot = coalesce($bot, bot), title = $title, titled = $titled, unread = $unread, leaf = $leaf,
       last_role = $role, last_text = $text, last_at = $lastAt, updated_at = $at, rev = $rev WHERE id = $id`,
  );
  const insertTurn = db.prepare(
    `INSERT INTO turns (id, user, conversation, question, bot, bot_name, instance, proto, target, pool, source, text, state,
       attempt, client_id, client_hash, created_at)
     VALUES ($id, $user, $conversation, $question, $bot, $botName, $instance, $proto, $target, $pool, $source, $text, $state,
       $attempt, $clientId, $clientHash, $at)`,
  );
  const insertThread = db.prepare(
    "INSERT INTO threads (turn, whole, tail, system) VALUES ($turn, $whole, $tail, $system)",
  );
  const assignTurn = db.prepare(
    `UPDATE turns SET bot = $bot, bot_name = $botName, instance = $instance, proto = $proto, attempt = $attempt,
       generation = $generation, state = $state WHERE id = $id`,
  );
  const endTurn = db.prepare(
    `UPDATE turns SET state = $state, seq = $seq, generation = $generation, bot = $bot, bot_name = $botName, ended_at = $at
     WHERE id = $id`,
  );
  const insertChunk = db.prepare("INSERT INTO chunks (turn, generation, seq, text) VALUES (?, ?, ?, ?)");
  const turnSeq = db.prepare("UPDATE turns SET seq = ?, generation = ?, state = 'streaming' WHERE id = ?");
  const chunksOf = db.prepare<{ generation: number; text: string }, [number]>(
    "SELECT generation, text FROM chunks WHERE turn = ? ORDER BY id",
  );
  const pruneChunks = db.prepare(
    "DELETE FROM chunks WHERE id < coalesce((SELECT min(c.id) FROM turns t JOIN chunks c ON c.turn = t.id WHERE t.ended_at IS NULL), 9e18)",
  );
  const openTurns = db.prepare<TurnRow, []>("SELECT * FROM turns WHERE ended_at IS NULL ORDER BY id");

  const append = (row: MessageRow, files: number[], conversation: ConversationRow, unreadBy: number): void => {
    insertMessage.run(row);
    files.forEach((attachment, place) => {
      insertFile.run(row.id, place, attachment);
    });
    // A reply that ends after a newer question must not become the parent of the next one.
    const newest = conversation.leaf === null || row.id > conversation.leaf;
    conversation.unread += unreadBy;
    if (row.bot !== null) conversation.bot = row.bot;
    if (newest) conversation.leaf = row.id;
    if (newest) {
      conversation.last_role = row.role;
      conversation.last_text = excerpt(row.content, PREVIEW_CHARS);
      conversation.last_at = row.updated_at;
    }
    conversation.updated_at = row.updated_at;
    conversation.rev = row.rev;
    if (conversation.titled === 0 && conversation.title === "" && row.role === "user")
      conversation.title = excerpt(row.content, TITLE_CHARS);
    touchConversation.run({
      id: conversation.id,
      bot: row.bot,
      title: conversation.title,
      titled: conversation.titled,
      unread: conversation.unread,
      leaf: conversation.leaf,
      role: conversation.last_role,
      text: conversation.last_text,
      lastAt: conversation.last_at,
      at: row.updated_at,
      rev: row.rev,
    });
  };

  /** A new conversation row, in a write of the caller. */
  const makeConversation = (user: string, bot: string | null, title: string, isDefault: boolean): ConversationRow => {
    const id = ids.next();
    const at = now();
    const titled = title === "" ? 0 : 1;
    insertConversation.run({ id, user, bot, isDefault: isDefault ? 1 : 0, title, titled, at, rev: nextRev() });
    return conversationById.get(id)!;
  };

  const conversationFor = (begin: BeginTurn): ConversationRow => {
    if (begin.conversation === "new") return makeConversation(begin.user, begin.bot, "", false);
    if (begin.conversation === undefined)
      return (
        defaultConversation.get(begin.user, begin.bot as string) ?? makeConversation(begin.user, begin.bot, "", true)
      );
    const row = conversationById.get(begin.conversation);
    if (!row || row.user !== begin.user || row.deleted_at !== null) throw new Reject("not_found");
    return row;
  };

  const messageIn = (conversation: number, id: number): MessageRow => {
    const row = messageById.get(id);
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
    append,
    again,

    /**
     * Stores a question and its turn. Resolves once committed; `existing` when this user used the clientId within 24 h
     * for the same body. Rejects: `not_found` (conversation, replyTo, replaces), `conflict` (clientId, other body).
     */
    begin: (begin: BeginTurn): Promise<Begun> =>
      write(() => {
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
        };
        append(row, begin.files, conversation, 0);
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
          source: begin.source,
          text: begin.text,
          clientId: begin.client?.id ?? null,
          clientHash: begin.client?.hash ?? null,
          at,
        });
        if (begin.thread) insertThread.run({ ...begin.thread, turn });
        return { turn, question: row, conversation };
      }),

    /** The turn was given to a connection (or back to the queue): attempt, bot and state for a restart. */
    assign: (turn: {
      id: number;
      bot: string;
      botName: string;
      instance: string;
      proto: number;
      attempt: number;
      generation: number;
      state: string;
    }): Promise<void> =>
      write(() => {
        assignTurn.run(turn);
      }),

    /** Text that arrived since the last batch; resolves once it would survive a kill. */
    log: (batch: ChunkBatch[]): Promise<void> =>
      write(() => {
        for (const { turn, generation, seq, text } of batch) {
          if (text !== "") insertChunk.run(turn, generation, seq, toStored(text));
          turnSeq.run(seq, generation, turn);
        }
      }),

    /** Folds the reply into its message and ends the turn, in one commit. */
    end: (end: EndTurn): Promise<{ row: MessageRow; conversation: ConversationRow }> =>
      write(() => {
        const at = now();
        const turn = byId.get(end.id)!;
        const conversation = conversationById.get(turn.conversation)!;
        endTurn.run({
          id: end.id,
          state: end.state,
          seq: end.seq,
          generation: end.generation,
          bot: end.bot,
          botName: end.botName,
          at,
        });
        const row: MessageRow = {
          id: end.id,
          conversation: turn.conversation,
          role: "bot",
          bot: end.bot,
          bot_name: end.botName,
          content: end.content,
          state: end.state,
          error_code: end.error?.code ?? null,
          error_text: end.error?.message ?? null,
          turn: end.id,
          parent: turn.question,
          reply_to: null,
          client_id: null,
          usage: end.usage ? JSON.stringify(end.usage) : null,
          files: end.files.length,
          created_at: turn.created_at,
          updated_at: at,
          rev: nextRev(),
        };
        append(row, end.files, conversation, end.silent ? 0 : 1);
        return { row, conversation };
      }),

    /** A further bot message of a conversation: a late reply or a proactive message. In a write of the caller. */
    appendBotMessage: (
      conversation: ConversationRow,
      say: {
        bot: string;
        botName: string;
        content: string;
        files: number[];
        turn: number | null;
        parent: number | null;
      },
    ): MessageRow => {
      const at = now();
      const row: MessageRow = {
        id: ids.next(),
        conversation: conversation.id,
        role: "bot",
        bot: say.bot,
        bot_name: say.botName,
        content: say.content,
        state: "done",
        error_code: null,
        error_text: null,
        turn: say.turn,
        parent: say.parent,
        reply_to: null,
        client_id: null,
        usage: null,
        files: say.files.length,
        created_at: at,
        updated_at: at,
        rev: nextRev(),
      };
      append(row, say.files, conversation, 1);
      return row;
    },

    get: (id: number): TurnRow | undefined => byId.get(id) ?? undefined,
    message: (id: number): MessageRow | undefined => messageById.get(id) ?? undefined,
    conversation: (id: number): ConversationRow | undefined => conversationById.get(id) ?? undefined,

    /** Turns that were open when the process ended, each with the text that was stored of its last generation. */
    open: (): { row: TurnRow; text: string }[] =>
      openTurns.all().map((row) => ({
        row,
        text: chunksOf
          .all(row.id)
          .filter((chunk) => chunk.generation === row.generation)
          .map((chunk) => fromStored(chunk.text))
          .join(""),
      })),

    /** Drops the chunks of ended turns. Append-only and pruned from the front: cheaper than deleting per turn. */
    prune: (): Promise<void> =>
      write(() => {
        pruneChunks.run();
      }),
  };
};

export type TurnStore = ReturnType<typeof createTurnStore>;
