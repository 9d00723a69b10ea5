/**
 * Full-text search over titles and messages, Chinese included.
 *
 * Chinese has no spaces, so unicode61 would index a whole clause as one word, and trigram cannot find two characters.
 * Each Han, kana and hangul character is therefore indexed as a word of its own, and a query for 火山 becomes the phrase
 * "火 山": two-character words are found, order counts, and mixed text ("gw-02 磁盘") works. Latin words match by prefix.
 *
 * Indexing comes after the answer, in batches; `search_rev` in meta says how far it is, so a kill loses nothing.
 */
import type { SearchHit } from "../protocol.ts";
import { encodeId } from "../ids.ts";
import type { StoreBase } from "./base.ts";

/** Han, kana, bopomofo, hangul, and the Han planes above U+FFFF. */
const CJK =
  /[\u3040-\u30ff\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]|[\ud840-\ud88d][\udc00-\udfff]/g;
/** What unicode61 keeps as part of a word. */
const WORDS = /[\p{L}\p{N}\p{M}]+/gu;
/** Index at most this much of one message: beyond it is data, not something a person remembers. */
const MAX_CHARS = 200_000;
/** One commit of indexing: at most so many messages, and characters unless one alone has more. */
const BATCH = 200;
const BATCH_CHARS = 20_000;
/** Conversations per read. */
const PAGE = 100;
/** Found rows per read: the newest may be of what was just deleted. */
const FOUND = 100;
const SNIPPET_BEFORE = 30;
const SNIPPET_CHARS = 120;

export const spaced = (text: string): string => text.slice(0, MAX_CHARS).replace(CJK, " $& ");

/** One token per user that no other user's text can contain. */
const ownerToken = (user: string): string =>
  `u${new Bun.CryptoHasher("sha256").update(user).digest("hex").slice(0, 24)}`;

/**
 * An FTS5 query: every word of `q` must occur, runs of Chinese as phrases, the rest by prefix. Empty when `q` has no
 * word. Everything is quoted, so no FTS5 syntax of the person's gets through.
 */
export const matchQuery = (user: string, q: string): string => {
  const parts: string[] = [];
  for (const word of q.match(WORDS) ?? []) {
    const tokens = spaced(word).trim().split(/\s+/);
    // A mixed run (gw02磁盘) is one phrase; only a run that ends in latin may continue beyond what was typed.
    const latinEnd = !tokens.at(-1)!.match(CJK);
    parts.push(`body : "${tokens.join(" ")}"${latinEnd ? " *" : ""}`);
  }
  return parts.length === 0 ? "" : `owner : ${ownerToken(user)} AND ${parts.join(" AND ")}`;
};

const snippet = (content: string, q: string): string => {
  const lower = content.toLowerCase();
  const at = Math.max(0, ...(q.toLowerCase().match(WORDS) ?? []).slice(0, 1).map((word) => lower.indexOf(word)));
  const from = Math.max(0, at - SNIPPET_BEFORE);
  const cut = content.slice(from, from + SNIPPET_CHARS).replace(/\s+/g, " ");
  return `${from > 0 ? "…" : ""}${cut}${from + SNIPPET_CHARS < content.length ? "…" : ""}`;
};

type Row = { id: number; body: string };

/** As many as one commit should hold, at least one. */
const firstOf = <T extends Row>(rows: T[]): T[] => {
  let chars = 0;
  const end = rows.findIndex(({ body }, i) => {
    chars += body.length;
    return i > 0 && chars > BATCH_CHARS;
  });
  return end < 0 ? rows : rows.slice(0, end);
};

export const createSearchStore = ({ db, write }: StoreBase, currentRev: () => number) => {
  const remove = db.prepare("DELETE FROM search WHERE rowid = ?");
  const insert = db.prepare("INSERT INTO search (rowid, owner, body) VALUES (?, ?, ?)");
  const indexedRev = db.prepare<{ value: string }, []>("SELECT value FROM meta WHERE key = 'search_rev'");
  const setRev = db.prepare(
    "INSERT INTO meta (key, value) VALUES ('search_rev', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
  );
  // Deleted ones too: an undo brings them back without a change to their messages.
  const changedConversations = db.prepare<{ id: number; user: string; title: string; rev: number }, [number, number]>(
    "SELECT id, user, title, rev FROM conversations WHERE rev > ? ORDER BY rev LIMIT ?",
  );
  const changedMessages = db.prepare<Row & { rev: number }, [number, number, number]>(
    "SELECT id, rev, content AS body FROM messages WHERE conversation = ? AND rev > ? ORDER BY rev LIMIT ?",
  );
  const stillThere = db.prepare<{ id: number }, [number, number]>(
    "SELECT id FROM messages WHERE id = ? UNION ALL SELECT id FROM conversations WHERE id = ? AND title != ''",
  );
  const found = db.prepare<{ rowid: number }, [string, number, number]>(
    "SELECT rowid FROM search WHERE search MATCH ? AND rowid < ? ORDER BY rowid DESC LIMIT ?",
  );
  const hitMessage = db.prepare<
    { conversation: number; title: string; content: string; created_at: number },
    [number, string]
  >(
    `SELECT m.conversation, c.title, m.content, m.created_at FROM messages m JOIN conversations c ON c.id = m.conversation
     WHERE m.id = ? AND c.user = ? AND c.deleted_at IS NULL`,
  );
  const hitTitle = db.prepare<{ id: number; title: string; updated_at: number }, [number, string]>(
    "SELECT id, title, updated_at FROM conversations WHERE id = ? AND user = ? AND deleted_at IS NULL",
  );
  let upto = Number(indexedRev.get()?.value ?? 0);

  /** One commit; a row whose message went meanwhile is left out, so that nothing deleted stays in the index. */
  const indexBatch = (user: string, rows: Row[]): Promise<void> =>
    write(() => {
      for (const { id, body } of rows) {
        remove.run(id);
        if (body !== "" && stillThere.get(id, id)) insert.run(id, ownerToken(user), spaced(body));
      }
    });

  const indexConversation = async (conversation: { id: number; user: string; title: string }): Promise<void> => {
    const { id, user, title } = conversation;
    let more: Row[] = [{ id, body: title }];
    for (let rev = upto; ;) {
      const rows = changedMessages.all(id, rev, BATCH);
      const batch = firstOf(rows);
      await indexBatch(user, [...more, ...batch]);
      if (batch.length === rows.length && rows.length < BATCH) return;
      more = [];
      rev = batch.at(-1)!.rev;
    }
  };

  /**
   * Indexes what changed since the last run; true when more is waiting. Call it from a timer, not from a request. A
   * conversation that changes while this runs is met again at its new revision, so at the end of the walk every message
   * of a revision up to `target` has been read; only then that is written down.
   */
  const indexSome = async (): Promise<boolean> => {
    const target = currentRev();
    if (upto >= target) return false;
    for (let cursor = upto; ;) {
      const page = changedConversations.all(cursor, PAGE);
      for (const conversation of page) await indexConversation(conversation);
      if (page.length < PAGE) break;
      cursor = page.at(-1)!.rev;
    }
    await write(() => {
      setRev.run(String(target));
    });
    upto = target;
    return upto < currentRev();
  };

  const hitOf = (user: string, rowid: number, q: string): SearchHit | undefined => {
    const message = hitMessage.get(rowid, user);
    if (message)
      return {
        conversationId: encodeId(message.conversation),
        messageId: encodeId(rowid),
        title: message.title,
        snippet: snippet(message.content, q),
        createdAt: message.created_at,
      };
    const title = hitTitle.get(rowid, user);
    if (!title) return undefined;
    return {
      conversationId: encodeId(title.id),
      title: title.title,
      snippet: title.title,
      createdAt: title.updated_at,
    };
  };

  return {
    indexSome,

    /** Newest first. `q` of any length; no word in it finds nothing. */
    search: async (user: string, q: string, limit: number): Promise<SearchHit[]> => {
      const query = matchQuery(user, q);
      if (query === "") return [];
      const hits: SearchHit[] = [];
      for (let below = Number.MAX_SAFE_INTEGER; ;) {
        const rows = found.all(query, below, FOUND);
        for (const { rowid } of rows) {
          const hit = hitOf(user, rowid, q);
          if (hit) hits.push(hit);
          if (hits.length === limit) return hits;
        }
        if (rows.length < FOUND) return hits;
        below = rows.at(-1)!.rowid;
      }
    },
  };
};

export type SearchStore = ReturnType<typeof createSearchStore>;
