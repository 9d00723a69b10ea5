/** A store without a gateway: a question and its answer in one call, a clock to turn, everything removed at `stop`. */
import { openStore } from "../../lib/store.ts";
import type { EndTurn, BeginTurn } from "../../lib/store/turns.ts";
import { tempDir } from "./wait.ts";

const QUESTION: Omit<BeginTurn, "user" | "content"> = {
  bot: "bot",
  botName: "Bot",
  instance: "",
  proto: 2,
  target: null,
  pool: "default",
  only: null,
  source: "web",
  text: null,
  files: [],
  replyTo: null,
  replaces: null,
  client: null,
};

const ANSWER: Pick<
  EndTurn,
  "state" | "bot" | "botName" | "files" | "error" | "usage" | "seq" | "generation" | "silent"
> = {
  state: "done",
  bot: "bot",
  botName: "Bot",
  files: [],
  error: null,
  usage: null,
  seq: 1,
  generation: 0,
  silent: false,
};

export type TestStore = Awaited<ReturnType<typeof testStore>>;

/** `dir`: a folder that is already there, left alone at `stop`. `at`: the clock's first moment. */
export const testStore = async ({ dir, at = Date.now() }: { dir?: string; at?: number } = {}) => {
  const folder = dir === undefined ? await tempDir("store") : undefined;
  const path = dir ?? folder!.path;
  const clock = { at };
  const logs: string[] = [];
  const store = openStore({
    dir: path,
    synchronous: "normal",
    now: () => clock.at,
    log: (_level, event) => void logs.push(event),
  });

  /** Stores a question. Resolves with the ids of its conversation, itself and its turn. */
  const ask = async (user: string, content: string, more: Partial<BeginTurn> = {}) => {
    const begun = await store.turns.begin({ ...QUESTION, user, content, ...more });
    if (begun.existing) throw new Error("this clientId was used before");
    return { conversation: begun.conversation.id, question: begun.question.id, turn: begun.turn };
  };
  const answer = (turn: number, content: string, more: Partial<EndTurn> = {}) => {
    const { user, conversation, question, created_at: createdAt } = store.turns.get(turn)!;
    return store.turns.end({ ...ANSWER, id: turn, user, conversation, question, createdAt, content, ...more });
  };

  return {
    store,
    dir: path,
    clock,
    logs,
    ask,
    answer,
    /** A question and its answer, in a conversation of its own unless one is given. */
    exchange: async (user: string, question: string, reply: string, conversation?: number) => {
      const id = conversation ?? (await store.conversations.create(user, "", "bot")).id;
      const asked = await ask(user, question, { conversation: id });
      await answer(asked.turn, reply);
      return asked;
    },
    /** Everything search has not read yet. */
    index: async (): Promise<void> => {
      while (await store.search.indexSome());
    },
    stop: async (): Promise<void> => {
      store.close();
      await folder?.remove();
    },
  };
};

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
