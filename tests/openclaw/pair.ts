/** A scripted gateway and a bot connected to it, ended after each test of the file that imports this. */
import { afterEach } from "bun:test";
import { type Bot, type BotOptions, connectBot } from "../../plugin/client.ts";
import { until as poll } from "../harness.ts";
import { createScriptedGateway, type ScriptedGateway, type ScriptedOptions } from "./scripted-gateway.ts";

/** The harness's wait, with what it waits for said first. */
export const until = <T>(
  what: string,
  ready: () => T,
  ms = 5000,
): Promise<Exclude<Awaited<T>, undefined | null | false>> =>
  poll(async () => (await ready()) || undefined, ms, what) as Promise<Exclude<Awaited<T>, undefined | null | false>>;

/** Call once per test file. */
export const createPair = () => {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });
  return {
    /** Runs after the present test, last one first. */
    after: (cleanup: () => unknown) => void cleanups.push(cleanup),
    gatewayFor: (options: ScriptedOptions = {}): ScriptedGateway => {
      const gateway = createScriptedGateway(options);
      cleanups.push(() => gateway.stop());
      return gateway;
    },
    botFor: (gateway: ScriptedGateway, options: Partial<BotOptions> & Pick<BotOptions, "onTurn">): Bot => {
      const bot = connectBot({ url: gateway.url, botId: "bot", reconnect: { minMs: 10, maxMs: 50 }, ...options });
      cleanups.push(() => bot.close());
      return bot;
    },
    online: (bot: Bot) => until("the bot to be online", () => bot.state.state === "online"),
  };
};
