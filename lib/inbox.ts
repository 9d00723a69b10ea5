/**
 * What bots say outside an open turn: proactive messages with receipts, replies that come after the end, and everything that
 * names nobody, which goes to dead letters. Refuses to guess a person.
 */
import type { Bots, Connection } from "./bots.ts";
import type { Config } from "./config.ts";
import { decodeId, encodeId } from "./ids.ts";
import type { Log } from "./log.ts";
import { Reject, type EventFrame, type MessageFrame, type ReplyFile, type ReplyFrame } from "./protocol.ts";
import type { Store } from "./store.ts";
import type { Publisher } from "./turns/publish.ts";
import { decodeImage } from "./turns/ask.ts";

/** A reply this long after `done` still belongs to its conversation. */
const LATE_MS = 10 * 60_000;
/** The last seq of a finished turn is known this long, for bots that missed the ack. */
const KEEP_SEQ_MS = 24 * 3600_000;

type Late = { connection: Connection; text: string; files: ReplyFile[]; at: number };

export const createInbox = (deps: {
  config: () => Config;
  store: Store;
  bots: () => Bots;
  publish: Publisher;
  /** Whether a person of this name exists. */
  isUser: (name: string) => boolean;
  log: Log;
  now: () => number;
}) => {
  const { config, store, bots, publish, isUser, log, now } = deps;
  const late = new Map<number, Late>();

  const bury = (connection: Connection, reason: string, frame: unknown): void => {
    log("warn", "dead_letter", { bot: connection.botId, reason });
    store.inbox.addDead(connection.botId, reason, JSON.stringify(frame)).catch(() => {}); // the commit has logged it
  };

  const keepFiles = async (connection: Connection, user: string, files: ReplyFile[]): Promise<number[]> => {
    const ids: number[] = [];
    for (const file of files) {
      if ("id" in file) {
        const row = store.attachments.get(decodeId(file.id));
        if (!row || row.user !== user || row.turn === null)
          throw new Reject("not_found", { zh: "附件不存在", en: "No such attachment" });
        ids.push(row.id);
        continue;
      }
      const { bytes } = decodeImage(file.data);
      if (bytes.length > config().limits.attachmentBytes) throw new Reject("too_large");
      ids.push((await store.attachments.add({ user, name: file.name, mime: file.mime, bytes, turn: 0 })).id);
    }
    if (ids.length > 0) log("debug", "files_kept", { bot: connection.botId, files: ids.length });
    return ids;
  };

  const proactive = async (connection: Connection, frame: MessageFrame): Promise<void> => {
    const to = "userId" in frame.to ? { user: frame.to.userId } : { conversation: decodeId(frame.to.conversationId) };
    const user = to.user ?? (to.conversation === undefined ? undefined : store.inbox.ownerOf(to.conversation));
    if (user === undefined || !isUser(user))
      throw new Reject("not_found", { zh: "没有这个用户或会话", en: "No such user or conversation" });
    if (!bots().mayUse(user, connection.botId)) throw new Reject("forbidden");
    if (frame.content === "" && !frame.attachments?.length)
      throw new Reject("bad_request", { zh: "content：不能为空", en: "content: must not be empty" });
    const files = await keepFiles(connection, user, frame.attachments ?? []);
    const stored = await store.inbox.add({
      bot: connection.botId,
      botName: connection.name,
      id: frame.id,
      to: to.user === undefined ? { conversation: to.conversation } : { user: to.user },
      content: frame.content,
      files,
      title: frame.title ?? null,
    });
    bots().send(connection, { type: "ack", id: frame.id, state: "stored" });
    if (!stored.again) return publish.message(user, stored.row, stored.conversation);
    if (stored.again.seen_at !== null) receipts(connection);
  };

  /** Tells the bot what has been read since it was last told. */
  const receipts = (connection: Connection): void => {
    const rows = store.inbox.unsentReceipts(connection.botId);
    const sent = rows.filter((row) => bots().send(connection, { type: "ack", id: row.id, state: "seen" }));
    if (sent.length > 0) store.inbox.receiptsSent(sent).catch(() => {}); // told again at the next return
  };

  const storeLate = async (turn: number, { connection, text, files }: Late): Promise<void> => {
    late.delete(turn);
    if (text === "" && files.length === 0) return;
    const user = store.turns.get(turn)!.user;
    const stored = await store.inbox.addLate(turn, {
      bot: connection.botId,
      botName: connection.name,
      content: text,
      files: await keepFiles(connection, user, files),
    });
    if (stored) publish.message(user, stored.row, stored.conversation);
  };

  const addLate = (connection: Connection, turn: number, frame: ReplyFrame): void => {
    const held = late.get(turn) ?? { connection, text: "", files: [], at: now() };
    late.set(turn, held);
    held.text = frame.mode === "replace" ? frame.content : held.text + frame.content;
    if (held.text.length > config().limits.replyBytes) {
      late.delete(turn);
      return bury(connection, "late reply too large", { replyTo: frame.replyTo });
    }
    held.at = now();
    held.files.push(
      ...(frame.attachments ?? []),
      ...(frame.image ? [{ name: "image", mime: "", data: frame.image }] : []),
    );
    if (frame.done)
      storeLate(turn, held).catch((error: unknown) =>
        log("error", "late_reply_failed", { turn: encodeId(turn), error: String(error) }),
      );
  };

  const strayReply = (connection: Connection, frame: ReplyFrame): void => {
    if (frame.replyTo.startsWith("outbound-")) return bury(connection, "outbound without a person (v1 form)", frame);
    const row = store.turns.get(decodeId(frame.replyTo));
    const own = row !== undefined && row.bot === connection.botId && row.ended_at !== null;
    if (own && frame.seq !== undefined && frame.seq <= row.seq) {
      // Sent again because the ack was lost with the connection or the process.
      if (now() - row.ended_at! < KEEP_SEQ_MS && connection.caps.has("ack"))
        bots().send(connection, { type: "ack", replyTo: frame.replyTo, seq: row.seq });
      return;
    }
    if (own && row.state === "done" && now() - row.ended_at! < LATE_MS) return addLate(connection, row.id, frame);
    if (own && row.state !== "done") return; // cancelled or failed: what still comes is not wanted
    bury(connection, row ? "turn of another bot, or over" : "unknown turn", frame);
    if (connection.proto === 2)
      bots().send(connection, { type: "error", code: "not_found", id: frame.replyTo, message: "No such turn" });
  };

  return {
    receipts,

    /** A proactive message; answered with `ack stored` or `error {id, code}`. */
    message: (connection: Connection, frame: MessageFrame): void => {
      proactive(connection, frame).catch((error: unknown) => {
        const code = error instanceof Reject ? error.code : "internal";
        const message = error instanceof Reject ? error.say.en : "Internal error";
        if (!(error instanceof Reject))
          log("error", "proactive_failed", { bot: connection.botId, error: String(error) });
        bury(connection, `proactive refused: ${code}`, frame);
        bots().send(connection, { type: "error", id: frame.id, code, message });
      });
    },

    /** A frame about a turn that is not open. */
    stray: (connection: Connection, frame: ReplyFrame | EventFrame | { type: "ack"; id: string }): void => {
      if (frame.type === "reply") strayReply(connection, frame);
    },

    /** The person read these: their bots are told, now or when they return. */
    seen: (bot: string): void => {
      for (const connection of bots().connections())
        if (connection.botId === bot && connection.caps.has("message")) return receipts(connection);
    },

    /** Late replies whose `done` never came. */
    sweep: (): void => {
      for (const [turn, held] of [...late])
        if (now() - held.at > LATE_MS / 10) storeLate(turn, held).catch(() => late.delete(turn));
    },
  };
};

export type Inbox = ReturnType<typeof createInbox>;
