/**
 * Models behind HTTP services as bots, against scripted services: what they are asked, what comes of everything a service can
 * do wrong, that a cancelled turn ends the request. Chats go through a real gateway over the real bot socket.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { ModelEntry } from "../lib/config/models.ts";
import { tokensOf } from "../lib/models/prompt.ts";
import { sseEvents } from "../lib/models/upstream.ts";
import { readSse, until } from "./harness.ts";
import { anthropic, openAi, pieces, refusal, startFake, type Answer } from "./models/fake.ts";
import { KEY, PIXEL, startRig } from "./models/rig.ts";

let rig: Awaited<ReturnType<typeof startRig>>;
beforeAll(async () => {
  rig = await startRig();
});
afterEach(() => rig.close());
afterAll(() => rig.gateway.stop());

const service = async (kind: "openai" | "anthropic", answers: Answer[], more: Partial<ModelEntry> = {}) => {
  const fake = startFake(...answers);
  rig.closing.push(fake.stop);
  await rig.start({ [kind]: `${fake.url}/v1`, model: "model-1", key: KEY, ...more });
  return fake;
};

describe("a service in OpenAI's format", () => {
  test("is asked with key, system prompt, question and a stream, and answers with usage", async () => {
    const fake = await service(
      "openai",
      [() => pieces([openAi.text("Hel"), openAi.text("lo"), openAi.finish(), openAi.usage(12, 2), openAi.done])],
      { system: "Be brief.", options: { temperature: 0 } },
    );
    const conversationId = await rig.newConversation();
    const answer = await rig.ask("hi", { conversationId });
    expect(answer.body.content).toBe("Hello");
    expect(fake.asked[0]!.path).toBe("/v1/chat/completions");
    expect(fake.asked[0]!.headers.get("authorization")).toBe(`Bearer ${KEY}`);
    expect(fake.asked[0]!.body).toEqual({
      model: "model-1",
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "hi" },
      ],
      stream: true,
      stream_options: { include_usage: true },
      user: `nexus-${conversationId}`,
      temperature: 0,
    });
    const { messages } = (
      await rig.call<{ messages: { usage?: object }[] }>("GET", `/api/conversations/${conversationId}/messages`)
    ).body;
    expect(messages.at(-1)!.usage).toEqual({ prompt_tokens: 12, completion_tokens: 2, total_tokens: 14 });
  });

  test("gets the history of this conversation and of no other, as much as the budget holds", async () => {
    const fake = await service("openai", [() => pieces([openAi.text("yes"), openAi.finish()])], { historyTokens: 12 });
    const [one, two] = [await rig.newConversation(), await rig.newConversation()];
    await rig.ask("first of one", { conversationId: one });
    await rig.ask("first of two", { conversationId: two });
    await rig.ask("second of one", { conversationId: one });
    expect(fake.asked[2]!.body.messages).toEqual([
      { role: "user", content: "first of one" },
      { role: "assistant", content: "yes" },
      { role: "user", content: "second of one" },
    ]);
    await rig.ask("third of one", { conversationId: one });
    await rig.ask("fourth of one", { conversationId: one });
    const last = fake.asked.at(-1)!.body.messages as { content: string }[];
    expect(last[0]!.content).not.toBe("first of one");
    expect(last.at(-1)!.content).toBe("fourth of one");
    expect(tokensOf("four")).toBe(1);
    expect(tokensOf("四个汉字")).toBe(4);
  });

  test("is read whole wherever its bytes are cut", async () => {
    const text = "héllo 世界 👋\r\n";
    const stream = `: comment\r\n\r\n${openAi.text(text).replaceAll("\n", "\r\n")}event: x\ndata: {"a":\ndata: 1}\r\rdata: end\n\n`;
    const bytes = new TextEncoder().encode(stream);
    const read = async (parts: Uint8Array[]): Promise<string[]> => {
      const got: string[] = [];
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          for (const part of parts) controller.enqueue(part);
          controller.close();
        },
      });
      for await (const { data } of sseEvents(body, () => {})) got.push(data);
      return got;
    };
    const whole = await read([bytes]);
    expect(whole).toHaveLength(3);
    expect(JSON.parse(whole[0]!).choices[0].delta.content).toBe(text);
    for (let cut = 1; cut < bytes.length; cut++)
      expect(await read([bytes.subarray(0, cut), bytes.subarray(cut)])).toEqual(whole);
    expect(await read(Array.from(bytes, (byte) => Uint8Array.of(byte)))).toEqual(whole);
  });

  test("may leave out [DONE], or the last blank line, or the stream", async () => {
    const json = { choices: [{ message: { role: "assistant", content: "no stream" }, finish_reason: "stop" }] };
    await service("openai", [
      () => pieces([openAi.text("no mark"), openAi.finish()]),
      () => pieces([openAi.text("no blank"), openAi.finish().trimEnd()]),
      () => Response.json(json),
    ]);
    expect((await rig.ask("1")).body.content).toBe("no mark");
    expect((await rig.ask("2")).body.content).toBe("no blank");
    expect((await rig.ask("3")).body.content).toBe("no stream");
  });

  test("has answered once it said that it finished, though the line breaks or stays open after that", async () => {
    await service("openai", [
      () => pieces([openAi.text("broken"), openAi.finish(), 30], { cut: true }),
      () => pieces([openAi.text("open"), openAi.finish(), 300, openAi.usage(1, 1), 20_000]),
    ]);
    expect((await rig.ask("1")).body.content).toBe("broken");
    const [began, conversationId] = [performance.now(), await rig.newConversation()];
    expect((await rig.ask("2", { conversationId })).body.content).toBe("open");
    expect(performance.now() - began).toBeLessThan(10_000);
    const page = await rig.call<{ messages: object[] }>("GET", `/api/conversations/${conversationId}/messages`);
    expect(page.body.messages.at(-1)).toMatchObject({ state: "done", usage: { total_tokens: 2 } });
  }, 15_000);

  test("is heard to the end where it says with every piece that it finished", async () => {
    await service("openai", [
      () => pieces([openAi.text("one ", "stop"), 2_500, openAi.text("two", "stop"), openAi.finish(), openAi.done]),
    ]);
    expect((await rig.ask("1")).body.content).toBe("one two");
  });

  test("that is cut off or fails half way keeps the text and says so", async () => {
    await service("openai", [
      () => pieces([openAi.text("half "), 30], { cut: true }),
      () => pieces([openAi.text("half ")]),
      () => pieces([openAi.text("half "), openAi.error(`broken, key ${KEY}`, "server_error")]),
      () => pieces([openAi.text("half "), "data: {not json\n\n"]),
      () => pieces([openAi.text("half ", "")]),
      () => pieces([openAi.text("half "), openAi.finish(), openAi.error("took it back", "")]),
    ]);
    const codes: string[] = [];
    for (const question of ["a", "b", "c", "d", "e", "f"]) {
      const conversationId = await rig.newConversation();
      const answer = await rig.ask(question, { conversationId });
      expect(answer.status).toBe(502);
      const { messages } = (
        await rig.call<{ messages: { content: string; error: { code: string; message: string } }[] }>(
          "GET",
          `/api/conversations/${conversationId}/messages`,
        )
      ).body;
      expect(messages.at(-1)!.content).toBe("half ");
      expect(answer.body.error).not.toContain(KEY);
      codes.push(answer.body.error!);
    }
    expect(codes).toEqual([
      "The model's service cannot be reached, or the line broke",
      "The model's answer was cut off half way",
      "The model's service failed half way: broken, key ***",
      "What the model's service sent cannot be read",
      "The model's answer was cut off half way",
      "The model's service failed half way: took it back",
    ]);
  });

  test("that is busy or broken is asked again, as it wishes, until it answers", async () => {
    const fake = await service("openai", [
      () => refusal(429, { message: "slow down" }, { "Retry-After": "0.2" }),
      () => refusal(503, { message: "restarting" }),
      () => pieces([openAi.error("overloaded", "overloaded_error")]),
      () => pieces([openAi.text("at last"), openAi.finish()]),
    ]);
    const began = performance.now();
    expect((await rig.ask("please")).body.content).toBe("at last");
    expect(performance.now() - began).toBeGreaterThan(200);
    expect(fake.asked).toHaveLength(4);
  });

  test("is not asked again after the first word, for long waits, used up quotas, or wrong keys", async () => {
    const fake = await service("openai", [
      () => pieces([openAi.text("a word"), openAi.error("overloaded", "overloaded_error")]),
      () => refusal(429, { message: "later" }, { "Retry-After": "3600" }),
      () => refusal(429, { message: "You exceeded your quota", code: "insufficient_quota" }),
      () => refusal(401, { message: `Incorrect API key provided: ${KEY}` }),
      () => new Response("<html>nginx</html>", { status: 404 }),
      () => Response.redirect("http://127.0.0.1:1/", 302),
      () => pieces([openAi.finish("length"), openAi.done]),
      () => pieces([openAi.finish("content_filter"), openAi.done]),
    ]);
    const said: string[] = [];
    for (let i = 1; i <= 8; i++) said.push((await rig.ask(`try ${i}`)).body.error!);
    expect(fake.asked).toHaveLength(8);
    expect(said.slice(1)).toEqual([
      "The model's service is busy, try again in 3600 s: later",
      "The quota of the model's service is used up: You exceeded your quota",
      "The model's service refused the key (401); the administrator should look",
      "There is no such model or address",
      "The model's service refused the request (302)",
      "The model used up its tokens (maxTokens) before it said anything; the administrator should allow more",
      "The content filter of the model's service held this answer back",
    ]);
    expect((await rig.ask("再试一次")).body.error).toBe("模型服务的内容过滤拦下了这个回答");
    expect(JSON.stringify(rig.gateway.logs)).not.toContain(KEY);
  });

  test("gives up after four tries, with the service's own words but no page of a proxy", async () => {
    const fake = await service("openai", [() => new Response("<html>Bad gateway</html>", { status: 502 })]);
    expect((await rig.ask("hello")).body.error).toBe("The model's service failed (502), try again later");
    expect(fake.asked).toHaveLength(4);
  });

  test("that ends without a word is a failure with a sentence, not an empty answer", async () => {
    const fake = await service("openai", [
      () => pieces([openAi.text(""), openAi.finish(), openAi.done]),
      () => Response.json({ choices: [{ message: { role: "assistant", content: null }, finish_reason: "stop" }] }),
    ]);
    for (const question of ["one", "two"]) {
      const answer = await rig.ask(question, { conversationId: await rig.newConversation() });
      expect([answer.status, answer.body.error]).toEqual([502, expect.stringContaining("without a word")]);
    }
    expect(fake.asked).toHaveLength(2);
  });

  test("may think long before the first word, but not for ever", async () => {
    await service(
      "openai",
      [
        () => pieces([250, openAi.text("slow"), openAi.finish()]),
        () => pieces([openAi.text("and then "), 2_000, openAi.finish()]),
      ],
      { timeout: 500 },
    );
    expect((await rig.ask("one")).body.content).toBe("slow");
    const began = performance.now();
    expect((await rig.ask("two")).body.error).toBe("The model said nothing for 1 s");
    expect(performance.now() - began).toBeLessThan(1_900);
  });

  test("that knows only the plain fields is asked with those", async () => {
    const fake = await service("openai", [
      () => refusal(422, { message: "Extra inputs are not permitted: stream_options" }),
      () => pieces([openAi.text("plain"), openAi.finish()]),
    ]);
    expect((await rig.ask("hi", { conversationId: await rig.newConversation() })).body.content).toBe("plain");
    expect(Object.keys(fake.asked[1]!.body)).toEqual(["model", "messages", "stream"]);
  });

  test("whose models know the bound of tokens by its newer name is asked with that", async () => {
    const newer =
      "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    const fake = await service(
      "openai",
      [
        () => refusal(400, { message: newer, code: "unsupported_parameter" }),
        () => refusal(400, { message: "Unknown field: user" }),
        () => pieces([openAi.text("short"), openAi.finish()]),
      ],
      { maxTokens: 50 },
    );
    expect((await rig.ask("hi", { conversationId: await rig.newConversation() })).body.content).toBe("short");
    expect(fake.asked.map(({ body }) => [body.max_tokens, body.max_completion_tokens, "user" in body])).toEqual([
      [50, undefined, true],
      [undefined, 50, true],
      [undefined, 50, false],
    ]);
  });

  test("sees its request end when the turn is cancelled", async () => {
    const fake = await service("openai", [() => pieces([openAi.text("on and "), 10_000])]);
    const stream = readSse<{ type: string; turnId: string }>(
      await rig.call.stream("/api/chat/stream", { message: "talk", target: "m" }),
    );
    const { data } = await stream.find(({ type }) => type === "start");
    await stream.find(({ type }) => type === "chunk");
    await rig.call("POST", `/api/turns/${data.turnId}/cancel`);
    await until(() => fake.asked[0]!.aborted(), 2000, "the service to see the request end");
    await stream.all();
  });
});

describe("Anthropic's Messages API", () => {
  test("is asked with its own headers and shapes, and answers with usage and thoughts", async () => {
    const fake = await service(
      "anthropic",
      [
        () =>
          pieces([
            anthropic.start(9),
            anthropic.ping,
            anthropic.thinking("hm"),
            anthropic.text("Bon"),
            anthropic.text("jour"),
            anthropic.end(3),
          ]),
      ],
      { system: "Speak French.", maxTokens: 100 },
    );
    const conversationId = await rig.newConversation();
    const answer = await rig.ask("hello", { conversationId, image: `data:image/png;base64,${PIXEL}` });
    expect(answer.body.content).toBe("Bonjour");
    const { path, headers, body } = fake.asked[0]!;
    expect(path).toBe("/v1/messages");
    expect(headers.get("x-api-key")).toBe(KEY);
    expect(headers.get("anthropic-version")).toBe("2023-06-01");
    expect(headers.get("authorization")).toBeNull();
    expect(body).toMatchObject({ model: "model-1", max_tokens: 100, stream: true, system: "Speak French." });
    expect(body.messages).toEqual([
      {
        role: "user",
        content: [
          { type: "image", source: { type: "base64", media_type: "image/png", data: PIXEL } },
          { type: "text", text: "hello" },
        ],
      },
    ]);
    const page = await rig.call<{ messages: { usage?: object }[] }>(
      "GET",
      `/api/conversations/${conversationId}/messages`,
    );
    expect(page.body.messages.at(-1)!.usage).toEqual({ prompt_tokens: 9, completion_tokens: 3 });
  });

  test("may send events that are no objects", async () => {
    const fake = await service("anthropic", [
      () => pieces([anthropic.start(1), "data: null\n\n", anthropic.text("fine"), "data: 1\n\n", anthropic.end(1)]),
    ]);
    expect((await rig.ask("hello")).body.content).toBe("fine");
    expect(fake.asked).toHaveLength(1);
  });

  test("that is overloaded is asked again; half way it is a failure; cut off too", async () => {
    const fake = await service("anthropic", [
      () => refusal(529, { type: "overloaded_error", message: "Overloaded" }),
      () => pieces([anthropic.start(1), anthropic.error("Overloaded", "overloaded_error")]),
      () => pieces([anthropic.start(1), anthropic.text("fine"), anthropic.end(1)]),
      () => pieces([anthropic.start(1), anthropic.text("half"), anthropic.error("Overloaded", "overloaded_error")]),
      () => pieces([anthropic.start(1), anthropic.text("half")]),
    ]);
    expect((await rig.ask("one")).body.content).toBe("fine");
    expect((await rig.ask("two")).body.error).toBe("The model's service failed half way: Overloaded");
    expect((await rig.ask("three")).body.error).toBe("The model's answer was cut off half way");
    expect(fake.asked).toHaveLength(5);
  });
});
