/** Turns that were open when the process ended, made open again: the generator lives in the bot, so it can go on. */
import { encodeId } from "../ids.ts";
import type { ChatSource } from "../protocol.ts";
import { toAttachment } from "../store/rows.ts";
import { onlyOf } from "../store/turns.ts";
import { added, type Turn } from "../turn.ts";
import type { Core } from "./core.ts";
import { GRACE_V2_MS } from "./dispatch.ts";
import { blankTurn } from "./starts.ts";

/** Who had not begun waits this long for its own bot, so that the first to return does not get everything. */
const UNSEEN_GRACE_MS = 10_000;

/** Far more replacements than a bot makes in the quarter of a second that a kill can cost. */
const LEAP = 1000;

export const recoverTurns = (
  { store, now, asks, hold, remember }: Core,
  then: { wait: (turn: Turn) => void; requeue: (turn: Turn) => void; fail: (turn: Turn) => void },
): void => {
  const { wait, requeue, fail } = then;
  /** Of a turn that waits: whoever answered last. The default conversation with a bot is only where it was put. */
  const stickyOf = (id: number): string | null => {
    const conversation = store.turns.conversation(id);
    return conversation?.is_default === 0 ? conversation.bot : null;
  };
  for (const { row, text } of store.turns.open()) {
    const question = store.turns.message(row.question);
    const content = row.text ?? question?.content ?? "";
    const turn = blankTurn(
      { user: row.user, message: content, source: row.source as ChatSource },
      {
        target: row.target ?? undefined,
        pool: row.pool,
        // Over /v1 whoever names no bot has named a pool.
        poolOnly: row.source === "openai",
        sticky: (row.proto === 0 ? stickyOf(row.conversation) : row.bot) ?? undefined,
        only: onlyOf(row),
      },
      content,
      now(),
    );
    Object.assign(turn, {
      id: row.id,
      key: encodeId(row.id),
      conversation: row.conversation,
      conversationKey: encodeId(row.conversation),
      question: row.question,
      createdAt: row.created_at,
      beganAt: Math.min(row.created_at, now()),
      hasFiles: (question?.files ?? 0) > 0,
      attempt: row.attempt,
      botId: row.proto === 0 ? undefined : (row.bot ?? undefined),
      botName: row.proto === 0 ? undefined : (row.bot_name ?? undefined),
      instance: row.instance,
      proto: row.proto,
      generation: row.generation,
      leap: LEAP,
      text,
      spoke: text !== "",
      bytes: Buffer.byteLength(text),
      visible: text.length,
      seq: row.seq,
      storedSeq: row.seq,
    } satisfies Partial<Turn>);
    if (question?.reply_to) {
      const quote = asks.quote(question.reply_to);
      if (quote) turn.ask.replyTo = quote;
    }
    for (const file of store.attachments.ofTurn(row.id)) {
      turn.found = added(turn.found, file);
      if (row.seq === 0) continue; // of a frame that was not stored
      turn.files = added(turn.files, file.id);
      turn.attachments = added(turn.attachments, toAttachment(file));
    }
    hold(turn.user);
    remember(turn);
    if (row.proto === 2) {
      const begun = row.state === "streaming" || row.seq > 0;
      turn.state = begun ? "streaming" : "sent";
      turn.orphanedUntil = now() + (begun ? GRACE_V2_MS : UNSEEN_GRACE_MS);
      wait(turn);
    } else if (row.proto === 0) requeue(turn);
    else fail(turn);
  }
};
