/** Sending: branches and quotes, one turn per clientId (D2), export and search over HTTP, limits (B1, B2). */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Message } from "../lib/protocol.ts";
import { BOT_TOKEN, readSse, startGateway, tempDir, until, v2Bot, type V2Bot } from "./harness.ts";
import { person, type Person, type Sent } from "./harness/person.ts";
import { rawHttp } from "./harness/raw.ts";

const TEXT_CHARS = 1000;
const BODY_BYTES = 100_000;

let gateway: Awaited<ReturnType<typeof startGateway>>;
let bot: V2Bot;
let admin: Person;
const clock = { at: Date.now() };

beforeAll(async () => {
  const limits = { textChars: TEXT_CHARS, bodyBytes: BODY_BYTES, sendsPerMinute: 0 };
  gateway = await startGateway({ limits }, { now: () => clock.at });
  bot = await v2Bot(gateway.wsUrl, { register: { token: BOT_TOKEN, caps: ["ack", "seq", "cancel", "history"] } });
  admin = await person(gateway.url);
});
afterAll(async () => {
  await bot.close();
  await gateway.stop();
});

const chatOf = (turnId: string) => bot.waitFor("chat", (chat) => chat.id === turnId);

describe("branches", () => {
  test("an edit is a version beside the message it replaces, with an answer of its own; the older one stays", async () => {
    const id = await admin.conversation();
    const first = await admin.exchange(id, "first");
    const second = await admin.exchange(id, "second");
    const edited = await admin.exchange(id, "second, better", { replaces: second.question.id });
    const third = await admin.exchange(id, "third");
    expect(second.question.parentId).toBe(first.reply.id);
    expect(edited.question.parentId).toBe(first.reply.id);
    expect(edited.reply.parentId).toBe(edited.question.id);
    expect(third.question.parentId).toBe(edited.reply.id);
    const all = await admin.messages(id);
    expect(all.map(({ content }) => content)).toEqual([
      "first",
      "echo: first",
      "second",
      "echo: second",
      "second, better",
      "echo: second, better",
      "third",
      "echo: third",
    ]);
    // The bot is told the branch it answers on.
    const { history } = await chatOf(third.reply.id);
    expect(history?.map(({ content }) => content)).toEqual([
      "first",
      "echo: first",
      "second, better",
      "echo: second, better",
    ]);
  });

  test("the first message can be replaced too, and regenerating is the same words again", async () => {
    const id = await admin.conversation();
    const first = await admin.exchange(id, "only");
    const again = await admin.exchange(id, "only", { replaces: first.question.id });
    expect(again.question.id).not.toBe(first.question.id);
    expect(again.question.parentId).toBeUndefined();
    expect(again.reply.id).not.toBe(first.reply.id);
  });

  test("only one's own message of this conversation can be replaced, any message of it quoted", async () => {
    const [here, there] = [await admin.conversation(), await admin.conversation()];
    const mine = await admin.exchange(here, "mine");
    const elsewhere = await admin.exchange(there, "elsewhere");
    const reply = await admin.send(here, "x", { replaces: mine.reply.id });
    expect([reply.status, (reply.body as unknown as { code: string }).code]).toEqual([400, "bad_request"]);
    for (const more of [
      { replaces: elsewhere.question.id },
      { replyTo: elsewhere.reply.id },
      { replyTo: "nosuch" },
      { replaces: "0" },
    ])
      expect((await admin.send(here, "x", more)).status).toBe(404);
    const quoted = await admin.exchange(here, "about that", { replyTo: mine.reply.id });
    expect(quoted.question.replyTo).toBe(mine.reply.id);
    expect((await chatOf(quoted.reply.id)).replyTo).toEqual({ id: mine.reply.id, role: "bot", content: "echo: mine" });
    expect((await admin.messages(here)).map(({ content }) => content)).not.toContain("x");
  });
});

describe("one clientId", () => {
  test("is one message, one turn and one answer: 50 posts at once, and again after a restart (D2)", async () => {
    const folder = await tempDir("d2");
    const start = () => startGateway({ limits: { sendsPerMinute: 0 } }, { dataDir: folder.path });
    const first = await start();
    let answerer = await v2Bot(first.wsUrl, { register: { token: BOT_TOKEN } });
    const sender = await person(first.url);
    const id = await sender.conversation();
    const body = { clientId: "the-same", content: "once" };
    const post = (who: Person) => who.call<Sent>("POST", `/api/conversations/${id}/messages`, body);

    const answers = await Promise.all(Array.from({ length: 50 }, () => post(sender)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]));
    expect(new Set(answers.map((answer) => `${answer.body.message.id} ${answer.body.turnId}`)).size).toBe(1);
    await until(async () => (await sender.messages(id)).at(-1)?.state === "done");
    expect((await post(sender)).body).toEqual(answers[0]!.body);
    expect(answerer.chats).toHaveLength(1);
    await first.stop();
    await answerer.close();

    const second = await start();
    answerer = await v2Bot(second.wsUrl, { register: { token: BOT_TOKEN } });
    const later = await person(second.url);
    const again = await Promise.all(Array.from({ length: 50 }, () => post(later)));
    for (const answer of again) {
      expect(answer.status).toBe(202);
      expect(answer.body).toEqual(answers[0]!.body);
    }
    expect((await later.messages(id)).map(({ content }) => content)).toEqual(["once", "echo: once"]);
    expect(answerer.chats).toEqual([]);
    await answerer.close();
    await second.stop();
    await folder.remove();
  });

  test("with another body is a conflict; of another person, or a day later, it is free", async () => {
    const id = await admin.conversation();
    const send = (more: object, who = admin) => who.send(id, "a", { clientId: "reused", ...more });
    const first = (await send({})).body;
    for (const more of [{ content: "b" }, { target: "bot" }, { replyTo: first.message.id }])
      expect((await send(more)).status).toBe(409);
    const chat = await admin.call("POST", "/api/chat", { message: "a", clientId: "reused" });
    expect([chat.status, chat.body.code]).toEqual([409, "conflict"]);

    const other = await person(gateway.url, "user1");
    const theirs = await other.send(await other.conversation(), "a", { clientId: "reused" });
    expect(theirs.status).toBe(202);
    expect(theirs.body.turnId).not.toBe(first.turnId);

    clock.at += 24 * 3600_000 - 1000;
    const token = (await person(gateway.url)).token; // the session of before is over by now
    expect(token).toBeString();
    admin = await person(gateway.url);
    expect((await send({})).body.turnId).toBe(first.turnId);
    clock.at += 2000;
    expect((await send({})).body.turnId).not.toBe(first.turnId);
  });

  test("works on both chat calls: the same turn, its answer replayed", async () => {
    const body = { message: "from a script", clientId: "script-1" };
    const first = await admin.call("POST", "/api/chat", body);
    const again = await admin.call("POST", "/api/chat", body);
    expect(again.body).toEqual(first.body);
    const events = await readSse(await admin.call.stream("/api/chat/stream", body)).all();
    expect(events.map(({ data }) => data.type)).toEqual(["start", "chunk", "end"]);
    expect(events[1]!.data).toMatchObject({ content: "echo: from a script", done: true });
    expect(bot.chats.filter(({ content }) => content === body.message)).toHaveLength(1);
  });

  test("is needed to post a message, 1 to 64 characters", async () => {
    const id = await admin.conversation();
    for (const clientId of [undefined, null, "", "x".repeat(65), 5, {}])
      expect((await admin.send(id, "x", { clientId })).status).toBe(400);
    expect((await admin.send(id, "x", { clientId: "x".repeat(64) })).status).toBe(202);
  });
});

describe("export", () => {
  const said = async (): Promise<string> => {
    const id = await admin.conversation({ title: '路径/与"引号" 😀' });
    const first = await admin.exchange(id, "old version");
    await admin.exchange(id, "new version", { replaces: first.question.id });
    return id;
  };

  test("as Markdown is the newest branch, as a download with a safe name", async () => {
    const answer = await admin.call("GET", `/api/conversations/${await said()}/export?format=md`);
    expect(answer.headers.get("content-type")).toBe("text/markdown; charset=utf-8");
    const disposition = answer.headers.get("content-disposition")!;
    expect(disposition).toStartWith("attachment; ");
    const encoded = /filename\*=UTF-8''(\S+)$/.exec(disposition)![1]!;
    expect(decodeURIComponent(encoded)).toBe("路径 与 引号  😀.md");
    expect(/filename="([^"]*)"/.exec(disposition)![1]).toMatch(/^[\x20-\x7e]+\.md$/);
    expect(answer.text).toStartWith('# 路径/与"引号" 😀\n');
    expect(answer.text).toContain("## 管理员 · ");
    expect(answer.text).toContain("echo: new version");
    expect(answer.text).not.toContain("old version");
  });

  test("as JSON is every message of every branch", async () => {
    const id = await said();
    const answer = await admin.call<{ conversation: { id: string }; messages: Message[] }>(
      "GET",
      `/api/conversations/${id}/export?format=json`,
    );
    expect(answer.headers.get("content-disposition")).toEndWith(".json");
    expect(answer.body.conversation.id).toBe(id);
    expect(answer.body.messages).toEqual(await admin.messages(id));
  });

  test("of a long conversation is whole and in order, of a title cut inside a character it still works", async () => {
    const id = await admin.conversation({ title: "half \ud83d" });
    for (let i = 0; i < 230; i++)
      await gateway.gateway.gate.store.write(() => {
        const { turns } = gateway.gateway.gate.store;
        const row = turns.conversation(Number.parseInt(id, 36))!;
        turns.appendBotMessage(row, {
          bot: "bot",
          botName: "Bot",
          content: `n${i}`,
          files: [],
          turn: null,
          parent: row.leaf,
        });
      });
    const { status, body } = await admin.call<{ messages: Message[] }>(
      "GET",
      `/api/conversations/${id}/export?format=json`,
    );
    expect(status).toBe(200);
    expect(body.messages.map(({ content }) => content)).toEqual(Array.from({ length: 230 }, (_, i) => `n${i}`));
  });

  test("in another format is refused", async () => {
    const id = await admin.conversation();
    for (const format of ["html", "MD", "../x", "pdf"])
      expect((await admin.call("GET", `/api/conversations/${id}/export?format=${format}`)).status).toBe(400);
  });
});

test("search over HTTP finds two Chinese characters a moment after they were said, and bounds what it takes", async () => {
  const id = await admin.conversation();
  const { question } = await admin.exchange(id, "明天去看熊猫吗");
  const hits = await until(async () => {
    const { body } = await admin.call<{ hits: { messageId?: string }[] }>(
      "GET",
      `/api/search?q=${encodeURIComponent("熊猫")}`,
    );
    return body.hits.some(({ messageId }) => messageId === question.id) && body.hits;
  });
  expect(hits.find(({ messageId }) => messageId === question.id)).toMatchObject({
    conversationId: id,
    title: "明天去看熊猫吗",
    snippet: "明天去看熊猫吗",
    createdAt: question.createdAt,
  });
  expect((await admin.call("GET", "/api/search")).body).toEqual({ hits: [] });
  expect((await admin.call("GET", `/api/search?q=${"%E7%86%8A".repeat(1000)}`)).status).toBe(200);
  for (const limit of ["0", "x", "-1"])
    expect((await admin.call("GET", `/api/search?q=a&limit=${limit}`)).status).toBe(400);
});

describe("limits", () => {
  test("of a message's text: n passes, n + 1 is 413, on all three calls", async () => {
    const id = await admin.conversation();
    const post = async (text: string): Promise<number[]> => [
      (await admin.send(id, text)).status,
      (await admin.call("POST", "/api/chat", { message: text })).status,
      (await admin.call("POST", "/api/chat/stream", { message: text })).status,
    ];
    expect(await post("字".repeat(TEXT_CHARS))).toEqual([202, 200, 200]);
    expect(await post("字".repeat(TEXT_CHARS + 1))).toEqual([413, 413, 413]);
    expect(await post("")).toEqual([400, 400, 400]);
    expect(await post(" \n ")).toEqual([400, 400, 400]);
  });

  test("of a body: n bytes pass, n + 1 is 413, with Content-Length and in chunks, and nothing of it is kept", async () => {
    const before = gateway.gateway.gate.store.rev();
    for (const framing of ["length", "chunked"] as const)
      for (const over of [0, 1]) {
        const head = JSON.stringify({ message: `${framing} ${over}`, pad: "" });
        const body = head.replace(
          '"pad":""',
          `"pad":"${"中".repeat(10)}${"x".repeat(BODY_BYTES - 30 - head.length + over)}"`,
        );
        expect(Buffer.byteLength(body)).toBe(BODY_BYTES + over);
        const answer = await rawHttp(gateway.port, "POST", "/api/chat", { token: admin.token, body, framing });
        expect(`${framing} +${over}: ${answer.status}`).toBe(`${framing} +${over}: ${over ? 413 : 200}`);
        if (over) expect(JSON.parse(answer.body)).toMatchObject({ code: "too_large" });
      }
    expect(bot.chats.filter(({ content }) => content.endsWith(" 1") && /^(length|chunked)/.test(content))).toEqual([]);
    expect(gateway.gateway.gate.store.rev()).toBeGreaterThan(before);
  });

  test("of sends: 60 a minute, then 429 that says when, then free again (B2)", async () => {
    const limited = await startGateway({}, { now: () => clock.at });
    const echo = await v2Bot(limited.wsUrl, { register: { token: BOT_TOKEN } });
    const sender = await person(limited.url);
    const id = await sender.conversation();
    const statuses: number[] = [];
    for (let i = 0; i < 60; i++)
      statuses.push(
        i % 2
          ? (await sender.send(id, `${i}`)).status
          : (await sender.call("POST", "/api/chat", { message: "x" })).status,
      );
    expect(new Set(statuses)).toEqual(new Set([200, 202]));
    const refused = await sender.send(id, "one more");
    expect(refused.status).toBe(429);
    expect(refused.body).toMatchObject({ code: "rate_limited", retryAfter: 1 });
    expect(refused.headers.get("retry-after")).toBe("1");
    expect((await sender.call("POST", "/api/chat/stream", { message: "x" })).status).toBe(429);
    const other = await person(limited.url, "user1");
    expect((await other.call("POST", "/api/chat", { message: "mine" })).status).toBe(200);
    clock.at += 1000;
    expect((await sender.send(id, "now")).status).toBe(202);
    expect((await sender.send(id, "too soon")).status).toBe(429);
    clock.at += 60_000;
    expect((await sender.send(id, "a minute later")).status).toBe(202);
    await echo.close();
    await limited.stop();
  });

  test("of streams: the eleventh of a person is 429 and starts no turn; a closed one makes room (B2)", async () => {
    const streams = await Promise.all(Array.from({ length: 10 }, () => admin.events()));
    for (const stream of streams) await stream.find((event) => event.type === "hello");
    const refused = await admin.call("GET", "/api/events");
    expect([refused.status, refused.body.code]).toEqual([429, "rate_limited"]);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    const asked = bot.chats.length;
    expect((await admin.call("POST", "/api/chat/stream", { message: "no room" })).status).toBe(429);
    expect(bot.chats).toHaveLength(asked);
    const other = await person(gateway.url, "user1");
    const theirs = await other.events();
    await theirs.find((event) => event.type === "hello");
    await theirs.leave();
    await streams[0]!.leave();
    const next = await until(async () => {
      const response = await admin.call.stream("/api/events");
      if (response.status === 200) return response;
      await response.text();
      return undefined;
    });
    await next.body!.cancel();
    for (const stream of streams) await stream.leave();
    await until(() => gateway.gateway.gate.streams.count() === 0);
  });
});
