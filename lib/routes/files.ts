/** Attachments over HTTP: a person's own, and a bot's for the turns it holds. */
import type { Connection } from "../bots.ts";
import { disposition } from "../export.ts";
import type { Gate } from "../gate.ts";
import type { Call, Route } from "../http.ts";
import { decodeId } from "../ids.ts";
import { Reject } from "../protocol.ts";
import { toAttachment, type AttachmentRow } from "../store/rows.ts";
import { showsInline } from "../store/sniff.ts";
import type { Turn } from "../turn.ts";
import { HISTORY_MESSAGES } from "../turns/ask.ts";

export const fileRoutes = ({ config, store, turns, log }: Gate): Route[] => {
  const held = (bot: Connection, id: number): Turn => {
    const turn = turns.get(id);
    if (!turn || turn.connection !== bot || turn.ending) throw new Reject("not_found");
    return turn;
  };

  const inQuestion = (message: number, file: AttachmentRow): boolean =>
    store.attachments.rowsOfMessage(message).some(({ id }) => id === file.id);

  /** A file of what came before the question, as far back as a bot without a memory of its own is told. */
  const inHistory = (turn: Turn, file: AttachmentRow): boolean => {
    if (!turn.connection?.caps.has("history") || file.user !== turn.user) return false;
    let at = store.turns.message(turn.question)?.parent ?? null;
    // Messages without a word are left out of the history, so it may go back further than their number.
    for (let steps = 0; at !== null && steps < 2 * HISTORY_MESSAGES; steps++) {
      if (inQuestion(at, file)) return true;
      at = store.turns.message(at)?.parent ?? null;
    }
    return false;
  };

  const mayRead = (call: Call, row: AttachmentRow): boolean => {
    if (!call.bot) return row.user === call.caller.user;
    for (const turn of turns.all()) {
      if (turn.connection !== call.bot) continue;
      if (row.turn === turn.id || inQuestion(turn.question, row) || inHistory(turn, row)) return true;
    }
    return false;
  };

  const read = async (call: Call): Promise<Uint8Array> => {
    const max = config().limits.attachmentBytes;
    const tooLarge = new Reject("too_large", {
      zh: `文件超过 ${max} 字节（limits.attachmentBytes）`,
      en: `The file is over ${max} bytes (limits.attachmentBytes)`,
    });
    if (Number(call.request.headers.get("content-length") ?? 0) > max) throw tooLarge;
    const bytes = await call.request.bytes().catch(() => {
      throw new Reject("bad_request", { zh: "文件没有传完", en: "The file did not arrive whole" });
    });
    if (bytes.length > max) throw tooLarge;
    if (bytes.length === 0) throw new Reject("bad_request", { zh: "文件是空的", en: "The file is empty" });
    return bytes;
  };

  const nameOf = (call: Call): string => {
    try {
      return decodeURIComponent(call.request.headers.get("x-filename") ?? "file");
    } catch {
      throw new Reject("bad_request", { zh: "X-Filename：应为百分号编码", en: "X-Filename: percent-encoded" });
    }
  };

  return [
    {
      method: "POST",
      path: "/api/attachments",
      auth: "user",
      bots: true,
      handle: async (call) => {
        const turn = call.bot && held(call.bot, decodeId(call.query("turn") ?? ""));
        const name = nameOf(call);
        const bytes = await read(call);
        const row = await store.attachments.add({
          user: turn?.user ?? call.caller.user,
          name,
          mime: call.request.headers.get("content-type") ?? "",
          bytes,
          turn: turn?.id ?? null,
        });
        return call.json(toAttachment(row), 201);
      },
    },
    {
      method: "GET",
      path: "/api/attachments/:id",
      auth: "user",
      bots: true,
      handle: async (call) => {
        const row = store.attachments.get(decodeId(call.params.id ?? ""));
        if (!row || !mayRead(call, row)) throw new Reject("not_found");
        const file = Bun.file(store.attachments.path(row));
        if (!(await file.exists())) {
          log("error", "attachment_lost", { attachment: call.params.id, sha: row.sha });
          throw new Reject("not_found");
        }
        return new Response(file, {
          headers: {
            ...call.headers,
            "Content-Type": row.mime === "text/plain" ? "text/plain; charset=utf-8" : row.mime,
            "Content-Disposition": disposition(showsInline(row.mime) ? "inline" : "attachment", row.name),
            // Content never changes under an id; `private`, because the next person at this cache is not its owner.
            "Cache-Control": "private, max-age=31536000, immutable",
          },
        });
      },
    },
  ];
};
