/**
 * `/v1` with the official client: streaming, pictures, abort, errors, and above all that one chat of a client stays one
 * conversation of the bot, whatever the client leaves out, repeats or cuts off.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import OpenAI from "openai";
import type { ChatFrame } from "../lib/protocol.ts";
import { api, BOT_TOKEN, login, startGateway, until, v1Bot, v2Bot, type V2Bot } from "./harness.ts";

type Message = OpenAI.ChatCompletionMessageParam;
type Gateway = Awaited<ReturnType<typeof startGateway>>;

const PIXEL =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

let gateway: Gateway;
let secret: string;
/** A bot with a memory of its own, one that wants the history, and one of v1. */
let memory: V2Bot;
let history: V2Bot;
let asked: ChatFrame[] = [];
/** What the bots do with a chat; every test may set its own. */
let act: (chat: ChatFrame, bot: V2Bot) => void;
const echo = (chat: ChatFrame, bot: V2Bot): void => void bot.end(chat, `echo: ${chat.content}`);

const newKey = async (at: Gateway, user = "admin", more: object = {}): Promise<string> => {
  const call = api(at.url, await login(at.url, user));
  const made = await call<{ key: string }>("POST", "/api/keys", { name: "test", ...more });
  expect(made.status).toBe(201);
  return made.body.key;
};
const clientOf = (at: Gateway, apiKey: string): OpenAI =>
  new OpenAI({ baseURL: `${at.url}/v1`, apiKey, maxRetries: 0, timeout: 10_000 });
const client = (): OpenAI => clientOf(gateway, secret);

/** Says `text` after `before` and returns all of it with the answer, as a client keeps it. */
const say = async (before: Message[], text: string, more: Partial<OpenAI.ChatCompletionCreateParams> = {}) => {
  const messages: Message[] = [...before, { role: "user", content: text }];
  const answer = await client().chat.completions.create({ model: "memory", messages, ...more, stream: false });
  return [...messages, { role: "assistant", content: answer.choices[0]!.message.content }] satisfies Message[];
};
const conversations = (): string[] => [...new Set(asked.map((chat) => chat.conversationId!))];

beforeAll(async () => {
  gateway = await startGateway({ limits: { sendsPerMinute: 0 } });
  secret = await newKey(gateway);
  const options = (botId: string, caps: string[], pools?: string[]) => ({
    register: { botId, botName: botId, token: BOT_TOKEN, caps, ...(pools && { pools }) },
    onChat: (chat: ChatFrame, bot: V2Bot) => {
      asked.push(chat);
      act(chat, bot);
    },
  });
  memory = await v2Bot(gateway.wsUrl, options("memory", ["ack", "seq", "cancel", "replace"]));
  history = await v2Bot(gateway.wsUrl, options("history", ["ack", "seq", "history", "attachments"], ["writers"]));
});
afterAll(async () => {
  await memory.close();
  await history.close();
  await gateway.stop();
});
beforeEach(() => {
  asked = [];
  act = echo;
});

describe("the official client", () => {
  test("lists a model per bot and per pool", async () => {
    const ids = (await client().models.list()).data.map(({ id }) => id);
    expect(ids).toEqual(["memory", "history", "default", "writers"]);
    expect((await client().models.retrieve("writers")).object).toBe("model");
  });

  test("gets a whole answer, with usage when the bot gave it", async () => {
    act = (chat, bot) => void bot.end(chat, "42", { usage: { prompt_tokens: 7, completion_tokens: 1 } });
    const answer = await client().chat.completions.create({
      model: "memory",
      messages: [{ role: "user", content: "6*7?" }],
    });
    expect(answer.choices[0]).toMatchObject({ message: { role: "assistant", content: "42" }, finish_reason: "stop" });
    expect(answer.usage).toEqual({ prompt_tokens: 7, completion_tokens: 1, total_tokens: 8 });
    expect(answer.model).toBe("memory");
    expect(asked[0]).toMatchObject({ content: "6*7?", source: "openai", userId: "admin" });
  });

  test("gets a stream in pieces, and usage at its end when asked for", async () => {
    act = (chat, bot) => {
      bot.write(chat, "Guten ");
      setTimeout(() => bot.end(chat, "Tag 👋", { usage: { prompt_tokens: 3, completion_tokens: 2 } }), 20);
    };
    const stream = await client().chat.completions.create({
      model: "memory",
      messages: [{ role: "user", content: "hello" }],
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = await Array.fromAsync(stream);
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("")).toBe("Guten Tag 👋");
    expect(chunks.filter((chunk) => chunk.choices[0]?.delta.content).length).toBe(2);
    expect(chunks.map((chunk) => chunk.choices[0]?.finish_reason ?? null).filter(Boolean)).toEqual(["stop"]);
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { total_tokens: 5 } });
    expect(chunks.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true);
  });

  test("sends pictures, which the bot gets as attachments", async () => {
    const messages: Message[] = [
      {
        role: "user",
        content: [
          { type: "text", text: "what is this?" },
          { type: "image_url", image_url: { url: PIXEL } },
          { type: "image_url", image_url: { url: PIXEL } },
        ],
      },
    ];
    await client().chat.completions.create({ model: "history", messages });
    expect(asked[0]!.content).toBe("what is this?");
    expect(asked[0]!.attachments).toHaveLength(2);
    expect(asked[0]!.attachments![0]).toMatchObject({ mime: "image/png", width: 1, data: PIXEL.split(",")[1] });
    await client().chat.completions.create({ model: "memory", messages });
    expect(asked[1]!.image).toBe(PIXEL);
  });

  test("aborts a stream, and the bot is told to stop", async () => {
    act = (chat, bot) => void bot.write(chat, "one ");
    const stream = await client().chat.completions.create({
      model: "memory",
      messages: [{ role: "user", content: "count" }],
      stream: true,
    });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    stream.controller.abort();
    const cancel = await memory.waitFor("cancel", ({ id }) => id === asked[0]!.id);
    expect(cancel.reason).toBe("user");
    await until(() => gateway.gateway.gate.turns.count() === 0, 2000, "the turn to be over");
  });

  test("aborts a call that waits for the whole answer, and the bot is told to stop", async () => {
    act = () => {};
    const gone = new AbortController();
    const call = client().chat.completions.create(
      { model: "memory", messages: [{ role: "user", content: "wait" }] },
      { signal: gone.signal },
    );
    const failed = call.then(
      () => undefined,
      (error: unknown) => error,
    );
    await until(() => asked.length === 1);
    gone.abort();
    await memory.waitFor("cancel", ({ id }) => id === asked[0]!.id);
    expect(await failed).toBeInstanceOf(OpenAI.APIUserAbortError);
  });
});

describe("one chat of a client is one conversation", () => {
  test("44 messages of one chat reach the bot one by one, in one conversation", async () => {
    let chat: Message[] = [{ role: "system", content: "Be brief." }];
    for (let i = 1; i <= 44; i++) chat = await say(chat, `message ${i}`);
    expect(conversations()).toHaveLength(1);
    expect(asked.map(({ content }) => content)).toEqual([
      "[system]\nBe brief.\n\n[user]\nmessage 1",
      ...Array.from({ length: 43 }, (_, i) => `message ${i + 2}`),
    ]);
  });

  test("chats with the same words stay apart while they go on, also with another `user` or key", async () => {
    const first = await say([], "same words");
    const second = await say([], "same words");
    const user = await say([], "same words", { user: "u1" });
    expect(conversations()).toHaveLength(3);
    // Both may go on; which one is which cannot be told apart, but they never meet.
    await say(second, "and on");
    await say(first, "and on");
    await say(user, "and on", { user: "u1" });
    expect(conversations()).toHaveLength(3);
    expect(new Set(asked.slice(3).map((chat) => chat.conversationId)).size).toBe(3);
    const other = clientOf(gateway, await newKey(gateway));
    await other.chat.completions.create({ model: "memory", messages: [...first, { role: "user", content: "third" }] });
    expect(conversations()).toHaveLength(4);
    expect(asked.at(-1)!.content).toStartWith("[user]\nsame words\n\n[assistant]\necho: same words\n\n[user]\nthird");
  });

  test("it is found again after a restart of the gateway", async () => {
    const one = await startGateway();
    const key = await newKey(one);
    const ask = async (at: Gateway, messages: Message[]) => {
      const bot = await v1Bot(at.wsUrl, { token: BOT_TOKEN });
      const answer = await clientOf(at, key).chat.completions.create({ model: "bot", messages }).withResponse();
      const [chat] = bot.chats;
      await bot.close();
      return { text: answer.data.choices[0]!.message.content, in: answer.response.headers, content: chat!.content };
    };
    const hello: Message[] = [{ role: "user", content: "hello" }];
    const first = await ask(one, hello);
    await one.gateway.close();
    const two = await startGateway({}, { dataDir: one.dataDir });
    const again = await ask(two, [
      ...hello,
      { role: "assistant", content: first.text },
      { role: "user", content: "2" },
    ]);
    expect(again.in.get("x-nexus-conversation")).toBe(first.in.get("x-nexus-conversation")!);
    expect(again.content).toBe("2");
    await two.stop();
    await one.stop();
  });

  test("a client that drops its oldest messages is still in it", async () => {
    let chat: Message[] = [];
    for (let i = 1; i <= 6; i++) chat = await say(chat.slice(-4), `dropping ${i}`);
    expect(conversations()).toHaveLength(1);
    expect(asked.at(-1)!.content).toBe("dropping 6");
  });

  test("X-Nexus-Conversation names it, whatever messages are sent; another person's is not found", async () => {
    const { response } = await client()
      .chat.completions.create({ model: "memory", messages: [{ role: "user", content: "start" }] })
      .withResponse();
    const headers = { "X-Nexus-Conversation": response.headers.get("x-nexus-conversation")! };
    const more: OpenAI.ChatCompletionCreateParamsNonStreaming = {
      model: "memory",
      messages: [{ role: "user", content: "only this" }],
    };
    await client().chat.completions.create(more, { headers });
    expect(conversations()).toHaveLength(1);
    expect(asked[1]!.content).toBe("only this");
    const stranger = clientOf(gateway, await newKey(gateway, "user1"));
    const refused = await stranger.chat.completions.create(more, { headers }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(OpenAI.NotFoundError);
    expect(asked).toHaveLength(2);
  });

  test("a changed system prompt is told to the bot and is no new chat", async () => {
    const chat = await say([{ role: "system", content: "It is Monday." }], "day?");
    await say([{ role: "system", content: "It is Tuesday." }, ...chat.slice(1)], "and now?");
    expect(conversations()).toHaveLength(1);
    expect(asked[1]!.content).toBe("[system]\nIt is Tuesday.\n\n[user]\nand now?");
  });

  test("an edited past is a new chat, told from its beginning", async () => {
    const chat = await say(await say([], "a"), "b");
    const edited: Message[] = [chat[0]!, chat[1]!];
    await say(edited, "c");
    expect(conversations()).toHaveLength(2);
    expect(asked[2]!.content).toBe("[user]\na\n\n[assistant]\necho: a\n\n[user]\nc");
  });

  test("a request repeated after a failure is a version of the same question", async () => {
    const chat = await say([], "first");
    act = (question, bot) =>
      void bot.end(question, "", { error: { code: "model_failed", message: "The model is tired", retryable: false } });
    const failed = await say(chat, "second").catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(OpenAI.InternalServerError);
    expect((failed as Error).message).toContain("The model is tired");
    act = echo;
    const after = await say(chat, "second");
    await say(after, "third");
    expect(conversations()).toHaveLength(1);
    expect(asked.map(({ content }) => content)).toEqual(["first", "second", "second", "third"]);
  });

  test("an answer that was stopped half way can be gone on from", async () => {
    act = (chat, bot) => void bot.write(chat, "half of an answer");
    const messages: Message[] = [{ role: "user", content: "talk" }];
    const stream = await client().chat.completions.create({ model: "memory", messages, stream: true });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    stream.controller.abort();
    await until(() => gateway.gateway.gate.turns.count() === 0);
    act = echo;
    await say([...messages, { role: "assistant", content: "half of an ans" }], "go on");
    expect(conversations()).toHaveLength(1);
    expect(asked[1]!.content).toBe("go on");
  });

  test("a bot that replaced its text is found by what the client was given", async () => {
    act = (chat, bot) => {
      bot.write(chat, "I think");
      setTimeout(() => {
        bot.write(chat, "No. ", { mode: "replace" });
        bot.end(chat, "It is 4.");
      }, 30);
    };
    const messages: Message[] = [{ role: "user", content: "2+2" }];
    const stream = await client().chat.completions.create({ model: "memory", messages, stream: true });
    let got = "";
    for await (const chunk of stream) got += chunk.choices[0]?.delta.content ?? "";
    expect(got).toBe("I think\n\nNo. It is 4.");
    act = echo;
    await say([...messages, { role: "assistant", content: got }], "sure?");
    expect(conversations()).toHaveLength(1);
  });

  test("two requests at once with the same past do not meet in one conversation", async () => {
    const chat = await say([], "fork");
    await Promise.all([say(chat, "left"), say(chat, "right")]);
    expect(conversations()).toHaveLength(2);
  });

  test("a bot that declared `history` gets all that came before, every time, as the client tells it", async () => {
    const chat = await say([{ role: "system", content: "Be kind." }], "one", { model: "writers" });
    await say(chat, "two", { model: "writers" });
    expect(conversations()).toHaveLength(1);
    expect(asked.map(({ content, history: before }) => ({ content, before }))).toEqual([
      { content: "one", before: [{ role: "system", content: "Be kind." }] },
      {
        content: "two",
        before: [
          { role: "system", content: "Be kind." },
          { role: "user", content: "one" },
          { role: "assistant", content: "echo: one" },
        ],
      },
    ]);
  });
});

describe("errors have OpenAI's shape", () => {
  const failure = async (body: object, at: OpenAI = client()): Promise<InstanceType<typeof OpenAI.APIError>> => {
    const params = { model: "memory", messages: [{ role: "user", content: "x" }], ...body };
    const error = await at.chat.completions
      .create(params as OpenAI.ChatCompletionCreateParamsNonStreaming)
      .catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(OpenAI.APIError);
    return error as InstanceType<typeof OpenAI.APIError>;
  };

  test("wrong key, unknown model, malformed, too long", async () => {
    expect(await failure({}, clientOf(gateway, "nxk_wrong"))).toMatchObject({ status: 401, code: "invalid_api_key" });
    expect(await failure({ model: "nobody" })).toMatchObject({ status: 404, code: "model_not_found" });
    expect(await failure({ messages: [] })).toMatchObject({ status: 400, type: "invalid_request_error" });
    const link = { role: "user", content: [{ type: "image_url", image_url: { url: "https://example.com/a.png" } }] };
    expect((await failure({ messages: [link] })).message).toContain("messages[0].content[0].image_url.url");
    expect((await failure({ n: 2 })).status).toBe(400);
    expect((await failure({ messages: [{ role: "user", content: "x".repeat(100_001) }] })).status).toBe(413);
    expect(asked).toEqual([]);
  });

  test("a key for some bots sees and reaches only those", async () => {
    const some = clientOf(gateway, await newKey(gateway, "admin", { bots: ["history"] }));
    expect((await some.models.list()).data.map(({ id }) => id)).toEqual(["history", "writers"]);
    expect((await failure({}, some)).status).toBe(404);
    expect((await failure({ model: "default" }, some)).status).toBe(404);
  });

  test("a failure in the middle of a stream is an error of the stream, after the text before it", async () => {
    act = (chat, bot) => {
      bot.write(chat, "so far");
      bot.end(chat, "", { error: { code: "model_failed", message: "The line broke", retryable: false } });
    };
    const stream = await client().chat.completions.create({
      model: "memory",
      messages: [{ role: "user", content: "go" }],
      stream: true,
    });
    let got = "";
    const broken = await (async () => {
      for await (const chunk of stream) got += chunk.choices[0]?.delta.content ?? "";
    })().catch((error: unknown) => error);
    expect(got).toBe("so far");
    expect(broken).toBeInstanceOf(OpenAI.APIError);
    expect((broken as Error).message).toContain("The line broke");
  });

  test("paths and methods that are not there", async () => {
    const call = api(gateway.url, secret);
    expect((await call("GET", "/v1/embeddings")).body).toMatchObject({ error: { type: "invalid_request_error" } });
    const method = await call("GET", "/v1/chat/completions");
    expect(method.status).toBe(405);
    expect(method.body).toMatchObject({ error: { code: "method_not_allowed" } });
  });

  test("too many requests say when to come back", async () => {
    const tight = await startGateway({ limits: { sendsPerMinute: 1 } });
    const bot = await v1Bot(tight.wsUrl, { token: BOT_TOKEN });
    const at = clientOf(tight, await newKey(tight));
    await at.chat.completions.create({ model: "bot", messages: [{ role: "user", content: "1" }] });
    const error = await failure({ model: "bot" }, at);
    expect(error).toMatchObject({ status: 429, code: "rate_limit_exceeded", type: "rate_limit_error" });
    expect(Number(error.headers?.get("retry-after"))).toBeGreaterThan(0);
    await bot.close();
    await tight.stop();
  });
});

test("a reader that stops reading for a while gets everything, whole and in order, when it reads on", async () => {
  const slow = await startGateway({ limits: { replyBytes: 64 * 1024 * 1024 } });
  const bot = await v2Bot(slow.wsUrl, { register: { token: BOT_TOKEN }, onChat: () => {} });
  const body = JSON.stringify({ model: "bot", stream: true, messages: [{ role: "user", content: "much" }] });
  const response = await api(slow.url, await newKey(slow)).stream("/v1/chat/completions", body);
  const reader = response.body!.getReader();
  await reader.read();
  const piece = "0123456789abcdef".repeat(4096);
  const pieces = 256;
  for (let i = 0; i < pieces; i++) {
    bot.write(bot.chats[0]!, piece);
    if (i % 16 === 0) await Bun.sleep(1);
  }
  bot.end(bot.chats[0]!);
  await until(() => slow.gateway.gate.turns.count() === 0, 5000, "the turn to be stored");
  let text = "";
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    text += decoder.decode(value as Uint8Array, { stream: true });
  }
  const got = text
    .split("\n\n")
    .filter((line) => line.startsWith("data: {"))
    .map((line) => JSON.parse(line.slice(6)).choices[0].delta.content ?? "")
    .join("");
  expect(got.length).toBe(piece.length * pieces);
  expect(got === piece.repeat(pieces)).toBe(true);
  expect(text).toEndWith("data: [DONE]\n\n");
  await bot.close();
  await slow.stop();
});
