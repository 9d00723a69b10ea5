/** `/api/events` with a place to go on from: exactly what was missed, and a reader that is cut anywhere loses nothing. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { decodeId, encodeId } from "../lib/ids.ts";
import type { UserEvent } from "../lib/protocol.ts";
import { BOT_TOKEN, startGateway, until, v1Bot, v2Bot, type V2Bot } from "./harness.ts";
import { of, placeOf, settle, types } from "./harness/events.ts";
import { person, type Person } from "./harness/person.ts";
import { rawEvents } from "./harness/raw.ts";
import { createState } from "../ui/state.ts";

let gateway: Awaited<ReturnType<typeof startGateway>>;
let bot: V2Bot;
let admin: Person;

beforeAll(async () => {
  gateway = await startGateway({ limits: { sendsPerMinute: 0, streamsPerUser: 0 } });
  bot = await v2Bot(gateway.wsUrl, {
    register: { token: BOT_TOKEN },
    onChat: (chat, self) => {
      if (chat.content.startsWith("hold")) self.write(chat, "so far ");
      else self.end(chat, `echo: ${chat.content}`);
    },
  });
  admin = await person(gateway.url);
});
afterAll(async () => {
  await bot.close();
  await gateway.stop();
});

const store = () => gateway.gateway.gate.store;

describe("a reader that returns", () => {
  test("is told exactly what changed: messages, names, deletions; the newest state of each", async () => {
    const [kept, renamed, deleted, untouched] = [
      await admin.conversation(),
      await admin.conversation({ title: "before" }),
      await admin.conversation({ title: "to go" }),
      await admin.conversation({ title: "untouched" }),
    ];
    await admin.exchange(untouched, "old news");
    const since = await placeOf(admin);
    const first = await admin.exchange(kept, "one");
    await admin.call("PATCH", `/api/conversations/${renamed}`, { title: "between" });
    await admin.call("PATCH", `/api/conversations/${renamed}`, { title: "after" });
    const second = await admin.exchange(kept, "two");
    await admin.exchange(deleted, "lost words");
    await admin.call("DELETE", `/api/conversations/${deleted}`);

    const reader = await admin.events(since);
    await settle(reader, admin);
    const live = types(reader).lastIndexOf("conversation");
    const told = reader.events.slice(0, live);
    expect(told[0]!.data.type).toBe("hello");
    expect(told[0]!.id).toBe("");
    expect(of(told, "reset")).toEqual([]);
    expect(of(told, "message").map(({ message }) => message.id)).toEqual([
      first.question.id,
      first.reply.id,
      second.question.id,
      second.reply.id,
    ]);
    const titles = of(told, "conversation").map(({ conversation }) => conversation.title);
    expect(new Set(titles)).toEqual(new Set(["one", "after"]));
    expect(new Set(of(told, "conversation_deleted").map(({ id }) => id))).toEqual(new Set([deleted]));
    expect(JSON.stringify(told)).not.toContain("old news");
    expect(JSON.stringify(told)).not.toContain("lost words");
    // What it was given last is where it goes on.
    const nothing = await admin.events(reader.events.at(-1)!.id);
    await settle(nothing, admin);
    // Who is online is told again now and then, whatever one holds.
    expect(types(nothing).filter((type) => type !== "bots")).toEqual(["hello", "conversation"]);
    for (const one of [reader, nothing]) await one.leave();
  });

  test("starts over when its place is not ours, is ahead of us, or is none", async () => {
    const { epoch } = store();
    const places: ((rev: number) => string)[] = [
      (rev) => `other:${rev}`,
      (rev) => `${epoch}:${rev + 1}`,
      () => `${epoch}:x`,
      () => "nonsense",
      (rev) => `:${rev}`,
      (rev) => `${epoch}:${rev}.5`,
    ];
    for (const make of places) {
      const place = make(store().rev());
      const reader = await admin.events(place);
      await settle(reader, admin);
      expect(`${place} ${types(reader).slice(0, 3)}`).toBe(`${place} hello,reset,bots`);
      expect(reader.events[0]!.id).toStartWith(epoch);
      await reader.leave();
    }
  });

  test("is told up to 1,000 changed rows, and starts over beyond", async () => {
    const who = await person(gateway.url, "user1");
    const id = await who.conversation();
    const since = await placeOf(who);
    const say = (count: number) =>
      Promise.all(
        Array.from({ length: count }, (_, i) =>
          store().write(() => {
            const row = store().turns.conversation(decodeId(id))!;
            store().turns.appendBotMessage(row, {
              bot: "bot",
              botName: "Bot",
              content: `n${i}`,
              files: [],
              turn: null,
              parent: null,
            });
          }),
        ),
      );
    await say(999); // and the conversation: 1,000 rows
    const all = await who.events(since);
    await settle(all, who);
    expect(of(all.events, "message")).toHaveLength(999);
    expect(types(all)).not.toContain("reset");
    await all.leave();
    const reader = await who.events(since);
    await settle(reader, who);
    expect(types(reader).slice(0, 3)).toEqual(["hello", "reset", "bots"]);
    expect(of(reader.events, "message")).toEqual([]);
    await reader.leave();
  });

  /** Reads from `after` up to its `count`th message, then breaks the connection: what came after that is lost. */
  const readMessages = async (after: string, count: number): Promise<{ id: string; data: UserEvent }[]> => {
    const headers = { "Last-Event-ID": after };
    const raw = await rawEvents<UserEvent>(gateway.port, "/api/events", { token: admin.token, headers });
    const upto = (): number => {
      let left = count;
      return raw.events.findIndex(({ data }) => data.type === "message" && --left === 0) + 1;
    };
    await until(() => upto() > 0);
    raw.close();
    return raw.events.slice(0, upto());
  };

  /** Messages of a bot, straight into the store: `count` of them in each of `conversations` new conversations. */
  const fill = async (conversations: number, count: number, chars = 2000): Promise<Map<string, string>> => {
    const expected = new Map<string, string>();
    for (let i = 0; i < conversations; i++) {
      const id = await admin.conversation({ title: `c${i}` });
      for (let n = 0; n < count; n++) {
        const content = `${id} ${n} ${"x".repeat(chars)}`;
        const row = await store().write(() => {
          const owner = store().turns.conversation(decodeId(id))!;
          const say = { bot: "bot", botName: "Bot", content, files: [], turn: null, parent: owner.leaf };
          return store().turns.appendBotMessage(owner, say);
        });
        expected.set(encodeId(row.id), content);
      }
    }
    return expected;
  };

  test("and is cut again and again while it catches up loses nothing", async () => {
    let place = await placeOf(admin);
    const expected = await fill(20, 8);
    const seen = new Map<string, string>();
    const known = new Set<string>();
    const take = (items: { id: string; data: UserEvent }[]): void => {
      for (const { id, data } of items) {
        if (data.type === "conversation") known.add(data.conversation.id);
        if (data.type === "message") {
          expect(known).toContain(data.message.conversationId);
          seen.set(data.message.id, data.message.content);
        }
        if (id) place = id;
      }
    };
    for (let cut = 0; cut < 10; cut++) take(await readMessages(place, cut + 1));
    expect(seen.size).toBe(55);
    const last = await admin.events(place);
    await settle(last, admin);
    take(last.events);
    await last.leave();
    expect(seen).toEqual(expected);
  });

  test("and is slow is told of what happens meanwhile, wherever it stands: the conversation first, then what is said", async () => {
    const since = await placeOf(admin);
    const expected = await fill(3, 2, 10);
    const { sync } = gateway.gateway.gate;
    const steps = [...sync.catchUp({ user: "admin", only: undefined }, since)].length;
    expect(steps).toBeGreaterThan(10);
    for (let at = 0; at <= steps; at++) {
      // A generator that stands still is a reader whose socket is full.
      const reader = sync.catchUp({ user: "admin", only: undefined }, since);
      const told: string[] = [];
      for (let i = 0; i < at; i++) {
        const { value } = reader.next();
        if (value) told.push(value);
      }
      for (const [id, content] of await fill(1, 1, 10)) expected.set(id, content);
      told.push(...reader);
      const known = new Set<string>();
      const seen = new Map<string, string>();
      for (const text of told) {
        const data: UserEvent = JSON.parse(/^data: (.*)$/m.exec(text)![1]!);
        if (data.type === "conversation") known.add(data.conversation.id);
        if (data.type !== "message") continue;
        expect(known).toContain(data.message.conversationId);
        seen.set(data.message.id, data.message.content);
      }
      expect(seen).toEqual(expected);
      expect([...expected.values()].every((content) => known.has(content.split(" ")[0]!))).toBe(true);
    }
  });

  test("and is slow is told who is online when it is done, not when it began", async () => {
    const { sync } = gateway.gateway.gate;
    const reader = sync.catchUp({ user: "admin", only: undefined }, await placeOf(admin));
    const told: string[] = [reader.next().value!, reader.next().value!];
    expect(told[1]).toContain('"bots"');
    const late = await v1Bot(gateway.wsUrl, { botId: "meanwhile", token: BOT_TOKEN });
    told.push(...reader);
    expect(told.at(-1)).toContain('"meanwhile"');
    await late.close();
  });
});

describe("a conversation that is deleted while turns run, and taken back", () => {
  test("tells every reader how they ended, whatever it had been told, and a page shows none of them open", async () => {
    const id = await admin.conversation();
    await admin.exchange(id, "before");
    const from = store().rev();
    const live = await admin.events();
    const turns: string[] = [];
    for (const content of ["hold one", "hold two"]) {
      const { turnId } = (await admin.send(id, content)).body;
      await live.find((event) => event.type === "chunk" && event.turnId === turnId);
      turns.push(turnId);
    }
    await admin.call("DELETE", `/api/conversations/${id}`);
    await until(() => gateway.gateway.gate.turns.count() === 0);
    const returning = async (below: number) => {
      const places = Array.from({ length: below - from }, (_, i) => `${store().epoch}:${from + i}`);
      const readers = await Promise.all(places.map((place) => admin.events(place)));
      for (const reader of readers) await reader.find(({ type }) => type === "bots");
      return readers;
    };
    const readers = [live, await admin.events(), ...(await returning(store().rev() + 1))];
    expect((await admin.call("POST", `/api/conversations/${id}/restore`, {})).status).toBe(200);
    const back = store().rev();
    readers.push(...(await returning(back - 1)));
    expect(readers.length).toBeGreaterThan(10);
    for (const reader of readers) {
      for (const turnId of turns) await reader.find((event) => event.type === "message" && event.message.id === turnId);
      const told = reader.events.findLastIndex(({ data }) => data.type === "conversation_deleted");
      const after = reader.events.slice(told + 1).map(({ data }) => data);
      const known = after.findIndex((event) => event.type === "conversation" && event.conversation.id === id);
      const ends = after.flatMap((event, at) =>
        event.type === "message" && event.message.role === "bot" ? [{ at, ...event.message }] : [],
      );
      expect(ends.map((message) => [message.id, message.state])).toEqual(turns.map((turn) => [turn, "cancelled"]));
      expect(known).toBeGreaterThan(-1);
      expect(known).toBeLessThan(ends[0]!.at);
      expect(reader.events.at(-1)!.id).toBe(`${store().epoch}:${back}`);
    }
    // Cut between the two: the other one is still to come, and then nothing.
    for (const [rev, due] of [
      [back - 1, [turns[1]!]],
      [back, []],
    ] as const) {
      const reader = await admin.events(`${store().epoch}:${rev}`);
      await settle(reader, admin);
      expect(of(reader.events, "message").map(({ message }) => message.id)).toEqual([...due]);
      readers.push(reader);
    }
    const page = createState();
    page.threads.set(id, { messages: new Map(), status: "ready", next: undefined, choice: new Map() });
    const most: number[] = [];
    for (const { data } of live.events) {
      page.apply(data);
      most.push(page.turns.size);
    }
    expect(Math.max(...most)).toBe(2);
    expect(page.turns.size).toBe(0);
    expect(page.threads.has(id)).toBe(false); // what it holds is asked for anew
    for (const reader of readers) await reader.leave();
  });
});
