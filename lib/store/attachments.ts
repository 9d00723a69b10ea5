/**
 * Files people and bots send: a row each, the bytes once per content under dataDir/files, named by SHA-256.
 *
 * What must stay true: the bytes are on disk before the row is committed, the type is what the content is (never what the
 * sender claims), and only the owner (or the bot holding the turn) reads it. Refuses to show HTML or SVG in place.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { Ids } from "../ids.ts";
import type { Log } from "../log.ts";
import { Reject, type Attachment } from "../protocol.ts";
import type { StoreBase } from "./base.ts";
import { toAttachment, type AttachmentRow } from "./rows.ts";
import { sniff } from "./sniff.ts";

/** An upload that no message names within a day is collected. */
const UNUSED_MS = 24 * 3600_000;
/** Bytes that are digested or written in one go. */
const AT_ONCE = 1024 * 1024;
/** Rows looked at per sweep: about a millisecond, and a million files are seen within a day and a half. */
const SWEEP_ROWS = 500;

export type NewAttachment = { user: string; name: string; mime: string; bytes: Uint8Array; turn: number | null };

/**
 * A file name a person may see: no controls, no direction overrides, the last path part, at most 200 characters. The path
 * comes second, because what is removed may stand between the dots of a "..".
 */
export const cleanName = (name: string): string => {
  const last = name
    // biome-ignore lint/suspicious/noControlCharactersInRegex: removing exactly these is the point
    .replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069"]/g, "")
    .replace(/^[\s\S]*[/\\]/, "")
    .slice(0, 200)
    .toWellFormed();
  return /^\s*\.{0,2}\s*$/.test(last) ? "file" : last;
};

/** SHA-256. Of a large file in pieces, with room for everybody else in between: 14 MB at once stand 7 ms in their way. */
const digestOf = async (bytes: Uint8Array): Promise<string> => {
  const hash = new Bun.CryptoHasher("sha256");
  for (let at = 0; at < bytes.length; at += AT_ONCE) {
    if (at > 0) await setImmediate();
    hash.update(bytes.subarray(at, at + AT_ONCE));
  }
  return hash.digest("hex");
};

export const createAttachmentStore = ({ db, write, now }: StoreBase, ids: Ids, dir: string, log: Log) => {
  const insert = db.prepare(
    `INSERT INTO attachments (id, user, sha, name, mime, size, width, height, turn, created_at)
     VALUES ($id, $user, $sha, $name, $mime, $size, $width, $height, $turn, $at)`,
  );
  const byId = db.prepare<AttachmentRow, [number]>("SELECT * FROM attachments WHERE id = ?");
  const ofMessage = db.prepare<AttachmentRow, [number]>(
    "SELECT a.* FROM message_files f JOIN attachments a ON a.id = f.attachment WHERE f.message = ? ORDER BY f.place",
  );
  const ofTurn = db.prepare<AttachmentRow, [number]>("SELECT * FROM attachments WHERE turn = ?");
  // Those of an open turn (turns.ts: what that is) are in no message yet, however old the clock says they are.
  const older = db.prepare<{ id: number; sha: string; used: number }, [number, number, number]>(
    `SELECT id, sha, EXISTS (SELECT 1 FROM message_files f WHERE f.attachment = a.id)
       OR EXISTS (SELECT 1 FROM people p WHERE p.avatar = a.id)
       OR EXISTS (SELECT 1 FROM turns t WHERE t.id = a.turn AND t.ended_at IS NULL
         AND t.id >= (SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'open_from')
         AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = t.id)) AS used
     FROM attachments a WHERE id > ? AND created_at < ? ORDER BY id LIMIT ?`,
  );
  const disownTurn = db.prepare("UPDATE attachments SET turn = NULL WHERE turn = ?");
  const disownOne = db.prepare("UPDATE attachments SET turn = NULL WHERE id = ?");
  const drop = db.prepare("DELETE FROM attachments WHERE id = ?");
  const shared = db.prepare<{ id: number }, [string]>("SELECT id FROM attachments WHERE sha = ? LIMIT 1");
  /** Contents whose row is on its way: a sweep between the bytes and the row must leave them. */
  const arriving = new Map<string, number>();
  let sweptUpto = 0;
  let sweptFolder = 0;
  const pathOf = (sha: string): string => join(dir, sha.slice(0, 2), sha);

  /** Write-then-rename, so a kill in between leaves no half file under a valid name. */
  const keepBytes = async (sha: string, bytes: Uint8Array): Promise<void> => {
    const path = pathOf(sha);
    if (existsSync(path)) return;
    // A name of its own: the same content may be on its way twice.
    const half = `${path}.${ids.next()}.part`;
    try {
      mkdirSync(join(dir, sha.slice(0, 2)), { recursive: true, mode: 0o700 });
      if (bytes.length <= AT_ONCE) writeFileSync(half, bytes, { mode: 0o600 });
      else await writeFile(half, bytes, { mode: 0o600 });
      renameSync(half, path);
    } catch (error) {
      rmSync(half, { force: true }); // a full disk must not get fuller with each try
      log("error", "storage_failed", { error: (error as Error).message });
      throw new Reject("storage_failed");
    }
  };

  const arrive = (sha: string, by: 1 | -1): void => {
    const count = (arriving.get(sha) ?? 0) + by;
    if (count === 0) arriving.delete(sha);
    else arriving.set(sha, count);
  };

  const removeBytes = (sha: string): void => {
    if (arriving.has(sha) || shared.get(sha)) return;
    try {
      unlinkSync(pathOf(sha));
    } catch {
      // Already gone: nothing is lost, and the next sweep has nothing to do.
    }
  };

  /** Bytes without a row: their process was killed in between. One of the 256 folders per sweep. */
  const sweepFolder = (): void => {
    const sub = join(dir, (sweptFolder++ % 256).toString(16).padStart(2, "0"));
    if (!existsSync(sub)) return;
    for (const name of readdirSync(sub)) if (!name.endsWith(".part")) removeBytes(name);
  };

  return {
    /** Stores the bytes and the row. Resolves once committed. Rejects `storage_failed`. */
    add: async (file: NewAttachment): Promise<AttachmentRow> => {
      const kind = sniff(file.bytes, file.mime);
      const sha = await digestOf(file.bytes);
      arrive(sha, 1);
      await keepBytes(sha, file.bytes).catch((error: unknown) => {
        arrive(sha, -1);
        throw error;
      });
      const row: AttachmentRow = {
        id: ids.next(),
        user: file.user,
        sha,
        name: cleanName(file.name),
        mime: kind.mime,
        size: file.bytes.byteLength,
        width: kind.width ?? null,
        height: kind.height ?? null,
        turn: file.turn,
        created_at: now(),
      };
      await write(() => {
        const { created_at: at, ...rest } = row;
        insert.run({ ...rest, at });
      }).finally(() => arrive(sha, -1));
      return row;
    },

    get: (id: number): AttachmentRow | undefined => byId.get(id) ?? undefined,
    path: (row: AttachmentRow): string => pathOf(row.sha),
    bytes: (row: AttachmentRow): Promise<Uint8Array> => Bun.file(pathOf(row.sha)).bytes(),
    ofMessage: (message: number): Attachment[] => ofMessage.all(message).map(toAttachment),
    rowsOfMessage: (message: number): AttachmentRow[] => ofMessage.all(message),
    /** Files of an attempt that came to nothing: of the whole turn so far, or one. The sweep collects what nobody names. */
    disown: (which: { turn: number } | { id: number }): Promise<void> =>
      write(() => {
        if ("turn" in which) disownTurn.run(which.turn);
        else disownOne.run(which.id);
      }),

    ofTurn: (turn: number): AttachmentRow[] => ofTurn.all(turn),

    /**
     * Removes uploads nobody sent, pictures nobody has any more and files whose messages are gone; a part of them each
     * time, round and round.
     */
    sweep: async (): Promise<void> => {
      const gone = await write(() => {
        const rows = older.all(sweptUpto, now() - UNUSED_MS, SWEEP_ROWS);
        const unused = rows.filter(({ used }) => used === 0);
        for (const { id } of unused) drop.run(id);
        return { shas: unused.map(({ sha }) => sha), upto: rows.length < SWEEP_ROWS ? 0 : rows.at(-1)!.id };
      });
      sweptUpto = gone.upto;
      for (const sha of gone.shas) removeBytes(sha);
      sweepFolder();
    },

    /** Removes what a kill left half written. At start, before anything writes. */
    clean: (): void => {
      for (const sub of existsSync(dir) ? readdirSync(dir) : [])
        for (const name of readdirSync(join(dir, sub))) if (name.endsWith(".part")) unlinkSync(join(dir, sub, name));
    },
  };
};

export type AttachmentStore = ReturnType<typeof createAttachmentStore>;
