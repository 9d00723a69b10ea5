/**
 * What a bot says about a turn it holds: text, replacements, files, activity, the last word.
 *
 * Synchronous: called from the socket. What must stay true: frames count once and in order (`seq`), text goes to its readers
 * before it is written, and nothing is taken after the turn began to end.
 */
import type { Connection } from "../bots.ts";
import { decodeId } from "../ids.ts";
import { Reject, type Activity, type EventFrame, type ReplyFile, type ReplyFrame } from "../protocol.ts";
import { cleanName } from "../store/attachments.ts";
import { toAttachment, type AttachmentRow } from "../store/rows.ts";
import { added, newGeneration, type Turn } from "../turn.ts";
import { decodeImage } from "./ask.ts";
import type { Core } from "./core.ts";
import type { Dispatch } from "./dispatch.ts";
import type { Ends } from "./ends.ts";

export const createReplies = (
  { config, store, streams, metrics, log, now, textLog }: Core,
  dispatch: Dispatch,
  { finish, fail, tellCancel }: Ends,
) => {
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
    if (frame.error && frame.content === "") return onError(turn, frame.error);
    turn.state = "streaming";
    turn.activity = undefined;
    const bytes = Buffer.byteLength(frame.content) + (frame.mode === "replace" ? 0 : turn.bytes);
    if (bytes > config().limits.replyBytes) {
      tellCancel(turn, "timeout");
      return fail(turn, "too_large", false); // what was there before is kept
    }
    if (frame.mode === "replace") {
      newGeneration(turn);
      turn.text = frame.content;
      turn.tailFrom = 0;
      turn.visible = 0;
    } else {
      turn.tailFrom = turn.text.length;
      turn.text += frame.content;
    }
    turn.tail = frame.content;
    if (!turn.spoke && bytes > 0) {
      turn.spoke = true;
      metrics.firstChunk(turn.frameAt - turn.beganAt);
    }
    turn.bytes = bytes;
    if (frame.image) keepFile(turn, { name: "image", mime: "", data: frame.image });
    for (const file of frame.attachments ?? []) keepFile(turn, file);
    if (frame.usage) turn.usage = frame.usage;
    // The last words and the failure may come in one frame: they are kept, as those of the frames before are.
    if (frame.error) return onError(turn, frame.error);
    if (frame.done)
      return finish(turn, {
        state: frame.finish === "cancelled" ? "cancelled" : "done",
        finish: frame.finish ?? "stop",
      });
    turn.visible = turn.text.length;
    textLog.add(turn, frame.mode === "replace" ? undefined : frame.content);
    streams.touch(turn);
  };

  const onError = (turn: Turn, error: NonNullable<ReplyFrame["error"]>): void => {
    if (error.retryable && turn.text === "" && dispatch.retry(turn)) return;
    fail(turn, "bot_failed", error.retryable ?? false, error.message);
  };

  /** Stores a file of a reply; readers see it when it is stored, and the end and the acks wait for it. */
  const keepFile = (turn: Turn, file: ReplyFile): void => {
    turn.storing ??= new Set();
    const { storing, attempt } = turn;
    const before = [...storing];
    const stored = storeFile(turn, file)
      .then(async (row) => {
        await Promise.allSettled(before); // a large file takes longer than the small one behind it, and stays before it
        if (turn.attempt !== attempt) return store.attachments.disown({ id: row.id }); // of one that lost
        if (turn.files.includes(row.id)) return undefined; // sent again after a restart
        turn.files = added(turn.files, row.id);
        turn.attachments = added(turn.attachments, toAttachment(row));
        streams.touch(turn);
        return undefined;
      })
      .catch((error: unknown) => log("warn", "reply_file_refused", { turn: turn.key, error: String(error) }))
      .finally(() => {
        storing.delete(stored);
        if (turn.attempt === attempt && !turn.ending) textLog.add(turn, "");
      });
    storing.add(stored);
  };

  /** Stored before a kill that cost the frame it came in; the bot has sent that again. */
  const takeFound = (turn: Turn, bytes: Uint8Array, fileName: string): AttachmentRow | undefined => {
    if (turn.found.length === 0) return undefined;
    const digest = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
    const clean = cleanName(fileName);
    const at = turn.found.findIndex(({ sha, name }) => sha === digest && name === clean);
    return at < 0 ? undefined : turn.found.splice(at, 1)[0];
  };

  const storeFile = async (turn: Turn, file: ReplyFile): Promise<AttachmentRow> => {
    if ("id" in file) {
      const row = store.attachments.get(decodeId(file.id));
      if (!row || row.turn !== turn.id) throw new Reject("not_found");
      return row;
    }
    const { bytes, mime } = decodeImage(file.data);
    if (bytes.length > config().limits.attachmentBytes) throw new Reject("too_large");
    const type = file.mime || mime;
    const name = file.name === "image" && !file.mime ? `image.${type.split("/")[1] ?? "bin"}` : file.name;
    return (
      takeFound(turn, bytes, name) ?? store.attachments.add({ user: turn.user, name, mime: type, bytes, turn: turn.id })
    );
  };

  const onEvent = (turn: Turn, frame: EventFrame): void => {
    if (turn.ending || frame.kind === "draining") return;
    accept(turn);
    const activity: Activity = {
      kind: frame.kind,
      ...(frame.text !== undefined && { text: frame.text }),
      ...(frame.tool && { tool: frame.tool }),
    };
    streams.activity(turn, activity);
  };

  /** The bot has it. Stored, so that after a kill it is listed as pending instead of asked again. */
  const accept = (turn: Turn): void => {
    turn.frameAt = now();
    if (turn.state !== "sent") return;
    turn.state = "accepted";
    textLog.add(turn, "");
  };

  return { onReply, onEvent, accept };
};
