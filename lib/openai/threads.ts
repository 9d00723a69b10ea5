/**
 * Which conversation a request over /v1 goes on with: the one whose stored messages equal what the request says came before.
 *
 * Clients of this API send everything each time and name no conversation, so it is found by digest: each question is stored
 * with a digest of its caller and all messages up to it; the answer after it is compared itself. What must stay true: callers
 * (a key and its `user`) never share a conversation; one with another bot than the one asked, or with none of the pool asked,
 * is not the one meant, nor is one that went on elsewhere; it works the same after a restart. A client that drops its oldest
 * messages is found again by its last exchange.
 */
import type { Store } from "../store.ts";
import type { MessageRow } from "../store/rows.ts";
import type { ThreadKeys, ThreadRow } from "../store/threads.ts";
import type { Completion, Said } from "./request.ts";

/** After a failure clients try again within minutes; later the same words are a new chat. */
const RETRY_MS = 10 * 60_000;

export type Found = {
  conversation: number;
  /** The question that failed or was stopped, and that this one takes the place of. */
  replaces?: number;
  /** Digest of the system prompt that the conversation last had. */
  system: string;
};

/** Is this a conversation with the bot that is asked, or with one of the pool? */
export type Belongs = (row: Pick<ThreadRow, "bot" | "target" | "pool">) => boolean;

const sha = (): Bun.CryptoHasher => new Bun.CryptoHasher("sha256");

/** Clients trim what they show and send that back, so white space at the ends is no difference. */
export const textDigest = (text: string): string => sha().update(text.trim()).digest("base64url");

const digestOf = (owner: string, messages: readonly Said[]): string => {
  const hash = sha().update(`${JSON.stringify(owner)}\n`);
  for (const { role, text, files } of messages)
    hash.update(`${JSON.stringify([role, text.trim(), ...files.map(({ data }) => data)])}\n`);
  return hash.digest("base64url");
};

/** Of the last exchange and the question after it; null when there was none. */
const tailOf = (owner: string, messages: readonly Said[]): string | null => {
  const answer = messages.findLastIndex(({ role }) => role === "assistant");
  return answer < 1 ? null : digestOf(`tail of ${owner}`, messages.slice(answer - 1));
};

/** As they are stored: neighbours of one person as one message. */
export const questionText = (asked: readonly Pick<Said, "text">[]): string =>
  asked
    .map(({ text }) => text)
    .filter(Boolean)
    .join("\n\n");

const spoken = (messages: readonly Said[]): Pick<Said, "role" | "text">[] => {
  const out: Pick<Said, "role" | "text">[] = [];
  for (const one of messages) {
    const last = out.at(-1);
    if (last?.role !== one.role) out.push({ role: one.role, text: one.text });
    else last.text = questionText([last, one]);
  }
  return out;
};

export const createThreads = (store: Store, now: () => number) => {
  /** A question is on its way to these: a second request with the same past must not follow it into the middle. */
  const claimed = new Set<number>();
  /** Digests of what callers were given, until they are stored: the next question may come before that. */
  const given = new Map<number, string>();

  const stopped = (id: number): { question: number; parent: number | null; at: number } | undefined => {
    const reply = store.turns.message(id);
    if (reply?.role !== "bot" || (reply.state !== "failed" && reply.state !== "cancelled")) return undefined;
    const question = reply.parent === null ? undefined : store.turns.message(reply.parent);
    return question && { question: question.id, parent: question.parent, at: reply.updated_at };
  };

  const isAnswer = (row: Pick<ThreadRow, "turn" | "said">, { text }: Pick<Said, "text">): boolean => {
    const reply = store.turns.message(row.turn);
    if (reply?.role !== "bot") return false;
    const said = text.trim();
    if (reply.content.trim() === said || (given.get(row.turn) ?? row.said) === textDigest(said)) return true;
    // Who stops an answer keeps what arrived until then.
    return reply.state !== "done" && said !== "" && reply.content.startsWith(said);
  };

  /** The conversation ends with this answer, or after it only with an exchange that came to nothing. */
  const endsWith = (row: ThreadRow): Omit<Found, "system"> | undefined => {
    if (row.leaf === null || claimed.has(row.conversation)) return undefined;
    if (row.leaf === row.turn) return { conversation: row.conversation };
    const last = stopped(row.leaf);
    return last?.parent === row.turn ? { conversation: row.conversation, replaces: last.question } : undefined;
  };

  /**
   * Whether what is stored up to this question is what the request says, as far as both go back: the client may have dropped
   * its oldest messages, or the conversation may have begun with messages that are not stored; neither may differ.
   */
  const agrees = (row: ThreadRow, before: readonly Said[]): boolean => {
    let at: number | null = row.question;
    for (const { role, text } of spoken(before).reverse()) {
      const stored: MessageRow | undefined = at === null ? undefined : store.turns.message(at);
      if (!stored) return true;
      const thread = { turn: stored.id, said: store.threads.ofTurn(stored.id)?.said ?? null };
      const same = stored.role === "user" ? stored.content.trim() === text.trim() : isAnswer(thread, { text });
      if (!same || (stored.role === "bot") !== (role === "assistant")) return false;
      at = stored.parent;
    }
    return true;
  };

  const firstOf = (rows: ThreadRow[], answer: Said, belongs: Belongs): Found | undefined => {
    for (const row of rows) {
      const end = belongs(row) && isAnswer(row, answer) ? endsWith(row) : undefined;
      if (end) return { ...end, system: row.system };
    }
    return undefined;
  };

  /** The same request once more, after it failed or was cut off. */
  const again = (owner: string, all: readonly Said[], belongs: Belongs): Found | undefined => {
    for (const row of store.threads.byWhole(digestOf(owner, all))) {
      if (!belongs(row) || row.leaf !== row.turn || claimed.has(row.conversation)) continue;
      const last = stopped(row.turn);
      if (last && last.at > now() - RETRY_MS)
        return { conversation: row.conversation, replaces: last.question, system: row.system };
    }
    return undefined;
  };

  return {
    /** `owner`: the key (or person) and the request's `user`. */
    find: (owner: string, { earlier, asked }: Completion, belongs: Belongs): Found | undefined => {
      const same = again(owner, [...earlier, ...asked], belongs);
      const answer = earlier.at(-1);
      if (same || !answer) return same;
      const before = earlier.slice(0, -1);
      const whole = firstOf(store.threads.byWhole(digestOf(owner, before)), answer, belongs);
      if (whole) return whole;
      const tail = tailOf(owner, before);
      if (tail === null) return undefined;
      return firstOf(
        store.threads.byTail(tail).filter((row) => agrees(row, before)),
        answer,
        belongs,
      );
    },

    /** The digest of the system prompt that this conversation last had; undefined when its end did not come over /v1. */
    systemOf: (leaf: number | null): string | undefined =>
      leaf === null ? undefined : store.threads.ofTurn(leaf)?.system,

    keys: (owner: string, { earlier, asked, system }: Completion): ThreadKeys => {
      const all = [...earlier, ...asked];
      return { whole: digestOf(owner, all), tail: tailOf(owner, all), system: textDigest(system) };
    },

    /** The caller of this turn was given this text, which is not what is stored. Rejects when it could not be stored. */
    gave: async (turn: number, text: string): Promise<void> => {
      const digest = textDigest(text);
      given.set(turn, digest);
      try {
        await store.threads.said(turn, digest);
      } finally {
        given.delete(turn);
      }
    },

    /** Until the returned function is called nobody else finds this conversation. */
    claim: (conversation: number): (() => void) => {
      claimed.add(conversation);
      return () => claimed.delete(conversation);
    },
  };
};

export type Threads = ReturnType<typeof createThreads>;
