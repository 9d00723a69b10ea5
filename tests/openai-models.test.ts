/** Which bot of `/v1` a chat is with: a conversation is found again by the model that it was with, and by no other. */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { BOT_TOKEN, startGateway, v1Bot } from "./harness.ts";
import { clientOf, newKey, startRig, type Message } from "./models/client.ts";

let rig: Awaited<ReturnType<typeof startRig>>;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig.stop());
beforeEach(() => rig.reset());

test("chats with two bots that begin with the same words and answers stay with theirs", async () => {
  rig.act = (chat, bot) => void bot.end(chat, "Hello!");
  const chat = await rig.say([], "hi");
  await rig.say([], "hi", { model: "history" });
  await rig.say(chat, "who?");
  await rig.say(chat, "who?", { model: "history" });
  const ids = rig.asked.map(({ conversationId }) => conversationId);
  expect(new Set(ids).size).toBe(2);
  expect(ids.slice(2)).toEqual(ids.slice(0, 2));
  rig.act = (question, bot) => void bot.end(question, "", { error: { code: "x", message: "no", retryable: false } });
  await rig.say([], "fail").catch(() => {});
  rig.act = rig.echo;
  await rig.say([], "fail", { model: "history" });
  expect(rig.conversations()).toHaveLength(4);
});

/** Who answered a question that follows the others. */
const answerOf = async (model: string, before: Message[], conversation?: string) => {
  const messages: Message[] = [...before, { role: "user", content: "and now?" }];
  const headers = conversation === undefined ? {} : { "X-Nexus-Conversation": conversation };
  const { data, response } = await rig.client.chat.completions.create({ model, messages }, { headers }).withResponse();
  return { by: data.model, in: response.headers.get("x-nexus-conversation") };
};

test("a pool is answered for by its own bots, whoever the chat was with before", async () => {
  const chat = await rig.say([], "to memory");
  const { conversationId } = rig.asked[0]!;
  expect((await answerOf("writers", chat)).by).toBe("history");
  expect(rig.conversations()).toHaveLength(2);
  expect(rig.asked[1]!.history).toMatchObject([{ content: "to memory" }, { content: "echo: to memory" }]);
  // The conversation that was named is it all the same.
  expect(await answerOf("writers", chat, conversationId)).toEqual({ by: "history", in: conversationId! });
  // One of a bot goes on with its pool.
  const other = await rig.say([], "to history", { model: "history" });
  const before = rig.asked.at(-1)!.conversationId!;
  expect(await answerOf("writers", other)).toEqual({ by: "history", in: before });
});

test("a chat with a pool stays one conversation when the bot that answered is away", async () => {
  const pool = await startGateway();
  const client = clientOf(pool, await newKey(pool));
  const ask = async (messages: Message[]) => {
    const { data, response } = await client.chat.completions.create({ model: "default", messages }).withResponse();
    return {
      text: data.choices[0]!.message.content,
      by: data.model,
      in: response.headers.get("x-nexus-conversation"),
    };
  };
  const one = await v1Bot(pool.wsUrl, { botId: "one", token: BOT_TOKEN });
  const hello: Message = { role: "user", content: "hello" };
  const first = await ask([hello]);
  await one.close();
  const two = await v1Bot(pool.wsUrl, { botId: "two", token: BOT_TOKEN });
  const again = await ask([hello, { role: "assistant", content: first.text }, { role: "user", content: "again" }]);
  expect([first.by, again.by]).toEqual(["one", "two"]);
  expect(again.in).toBe(first.in);
  await two.close();
  await pool.stop();
});
