/**
 * What bots say without being asked: proactive messages with their receipts, late replies, and dead letters for what names
 * nobody. What must stay true: a message is stored before it is acked, its (bot, id) once; nothing is guessed at a person.
 */
import type { Ids } from "../ids.ts";
import { Reject } from "../protocol.ts";
import type { StoreBase } from "./base.ts";
import { UNDO_MS } from "./conversations.ts";
import type { ConversationRow, MessageRow } from "./rows.ts";
import type { TurnStore } from "./turns.ts";

export type Proactive = {
  bot: string;
  botName: string;
  id: string;
  to: { user: string } | { conversation: number };
  content: string;
  files: number[];
  title: string | null;
};

export type ProactiveRow = {
  bot: string;
  id: string;
  user: string;
  conversation: number;
  message: number;
  seen_at: number | null;
  receipt_at: number | null;
  created_at: number;
};

export type DeadLetter = { id: number; bot: string; reason: string; frame: string; created_at: number };

/** Enough of a frame to see what it was; more would let a bot fill the disk with refused text. */
const FRAME_CHARS = 4000;
/** Newest kept. */
const MAX_DEAD_LETTERS = 10_000;

export const createInboxStore = ({ db, write, now }: StoreBase, ids: Ids, turns: TurnStore) => {
  const byKey = db.prepare<ProactiveRow, [string, string]>("SELECT * FROM proactive WHERE bot = ? AND id = ?");
  const insert = db.prepare(
    `INSERT INTO proactive (bot, id, user, conversation, message, created_at)
     VALUES ($bot, $id, $user, $conversation, $message, $at)`,
  );
  const defaultOf = db.prepare<ConversationRow, [string, string]>(
    "SELECT * FROM conversations WHERE user = ? AND bot = ? AND is_default = 1",
  );
  const answeredIn = db.prepare<{ id: number }, [number, string]>(
    "SELECT id FROM messages WHERE conversation = ? AND bot = ? LIMIT 1",
  );
  // What came after the turn's reply: what has a higher rev in its conversation.
  const seqOf = db.prepare<{ seq: number | null }, [number]>(
    `SELECT max(l.seq) AS seq FROM messages m JOIN messages l ON l.conversation = m.conversation AND l.rev >= m.rev
     WHERE m.id = ? AND l.turn = m.turn AND l.role = 'bot'`,
  );
  const unsent = db.prepare<ProactiveRow, [string]>(
    "SELECT * FROM proactive WHERE bot = ? AND seen_at IS NOT NULL AND receipt_at IS NULL LIMIT 1000",
  );
  const receipt = db.prepare("UPDATE proactive SET receipt_at = ? WHERE bot = ? AND id = ?");
  const insertDead = db.prepare("INSERT INTO dead_letters (id, bot, reason, frame, created_at) VALUES (?, ?, ?, ?, ?)");
  const trimDead = db.prepare(
    "DELETE FROM dead_letters WHERE id <= (SELECT id FROM dead_letters ORDER BY id DESC LIMIT 1 OFFSET ?)",
  );
  const oneDead = db.prepare<DeadLetter, [number]>("SELECT * FROM dead_letters WHERE id = ?");
  const countDead = db.prepare<{ n: number }, []>("SELECT count(*) AS n FROM dead_letters");
  const dropDead = db.prepare("DELETE FROM dead_letters WHERE id = ?");
  const dead = db.prepare<DeadLetter, [number, number]>(
    "SELECT * FROM dead_letters WHERE id < ? ORDER BY id DESC LIMIT ?",
  );

  const target = (say: Proactive): ConversationRow => {
    if ("user" in say.to)
      return defaultOf.get(say.to.user, say.bot) ?? turns.makeConversation(say.to.user, say.bot, say.title ?? "", true);
    const row = turns.conversation(say.to.conversation);
    if (!row || row.deleted_at !== null || !answeredIn.get(row.id, say.bot)) throw new Reject("not_found");
    return row;
  };

  return {
    /** Who a proactive message would reach, before it is written: for the access check. */
    ownerOf: (conversation: number): string | undefined => turns.conversation(conversation)?.user,

    /** `again`: this (bot, id) was stored before; nothing changed. Rejects `not_found` for a conversation not its own. */
    add: (
      say: Proactive,
    ): Promise<{ again: ProactiveRow } | { again?: undefined; row: MessageRow; conversation: ConversationRow }> =>
      write(() => {
        const again = byKey.get(say.bot, say.id);
        if (again) return { again };
        const conversation = target(say);
        const row = turns.appendBotMessage(conversation, {
          bot: say.bot,
          botName: say.botName,
          content: say.content,
          files: say.files,
          turn: null,
          parent: conversation.leaf,
        });
        insert.run({
          bot: say.bot,
          id: say.id,
          user: conversation.user,
          conversation: conversation.id,
          message: row.id,
          at: now(),
        });
        return { row, conversation };
      }),

    /** The last frame that is stored of a turn that is over, or of what its bot said later. */
    lastSeq: (turn: number): number => seqOf.get(turn)?.seq ?? 0,

    /** A reply that came after `done`: a further message. Undefined when its turn is unknown. `seq`: of its last frame, or 0. */
    addLate: (turnId: number, say: { bot: string; botName: string; content: string; files: number[]; seq: number }) =>
      write(() => {
        const turn = turns.get(turnId);
        const conversation = turn && turns.conversation(turn.conversation);
        // While its deletion can be undone it is kept as what ends in it is, and told then.
        if (!conversation || (conversation.deleted_at ?? now()) < now() - UNDO_MS) return undefined;
        // Not below its own turn's reply: as the newest message it is the parent of the next one, and what was said between
        // them would be on another branch.
        const row = turns.appendBotMessage(conversation, { ...say, turn: turnId, parent: conversation.leaf });
        return { row, conversation };
      }),

    /** Read messages this bot has not been told about. */
    unsentReceipts: (bot: string): ProactiveRow[] => unsent.all(bot),
    receiptsSent: (keys: { bot: string; id: string }[]): Promise<void> =>
      write(() => {
        for (const { bot, id } of keys) receipt.run(now(), bot, id);
      }),

    addDead: (bot: string, reason: string, frame: string): Promise<void> =>
      write(() => {
        insertDead.run(ids.next(), bot, reason, frame.slice(0, FRAME_CHARS), now());
      }),
    deadLetters: (limit: number, before = Number.MAX_SAFE_INTEGER): DeadLetter[] => dead.all(before, limit),
    deadLetter: (id: number): DeadLetter | undefined => oneDead.get(id) ?? undefined,
    deadCount: (): number => countDead.get()!.n,
    dropDead: (id: number): Promise<void> =>
      write(() => {
        dropDead.run(id);
      }),
    sweep: (): Promise<void> =>
      write(() => {
        trimDead.run(MAX_DEAD_LETTERS);
      }),
  };
};

export type InboxStore = ReturnType<typeof createInboxStore>;
