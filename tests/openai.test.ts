/** `/v1` with the official client: models, streaming, pictures, abort, errors. Conversations have a file of their own. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import OpenAI from "openai";
import { api, BOT_TOKEN, startGateway, until, v1Bot, v2Bot } from "./harness.ts";
import { clientOf, newKey, startRig, type Message } from "./models/client.ts";

const PIXEL =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
let rig: Awaited<ReturnType<typeof startRig>>;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig.stop());
beforeEach(() => rig.reset());

describe("the official client", () => {
  test("lists a model per bot and per pool", async () => {
    const ids = (await rig.client.models.list()).data.map(({ id }) => id);
    expect(ids).toEqual(["memory", "history", "default", "writers"]);
    expect((await rig.client.models.retrieve("writers")).object).toBe("model");
  });

  test("gets a whole answer, with usage when the bot gave it", async () => {
    rig.act = (chat, bot) => void bot.end(chat, "42", { usage: { prompt_tokens: 7, completion_tokens: 1 } });
    const answer = await rig.client.chat.completions.create({
      model: "memory",
      messages: [{ role: "user", content: "6*7?" }],
    });
    expect(answer.choices[0]).toMatchObject({ message: { role: "assistant", content: "42" }, finish_reason: "stop" });
    expect(answer.usage).toEqual({ prompt_tokens: 7, completion_tokens: 1, total_tokens: 8 });
    expect(answer.model).toBe("memory");
    expect(rig.asked[0]).toMatchObject({ content: "6*7?", source: "openai", userId: "admin" });
  });

  test("gets a stream in pieces, and usage at its end when asked for", async () => {
    rig.act = (chat, bot) => {
      bot.write(chat, "Guten ");
      setTimeout(() => bot.end(chat, "Tag 👋", { usage: { prompt_tokens: 3, completion_tokens: 2 } }), 20);
    };
    const stream = await rig.client.chat.completions.create({
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

  test("gets a long text that was replaced once, where it goes on from what it has; else the new one after it", async () => {
    const before = "A".repeat(300_000);
    for (const [after, expected] of [
      [`${before}B`, `${before}BC`],
      [`${"A".repeat(280_000)}B`, `${before}\n\n${"A".repeat(280_000)}BC`],
      ["A".repeat(270_000), `${before}\n\n${"A".repeat(270_000)}C`],
      [before, `${before}C`],
    ] as const) {
      rig.act = (chat, bot) => void bot.write(chat, before);
      const messages: Message[] = [{ role: "user", content: "write" }];
      const stream = await rig.client.chat.completions.create({ model: "memory", messages, stream: true });
      let [got, replaced] = ["", false];
      for await (const chunk of stream) {
        got += chunk.choices[0]?.delta.content ?? "";
        if (replaced || got.length < before.length) continue;
        replaced = true;
        rig.memory.write(rig.asked.at(-1)!, after, { mode: "replace" });
        rig.memory.end(rig.asked.at(-1)!, "C");
      }
      expect(got.length).toBe(expected.length);
      expect(got === expected).toBe(true);
    }
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
    await rig.client.chat.completions.create({ model: "history", messages });
    expect(rig.asked[0]!.content).toBe("what is this?");
    expect(rig.asked[0]!.attachments).toHaveLength(2);
    expect(rig.asked[0]!.attachments![0]).toMatchObject({ mime: "image/png", width: 1, data: PIXEL.split(",")[1] });
    await rig.client.chat.completions.create({ model: "memory", messages });
    expect(rig.asked[1]!.image).toBe(PIXEL);
  });

  test("aborts a stream, and the bot is told to stop", async () => {
    rig.act = (chat, bot) => void bot.write(chat, "one ");
    const stream = await rig.client.chat.completions.create({
      model: "memory",
      messages: [{ role: "user", content: "count" }],
      stream: true,
    });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    stream.controller.abort();
    const cancel = await rig.memory.waitFor("cancel", ({ id }) => id === rig.asked[0]!.id);
    expect(cancel.reason).toBe("user");
    await until(() => rig.gateway.gateway.gate.turns.count() === 0, 2000, "the turn to be over");
  });

  test("aborts a call that waits for the whole answer, and the bot is told to stop", async () => {
    rig.act = () => {};
    const gone = new AbortController();
    const call = rig.client.chat.completions.create(
      { model: "memory", messages: [{ role: "user", content: "wait" }] },
      { signal: gone.signal },
    );
    const failed = call.then(
      () => undefined,
      (error: unknown) => error,
    );
    await until(() => rig.asked.length === 1);
    gone.abort();
    await rig.memory.waitFor("cancel", ({ id }) => id === rig.asked[0]!.id);
    expect(await failed).toBeInstanceOf(OpenAI.APIUserAbortError);
  });
});

describe("errors have OpenAI's shape", () => {
  const failure = async (body: object, at: OpenAI = rig.client): Promise<InstanceType<typeof OpenAI.APIError>> => {
    const params = { model: "memory", messages: [{ role: "user", content: "x" }], ...body };
    const error = await at.chat.completions
      .create(params as OpenAI.ChatCompletionCreateParamsNonStreaming)
      .catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(OpenAI.APIError);
    return error as InstanceType<typeof OpenAI.APIError>;
  };

  test("wrong key, unknown model, malformed, too long", async () => {
    expect(await failure({}, clientOf(rig.gateway, "nxk_wrong"))).toMatchObject({
      status: 401,
      code: "invalid_api_key",
      message: expect.stringContaining("密钥不对"),
    });
    expect(await failure({ model: "nobody" })).toMatchObject({ status: 404, code: "model_not_found" });
    expect(await failure({ messages: [] })).toMatchObject({ status: 400, type: "invalid_request_error" });
    const link = { role: "user", content: [{ type: "image_url", image_url: { url: "https://example.com/a.png" } }] };
    expect((await failure({ messages: [link] })).message).toContain("messages[0].content[0].image_url.url");
    expect((await failure({ n: 2 })).status).toBe(400);
    expect((await failure({ messages: [{ role: "user", content: "x".repeat(100_001) }] })).status).toBe(413);
    expect(rig.asked).toEqual([]);
  });

  test("a key for some bots sees and reaches only those", async () => {
    const some = clientOf(rig.gateway, await newKey(rig.gateway, "admin", { bots: ["history"] }));
    expect((await some.models.list()).data.map(({ id }) => id)).toEqual(["history", "writers"]);
    expect((await failure({}, some)).status).toBe(404);
    expect((await failure({ model: "default" }, some)).status).toBe(404);
  });

  test("a failure in the middle of a stream is an error of the stream, after the text before it", async () => {
    rig.act = (chat, bot) => {
      bot.write(chat, "so far");
      bot.end(chat, "", { error: { code: "model_failed", message: "The line broke", retryable: false } });
    };
    const stream = await rig.client.chat.completions.create({
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
    const call = api(rig.gateway.url, rig.secret);
    expect((await call("GET", "/v1/embeddings")).body).toMatchObject({ error: { type: "invalid_request_error" } });
    const method = await call("GET", "/v1/chat/completions");
    expect(method.status).toBe(405);
    expect(method.body).toMatchObject({ error: { code: "method_not_allowed" } });
  });

  test("a stream for which there is no room is refused before the bot is asked, of several at once too", async () => {
    const tight = await startGateway({ limits: { streamsPerUser: 2 } });
    const bot = await v2Bot(tight.wsUrl, { register: { token: BOT_TOKEN }, onChat: () => {} });
    const call = api(tight.url, await newKey(tight));
    const body = JSON.stringify({ model: "bot", stream: true, messages: [{ role: "user", content: "hi" }] });
    const ask = (): Promise<Response> => call.stream("/v1/chat/completions", body);
    const asked = await Promise.all([ask(), ask(), ask(), ask(), ask()]);
    expect(asked.map(({ status }) => status).toSorted()).toEqual([200, 200, 429, 429, 429]);
    expect((await ask()).status).toBe(429);
    await until(() => bot.chats.length === 2, 5000, "the bot to be asked");
    const { store, turns } = tight.gateway.gate;
    expect([turns.count(), store.usage.sentToday("admin")]).toEqual([2, 2]);
    for (const chat of bot.chats) bot.end(chat, "yes");
    for (const response of asked) await response.text();
    expect(bot.chats).toHaveLength(2);
    expect((await ask()).status).toBe(200);
    await bot.close();
    await tight.stop();
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
  await until(() => bot.chats.length === 1, 5000, "the bot to be asked");
  const piece = "0123456789abcdef".repeat(4096);
  const pieces = 128;
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
}, 20_000);
