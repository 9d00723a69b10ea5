/** Files between people and bots of both versions: with a message, in the way of v1, with a reply. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Attachment, ChatFrame } from "../lib/protocol.ts";
import { BOT_TOKEN, readSse, startGateway, until, v1Bot, v2Bot, type V1Bot, type V2Bot } from "./harness.ts";
import { asBot, DATA_URL, download, PNG, upload } from "./harness/files.ts";
import { person, type Person } from "./harness/person.ts";

const MAX = 2_000_000;

let gateway: Awaited<ReturnType<typeof startGateway>>;
let admin: Person;
let other: Person;
let plain: V1Bot;
let able: V2Bot;
/** Replies by what is asked; absent: an echo. */
const onChat = new Map<string, (chat: ChatFrame, bot: V2Bot) => void>();

beforeAll(async () => {
  gateway = await startGateway({ limits: { attachmentBytes: MAX, sendsPerMinute: 0 } });
  plain = await v1Bot(gateway.wsUrl, {
    botId: "plain",
    token: BOT_TOKEN,
    onChat: (chat, bot) =>
      bot.reply(chat, "a picture", true, chat.content === "send me one" ? { image: DATA_URL } : {}),
  });
  able = await v2Bot(gateway.wsUrl, {
    register: { botId: "able", token: BOT_TOKEN, caps: ["ack", "seq", "attachments", "message"] },
    onChat: (chat, bot) => (onChat.get(chat.content) ?? (() => bot.end(chat, "seen")))(chat, bot),
  });
  admin = await person(gateway.url);
  other = await person(gateway.url, "user1");
});
afterAll(async () => {
  await plain.close();
  await able.close();
  await gateway.stop();
});

describe("a message with files", () => {
  test("goes to a bot that understands files with their data, and to one that does not as its first picture", async () => {
    const text = (await upload(admin, "some notes", { "X-Filename": "notes.txt" })).body;
    const picture = (await upload(admin, PNG)).body;
    const id = await admin.conversation();
    const { question } = await admin.exchange(id, "look", { target: "able", attachments: [text.id, picture.id] });
    expect(question.attachments).toEqual([text, picture]);
    const chat = able.chats.at(-1)!;
    expect(chat.image).toBeUndefined();
    expect(chat.attachments).toEqual([
      { ...text, data: Buffer.from("some notes").toString("base64") },
      { ...picture, data: PNG.toString("base64") },
    ]);
    await admin.exchange(id, "look", { target: "plain", attachments: [text.id, picture.id] });
    expect(plain.chats.at(-1)!.image).toBe(DATA_URL);
    expect(plain.chats.at(-1)!.attachments).toBeUndefined();
    expect((await admin.messages(id))[0]!.attachments).toEqual([text, picture]);
  });

  test("over 1 MiB in all carries what fits; the bot that holds the turn fetches the rest, and nobody else may", async () => {
    const big = (await upload(admin, Buffer.alloc(700_000, "a"), { "X-Filename": "big.txt" })).body;
    const bigger = (await upload(admin, Buffer.alloc(700_001, "b"))).body;
    const unrelated = (await upload(admin, "unrelated")).body;
    const statuses: Record<string, number> = {};
    const second = await v2Bot(gateway.wsUrl, {
      register: { botId: "second", token: BOT_TOKEN, caps: ["attachments"] },
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    onChat.set("fetch it", async (chat, bot) => {
      const url = chat.attachments![1]!.url;
      const got = await asBot(gateway.url, able, url);
      statuses.holder = got.status;
      statuses.size = (await got.arrayBuffer()).byteLength;
      statuses.unrelated = (await asBot(gateway.url, able, unrelated.url)).status;
      statuses.second = (await asBot(gateway.url, second, url)).status;
      statuses.forged = (await asBot(gateway.url, `${bot.registered.session}x`, url)).status;
      bot.end(chat, "got it");
      resolve();
    });
    const id = await admin.conversation();
    await admin.exchange(id, "fetch it", { target: "able", attachments: [big.id, bigger.id] });
    await promise;
    const [first, rest] = able.chats.at(-1)!.attachments!;
    expect(first!.data).toBe(Buffer.alloc(700_000, "a").toString("base64"));
    expect(rest).toEqual(bigger);
    expect(statuses).toEqual({ holder: 200, size: 700_001, unrelated: 404, second: 404, forged: 401 });
    // The turn is over: the bot reads it no more.
    expect((await asBot(gateway.url, able, bigger.url)).status).toBe(404);
    await second.close();
  });

  test("may name only files of the sender", async () => {
    const theirs = (await upload(other, "theirs")).body;
    const id = await admin.conversation();
    for (const attachments of [[theirs.id], ["nosuch"], ["0"]]) {
      expect((await admin.send(id, "x", { attachments })).status).toBe(404);
      expect((await admin.call("POST", "/api/chat", { message: "x", attachments })).status).toBe(404);
    }
    for (const attachments of ["x", [5], Array(21).fill(theirs.id)])
      expect((await admin.send(id, "x", { attachments })).status).toBe(400);
    expect(await admin.messages(id)).toEqual([]);
  });

  test("needs no text", async () => {
    const file = (await upload(admin, PNG)).body;
    const { question } = await admin.exchange(await admin.conversation(), "", {
      attachments: [file.id],
      target: "able",
    });
    expect(question.content).toBe("");
  });
});

describe("a picture in the way of v1", () => {
  test("becomes a file of the message and reaches a v1 bot as the same data URL", async () => {
    const answer = await admin.call("POST", "/api/chat", { message: "what is this", image: DATA_URL, target: "plain" });
    expect(answer.status).toBe(200);
    expect(plain.chats.at(-1)!.image).toBe(DATA_URL);
    const [question] = await admin.messages(String(answer.body.conversationId));
    expect(question!.attachments).toEqual([expect.objectContaining({ mime: "image/png", width: 2, height: 3 })]);
    const got = await download(gateway.url, question!.attachments[0]!.id, admin);
    expect(Buffer.from(await got.arrayBuffer()).equals(PNG)).toBe(true);
  });

  test("with anything in it that is no base64 still reaches a v1 bot as it came, in a frame that is JSON", async () => {
    // 80 digits hide one more: it does not show in the number of bytes.
    for (const digits of [78, 79, 80, 81, 100_000, 100_001])
      for (const end of ["\n", '"', "\\", "\u0001", "==", "=\n", "\\u0041", "é", ""]) {
        const image = `data:image/png;base64,${"A".repeat(digits)}${end}`;
        const answer = await admin.call("POST", "/api/chat", { message: "看图", image, target: "plain" });
        expect(answer.status).toBe(200);
        expect(plain.chats.at(-1)).toMatchObject({ content: "看图", image });
      }
  });

  test("reaches a bot that understands files as a file", async () => {
    await admin.call("POST", "/api/chat", { message: "and you?", image: DATA_URL, target: "able" });
    const chat = able.chats.at(-1)!;
    expect(chat.attachments).toEqual([expect.objectContaining({ mime: "image/png", data: PNG.toString("base64") })]);
  });

  test("that is no base64 is refused, and so is one over the limit of a file", async () => {
    for (const image of ["", "no base64 at all!", "data:image/png;base64,", 5, "data:text/html,<script>"]) {
      const answer = await admin.call("POST", "/api/chat", {
        message: image === "" ? "" : "x",
        image,
        target: "plain",
      });
      expect(`${image} ${answer.status}`).toBe(`${image} 400`);
    }
    const image = `data:image/png;base64,${Buffer.alloc(MAX + 1).toString("base64")}`;
    expect((await admin.call("POST", "/api/chat", { message: "x", image, target: "plain" })).status).toBe(413);
  });

  test("of a bot reaches the person on both chat calls, and is stored with the message", async () => {
    const sync = await admin.call<{ attachments: Attachment[]; conversationId: string }>("POST", "/api/chat", {
      message: "send me one",
      target: "plain",
    });
    const [file] = sync.body.attachments;
    expect(file).toMatchObject({ mime: "image/png", width: 2, height: 3 });
    expect(Buffer.from(await (await download(gateway.url, file!.id, admin)).arrayBuffer()).equals(PNG)).toBe(true);
    const events = await readSse<{ type: string; attachment: Attachment }>(
      await admin.call.stream("/api/chat/stream", { message: "send me one", target: "plain" }),
    ).all();
    const types = events.map(({ data }) => data.type);
    expect(types).toContain("attachment");
    expect(types.indexOf("attachment")).toBeLessThan(types.indexOf("end"));
    const stored = await admin.messages(sync.body.conversationId);
    expect(stored.at(-1)!.attachments).toEqual([events[types.indexOf("attachment")]!.data.attachment]);
    expect((await download(gateway.url, file!.id, other.token)).status).toBe(404);
  });
});

describe("a file of a bot", () => {
  test("is uploaded for the turn it holds and named in the reply, or sent inside it", async () => {
    const { promise, resolve } = Promise.withResolvers<{ status: number; body: Attachment }>();
    onChat.set("draw", async (chat, bot) => {
      const response = await asBot(gateway.url, able, `/api/attachments?turn=${chat.id}`, PNG);
      const body = (await response.json()) as Attachment;
      resolve({ status: response.status, body });
      bot.end(chat, "drawn", {
        attachments: [
          { id: body.id },
          { name: "notes.txt", mime: "text/plain", data: Buffer.from("inline").toString("base64") },
        ],
      });
    });
    const { reply } = await admin.exchange(await admin.conversation(), "draw", { target: "able" });
    const { status, body } = await promise;
    expect(status).toBe(201);
    expect(body).toMatchObject({ name: "bot.png", mime: "image/png" });
    expect(reply.attachments).toEqual([
      body,
      expect.objectContaining({ name: "notes.txt", mime: "text/plain", size: 6 }),
    ]);
    expect((await download(gateway.url, body.id, admin)).status).toBe(200);
    expect((await download(gateway.url, body.id, other.token)).status).toBe(404);
  });

  test("stays in the place it was sent in, large or small", async () => {
    const file = (name: string, bytes: number) => ({
      name,
      mime: "text/plain",
      data: Buffer.alloc(bytes, name).toString("base64"),
    });
    onChat.set("files", (chat, bot) => {
      bot.write(chat, "first ", { attachments: [file("a.txt", 1_900_000), file("b.txt", 10)] });
      bot.end(chat, "second", { attachments: [file("c.txt", 1_500_000), file("d.txt", 20)] });
    });
    const { reply } = await admin.exchange(await admin.conversation(), "files", { target: "able" });
    expect((reply.attachments as Attachment[]).map(({ name }) => name)).toEqual(["a.txt", "b.txt", "c.txt", "d.txt"]);
  });

  test("for a turn it does not hold, or none, is refused", async () => {
    const id = await admin.conversation();
    const { reply } = await admin.exchange(id, "over", { target: "able" });
    for (const turn of [reply.id, "nosuch", "", "0"])
      expect((await asBot(gateway.url, able, `/api/attachments?turn=${turn}`, PNG)).status).toBe(404);
    onChat.set("hold", () => {});
    const held = (await admin.send(id, "hold", { target: "able" })).body.turnId;
    await able.waitFor("chat", (chat) => chat.id === held);
    const second = await v2Bot(gateway.wsUrl, { register: { botId: "second", token: BOT_TOKEN } });
    expect((await asBot(gateway.url, second, `/api/attachments?turn=${held}`, PNG)).status).toBe(404);
    expect((await asBot(gateway.url, able, `/api/attachments?turn=${held}`, PNG)).status).toBe(201);
    expect((await asBot(gateway.url, able, `/api/attachments?turn=${held}`, Buffer.alloc(MAX + 1))).status).toBe(413);
    able.end({ id: held }, "done");
    await second.close();
    // A bot's session opens nothing else.
    for (const path of ["/api/me", "/api/conversations", `/api/conversations/${id}/messages`, "/api/events"])
      expect(`${path} ${(await asBot(gateway.url, able, path)).status}`).toBe(`${path} 401`);
  });

  test("with a type or a name that would break a header is stored as something harmless", async () => {
    onChat.set("nasty", (chat, bot) => {
      bot.end(chat, "x", {
        attachments: [
          { name: "a\r\nX-Evil: 1\ud800", mime: "text/html\r\nX-Evil: 1", data: Buffer.from("hi").toString("base64") },
        ],
      });
    });
    const { reply } = await admin.exchange(await admin.conversation(), "nasty", { target: "able" });
    const [file] = await until(() => reply.attachments.length > 0 && reply.attachments);
    const got = await download(gateway.url, file!.id, admin);
    expect(got.status).toBe(200);
    expect(got.headers.get("x-evil")).toBeNull();
    expect(got.headers.get("content-type")).toStartWith("text/plain");
  });
});
