/** A person at the gateway, for the host's tests: signs in once, talks to a bot, reads what came. Knows only the wire. */
import { api, login, readSse } from "../harness.ts";
import { until } from "../harness/wait.ts";
import type { Attachment, Conversation, Message, TurnEvent } from "../../lib/protocol.ts";

export type ChatAnswer = {
  status: number;
  content?: string;
  code?: string;
  error?: string;
  conversationId?: string;
  turnId?: string;
  attachments?: Attachment[];
};
export type ChatFields = { target?: string; conversationId?: string; image?: string; attachments?: string[] };

/** `bot` answers where a call names no other: with several bots online the balancer would pick any. */
export const createPerson = async (url: string, username: string, bot: string) => {
  const token = await login(url, username);
  const call = api(url, token);
  const messages = async (conversationId: string): Promise<Message[]> =>
    (await call<{ messages: Message[] }>("GET", `/api/conversations/${conversationId}/messages`)).body.messages;
  return {
    token,
    call,
    messages,
    newConversation: async (): Promise<string> => (await call<Conversation>("POST", "/api/conversations", {})).body.id,
    /** Waits for the whole answer. */
    chat: async (message: string, fields: ChatFields = {}): Promise<ChatAnswer> => {
      const { status, body } = await call("POST", "/api/chat", { message, target: bot, ...fields });
      return { status, ...body } as ChatAnswer;
    },
    /** Sends and comes back at once; the answer is looked for with `settled`. */
    post: async (conversationId: string, content: string, target = bot): Promise<string> => {
      const body = { clientId: crypto.randomUUID(), content, target };
      const answer = await call<{ turnId?: string }>("POST", `/api/conversations/${conversationId}/messages`, body);
      if (answer.body.turnId === undefined) throw new Error(`not accepted: ${answer.text}`);
      return answer.body.turnId;
    },
    /** The bot's message of a turn once it is no longer open. Survives a gateway that is away for a while. */
    settled: (conversationId: string, turnId: string, ms = 90_000): Promise<Message> =>
      until(
        async () => {
          const all = await messages(conversationId).catch(() => []);
          return all.find((message) => message.id === turnId && message.state !== "streaming");
        },
        ms,
        `turn ${turnId} to end`,
      ),
    /** Every event of one streamed answer. */
    stream: async (message: string, fields: ChatFields = {}): Promise<TurnEvent[]> => {
      const response = await call.stream("/api/chat/stream", { message, target: bot, ...fields });
      const items = await readSse<TurnEvent>(response).all(120_000);
      return items.map((item) => item.data);
    },
    /** The newest message that a bot wrote without being asked and that contains `text`. */
    received: (text: string, ms = 60_000): Promise<Message> =>
      until(
        async () => {
          const { body } = await call<{ conversations: Conversation[] }>("GET", "/api/conversations?limit=50");
          for (const conversation of body.conversations)
            for (const message of await messages(conversation.id))
              if (message.role === "bot" && message.content.includes(text)) return message;
          return undefined;
        },
        ms,
        `a message with "${text}"`,
      ),
    download: async (file: Attachment): Promise<Uint8Array> => {
      const response = await fetch(url + file.url, { headers: { Authorization: `Bearer ${token}` } });
      if (!response.ok) throw new Error(`attachment: ${response.status}`);
      return response.bytes();
    },
  };
};
export type Person = Awaited<ReturnType<typeof createPerson>>;
