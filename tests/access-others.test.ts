/** Nobody sees or touches what is somebody else's (S13): two people and every route with an id; bots kept to some people. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Route } from "../lib/http.ts";
import { BOT_TOKEN, readSse, startGateway, until, v1Bot, v2Bot, type V2Bot } from "./harness.ts";
import { of, settle } from "./harness/events.ts";
import { upload } from "./harness/files.ts";
import { person, type Person } from "./harness/person.ts";
import { callRoute, named } from "./harness/routes.ts";

const CANARY = "canary-of-the-owner";

let gateway: Awaited<ReturnType<typeof startGateway>>;
let bot: V2Bot;
let owner: Person;
let other: Person;
/** One id of each kind, all the owner's. */
const ids: Record<string, string> = {};

beforeAll(async () => {
  gateway = await startGateway({
    limits: { sendsPerMinute: 0, streamsPerUser: 0 },
    bots: { private: { token: "private-token", users: ["admin"] } },
  });
  bot = await v2Bot(gateway.wsUrl, {
    register: { token: BOT_TOKEN },
    onChat: (chat, self) => {
      if (chat.content.startsWith("hold")) self.write(chat, CANARY);
      else self.end(chat, `echo: ${chat.content}`);
    },
  });
  owner = await person(gateway.url);
  other = await person(gateway.url, "user1");
  ids.conversation = await owner.conversation({ title: CANARY });
  const { question, reply } = await owner.exchange(ids.conversation, `${CANARY} text`);
  ids.question = question.id;
  ids.endedTurn = reply.id;
  ids.openTurn = (await owner.send(ids.conversation, `hold ${CANARY}`)).body.turnId;
  ids.attachment = (await upload(owner, `${CANARY} file`, { "X-Filename": `${CANARY}.txt` })).body.id;
  ids.key = (await owner.call<{ id: string }>("POST", "/api/keys", { name: CANARY })).body.id;
  await until(async () => (await owner.messages(ids.conversation!)).at(-1)?.content === CANARY);
});
afterAll(async () => {
  bot.end({ id: ids.openTurn! });
  await bot.close();
  await gateway.stop();
});

const routes = (): Route[] => gateway.gateway.routes;

/** Everything of the owner, to be the same afterwards. */
const inventory = async (): Promise<string> =>
  JSON.stringify([
    (await owner.call("GET", "/api/conversations?limit=200")).body,
    await owner.messages(ids.conversation!),
    (await owner.call<{ keys: { id: string }[] }>("GET", "/api/keys")).body.keys.map(({ id }) => id),
    (await owner.call("GET", `/api/attachments/${ids.attachment}`)).text,
  ]);

describe("with the ids of somebody else", () => {
  test("every route says 404 (or 403 where one may not go at all), shows nothing and changes nothing", async () => {
    const before = await inventory();
    const withId = routes().filter(({ path, auth }) => path.includes(":") && auth !== "none");
    expect(withId.length).toBeGreaterThan(10);
    const bodies = [
      "{}",
      '{"title":"taken","pinned":true,"read":"zzzzzzzzzz"}',
      '{"clientId":"c1","content":"intruder","message":"intruder"}',
    ];
    for (const route of withId)
      for (const [kind, id] of Object.entries(ids))
        for (const body of route.method === "GET" || route.method === "DELETE" ? [undefined] : bodies) {
          const { status, text } = await callRoute(gateway.url, route, {
            token: other.token,
            id,
            ...(body !== undefined && { body }),
          });
          const expected = route.auth === "admin" ? [403] : [400, 404];
          if (!expected.includes(status)) throw new Error(`${named(route)} with the owner's ${kind}: ${status}`);
          expect(text).not.toContain(CANARY);
        }
    expect(await inventory()).toBe(before);
  });

  test("in a body or a query nothing is reached either", async () => {
    const mine = await other.conversation();
    const before = await inventory();
    const statuses = [
      (await other.send(mine, "x", { attachments: [ids.attachment] })).status,
      (await other.send(mine, "x", { replyTo: ids.question })).status,
      (await other.send(mine, "x", { replaces: ids.question })).status,
      (await other.call("POST", "/api/chat", { message: "x", conversationId: ids.conversation })).status,
      (await other.call("POST", "/api/chat/stream", { message: "x", conversationId: ids.conversation })).status,
      (await other.call("POST", "/api/chat", { message: "x", attachments: [ids.attachment] })).status,
    ];
    expect(statuses).toEqual([404, 404, 404, 404, 404, 404]);
    expect(await other.messages(mine)).toEqual([]);
    const page = await other.call("GET", `/api/conversations?before=9999999999999-${ids.conversation}`);
    expect(page.text).not.toContain(CANARY);
    expect((await other.call("GET", `/api/search?q=${CANARY}`)).body).toEqual({ hits: [] });
    expect(await inventory()).toBe(before);
  });

  test("an owner's clientId starts a turn of one's own", async () => {
    const clientId = "shared-by-chance";
    const theirs = (await owner.call("POST", "/api/chat", { message: CANARY, clientId })).body;
    const mine = (await other.call("POST", "/api/chat", { message: "mine", clientId })).body;
    expect(mine.content).toBe("echo: mine");
    expect(mine.turnId).not.toBe(theirs.turnId);
  });
});

test("the owner reaches all of it: the walk above would notice a route that always says 404", async () => {
  const paths = [
    `/api/conversations/${ids.conversation}`,
    `/api/conversations/${ids.conversation}/messages`,
    `/api/conversations/${ids.conversation}/export`,
    `/api/attachments/${ids.attachment}`,
  ];
  for (const path of paths) expect(`${path} ${(await owner.call("GET", path)).status}`).toBe(`${path} 200`);
  const stream = readSse(await owner.call.stream(`/api/turns/${ids.openTurn}/stream`));
  await stream.find((event) => event.type === "chunk");
  await stream.leave();
});

test("a bot kept to some people exists for nobody else: not in lists, names, mentions, models or events", async () => {
  const events = await other.events();
  const hidden = await v1Bot(gateway.wsUrl, { botId: "private", botName: "Private", token: "private-token" });
  await until(async () => JSON.stringify((await owner.call("GET", "/api/bots")).body).includes('"private"'));
  await settle(events, other);
  for (const { bots } of of(events.events, "bots")) expect(bots.map(({ id }) => id)).not.toContain("private");
  await events.leave();
  expect(JSON.stringify((await other.call("GET", "/api/bots")).body)).not.toContain("private");
  expect((await other.call("GET", "/v1/models")).text).not.toContain("private");
  for (const body of [
    { message: "x", target: "private" },
    { message: "x", target: "PRIVATE" },
  ])
    expect((await other.call("POST", "/api/chat", body)).body.code).toBe("bot_not_found");
  expect((await other.call("POST", "/api/conversations", { botId: "private" })).body.code).toBe("bot_not_found");
  const mention = await other.call("POST", "/api/chat", { message: "@private hello" });
  expect(mention.body).toMatchObject({ botId: "bot", content: "echo: @private hello" });
  for (let i = 0; i < 6; i++) expect((await other.call("POST", "/api/chat", { message: "x" })).body.botId).toBe("bot");
  expect(hidden.chats).toEqual([]);
  expect((await owner.call("POST", "/api/chat", { message: "x", target: "private" })).body.botId).toBe("private");
  await hidden.close();
});
