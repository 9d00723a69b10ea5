/**
 * Models as bots against scripted services: what they are asked, what comes of everything a service can do wrong, and that
 * a cancelled turn ends the request or the program. Chats go through a real gateway over the real bot socket.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import type { ModelEntry } from "../lib/config/models.ts";
import { startModelBot } from "../lib/models/bot.ts";
import { tokensOf } from "../lib/models/prompt.ts";
import { sseEvents } from "../lib/models/upstream.ts";
import { api, BOT_TOKEN, login, readSse, startGateway, tempDir, until, type Call } from "./harness.ts";
import { anthropic, openAi, pieces, refusal, startFake, type Answer } from "./models/fake.ts";

const KEY = "sk-canary-1234567890";
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

let gateway: Awaited<ReturnType<typeof startGateway>>;
let call: Call & { stream: (path: string, body?: unknown, init?: RequestInit) => Promise<Response> };
const closing: (() => unknown)[] = [];

beforeAll(async () => {
  gateway = await startGateway({ limits: { sendsPerMinute: 0 } });
  call = api(gateway.url, await login(gateway.url));
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
afterAll(() => gateway.stop());

/** A bot named `m` of this entry, gone after the test. */
const start = async (entry: Partial<ModelEntry>, stderr?: (text: string) => void): Promise<void> => {
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
};
const service = async (kind: "openai" | "anthropic", answers: Answer[], more: Partial<ModelEntry> = {}) => {
  const fake = startFake(...answers);
  closing.push(fake.stop);
  await start({ [kind]: `${fake.url}/v1`, model: "model-1", key: KEY, ...more });
  return fake;
};

type Reply = { content: string; conversationId: string; error?: string; code?: string; messageId: string };
const ask = (message: string, more: object = {}) =>
  call<Reply>("POST", "/api/chat", { message, target: "m", conversationId: "", ...more });
const newConversation = async (): Promise<string> =>
  (await call<{ id: string }>("POST", "/api/conversations", {})).body.id;

describe("a service in OpenAI's format", () => {
  test("is asked with key, system prompt, question and a stream, and answers with usage", async () => {
    const fake = await service(
      "openai",
      [() => pieces([openAi.text("Hel"), openAi.text("lo"), openAi.finish(), openAi.usage(12, 2), openAi.done])],
      { system: "Be brief.", options: { temperature: 0 } },
    );
    const conversationId = await newConversation();
    const answer = await ask("hi", { conversationId });
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
      await call<{ messages: { usage?: object }[] }>("GET", `/api/conversations/${conversationId}/messages`)
    ).body;
    expect(messages.at(-1)!.usage).toEqual({ prompt_tokens: 12, completion_tokens: 2, total_tokens: 14 });
  });

  test("gets the history of this conversation and of no other, as much as the budget holds", async () => {
    const fake = await service("openai", [() => pieces([openAi.text("yes"), openAi.finish()])], { historyTokens: 12 });
    const [one, two] = [await newConversation(), await newConversation()];
    await ask("first of one", { conversationId: one });
    await ask("first of two", { conversationId: two });
    await ask("second of one", { conversationId: one });
    expect(fake.asked[2]!.body.messages).toEqual([
      { role: "user", content: "first of one" },
      { role: "assistant", content: "yes" },
      { role: "user", content: "second of one" },
    ]);
    await ask("third of one", { conversationId: one });
    await ask("fourth of one", { conversationId: one });
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
    expect((await ask("1")).body.content).toBe("no mark");
    expect((await ask("2")).body.content).toBe("no blank");
    expect((await ask("3")).body.content).toBe("no stream");
  });

  test("that is cut off or fails half way keeps the text and says so", async () => {
    await service("openai", [
      () => pieces([openAi.text("half "), 30], { cut: true }),
      () => pieces([openAi.text("half ")]),
      () => pieces([openAi.text("half "), openAi.error(`broken, key ${KEY}`, "server_error")]),
      () => pieces([openAi.text("half "), "data: {not json\n\n"]),
    ]);
    const codes: string[] = [];
    for (const question of ["a", "b", "c", "d"]) {
      const conversationId = await newConversation();
      const answer = await ask(question, { conversationId });
      expect(answer.status).toBe(502);
      const { messages } = (
        await call<{ messages: { content: string; error: { code: string; message: string } }[] }>(
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
    expect((await ask("please")).body.content).toBe("at last");
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
    ]);
    const said: string[] = [];
    for (let i = 1; i <= 6; i++) said.push((await ask(`try ${i}`)).body.error!);
    expect(fake.asked).toHaveLength(6);
    expect(said.slice(1)).toEqual([
      "The model's service is busy, try again in 3600 s: later",
      "The quota of the model's service is used up: You exceeded your quota",
      "The model's service refused the key (401); the administrator should look",
      "There is no such model or address",
      "The model's service refused the request (302)",
    ]);
    expect((await ask("再试一次")).body.error).toBe("模型服务不接受这个请求（302）");
    expect(JSON.stringify(gateway.logs)).not.toContain(KEY);
  });

  test("gives up after four tries, with the service's own words but no page of a proxy", async () => {
    const fake = await service("openai", [() => new Response("<html>Bad gateway</html>", { status: 502 })]);
    expect((await ask("hello")).body.error).toBe("The model's service failed (502), try again later");
    expect(fake.asked).toHaveLength(4);
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
    expect((await ask("one")).body.content).toBe("slow");
    const began = performance.now();
    expect((await ask("two")).body.error).toBe("The model said nothing for 1 s");
    expect(performance.now() - began).toBeLessThan(1_900);
  });

  test("that knows only the plain fields is asked with those", async () => {
    const fake = await service("openai", [
      () => refusal(422, { message: "Extra inputs are not permitted: stream_options" }),
      () => pieces([openAi.text("plain"), openAi.finish()]),
    ]);
    expect((await ask("hi", { conversationId: await newConversation() })).body.content).toBe("plain");
    expect(Object.keys(fake.asked[1]!.body)).toEqual(["model", "messages", "stream"]);
  });

  test("gets pictures as pictures, text files as text", async () => {
    const fake = await service("openai", [() => pieces([openAi.text("a dot"), openAi.finish()])]);
    const upload = async (name: string, type: string, body: Uint8Array): Promise<string> =>
      (
        await call<{ id: string }>("POST", "/api/attachments", body, {
          headers: { "content-type": type, "x-filename": name },
        })
      ).body.id;
    const attachments = [
      await upload("dot.png", "image/png", Buffer.from(PIXEL, "base64")),
      await upload("notes.txt", "text/plain", new TextEncoder().encode("buy milk")),
    ];
    await ask("what?", { attachments, conversationId: await newConversation() });
    const [message] = fake.asked[0]!.body.messages as { content: { type: string; text?: string }[] }[];
    expect(message!.content).toEqual([
      { type: "text", text: "what?\n\n--- notes.txt ---\nbuy milk\n--- / notes.txt ---" },
      { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } } as { type: string },
    ]);
  });

  test("sees its request end when the turn is cancelled", async () => {
    const fake = await service("openai", [() => pieces([openAi.text("on and "), 10_000])]);
    const stream = readSse<{ type: string; turnId: string }>(
      await call.stream("/api/chat/stream", { message: "talk", target: "m" }),
    );
    const { data } = await stream.find(({ type }) => type === "start");
    await stream.find(({ type }) => type === "chunk");
    await call("POST", `/api/turns/${data.turnId}/cancel`);
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
    const conversationId = await newConversation();
    const answer = await ask("hello", { conversationId, image: `data:image/png;base64,${PIXEL}` });
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
    const page = await call<{ messages: { usage?: object }[] }>("GET", `/api/conversations/${conversationId}/messages`);
    expect(page.body.messages.at(-1)!.usage).toEqual({ prompt_tokens: 9, completion_tokens: 3 });
  });

  test("that is overloaded is asked again; half way it is a failure; cut off too", async () => {
    const fake = await service("anthropic", [
      () => refusal(529, { type: "overloaded_error", message: "Overloaded" }),
      () => pieces([anthropic.start(1), anthropic.error("Overloaded", "overloaded_error")]),
      () => pieces([anthropic.start(1), anthropic.text("fine"), anthropic.end(1)]),
      () => pieces([anthropic.start(1), anthropic.text("half"), anthropic.error("Overloaded", "overloaded_error")]),
      () => pieces([anthropic.start(1), anthropic.text("half")]),
    ]);
    expect((await ask("one")).body.content).toBe("fine");
    expect((await ask("two")).body.error).toBe("The model's service failed half way: Overloaded");
    expect((await ask("three")).body.error).toBe("The model's answer was cut off half way");
    expect(fake.asked).toHaveLength(5);
  });
});

describe("a program per message", () => {
  const alive = (pid: number): boolean => {
    try {
      process.kill(pid, 0);
    } catch {
      return false;
    }
    // A zombie that its new parent has not looked at yet is dead.
    return !existsSync("/proc/self/stat") || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  };

  test("gets the text on its standard input, the rest in NEXUS_TURN, and streams its output", async () => {
    await start({ command: 'printf "in: "; cat; printf " / "; printf %s "$NEXUS_TURN"', system: "S" });
    const conversationId = await newConversation();
    const { content } = (await ask("the text\nof two lines", { conversationId })).body;
    expect(content).toStartWith("in: the text\nof two lines / {");
    expect(JSON.parse(content.slice(content.indexOf("{")))).toMatchObject({
      conversationId,
      userId: "admin",
      userName: "管理员",
      system: "S",
      source: "api",
      history: [],
    });
  });

  test("gets files by path, which are gone afterwards", async () => {
    await start({ command: 'printf %s "$NEXUS_TURN"' });
    const { content } = (
      await ask("look", { conversationId: await newConversation(), image: `data:image/png;base64,${PIXEL}` })
    ).body;
    const { files } = JSON.parse(content) as { files: { path: string; mime: string }[] };
    expect(files[0]!.mime).toBe("image/png");
    await until(() => !existsSync(files[0]!.path), 2000, "the folder of the turn to be removed");
  });

  test("that fails says so, with what it wrote kept and its errors to the operator only", async () => {
    const errors: string[] = [];
    await start({ command: "printf half; echo secret-path >&2; exit 3" }, (text) => errors.push(text));
    const answer = await ask("go");
    expect(answer.body.error).toBe("The program did not end well (3)");
    expect(errors.join("")).toBe("secret-path\n");
  });

  test("that says nothing for too long is ended", async () => {
    await start({ command: "sleep 60", timeout: 100 });
    expect((await ask("go")).body.error).toBe("The program wrote nothing for 0 s and was stopped");
  });

  test("is killed with everything it started when the turn is cancelled", async () => {
    const folder = await tempDir("command");
    closing.push(folder.remove);
    await start({ command: `sleep 60 & echo $! > ${folder.path}/child; echo $$ > ${folder.path}/self; echo go; wait` });
    const stream = readSse<{ type: string; turnId: string }>(
      await call.stream("/api/chat/stream", { message: "run", target: "m" }),
    );
    const { data } = await stream.find(({ type }) => type === "start");
    await stream.find(({ type }) => type === "chunk");
    const pids: number[] = [];
    for (const name of ["child", "self"]) pids.push(Number(await Bun.file(`${folder.path}/${name}`).text()));
    expect(pids.every(alive)).toBe(true);
    await call("POST", `/api/turns/${data.turnId}/cancel`);
    await until(() => !pids.some(alive), 4000, "the program and its child to be gone");
  });
});

describe("`models` in the config", () => {
  test("starts them with the gateway, over their own tokens, and follows the config", async () => {
    const token = "nxb_token-of-its-own-1";
    const two = await startGateway({
      models: [{ id: "echo", name: "Echo", echo: true, suggestions: ["hi"] }],
      bots: { own: { token } },
    });
    closing.push(two.stop);
    const admin = api(two.url, await login(two.url));
    const ids = async () => (await admin<{ bots: { id: string }[] }>("GET", "/api/bots")).body.bots.map(({ id }) => id);
    await until(async () => (await ids()).join() === "echo");
    expect((await admin("POST", "/api/chat", { message: "same" })).body.content).toBe("same");
    two.reload({ models: [{ id: "own", command: "tr a-z A-Z" }], bots: { own: { token } } });
    await until(async () => (await ids()).join() === "own");
    expect((await admin("POST", "/api/chat", { message: "loud" })).body.content).toBe("LOUD");
  });

  test("names every fault of an entry", async () => {
    const faulty = startGateway({
      models: [{ id: "a" }, { id: "b", openai: "ftp://x" }, { id: "c", openai: "https://example.com/v1" }],
    });
    const said = await faulty.catch((error: Error) => error.message);
    expect(said).toContain("models[0]: exactly one of openai, anthropic, command, echo");
    expect(said).toContain("models[1].openai: an http(s) URL");
    expect(said).toContain("models[2].model: the name of the model is missing");
    const twice = startGateway({
      models: [
        { id: "a", echo: true },
        { id: "a", echo: true },
      ],
    });
    expect(await twice.catch((error: Error) => error.message)).toContain("models[1].id: a stands there twice");
  });
});
