/**
 * Full-text search over titles and messages, Chinese included.
 *
 * Chinese has no spaces, so unicode61 would index a whole clause as one word, and trigram cannot find two characters.
 * Each Han, kana and hangul character is therefore indexed as a word of its own, and a query for 火山 becomes the phrase
 * "火 山": two-character words are found, order counts, and mixed text ("gw-02 磁盘") works. Latin words match by prefix.
 *
 * Indexing comes after the answer, in batches; `search_rev` in meta says how far it is, so a kill loses nothing. The writer of
 * messages notes which conversations changed, so a pass reads those only; the first one after a start reads all that are newer
 * than `search_rev`. A message never changes, so it is taken out of the index only when its conversation goes.
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
const BATCH = 400;
const BATCH_CHARS = 20_000;
/** A search waits so long for what is not indexed yet. */
const FRESH_MS = 100;
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

type Waiting = { user: string; retitled: boolean };
/** One pass. `again`: a row may be in the index already. */
type Work = { changed: [number, Waiting][]; again: boolean; tokens: Map<string, string> };
/** How far it is: the conversation, and the revision in it. */
type Place = { index: number; rev: number };

const tokenOf = ({ tokens }: Work, user: string): string => {
  const known = tokens.get(user) ?? ownerToken(user);
  tokens.set(user, known);
  return known;
};

export const createSearchStore = ({ db, write }: StoreBase, currentRev: () => number) => {
  const remove = db.prepare("DELETE FROM search WHERE rowid = ?");
  const insert = db.prepare("INSERT INTO search (rowid, owner, body) VALUES (?, ?, ?)");
  const indexedRev = db.prepare<{ value: string }, []>("SELECT value FROM meta WHERE key = 'search_rev'");
  const setRev = db.prepare(
    "INSERT INTO meta (key, value) VALUES ('search_rev', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
  );
  // Deleted ones too: an undo brings them back without a change to the messages from before.
  const changedConversations = db.prepare<{ id: number; user: string }, [number]>(
    "SELECT id, user FROM conversations WHERE rev > ?",
  );
  const titleOf = db.prepare<{ title: string }, [number]>("SELECT title FROM conversations WHERE id = ?");
  const changedMessages = db.prepare<{ id: number; rev: number; content: string }, [number, number, number, number]>(
    "SELECT id, rev, content FROM messages WHERE conversation = ? AND rev > ? AND rev <= ? ORDER BY rev LIMIT ?",
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
  /** Conversations that changed since the last pass began. */
  let waiting = new Map<number, Waiting>();
  let waitingSince = 0;
  /** A pass was cut short, by a kill or a full disk: some of what it should index is indexed, and nobody knows which. */
  let careful = true;
  let running: Promise<void> | undefined;

  /** As much as one commit should hold, from `at` on. Reads in the same transaction, so nothing deleted gets in. */
  const indexBatch = (work: Work, at: Place, target: number): Place => {
    let { index, rev } = at;
    let messages = 0;
    let chars = 0;
    const add = (id: number, user: string, body: string, again: boolean): void => {
      if (again) remove.run(id);
      if (body !== "") insert.run(id, tokenOf(work, user), spaced(body));
      chars += body.length;
    };
    for (; index < work.changed.length && messages < BATCH && chars < BATCH_CHARS; index++, rev = upto) {
      const [id, { user, retitled }] = work.changed[index]!;
      if (retitled && rev === upto) add(id, user, titleOf.get(id)?.title ?? "", true);
      const found = changedMessages.all(id, rev, target, BATCH);
      for (const message of found) {
        if (messages > 0 && chars + message.content.length > BATCH_CHARS) return { index, rev };
        add(message.id, user, message.content, work.again);
        messages++;
        rev = message.rev;
      }
      if (found.length === BATCH) return { index, rev };
    }
    if (index === work.changed.length) setRev.run(String(target));
    return { index, rev };
  };

  /** Everything up to the newest commit; a message that comes meanwhile is left to the next pass. */
  const pass = async (): Promise<void> => {
    const target = currentRev();
    const changed: [number, Waiting][] = careful
      ? changedConversations.all(upto).map(({ id, user }) => [id, { user, retitled: true }])
      : [...waiting];
    const work: Work = { changed, again: careful, tokens: new Map() };
    waiting = new Map();
    careful = true;
    for (let at: Place = { index: 0, rev: upto }; ;) {
      at = await write(() => indexBatch(work, at, target));
      if (at.index === changed.length) break;
    }
    upto = target;
    careful = false;
  };

  const indexNow = (): Promise<void> =>
    (running ??= pass().finally(() => {
      running = undefined;
    }));

  /** Indexes what changed since the last run; true when more is waiting. Call it from a timer, not from a request. */
  const indexSome = async (): Promise<boolean> => {
    if (upto >= currentRev()) return false;
    await indexNow();
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

    /** Inside a write: a conversation got messages, or another title (`retitled`). */
    note: (id: number, user: string, retitled: boolean): void => {
      if (waiting.size === 0) waitingSince = performance.now();
      const known = waiting.get(id);
      if (!known) waiting.set(id, { user, retitled });
      else if (retitled) known.retitled = true;
    },

    /** How long something has been waiting, in ms; 0: nothing is, Infinity: since before this process. */
    waitingMs: (): number =>
      upto >= currentRev() ? 0 : careful ? Infinity : waiting.size === 0 ? 0 : performance.now() - waitingSince,

    /** Newest first. `q` of any length; no word in it finds nothing. */
    search: async (user: string, q: string, limit: number): Promise<SearchHit[]> => {
      const query = matchQuery(user, q);
      if (query === "") return [];
      // What was said a moment ago is found too, unless there is too much of it.
      if ((running || !careful) && upto < currentRev()) await Promise.race([indexNow(), Bun.sleep(FRESH_MS)]);
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
