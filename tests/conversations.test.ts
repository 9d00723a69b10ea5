/** Conversations over HTTP: list, create, rename, pin, read, delete and undo, pages of messages, export, search. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Conversation, Message } from "../lib/protocol.ts";
import { BOT_TOKEN, startGateway, until, v2Bot, type V2Bot } from "./harness.ts";
import { person, type List, type Page, type Person } from "./harness/person.ts";

let gateway: Awaited<ReturnType<typeof startGateway>>;
let bot: V2Bot;
let admin: Person;
let other: Person;
const clock = { at: Date.now() };

beforeAll(async () => {
  gateway = await startGateway({ limits: { sendsPerMinute: 0 } }, { now: () => clock.at });
  bot = await v2Bot(gateway.wsUrl, {
    register: { token: BOT_TOKEN },
    onChat: (chat, self) => {
      if (chat.content === "slow") return void self.write(chat, "so far");
      if (chat.content === "silent") return void self.end(chat, "", { finish: "silent" });
      if (chat.content === "fail") return void self.end(chat, "", { error: { code: "x", message: "no luck" } });
      self.end(chat, `echo: ${chat.content}`);
    },
  });
  admin = await person(gateway.url);
  other = await person(gateway.url, "user1");
});
afterAll(async () => {
  await bot.close();
  await gateway.stop();
});

const get = async (id: string): Promise<Conversation> =>
  (await admin.call<Conversation>("GET", `/api/conversations/${id}`)).body;
const list = async (query = "", who = admin): Promise<List> =>
  (await who.call<List>("GET", `/api/conversations${query}`)).body;

describe("a conversation", () => {
  test("is made empty, with or without a title and a bot", async () => {
    const bare = await admin.call<Conversation>("POST", "/api/conversations", {});
    expect(bare.status).toBe(201);
    expect(bare.body).toEqual({
      id: expect.stringMatching(/^[0-9a-z]{8,11}$/),
      title: "",
      pinned: false,
      unread: 0,
      createdAt: clock.at,
      updatedAt: clock.at,
    });
    const named = await admin.call<Conversation>("POST", "/api/conversations", { title: "项目", botId: "bot" });
    expect(named.body).toMatchObject({ title: "项目", botId: "bot" });
    expect(await get(named.body.id)).toEqual(named.body);
  });

  test("takes its title from the first message, one line of it, until somebody names it", async () => {
    const id = await admin.conversation();
    await admin.exchange(id, `第一行\n第二行 ${"很长".repeat(50)}`);
    const { title } = await get(id);
    expect(title).toStartWith("第一行 第二行 很长");
    expect(title.length).toBeLessThanOrEqual(40);
    expect(title).toEndWith("…");
    const renamed = await admin.call<Conversation>("PATCH", `/api/conversations/${id}`, { title: "我的名字" });
    expect(renamed.body.title).toBe("我的名字");
    await admin.exchange(id, "more");
    expect((await get(id)).title).toBe("我的名字");
  });

  test("shows its newest message, and which bot answers in it", async () => {
    const id = await admin.conversation();
    const { reply } = await admin.exchange(id, "hi");
    expect(await get(id)).toMatchObject({
      botId: "bot",
      lastMessage: { id: reply.id, role: "bot", text: "echo: hi", createdAt: reply.updatedAt },
    });
  });

  test("is pinned and unpinned", async () => {
    const id = await admin.conversation();
    for (const pinned of [true, true, false])
      expect((await admin.call<Conversation>("PATCH", `/api/conversations/${id}`, { pinned })).body.pinned).toBe(
        pinned,
      );
  });

  test("refuses a title that is none, a pin that is none, a body that is none, an id that is none", async () => {
    const id = await admin.conversation();
    const bad = ["", "x".repeat(201), 5, {}].map((title) => ({ title }));
    for (const body of [...bad, { pinned: "yes" }, { read: 7 }, [], 5, "x"]) {
      const answer = await admin.call("PATCH", `/api/conversations/${id}`, body);
      expect([answer.status, answer.body.code]).toEqual([400, "bad_request"]);
    }
    expect((await admin.call("PATCH", `/api/conversations/${id}`, { title: "x".repeat(200) })).status).toBe(200);
    for (const wrong of ["0", "nosuch", "A", "..%2f..", "%00", "1".repeat(50)])
      for (const method of ["GET", "PATCH", "DELETE"]) {
        const answer = await admin.call(method, `/api/conversations/${wrong}`, method === "PATCH" ? {} : undefined);
        expect(`${wrong} ${answer.status} ${answer.body.code}`).toBe(`${wrong} 404 not_found`);
      }
    const tooLong = await admin.call("PATCH", `/api/conversations/${id}`, { title: "x", pad: "y".repeat(70_000) });
    expect([tooLong.status, tooLong.body.code]).toEqual([413, "too_large"]);
  });
});

describe("what is unread", () => {
  const read = (id: string, message: string) =>
    admin.call<Conversation>("PATCH", `/api/conversations/${id}`, { read: message });

  test("counts answers, files and failures but not silence and not one's own messages", async () => {
    const id = await admin.conversation();
    await admin.exchange(id, "one");
    await admin.exchange(id, "fail");
    await admin.exchange(id, "silent");
    expect((await get(id)).unread).toBe(2);
  });

  test("goes down to what came after the message that was read, and never up by reading", async () => {
    const id = await admin.conversation();
    const first = await admin.exchange(id, "one");
    const second = await admin.exchange(id, "fail");
    await admin.exchange(id, "three");
    expect((await read(id, first.reply.id)).body.unread).toBe(2);
    expect((await read(id, second.reply.id)).body.unread).toBe(1);
    expect((await read(id, first.question.id)).body.unread).toBe(1);
    const { reply } = await admin.exchange(id, "four");
    expect((await get(id)).unread).toBe(2);
    expect((await read(id, reply.id)).body.unread).toBe(0);
  });

  test("a mark beyond the newest message reads what is there and nothing that is still to come", async () => {
    const id = await admin.conversation();
    const { reply } = await admin.exchange(id, "one");
    expect((await read(id, "zzzzzzzzzz")).body.unread).toBe(0);
    await admin.exchange(id, "two");
    expect((await get(id)).unread).toBe(1);
    expect((await read(id, reply.id)).body.unread).toBe(1);
  });
});

describe("the list", () => {
  test("is newest first and pages without a gap or a repeat, also where many were touched in one millisecond", async () => {
    const reader = other;
    const ids: string[] = [];
    for (let i = 0; i < 7; i++) ids.push(await reader.conversation({ title: `same moment ${i}` }));
    clock.at += 5;
    for (let i = 0; i < 3; i++) ids.push(await reader.conversation({ title: `later ${i}` }));
    const expected = ids.toReversed();
    for (const limit of [1, 2, 3, 4, 10, 200]) {
      const seen: string[] = [];
      let query = `?limit=${limit}`;
      for (;;) {
        const page = await list(query, reader);
        expect(page.conversations.length).toBeLessThanOrEqual(limit);
        seen.push(...page.conversations.map(({ id }) => id));
        if (page.next === undefined) break;
        query = `?limit=${limit}&before=${page.next}`;
      }
      expect(seen).toEqual(expected);
    }
  });

  test("moves a conversation up when something is said in it, not when it is renamed", async () => {
    const old = await admin.conversation({ title: "old" });
    clock.at += 10;
    const young = await admin.conversation({ title: "young" });
    clock.at += 10;
    await admin.call("PATCH", `/api/conversations/${old}`, { title: "renamed", pinned: true });
    expect((await list("?limit=1")).conversations[0]!.id).toBe(young);
    await admin.exchange(old, "hello");
    expect((await list("?limit=1")).conversations[0]!.id).toBe(old);
  });

  test("refuses a limit or a place that is none", async () => {
    for (const query of ["limit=0", "limit=-1", "limit=1.5", "limit=x", "before=x", "before=1-", "before=-1"])
      expect((await admin.call("GET", `/api/conversations?${query}`)).status).toBe(400);
    expect((await admin.call("GET", "/api/conversations?limit=100000")).status).toBe(200);
  });
});

describe("deleting", () => {
  test("hides it everywhere at once, and undo within ten seconds brings it back whole", async () => {
    const id = await admin.conversation();
    const { question } = await admin.exchange(id, "keep me");
    await until(() => gateway.gateway.gate.store.search.indexSome().then((more) => !more));
    expect((await admin.call("DELETE", `/api/conversations/${id}`)).body).toEqual({ success: true });
    for (const [method, path, body] of [
      ["GET", "", undefined],
      ["GET", "/messages", undefined],
      ["GET", "/export", undefined],
      ["PATCH", "", { title: "x" }],
      ["DELETE", "", undefined],
      ["POST", "/messages", { clientId: "c", content: "x" }],
    ] as const)
      expect((await admin.call(method, `/api/conversations/${id}${path}`, body)).status).toBe(404);
    expect((await admin.call("GET", `/api/turns/${question.turnId}/stream`)).status).toBe(404);
    expect((await list("?limit=200")).conversations.map((one) => one.id)).not.toContain(id);
    clock.at += 10_000;
    gateway.gateway.sweeps.fiveSeconds();
    const back = await admin.call<Conversation>("POST", `/api/conversations/${id}/restore`, {});
    expect(back.body).toMatchObject({ id, lastMessage: { text: "echo: keep me" } });
    expect((await admin.messages(id)).map(({ content }) => content)).toEqual(["keep me", "echo: keep me"]);
  });

  test("is final after that", async () => {
    const id = await admin.conversation();
    await admin.exchange(id, "lose me");
    await admin.call("DELETE", `/api/conversations/${id}`);
    clock.at += 12_500;
    gateway.gateway.sweeps.fiveSeconds();
    expect((await admin.call("POST", `/api/conversations/${id}/restore`, {})).status).toBe(404);
  });

  test("of what is not deleted cannot be undone", async () => {
    const id = await admin.conversation();
    expect((await admin.call("POST", `/api/conversations/${id}/restore`, {})).status).toBe(404);
  });

  test("stops the turn that is open in it, and tells no reader of it any more", async () => {
    const id = await admin.conversation();
    const events = await admin.events();
    const { turnId } = (await admin.send(id, "slow")).body;
    await events.find((event) => event.type === "chunk" && event.turnId === turnId);
    await admin.call("DELETE", `/api/conversations/${id}`);
    await bot.waitFor("cancel", (frame) => frame.id === turnId);
    await until(() => gateway.gateway.gate.turns.count() === 0);
    await admin.conversation({ title: "marks the end" });
    await events.find((event) => event.type === "conversation" && event.conversation.title === "marks the end");
    const after = events.events.slice(events.events.findIndex(({ data }) => data.type === "conversation_deleted") + 1);
    expect(after.filter(({ text }) => text.includes(id))).toEqual([]);
    await events.leave();
  });
});

describe("messages", () => {
  test("come oldest to newest within a page, pages going back, none twice and none missing", async () => {
    const id = await admin.conversation();
    const said: string[] = [];
    for (let i = 0; i < 6; i++) {
      await admin.exchange(id, `m${i}`);
      said.push(`m${i}`, `echo: m${i}`);
    }
    for (const limit of [1, 3, 4, 12, 200]) {
      const seen: string[] = [];
      let query = `?limit=${limit}`;
      for (;;) {
        const { body } = await admin.call<Page>("GET", `/api/conversations/${id}/messages${query}`);
        seen.unshift(...body.messages.map(({ content }) => content));
        if (body.next === undefined) break;
        query = `?limit=${limit}&before=${body.next}`;
      }
      expect(seen).toEqual(said);
    }
    for (const query of ["limit=0", "limit=x", "before=!"])
      expect((await admin.call("GET", `/api/conversations/${id}/messages?${query}`)).status).toBe(400);
  });

  test("include the reply that is being written, once, in its place, and then the stored one", async () => {
    const id = await admin.conversation();
    const { turnId, message } = (await admin.send(id, "slow")).body;
    const streaming = await until(async () => {
      const page = await admin.messages(id);
      return page.at(-1)?.content === "so far" && page;
    });
    expect(streaming).toHaveLength(2);
    expect(streaming[1]).toMatchObject({
      id: turnId,
      role: "bot",
      botId: "bot",
      botName: "Bot",
      state: "streaming",
      turnId,
      parentId: message.id,
      attachments: [],
    } satisfies Partial<Message>);
    expect((await admin.messages(id, "?limit=1")).map((one) => one.id)).toContain(turnId);
    expect((await admin.messages(id, `?before=${turnId}`)).map((one) => one.id)).toEqual([message.id]);
    bot.end({ id: turnId }, " and done");
    await until(async () => (await admin.messages(id)).at(-1)?.state === "done");
    const stored = await admin.messages(id);
    expect(stored.map(({ content }) => content)).toEqual(["slow", "so far and done"]);
    expect(stored[1]).toMatchObject({ id: turnId, parentId: message.id, createdAt: streaming[1]!.createdAt });
  });
});
