/**
 * What matters most of `/v1`: one chat of a client stays one conversation of the bot, whatever the client leaves out, repeats
 * or cuts off; and no two chats ever meet in one.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import OpenAI from "openai";
import { BOT_TOKEN, startGateway, until, v1Bot, type V2Bot } from "./harness.ts";
import { PIXEL as DOT } from "./models/rig.ts";
import { clientOf, newKey, startRig, type Gateway, type Message } from "./models/client.ts";

const PIXEL = `data:image/png;base64,${DOT}`;

let rig: Awaited<ReturnType<typeof startRig>>;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig.stop());
beforeEach(() => rig.reset());

describe("one chat of a client is one conversation", () => {
  test("44 messages of one chat reach the bot one by one, in one conversation", async () => {
    let chat: Message[] = [{ role: "system", content: "Be brief." }];
    for (let i = 1; i <= 44; i++) chat = await rig.say(chat, `message ${i}`);
    expect(rig.conversations()).toHaveLength(1);
    expect(rig.asked.map(({ content }) => content)).toEqual([
      "[system]\nBe brief.\n\n[user]\nmessage 1",
      ...Array.from({ length: 43 }, (_, i) => `message ${i + 2}`),
    ]);
  });

  test("chats with the same words stay apart while they go on, also with another `user` or key", async () => {
    const first = await rig.say([], "same words");
    const second = await rig.say([], "same words");
    const user = await rig.say([], "same words", { user: "u1" });
    expect(rig.conversations()).toHaveLength(3);
    // Both may go on; which one is which cannot be told apart, but they never meet.
    await rig.say(second, "and on");
    await rig.say(first, "and on");
    await rig.say(user, "and on", { user: "u1" });
    expect(rig.conversations()).toHaveLength(3);
    expect(new Set(rig.asked.slice(3).map((chat) => chat.conversationId)).size).toBe(3);
    const other = clientOf(rig.gateway, await newKey(rig.gateway));
    await other.chat.completions.create({ model: "memory", messages: [...first, { role: "user", content: "third" }] });
    expect(rig.conversations()).toHaveLength(4);
    expect(rig.asked.at(-1)!.content).toStartWith(
      "[user]\nsame words\n\n[assistant]\necho: same words\n\n[user]\nthird",
    );
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
    for (let i = 1; i <= 6; i++) chat = await rig.say(chat.slice(-4), `dropping ${i}`);
    expect(rig.conversations()).toHaveLength(1);
    expect(rig.asked.at(-1)!.content).toBe("dropping 6");
  });

  test("X-Nexus-Conversation names it, whatever messages are sent; another person's is not found", async () => {
    const { response } = await rig.client.chat.completions
      .create({ model: "memory", messages: [{ role: "user", content: "start" }] })
      .withResponse();
    const headers = { "X-Nexus-Conversation": response.headers.get("x-nexus-conversation")! };
    const more: OpenAI.ChatCompletionCreateParamsNonStreaming = {
      model: "memory",
      messages: [{ role: "user", content: "only this" }],
    };
    await rig.client.chat.completions.create(more, { headers });
    expect(rig.conversations()).toHaveLength(1);
    expect(rig.asked[1]!.content).toBe("only this");
    const stranger = clientOf(rig.gateway, await newKey(rig.gateway, "user1"));
    const refused = await stranger.chat.completions.create(more, { headers }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(OpenAI.NotFoundError);
    expect(rig.asked).toHaveLength(2);
  });

  test("a changed system prompt is told to the bot and is no new chat", async () => {
    const chat = await rig.say([{ role: "system", content: "It is Monday." }], "day?");
    await rig.say([{ role: "system", content: "It is Tuesday." }, ...chat.slice(1)], "and now?");
    expect(rig.conversations()).toHaveLength(1);
    expect(rig.asked[1]!.content).toBe("[system]\nIt is Tuesday.\n\n[user]\nand now?");
  });

  test("an edited past is a new chat, told from its beginning", async () => {
    const chat = await rig.say(await rig.say([], "a"), "b");
    const edited: Message[] = [chat[0]!, chat[1]!];
    await rig.say(edited, "c");
    expect(rig.conversations()).toHaveLength(2);
    expect(rig.asked[2]!.content).toBe("[user]\na\n\n[assistant]\necho: a\n\n[user]\nc");
  });

  test("a message changed in place, with everything after it kept, is a new chat too", async () => {
    let chat: Message[] = [];
    for (const text of ["one", "two", "three", "four"]) chat = await rig.say(chat, text);
    const changed: Message[] = [{ role: "user", content: "uno" }, ...chat.slice(1)];
    await rig.say(changed, "five");
    expect(rig.conversations()).toHaveLength(2);
    expect(rig.asked[4]!.content).toStartWith("[user]\nuno\n\n[assistant]\necho: one");
    // The first one is still itself, also for a client that drops what is old.
    await rig.say(chat.slice(-4), "six");
    expect(rig.asked[5]).toMatchObject({ content: "six", conversationId: rig.asked[0]!.conversationId });
  });

  test("a request repeated after a failure is a version of the same question", async () => {
    const chat = await rig.say([], "first");
    rig.act = (question, bot) =>
      void bot.end(question, "", { error: { code: "model_failed", message: "The model is tired", retryable: false } });
    const failed = await rig.say(chat, "second").catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(OpenAI.InternalServerError);
    expect((failed as Error).message).toContain("The model is tired");
    rig.act = rig.echo;
    const after = await rig.say(chat, "second");
    await rig.say(after, "third");
    expect(rig.conversations()).toHaveLength(1);
    expect(rig.asked.map(({ content }) => content)).toEqual(["first", "second", "second", "third"]);
  });

  test("an answer that was stopped half way can be gone on from", async () => {
    rig.act = (chat, bot) => void bot.write(chat, "half of an answer");
    const messages: Message[] = [{ role: "user", content: "talk" }];
    const stream = await rig.client.chat.completions.create({ model: "memory", messages, stream: true });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    stream.controller.abort();
    await until(() => rig.gateway.gateway.gate.turns.count() === 0);
    rig.act = rig.echo;
    await rig.say([...messages, { role: "assistant", content: "half of an ans" }], "go on");
    expect(rig.conversations()).toHaveLength(1);
    expect(rig.asked[1]!.content).toBe("go on");
  });

  test("a bot that replaced its text is found by what the client was given", async () => {
    rig.act = (chat, bot) => {
      bot.write(chat, "I think");
      setTimeout(() => {
        bot.write(chat, "No. ", { mode: "replace" });
        bot.end(chat, "It is 4.");
      }, 30);
    };
    const messages: Message[] = [{ role: "user", content: "2+2" }];
    const stream = await rig.client.chat.completions.create({ model: "memory", messages, stream: true });
    let got = "";
    for await (const chunk of stream) got += chunk.choices[0]?.delta.content ?? "";
    expect(got).toBe("I think\n\nNo. It is 4.");
    rig.act = rig.echo;
    await rig.say([...messages, { role: "assistant", content: got }], "sure?");
    expect(rig.conversations()).toHaveLength(1);
  });

  test("an answer with a picture is found again, streamed or whole", async () => {
    const data = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    rig.act = (chat, bot) =>
      void bot.end(chat, "See:", { attachments: [{ name: "a[1].png", mime: "image/png", data }] });
    const whole = await rig.say([], "draw");
    expect(whole.at(-1)!.content).toMatch(
      /^See:\n\n!\[a\\\[1\\\]\.png\]\(http:\/\/127\.0\.0\.1:\d+\/api\/attachments\/\w+\)$/,
    );
    await rig.say(whole, "once more");
    const messages: Message[] = [{ role: "user", content: "draw" }];
    const stream = await rig.client.chat.completions.create({ model: "memory", messages, stream: true });
    let got = "";
    for await (const chunk of stream) got += chunk.choices[0]?.delta.content ?? "";
    expect(got).toContain("/api/attachments/");
    await rig.say([...messages, { role: "assistant", content: got }], "and again");
    expect(rig.conversations()).toHaveLength(2);
  });

  test("two requests at once with the same past do not meet in one conversation", async () => {
    const chat = await rig.say([], "fork");
    await Promise.all([rig.say(chat, "left"), rig.say(chat, "right")]);
    expect(rig.conversations()).toHaveLength(2);
  });

  test("a bot that declared `history` gets all that came before, every time, as the client tells it", async () => {
    const chat = await rig.say([{ role: "system", content: "Be kind." }], "one", { model: "writers" });
    await rig.say(chat, "two", { model: "writers" });
    expect(rig.conversations()).toHaveLength(1);
    expect(rig.asked.map(({ content, history: before }) => ({ content, before }))).toEqual([
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

  const look: Message = {
    role: "user",
    content: [
      { type: "text", text: "look" },
      { type: "image_url", image_url: { url: PIXEL } },
    ],
  };
  const shown = { name: "image.png", mime: "image/png" };

  test("it gets the files of what came before as well, and may read them while it is asked", async () => {
    let read: Promise<Response> | undefined;
    rig.act = (chat, bot) => {
      const [file] = chat.history!.flatMap(({ attachments = [] }) => attachments);
      const headers = { Authorization: `Bearer ${bot.registered.session}` };
      read = file && fetch(rig.gateway.url + file.url, { headers });
      void Promise.resolve(read).then(() => bot.end(chat, "yes"));
    };
    const messages: Message[] = [look, { role: "assistant", content: "yes" }, { role: "user", content: "colour?" }];
    await rig.client.chat.completions.create({ model: "writers", messages: [look] });
    await rig.client.chat.completions.create({ model: "writers", messages });
    expect(rig.conversations()).toHaveLength(1);
    const [question, answer] = rig.asked[1]!.history!;
    expect(question).toMatchObject({ role: "user", content: "look", attachments: [shown] });
    expect(question!.attachments![0]).not.toHaveProperty("data");
    expect(answer).toEqual({ role: "assistant", content: "yes" });
    expect((await (await read!).bytes()).toBase64()).toBe(PIXEL.split(",")[1]!);
    // Not any more once it has answered, and never without `history`.
    const late = (bot: V2Bot) =>
      fetch(rig.gateway.url + question!.attachments![0]!.url, {
        headers: { Authorization: `Bearer ${bot.registered.session}` },
      });
    expect((await late(rig.history)).status).toBe(404);
    let other: Promise<Response> | undefined;
    rig.act = (chat, bot) => {
      other = late(bot);
      void other.then(() => bot.end(chat, "no"));
    };
    const headers = { "X-Nexus-Conversation": rig.asked[1]!.conversationId! };
    await rig.client.chat.completions.create({ model: "memory", messages }, { headers });
    expect((await other!).status).toBe(404);
  });

  test("words of the client are not taken for the message that a picture came with in the conversation it named", async () => {
    rig.act = (chat, bot) => void bot.end(chat, "Nice.");
    for (const words of ["", "Tell"]) {
      const content = [
        { type: "text" as const, text: words },
        { type: "image_url" as const, image_url: { url: PIXEL } },
      ];
      await rig.client.chat.completions.create({ model: "history", messages: [{ role: "user", content }] });
      const headers = { "X-Nexus-Conversation": rig.asked.at(-1)!.conversationId! };
      const messages: Message[] = [
        { role: "user", content: "Tell me about Paris" },
        { role: "assistant", content: "It is in France." },
        { role: "user", content: "And Rome?" },
      ];
      await rig.client.chat.completions.create({ model: "history", messages }, { headers });
      expect(rig.asked.at(-1)!.conversationId).toBe(headers["X-Nexus-Conversation"]);
      expect(rig.asked.at(-1)!.history).toEqual([
        { role: "user", content: "Tell me about Paris" },
        { role: "assistant", content: "It is in France." },
      ]);
    }
  });

  test("files of a past that is new to the gateway come with the question", async () => {
    const messages: Message[] = [look, { role: "assistant", content: "never said" }, { role: "user", content: "and?" }];
    await rig.client.chat.completions.create({ model: "memory", messages });
    expect(rig.asked[0]!.content).toBe("[user]\nlook\n[1 × file]\n\n[assistant]\nnever said\n\n[user]\nand?");
    expect(rig.asked[0]!.image).toBe(PIXEL);
    await rig.client.chat.completions.create({ model: "writers", messages });
    expect(rig.asked[1]!.attachments).toMatchObject([shown]);
    // And stay with it, though the client says that they were elsewhere.
    const later: Message[] = [
      ...messages,
      { role: "assistant", content: "echo: and?" },
      { role: "user", content: "so?" },
    ];
    await rig.client.chat.completions.create({ model: "writers", messages: later });
    expect(rig.asked[2]!.history![2]).toMatchObject({ content: "and?", attachments: [shown] });
  });
});
