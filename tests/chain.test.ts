/**
 * Two gateways in a chain: the official client asks the first one's /v1, whose bot is `nexus bot --openai` (a process of its
 * own) pointed at the second one's /v1, where a bot answers. What one link does, the whole chain does.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import OpenAI from "openai";
import type { ChatFrame } from "../lib/protocol.ts";
import {
  api,
  BOT_TOKEN,
  login,
  type RunningProcess,
  startGateway,
  startProcess,
  until,
  v2Bot,
  within,
  type V2Bot,
} from "./harness.ts";

type Gateway = Awaited<ReturnType<typeof startGateway>>;
type Message = OpenAI.ChatCompletionMessageParam;

let near: Gateway;
let far: Gateway;
let link: RunningProcess;
let bot: V2Bot;
let client: OpenAI;
let asked: ChatFrame[] = [];
let act: (chat: ChatFrame) => void;

const newKey = async (gateway: Gateway): Promise<string> =>
  (await api(gateway.url, await login(gateway.url))<{ key: string }>("POST", "/api/keys", { name: "chain" })).body.key;

beforeAll(async () => {
  const config = { limits: { sendsPerMinute: 0 } };
  [near, far] = await Promise.all([startGateway(config), startGateway(config)]);
  bot = await v2Bot(far.wsUrl, {
    register: { botId: "deep", botName: "Deep", token: BOT_TOKEN },
    onChat: (chat) => {
      asked.push(chat);
      act(chat);
    },
  });
  link = await startProcess({
    args: [
      "bot",
      "--gateway",
      near.url,
      "--id",
      "link",
      "--openai",
      `${far.url}/v1`,
      "--model",
      "deep",
      "--key-env",
      "KEY",
    ],
    env: { PATH: process.env.PATH ?? "", LANG: "en_US.UTF-8", BOT_TOKEN, KEY: await newKey(far) },
    config: null,
    wait: false,
  });
  await until(() => link.stdout().includes("connected"), 10_000, "the link to be online");
  client = new OpenAI({ baseURL: `${near.url}/v1`, apiKey: await newKey(near), maxRetries: 0, timeout: 20_000 });
});
afterAll(async () => {
  await link.stop();
  await bot.close();
  await Promise.all([near.stop(), far.stop()]);
});
beforeEach(() => {
  asked = [];
  act = (chat) => void bot.end(chat, `echo: ${chat.content}`, { usage: { prompt_tokens: 2, completion_tokens: 3 } });
});

test("an answer streams through both, piece by piece, with its usage", async () => {
  const arrived = Promise.withResolvers<void>();
  act = (chat) => {
    bot.write(chat, "first 你好 ");
    // The rest only once the first piece came out at the other end: nothing on the way waits for the whole.
    void arrived.promise.then(() => bot.end(chat, "second 👋", { usage: { prompt_tokens: 5, completion_tokens: 6 } }));
  };
  const stream = await client.chat.completions.create({
    model: "link",
    messages: [{ role: "user", content: "stream" }],
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage: unknown;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    if (text === "first 你好 ") arrived.resolve();
    usage = chunk.usage ?? usage;
  }
  expect(text).toBe("first 你好 second 👋");
  expect(usage).toEqual({ prompt_tokens: 5, completion_tokens: 6, total_tokens: 11 });
});

test("a cancel at one end reaches the bot at the other", async () => {
  act = (chat) => void bot.write(chat, "endless");
  const stream = await client.chat.completions.create({
    model: "link",
    messages: [{ role: "user", content: "never stop" }],
    stream: true,
  });
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
  stream.controller.abort();
  const cancel = await bot.waitFor("cancel", ({ id }) => id === asked[0]!.id);
  expect(cancel.reason).toBe("user");
  const open = (): number => near.gateway.gate.turns.count() + far.gateway.gate.turns.count();
  await until(() => open() === 0, 3000, "no turn to be open anywhere");
});

test("a long chat is one conversation at both gateways, beyond the history that goes along", async () => {
  let chat: Message[] = [{ role: "system", content: "Be brief." }];
  for (let i = 1; i <= 26; i++) {
    chat.push({ role: "user", content: `message ${i}` });
    const answer = await client.chat.completions.create({ model: "link", messages: chat });
    const { content } = answer.choices[0]!.message;
    expect(content).toBe(i === 1 ? "echo: [system]\nBe brief.\n\n[user]\nmessage 1" : `echo: message ${i}`);
    chat = [...chat, { role: "assistant", content }];
  }
  expect(new Set(asked.map(({ conversationId }) => conversationId)).size).toBe(1);
});

test("a long chat on the page, whose history the gateway cuts, is one conversation at the far end", async () => {
  const call = api(near.url, await login(near.url));
  const { id } = (await call<{ id: string }>("POST", "/api/conversations", {})).body;
  for (let i = 1; i <= 26; i++)
    await call("POST", "/api/chat", { message: `line ${i}`, target: "link", conversationId: id });
  expect(new Set(asked.map(({ conversationId }) => conversationId)).size).toBe(1);
  expect(asked.map(({ content }) => content)).toEqual(Array.from({ length: 26 }, (_, i) => `line ${i + 1}`));
});

test("a picture gets through, and a failure keeps its words", async () => {
  const data = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const url = `data:image/png;base64,${data}`;
  const content: OpenAI.ChatCompletionContentPart[] = [
    { type: "text", text: "what is it?" },
    { type: "image_url", image_url: { url } },
  ];
  const question: Message = { role: "user", content };
  const answer = await client.chat.completions.create({ model: "link", messages: [question] });
  expect(asked[0]!.image).toBe(url);
  const said = answer.choices[0]!.message.content;
  const more: Message[] = [
    question,
    { role: "assistant", content: said },
    { role: "user", content: "and its colour?" },
  ];
  await client.chat.completions.create({ model: "link", messages: more });
  // One conversation at the far end too, which has the picture and is told only what is new.
  expect([asked[1]!.conversationId, asked[1]!.content]).toEqual([asked[0]!.conversationId, "and its colour?"]);
  asked = [];
  act = (chat) => void bot.end(chat, "", { error: { code: "x", message: "The far bot is ill", retryable: false } });
  const failure = client.chat.completions.create({ model: "link", messages: [{ role: "user", content: "ill?" }] });
  const error = await within(
    failure.then(
      () => undefined,
      (caught: unknown) => caught,
    ),
    15_000,
    "the failure",
  );
  expect(error).toBeInstanceOf(OpenAI.InternalServerError);
  expect((error as Error).message).toContain("The far bot is ill");
  // The far end said that another attempt is of no use, so there was none.
  expect(asked).toHaveLength(1);
});
