/**
 * What bots say outside an open turn: proactive messages with receipts, replies that come after the end, and everything that
 * names nobody, which goes to dead letters. Refuses to guess a person.
 */
import type { Bots, Connection } from "./bots.ts";
import type { Config } from "./config.ts";
import { decodeId, encodeId } from "./ids.ts";
import { createBuckets } from "./limits.ts";
import type { Log } from "./log.ts";
import { Reject, type EventFrame, type MessageFrame, type ReplyFile, type ReplyFrame } from "./protocol.ts";
import type { Store } from "./store.ts";
import type { TurnRow } from "./store/turns.ts";
import type { Publisher } from "./turns/publish.ts";
import { decodeImage } from "./turns/ask.ts";

/** A reply this long after `done` still belongs to its conversation. */
const LATE_MS = 10 * 60_000;
/** The last seq of a finished turn is known this long, for bots that missed the ack. */
const KEEP_SEQ_MS = 24 * 3600_000;

/** Dead letters of one bot: a hundred at once, then one a second. A bot that streams to nobody must not fill the disk. */
const DEAD_BURST = 100;
const DEAD_MS = 1_000;
/** A late reply whose `done` does not come is stored after this long without a frame. */
const LATE_SILENT_MS = 60_000;

/**
 * A reply after `done`, as far as it has come. `bytes`: of its text, `size`: characters of its files; `seq`: of its last frame,
 * so that none counts twice.
 */
type Late = {
  connection: Connection;
  text: string;
  bytes: number;
  files: ReplyFile[];
  size: number;
  seq: number;
  at: number;
  state: "heard" | "ended" | "storing";
};

const imageFile = (image: string): ReplyFile => ({ name: "image", mime: "", data: image });

const diskRefused = (error: unknown): boolean => error instanceof Reject && error.code === "storage_failed";

export const createInbox = (deps: {
  config: () => Config;
  store: Store;
  bots: () => Bots;
  publish: Publisher;
  /** Whether a person of this name exists. */
  isUser: (name: string) => boolean;
  log: Log;
  now: () => number;
  steady: () => number;
}) => {
  const { config, store, bots, publish, isUser, log, now, steady } = deps;
  /** By turn, in order, until stored: one after the other, because an ack, and the last seq on disk, speak for all before. */
  const late = new Map<number, Late[]>();
  const burials = createBuckets({ burst: () => DEAD_BURST, refillMs: () => DEAD_MS, now: steady });

  const bury = (connection: Connection, reason: string, frame: unknown): void => {
    if (burials.take(connection.botId) > 0) return;
    log("warn", "dead_letter", { bot: connection.botId, reason });
    store.inbox.addDead(connection.botId, reason, JSON.stringify(frame)).catch(() => {}); // the commit has logged it
  };

  const keepFile = async (user: string, file: ReplyFile): Promise<number> => {
    if ("id" in file) {
      const row = store.attachments.get(decodeId(file.id));
      if (!row || row.user !== user || row.turn === null)
        throw new Reject("not_found", { zh: "附件不存在", en: "No such attachment" });
      return row.id;
    }
    const { bytes } = decodeImage(file.data);
    if (bytes.length > config().limits.attachmentBytes) throw new Reject("too_large");
    return (await store.attachments.add({ user, name: file.name, mime: file.mime, bytes, turn: 0 })).id;
  };

  /** Throws for the first that cannot be kept; with `refused`, that is told and the others are kept. */
  const keepFiles = async (
    connection: Connection,
    user: string,
    files: ReplyFile[],
    refused?: (error: unknown) => void,
  ): Promise<number[]> => {
    const ids: number[] = [];
    for (const file of files)
      try {
        ids.push(await keepFile(user, file));
      } catch (error) {
        if (!refused || diskRefused(error)) throw error;
        refused(error);
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
    // Sent again, perhaps because it missed both: it is told both.
    if (stored.again.seen_at !== null) bots().send(connection, { type: "ack", id: frame.id, state: "seen" });
  };

  /** Tells the bot what has been read since it was last told. */
  const receipts = (connection: Connection): void => {
    const rows = store.inbox.unsentReceipts(connection.botId);
    const sent = rows.filter((row) => bots().send(connection, { type: "ack", id: row.id, state: "seen" }));
    if (sent.length > 0) store.inbox.receiptsSent(sent).catch(() => {}); // told again at the next return
  };

  const ackReply = (connection: Connection, turn: number, seq: number): void => {
    if (connection.caps.has("ack")) bots().send(connection, { type: "ack", replyTo: encodeId(turn), seq });
  };

  const storeLate = async (turn: number, held: Late): Promise<void> => {
    const { connection, text, files, seq } = held;
    const user = store.turns.get(turn)?.user;
    if (user !== undefined && (text !== "" || files.length > 0)) {
      // As in a turn: a file that cannot be kept does not cost the text.
      const kept = await keepFiles(connection, user, files, (error) =>
        log("warn", "reply_file_refused", { turn: encodeId(turn), error: String(error) }),
      );
      const say = { bot: connection.botId, botName: connection.name, content: text, files: kept, seq };
      const stored = text !== "" || kept.length > 0 ? await store.inbox.addLate(turn, say) : undefined;
      if (stored) publish.message(user, stored.row, stored.conversation);
    }
    if (seq > 0) ackReply(held.connection, turn, seq);
  };

  /** The first of this turn, when it has ended; then the next. */
  const storeNext = (turn: number): void => {
    const waiting = late.get(turn) ?? [];
    const [held] = waiting;
    if (held?.state !== "ended") return;
    held.state = "storing";
    const next = (): void => {
      waiting.shift();
      if (waiting.length === 0) late.delete(turn);
      else storeNext(turn);
    };
    storeLate(turn, held).then(next, (error: unknown) => {
      log("error", "late_reply_failed", { turn: encodeId(turn), error: String(error) });
      if (!diskRefused(error)) return next();
      // Once more when it has been silent for a while, or the next one has ended.
      held.state = "ended";
      held.at = steady();
    });
  };

  const endLate = (turn: number, held: Late): void => {
    held.state = "ended";
    storeNext(turn);
  };

  const addLate = (connection: Connection, turn: number, frame: ReplyFrame): void => {
    const waiting = late.get(turn) ?? [];
    let held = waiting.at(-1);
    if (held?.state !== "heard") {
      held = { connection, text: "", bytes: 0, files: [], size: 0, seq: 0, at: 0, state: "heard" };
      waiting.push(held);
      late.set(turn, waiting);
    }
    if (frame.seq !== undefined && connection.proto === 2) held.seq = frame.seq;
    held.connection = connection;
    const before = frame.mode === "replace" ? { text: "", bytes: 0 } : held;
    held.bytes = before.bytes + Buffer.byteLength(frame.content);
    held.text = before.text + frame.content;
    const files = [...(frame.attachments ?? []), ...(frame.image ? [imageFile(frame.image)] : [])];
    held.files.push(...files);
    held.size += files.reduce((sum, file) => sum + ("data" in file ? file.data.length : 0), 0);
    held.at = steady();
    const { replyBytes, frameBytes } = config().limits;
    // Of all that wait: a disk that refuses must not have them pile up.
    const all = (count: (one: Late) => number): number => waiting.reduce((sum, one) => sum + count(one), 0);
    if (all(({ bytes }) => bytes) > replyBytes || all(({ size }) => size) > frameBytes) {
      waiting.pop();
      if (waiting.length === 0) late.delete(turn);
      return bury(connection, "late reply too large", { replyTo: frame.replyTo });
    }
    if (frame.done) endLate(turn, held);
  };

  /** Whether this was heard before. What is stored of it is acked again: its ack may be lost with the connection or the process. */
  const isRepeat = (connection: Connection, row: TurnRow, seq: number): boolean => {
    const waiting = late.get(row.id) ?? [];
    const heard = Math.max(0, ...waiting.map((held) => held.seq));
    if (heard > 0 && seq > heard) return false; // what a stream of them is, without asking the disk
    const known = now() - row.ended_at! < KEEP_SEQ_MS;
    const goesOn = known && row.state === "done" && seq > row.seq;
    const stored = goesOn ? store.inbox.lastSeq(row.id) : row.seq;
    if (seq <= stored) {
      if (known) ackReply(connection, row.id, stored);
      return true;
    }
    if (seq > heard) return false;
    for (const held of waiting) held.connection = connection; // acked there when it is stored
    return true;
  };

  const strayReply = (connection: Connection, frame: ReplyFrame): void => {
    if (frame.replyTo.startsWith("outbound-")) return bury(connection, "outbound without a person (v1 form)", frame);
    const row = store.turns.get(decodeId(frame.replyTo));
    const own = row !== undefined && row.bot === connection.botId && row.ended_at !== null;
    if (own && frame.seq !== undefined && isRepeat(connection, row, frame.seq)) return;
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
      for (const [turn, [held]] of [...late])
        if (held && held.state !== "storing" && steady() - held.at > LATE_SILENT_MS) endLate(turn, held);
    },
  };
};

export type Inbox = ReturnType<typeof createInbox>;
