/**
 * A gateway with a bot that has a memory of its own, one that wants the history, and the official client of OpenAI. Each
 * test sets `act`; `asked` is what the bots were asked since.
 */
import OpenAI from "openai";
import type { ChatFrame } from "../../lib/protocol.ts";
import { api, BOT_TOKEN, login, startGateway, v2Bot, type V2Bot } from "../harness.ts";

export type Message = OpenAI.ChatCompletionMessageParam;
export type Gateway = Awaited<ReturnType<typeof startGateway>>;

export const newKey = async (at: Gateway, user = "admin", more: object = {}): Promise<string> => {
  const call = api(at.url, await login(at.url, user));
  const made = await call<{ key: string }>("POST", "/api/keys", { name: "test", ...more });
  if (made.status !== 201) throw new Error(`no key: ${made.status} ${made.text}`);
  return made.body.key;
};

export const clientOf = (at: Gateway, apiKey: string): OpenAI =>
  new OpenAI({ baseURL: `${at.url}/v1`, apiKey, maxRetries: 0, timeout: 10_000 });

export const startRig = async () => {
  const gateway = await startGateway({ limits: { sendsPerMinute: 0 } });
  const secret = await newKey(gateway);
  const client = clientOf(gateway, secret);
  const echo = (chat: ChatFrame, bot: V2Bot): void => void bot.end(chat, `echo: ${chat.content}`);
  const rig = {
    gateway,
    secret,
    client,
    echo,
    asked: [] as ChatFrame[],
    act: echo,
    /** Says `text` after `before` and returns all of it with the answer, as a client keeps it. */
    say: async (before: Message[], text: string, more: Partial<OpenAI.ChatCompletionCreateParams> = {}) => {
      const messages: Message[] = [...before, { role: "user", content: text }];
      const answer = await client.chat.completions.create({ model: "memory", messages, ...more, stream: false });
      return [...messages, { role: "assistant", content: answer.choices[0]!.message.content }] satisfies Message[];
    },
    conversations: (): string[] => [...new Set(rig.asked.map((chat) => chat.conversationId!))],
    reset: (): void => {
      rig.asked = [];
      rig.act = echo;
    },
  };
  const options = (botId: string, caps: string[], pools?: string[]) => ({
    register: { botId, botName: botId, token: BOT_TOKEN, caps, ...(pools && { pools }) },
    onChat: (chat: ChatFrame, bot: V2Bot) => {
      rig.asked.push(chat);
      rig.act(chat, bot);
    },
  });
  const memory = await v2Bot(gateway.wsUrl, options("memory", ["ack", "seq", "cancel", "replace"]));
  const history = await v2Bot(gateway.wsUrl, options("history", ["ack", "seq", "history", "attachments"], ["writers"]));
  return Object.assign(rig, {
    memory,
    history,
    async stop() {
      await memory.close();
      await history.close();
      await gateway.stop();
    },
  });
};
