/** A signed-in person for tests: their calls, their streams, and the exchanges most tests begin with. */
import type { Conversation, Message, UserEvent } from "../../lib/protocol.ts";
import { api, login, type Answer, type Call } from "./client.ts";
import { readSse, type SseReader } from "./sse.ts";

export type Sent = { message: Message; turnId: string };
export type Page = { messages: Message[]; next?: string };
export type List = { conversations: Conversation[]; next?: string };

export type Person = {
  token: string;
  call: Call & { stream: ReturnType<typeof api>["stream"] };
  /** A new conversation's id. */
  conversation: (body?: object) => Promise<string>;
  /** Posts a message; the clientId is new unless one is given. */
  send: (conversation: string, content: string, more?: object) => Promise<Answer<Sent>>;
  /** Posts a message and waits for the whole answer. */
  exchange: (conversation: string, content: string, more?: object) => Promise<{ question: Message; reply: Message }>;
  messages: (conversation: string, query?: string) => Promise<Message[]>;
  /** Everything of this person, live; `after` is a Last-Event-ID. */
  events: (after?: string) => Promise<SseReader<UserEvent>>;
};

/** Signs in and returns what a page can do. */
export const person = async (url: string, username = "admin", password?: string): Promise<Person> => {
  const token = await login(url, username, password);
  const call = api(url, token);
  const must = async <T>(answer: Promise<Answer<T>>, status: number): Promise<T> => {
    const got = await answer;
    if (got.status !== status) throw new Error(`${got.status} instead of ${status}: ${got.text}`);
    return got.body;
  };
  const self: Person = {
    token,
    call,
    conversation: async (body = {}) => (await must(call<Conversation>("POST", "/api/conversations", body), 201)).id,
    send: (conversation, content, more = {}) =>
      call<Sent>("POST", `/api/conversations/${conversation}/messages`, {
        clientId: crypto.randomUUID(),
        content,
        ...more,
      }),
    exchange: async (conversation, content, more) => {
      const { message, turnId } = await must(self.send(conversation, content, more), 202);
      await readSse(await call.stream(`/api/turns/${turnId}/stream`)).all();
      const reply = (await self.messages(conversation)).find(({ id }) => id === turnId);
      if (!reply || reply.state === "streaming") throw new Error("the stream ended before the reply was stored");
      return { question: message, reply };
    },
    messages: async (conversation, query = "") =>
      (await must(call<Page>("GET", `/api/conversations/${conversation}/messages${query}`), 200)).messages,
    events: async (after) =>
      readSse<UserEvent>(
        await call.stream("/api/events", undefined, after === undefined ? {} : { headers: { "Last-Event-ID": after } }),
      ),
  };
  return self;
};
