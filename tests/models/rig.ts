/** A gateway in which one model at a time is the bot `m`, and a person who asks it. */
import type { ModelEntry } from "../../lib/config/models.ts";
import { startModelBot } from "../../lib/models/bot.ts";
import { api, BOT_TOKEN, login, startGateway, until } from "../harness.ts";

export const KEY = "sk-canary-1234567890";
export const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

export type Reply = { content: string; conversationId: string; error?: string; code?: string; messageId: string };

export const startRig = async () => {
  const gateway = await startGateway({ limits: { sendsPerMinute: 0 } });
  const call = api(gateway.url, await login(gateway.url));
  const closing: (() => unknown)[] = [];
  return {
    gateway,
    call,
    /** What the present test opened; closed by `close`, last first. */
    closing,
    async close() {
      for (const close of closing.splice(0).reverse()) await close();
    },
    /** A bot named `m` of this entry, gone after the test. */
    async start(entry: Partial<ModelEntry>, stderr?: (text: string) => void): Promise<void> {
      const bot = startModelBot({
        entry: { id: "m", ...entry },
        url: gateway.url,
        token: BOT_TOKEN,
        log: (level, event, fields = {}) => gateway.logs.push({ level, event, fields }),
        env: process.env,
        firstWaitMs: 10,
        ...(stderr && { stderr }),
      });
      closing.push(() => bot.close());
      await until(() => bot.state.state === "online", 5000, "the model's bot to be online");
    },
    ask: (message: string, more: object = {}) =>
      call<Reply>("POST", "/api/chat", { message, target: "m", conversationId: "", ...more }),
    newConversation: async (): Promise<string> =>
      (await call<{ id: string }>("POST", "/api/conversations", {})).body.id,
  };
};
