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
/** Rows per batch: about 10 ms of indexing. */
const BATCH = 100;
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

type Unindexed = { id: number; rev: number; user: string; body: string };

export const createSearchStore = ({ db, write }: StoreBase, currentRev: () => number) => {
  const remove = db.prepare("DELETE FROM search WHERE rowid = ?");
  const insert = db.prepare("INSERT INTO search (rowid, owner, body) VALUES (?, ?, ?)");
  const indexedRev = db.prepare<{ value: string }, []>("SELECT value FROM meta WHERE key = 'search_rev'");
  const setRev = db.prepare(
    "INSERT INTO meta (key, value) VALUES ('search_rev', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
  );
  const changedConversations = db.prepare<{ id: number; user: string; title: string; rev: number }, [number]>(
    "SELECT id, user, title, rev FROM conversations WHERE rev > ? AND deleted_at IS NULL ORDER BY rev LIMIT 500",
  );
  const changedMessages = db.prepare<Unindexed, [number, number, number]>(
    `SELECT id, rev, '' AS user, content AS body FROM messages WHERE conversation = ? AND rev > ? AND rev <= ?`,
  );
  const found = db.prepare<{ rowid: number }, [string, number]>(
    "SELECT rowid FROM search WHERE search MATCH ? ORDER BY rowid DESC LIMIT ?",
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

  /** Indexes what changed since the last batch; true when more is waiting. Call it from a timer, not from a request. */
  const indexSome = async (): Promise<boolean> => {
    const target = currentRev();
    if (upto >= target) return false;
    const conversations = changedConversations.all(upto);
    const last = conversations.length === 500 ? conversations[499]!.rev : target;
    // A conversation's rev is that of its newest change, so every message changed up to `last` is in one of these, or
    // in one that has changed again since and comes with a later batch: hence re-reading from `upto`, not from `rev`.
    const rows: Unindexed[] = [];
    for (const { id, user, title, rev } of conversations) {
      if (title !== "") rows.push({ id, rev, user, body: title });
      for (const message of changedMessages.all(id, upto, target))
        if (message.body !== "") rows.push({ ...message, user });
    }
    for (let i = 0; i < rows.length; i += BATCH)
      await write(() => {
        for (const { id, user, body } of rows.slice(i, i + BATCH)) {
          remove.run(id);
          insert.run(id, ownerToken(user), spaced(body));
        }
      });
    await write(() => {
      setRev.run(String(last));
    });
    upto = last;
    return upto < currentRev();
  };

  return {
    indexSome,

    /** Newest first. `q` of any length; no word in it finds nothing. */
    search: async (user: string, q: string, limit: number): Promise<SearchHit[]> => {
      const query = matchQuery(user, q);
      if (query === "") return [];
      const hits: SearchHit[] = [];
      for (const { rowid } of found.all(query, limit * 2)) {
        const message = hitMessage.get(rowid, user);
        const title = message ? null : hitTitle.get(rowid, user);
        if (message)
          hits.push({
            conversationId: encodeId(message.conversation),
            messageId: encodeId(rowid),
            title: message.title,
            snippet: snippet(message.content, q),
            createdAt: message.created_at,
          });
        else if (title)
          hits.push({
            conversationId: encodeId(title.id),
            title: title.title,
            snippet: title.title,
            createdAt: title.updated_at,
          });
        if (hits.length === limit) break;
      }
      return hits;
    },
  };
};

export type SearchStore = ReturnType<typeof createSearchStore>;
