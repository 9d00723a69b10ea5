/** Going on where one stopped: readers by offset, bots by session and seq, turns over a restart, ends over a full disk. */
import { Database } from "bun:sqlite";
import { afterEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { Reject } from "../lib/protocol.ts";
import { api, BOT_TOKEN, rawSocket, readSse, tempDir, until, within } from "./harness.ts";
import { createRigs, type Rig, type Said, shown } from "./harness/rig.ts";

const rigs = createRigs();
afterEach(() => rigs.closeAll());

const hold = { onChat: () => {} };

/** Two gateways one after the other on the same folder. */
const lives = async (config: object = {}) => {
  const folder = await tempDir("lives");
  rigs.onClose(() => folder.remove());
  const first = await rigs.open(config as never, { dataDir: folder.path });
  return {
    first,
    /** The first is closed without waiting for its turns; the clock goes on. */
    restart: async (): Promise<Rig> => {
      await first.stop();
      return rigs.open(config as never, { dataDir: folder.path, clock: first.clock });
    },
    /** Reads the file as another process would: only what is committed. */
    peek: <T>(sql: string, ...values: (string | number)[]): T[] => {
      const db = new Database(join(folder.path, "nexus.db"), { readonly: true });
      try {
        return db.query<T, (string | number)[]>(sql).all(...values);
      } finally {
        db.close();
      }
    },
  };
};

describe("a reader goes on by offset", () => {
  const pieces = ["你好", "，wörld", "🙂🙃", "", "\r\n\u2028data: x\n\n", "e\u0301nd."];
  const whole = pieces.join("");

  test("from every offset, of an open turn and of one that is over, by header and by query", async () => {
    const rig = await rigs.open({ limits: { streamsPerUser: 0 } });
    const bot = await rig.v2("a", {}, hold);
    const me = await rig.person();
    const turn = await me.ask("hi");
    const chat = await bot.waitFor("chat");
    for (const piece of pieces.slice(0, -1)) bot.write(chat, piece);
    await until(() => shown(turn.events) === pieces.slice(0, -1).join(""), 2000, "the text so far");
    const offsets = Array.from({ length: whole.length + 1 }, (_, at) => at);
    const live = await Promise.all(offsets.map((at) => me.resume(turn.id, `0:${at}`)));
    bot.end(chat, pieces.at(-1));
    await turn.all();
    const check = async (at: number, reader: (typeof live)[number]): Promise<void> => {
      const events = await reader.all();
      expect(whole.slice(0, at) + shown(events)).toBe(whole);
      expect(events.some(({ data }) => data.type === "start")).toBe(at === 0);
      const chunks = events.filter(({ data }) => data.type === "chunk");
      expect(chunks.map(({ data }) => data.done)).toEqual([...Array(chunks.length - 1).fill(false), true]);
      expect(events.at(-1)?.data).toEqual({ type: "end", finish: "stop" });
      if (chunks.length > 1) expect(chunks[0]!.data.content).toBe(pieces.slice(0, -1).join("").slice(at));
    };
    for (const at of offsets) {
      await check(at, live[at]!);
      await check(at, await me.resume(turn.id, `0:${at}`));
    }
    await check(3, await me.reader(`/api/turns/${turn.id}/stream?after=0:3`));
    await check(0, await me.reader(`/api/turns/${turn.id}/stream?after=0`));
    await check(0, await me.resume(turn.id));
    for (const nonsense of ["1", "a:b", "0:-1", "1:2:3", "0:99999999999"])
      expect((await me("GET", `/api/turns/${turn.id}/stream?after=${nonsense}`)).status).toBe(400);
  });

  test("a long text comes in slices that a slow reader can take, and whole", async () => {
    const rig = await rigs.open();
    const text = Array.from({ length: 120_000 }, (_, i) => `${i},`).join("");
    const bot = await rig.v2("a", {}, hold);
    const me = await rig.person();
    const turn = await me.ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, text);
    await until(() => [...rig.turns.all()][0]?.visible === text.length, 2000, "the text to be there");
    const reader = await me.resume(turn.id, "0:10");
    await until(() => shown(reader.events).length === text.length - 10, 5000, "the catch-up");
    bot.end(chat, "!");
    expect(text.slice(0, 10) + shown(await reader.all())).toBe(`${text}!`);
    const longest = Math.max(...reader.events.map(({ data }) => data.content?.length ?? 0));
    expect(longest).toBeLessThanOrEqual(256 * 1024);
    expect(shown(await turn.all())).toBe(`${text}!`);
  });

  test("one that is ahead after a restart waits until the bot has said it again, and then goes on", async () => {
    const { first, restart } = await lives();
    const bot = await first.v2("a", {}, hold);
    const turn = await (await first.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "0123456789");
    await bot.waitFor("ack");
    const second = await restart();
    const me = await second.person();
    const ahead = await me.resume(turn.id, "0:15"); // what it saw had not been stored
    const behind = await me.resume(turn.id, "0:4");
    expect((await behind.find(({ type }) => type === "chunk")).data.content).toBe("456789");
    const back = await second.v2("a", { session: bot.registered.session }, hold);
    expect(back.registered.pending).toEqual([{ id: chat.id, seq: 1 }]);
    back.write(chat, "abc", { seq: 2 });
    await behind.find(({ content }) => content === "abc");
    expect(ahead.events).toEqual([]);
    back.write(chat, "defgh", { seq: 3 });
    expect((await ahead.find(({ type }) => type === "chunk")).data.content).toBe("fgh");
    back.end(chat, "!", { seq: 4 });
    expect(shown(await ahead.all())).toBe("fgh!");
    expect(ahead.events.some(({ data }) => data.type === "replace")).toBe(false);
    expect(shown(await behind.all())).toBe("456789abcdefgh!");
  });

  test("one that saw a replacement that was never stored is not mixed up with the next one", async () => {
    const { first, restart } = await lives();
    const bot = await first.v2("a", {}, hold);
    const turn = await (await first.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "draft");
    await bot.waitFor("ack");
    const second = await restart();
    const ahead = await (await second.person()).resume(turn.id, "1:8"); // of "ABCDEFGH", which is gone
    const back = await second.v2("a", { session: bot.registered.session }, hold);
    back.write(chat, "something else and longer", { seq: 2, mode: "replace" });
    back.end(chat, "!", { seq: 3 });
    expect(shown(await ahead.all())).toBe("something else and longer!");
  });

  test("one that is ahead of a turn that ends shorter is given the text it ended with", async () => {
    const { first, restart } = await lives();
    const bot = await first.v2("a", {}, hold);
    const turn = await (await first.person()).ask("hi");
    bot.write(await bot.waitFor("chat"), "short");
    await bot.waitFor("ack");
    const second = await restart();
    const ahead = await (await second.person()).resume(turn.id, "0:15");
    second.later(60_000);
    const events = await ahead.all();
    expect(events.map(({ data }) => [data.type, data.content ?? data.code])).toEqual([
      ["replace", "short"],
      ["error", "bot_disconnected"],
    ]);
  });
});

describe("a bot goes on by seq", () => {
  test("what it sends twice counts once, what leaves a gap waits, in any mixture", async () => {
    const rig = await rigs.open();
    const bot = await rig.v2("a", {}, hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    for (const seq of [2, 1, 1, 3, 2, 2, 1, 4, 3, 3]) bot.write(chat, `${seq}`, { seq });
    await turn.find(({ content }) => content?.endsWith("3") === true);
    bot.cut();
    await until(() => rig.bots.count() === 0, 2000, "the bot to be gone");
    const back = await rig.v2("a", { session: bot.registered.session }, hold);
    const [pending] = back.registered.pending!;
    expect(pending!.seq).toBeLessThanOrEqual(3);
    for (let seq = 1; seq <= 6; seq++) back.write(chat, `${seq}`, { seq });
    back.write(chat, "9", { seq: 9 });
    back.end(chat, "7", { seq: 7 });
    expect(shown(await turn.all())).toBe("1234567");
    expect(rig.logged("bot_closed")).toEqual([]); // none of it counted as a bad frame
  });

  test("frames of a bot that numbers none are counted by the gateway", async () => {
    const rig = await rigs.open();
    const register = { caps: ["ack"] };
    const bot = await rig.v2("a", register, hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    for (const content of ["a", "b", "c"]) bot.send({ type: "reply", replyTo: chat.id, content, done: false });
    await until(() => shown(turn.events) === "abc", 2000, "three frames");
    bot.cut();
    await until(() => rig.bots.count() === 0, 2000, "the bot to be gone");
    const back = await rig.v2("a", { ...register, session: bot.registered.session }, hold);
    expect(back.registered.pending).toEqual([{ id: chat.id, seq: 3 }]);
    back.send({ type: "reply", replyTo: chat.id, content: "d", done: true });
    expect(shown(await turn.all())).toBe("abcd");
    expect(await back.waitFor("ack")).toMatchObject({ seq: 4 });
  });

  test("an ack comes only when the text it names is on disk, files included", async () => {
    const { first, peek } = await lives();
    const missing: string[] = [];
    let acks = 0;
    let said = "";
    const bot = await first.v2(
      "a",
      {},
      {
        ...hold,
        onFrame: (frame) => {
          if (frame.type !== "ack" || !("seq" in frame)) return;
          acks++;
          const [row] = peek<{ seq: number; over: number }>(
            `SELECT max(t.seq, coalesce((SELECT max(seq) FROM chunks), 0), coalesce(m.seq, 0)) AS seq, m.id IS NOT NULL AS over
             FROM turns t LEFT JOIN messages m ON m.id = t.id`,
          );
          const text = peek<{ text: string }>("SELECT text FROM chunks ORDER BY id")
            .map((one) => one.text)
            .join("");
          const files = peek("SELECT 1 FROM attachments").length;
          if (row!.seq < frame.seq) missing.push(`seq ${frame.seq}, stored ${row!.seq}`);
          if (!said.startsWith(text) || (row!.over === 0 && text.length < frame.seq * 5)) missing.push(`text ${text}`);
          if (files < Math.floor(frame.seq / 3)) missing.push(`${files} files at ${frame.seq}`);
        },
      },
    );
    const turn = await (await first.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    for (let seq = 1; seq <= 12; seq++) {
      const data = Buffer.alloc(100_000, seq).toString("base64");
      const attachments = seq % 3 === 0 ? [{ name: `${seq}.bin`, mime: "application/octet-stream", data }] : [];
      said += "12345";
      bot.write(chat, "12345", { seq, ...(attachments.length > 0 && { attachments }) });
      if (seq % 4 === 0) await bot.waitFor("ack", (ack) => "seq" in ack && ack.seq >= seq);
    }
    bot.end(chat, "", { seq: 13 });
    await bot.waitFor("ack", (ack) => "seq" in ack && ack.seq === 13);
    expect(acks).toBeGreaterThanOrEqual(4);
    expect(missing).toEqual([]);
    expect(shown(await turn.all())).toBe(said);
    expect(peek("SELECT 1 FROM message_files")).toHaveLength(4);
  });

  test("what comes while a batch is on its way to disk is not acked with it", async () => {
    const { first: rig } = await lives();
    const { turns } = rig.gateway.gate.store;
    const kept = turns.log;
    const begun = Promise.withResolvers<void>();
    const disk = Promise.withResolvers<void>();
    turns.log = async (batch) => {
      begun.resolve();
      await disk.promise;
      return kept(batch);
    };
    const bot = await rig.v2("a", {}, hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "on its way, ");
    await within(begun.promise, 3000, "the batch to be written");
    bot.write(chat, "too late for it");
    await turn.find(({ content }) => content?.includes("too late") === true);
    turns.log = kept;
    disk.resolve();
    const ack = await bot.waitFor("ack", (frame) => "seq" in frame && frame.seq > 0);
    expect(ack).toMatchObject({ replyTo: chat.id, seq: 1 });
    await bot.waitFor("ack", (frame) => "seq" in frame && frame.seq === 2);
    bot.end(chat);
    expect(shown(await turn.all())).toBe("on its way, too late for it");
  });

  test("while a file is on its way to disk, the frame it came in is not acked, and the end waits", async () => {
    const rig = await rigs.open();
    const { attachments } = rig.gateway.gate.store;
    const { add } = attachments;
    const gate = Promise.withResolvers<void>();
    attachments.add = async (file) => {
      await gate.promise;
      return add(file);
    };
    const bot = await rig.v2("a", {}, hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    const data = Buffer.from("file").toString("base64");
    bot.write(chat, "x".repeat(5000), { attachments: [{ name: "a.txt", mime: "text/plain", data }] });
    bot.write(chat, "y".repeat(5000));
    await until(() => shown(turn.events).length === 10_000, 2000, "the reader to have the text");
    await Bun.sleep(300); // longer than a batch waits
    expect(bot.frames.some(({ type }) => type === "ack")).toBe(false);
    gate.resolve();
    expect(await bot.waitFor("ack")).toMatchObject({ seq: 2 });
    bot.end(chat, "");
    await turn.all();
  });

  test("the last seq of a finished turn is acked again for a day, and not to others", async () => {
    const rig = await rigs.open({ botTimeout: 1e9, pingInterval: 5e8 });
    const bot = await rig.v2("a", {}, hold);
    const other = await rig.v2("b", { pools: ["else"] }, hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "x", { seq: 1 });
    bot.end(chat, "y", { seq: 2 });
    await turn.all();
    const acks = (): number =>
      bot.frames.filter((frame) => frame.type === "ack" && "seq" in frame && frame.seq === 2).length;
    await until(() => acks() === 1, 2000, "the ack");
    rig.pass(23 * 3_600_000);
    bot.end(chat, "y", { seq: 2 });
    await until(() => acks() === 2, 2000, "the ack once more");
    other.end(chat, "y", { seq: 2 });
    expect(await other.waitFor("error")).toMatchObject({ code: "not_found" });
    rig.pass(2 * 3_600_000);
    bot.end(chat, "y", { seq: 2 });
    bot.send({ type: "unheard-of" });
    await bot.waitFor("error");
    expect(acks()).toBe(2);
  });
});

describe("the session of a bot", () => {
  test("changes at each registration; the one before stays good until the new one has been shown", async () => {
    const { first: rig, peek } = await lives();
    const bot = await rig.v2("a", {}, hold);
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "x");
    await bot.waitFor("ack");
    const resumes = async (session: string | undefined): Promise<[boolean, string]> => {
      const { registered, ...socket } = await rig.v2("a", { session }, hold);
      socket.ws.close();
      return [registered.pending!.length === 1, registered.session!];
    };
    const s1 = bot.registered.session!;
    const [took1, s2] = await resumes(s1);
    const [took2, s3] = await resumes(s1); // it never learned of s2
    const [took3, s4] = await resumes(s3);
    const [took4, s5] = await resumes(s3); // nor of s4
    expect([took1, took2, took3, took4]).toEqual([true, true, true, true]);
    expect(new Set([s1, s2, s3, s4, s5]).size).toBe(5);
    const stored = JSON.stringify(peek("SELECT * FROM bot_sessions"));
    for (const secret of [s1, s2, s3, s4, s5]) expect(stored).not.toContain(secret);
    const [took5] = await resumes(s1); // too old by now, so nobody can take the turn back any more
    expect(took5).toBe(false);
    expect((await turn.all()).at(-1)?.data.code).toBe("bot_disconnected");
  });

  test("said late, by a socket that was given up before, does not push out the connection that came after it", async () => {
    const { first: rig } = await lives();
    const bot = await rig.v2("a", {}, hold);
    const s1 = bot.registered.session!;
    const turn = await (await rig.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "x");
    await bot.waitFor("ack");
    bot.cut();
    const back = await rig.v2("a", { session: s1 }, hold);
    rig.later(10);
    back.write(chat, "y", { seq: 2 });
    await back.waitFor("ack", (frame) => "seq" in frame && frame.seq === 2);
    // What a stalled proxy still had of an attempt in between: the same secret, after the newer one is in use.
    const late = await rawSocket(rig.wsUrl);
    late.send({ type: "register", botId: "a", token: BOT_TOKEN, proto: 2, caps: ["ack", "seq"], session: s1 });
    expect((await within(late.closed, 5000, "the late one to be closed")).code).toBe(4003);
    expect(rig.logged("bot_overtaken")).toHaveLength(1);
    expect(back.ws.readyState).toBe(WebSocket.OPEN);
    back.end(chat, "z", { seq: 3 });
    expect(shown(await turn.all())).toBe("xyz");
  });

  test("two registrations at the same moment leave one connection, whose session is good", async () => {
    const rig = await rigs.open();
    const both = await Promise.all([rig.v2("a", {}, hold), rig.v2("a", {}, hold)]);
    await until(() => both.filter((bot) => bot.ws.readyState === WebSocket.OPEN).length === 1, 2000, "one to be left");
    const winner = both.find((bot) => bot.ws.readyState === WebSocket.OPEN)!;
    const turn = await (await rig.person()).ask("hi");
    const chat = await winner.waitFor("chat");
    winner.write(chat, "x");
    await winner.waitFor("ack");
    const back = await rig.v2("a", { session: winner.registered.session }, hold);
    expect(back.registered.pending).toHaveLength(1);
    back.end(chat, "y", { seq: 2 });
    expect(shown(await turn.all())).toBe("xy");
  });
});

describe("a gateway that starts again", () => {
  test("goes on with turns of v2 bots, fails those of v1 bots with what there is, and keeps the queue", async () => {
    const { first, restart } = await lives();
    const v2 = await first.v2("new", { maxConcurrency: 1 }, hold);
    const v1 = await first.v1("old", hold);
    const me = await first.person();
    const going = await me.ask("going", { target: "new" });
    const failing = await me.ask("failing", { target: "old" });
    const waiting = await me.reader("/api/chat/stream", { message: "waiting", target: "new", clientId: "w" });
    await waiting.find(({ position }) => position === 1);
    const chat = await v2.waitFor("chat");
    v2.write(chat, "one ");
    v1.reply(await v1.waitFor("chat"), "half", false);
    await v2.waitFor("ack");
    await until(() => [...first.turns.all()].some((turn) => turn.text === "half"), 2000, "the half");

    const second = await restart();
    expect(await within(going.ended, 2000, "the stream to end")).toBe("end");
    expect(going.retries.length).toBe(1);
    const again = await second.person();
    await until(() => second.turns.count() === 2, 2000, "the v1 turn to be over");
    expect((await again.messages(failing.conversation)).at(-1)).toMatchObject({
      state: "failed",
      content: "half",
      error: { code: "bot_disconnected" },
    });
    expect((await again.messages(going.conversation)).map(({ content, state }) => [content, state])).toEqual([
      ["going", "sent"],
      ["one ", "streaming"],
      ["waiting", "sent"],
      ["", "streaming"],
    ]);

    const back = await second.v2("new", { maxConcurrency: 1, session: v2.registered.session }, hold);
    expect(back.registered.pending).toEqual([{ id: chat.id, seq: 1 }]);
    await Bun.sleep(30);
    expect(back.chats).toHaveLength(0); // one at a time
    back.end(chat, "two", { seq: 2 });
    expect(shown(await (await again.resume(going.id)).all())).toBe("one two");
    const next = await back.waitFor("chat");
    expect([next.content, next.attempt]).toEqual(["waiting", 1]);
    back.end(next, "at last");
    // The same send again is the same turn.
    const repeated = await again("POST", "/api/chat", { message: "waiting", target: "new", clientId: "w" });
    expect(repeated.body.content).toBe("at last");
    await second.quiet();
  });

  test("what waited for anybody goes to whoever is free first, and to nobody of another pool", async () => {
    const { first, restart } = await lives();
    await first.v2("vip", { pools: ["vip"] }, hold);
    const [a, b] = [await first.v2("a", { maxConcurrency: 1 }, hold), await first.v2("b", { maxConcurrency: 1 }, hold)];
    const me = await first.person();
    for (const target of ["a", "b"]) await me.ask(target, { target });
    const waiting = await me.reader("/api/chat/stream", { message: "for anybody" });
    await waiting.find(({ position }) => position === 1);
    a.write(await a.waitFor("chat"), "x");
    b.write(await b.waitFor("chat"), "y");
    await Promise.all([a.waitFor("ack"), b.waitFor("ack")]);

    const second = await restart();
    const vip = await second.v2("vip", { pools: ["vip"] }, hold);
    const backA = await second.v2("a", { maxConcurrency: 1, session: a.registered.session }, hold);
    const backB = await second.v2("b", { maxConcurrency: 1, session: b.registered.session }, hold);
    expect([backA, backB].map((bot) => bot.registered.pending?.length)).toEqual([1, 1]);
    backB.end(b.chats[0]!, "", { seq: 2 });
    expect((await backB.waitFor("chat")).content).toBe("for anybody");
    expect([vip.chats.length, backA.chats.length]).toEqual([0, 0]);
  });

  test("asks again, with the next attempt, what had not been accepted; a bot that knows it does not run it twice", async () => {
    const { first, restart } = await lives();
    const bot = await first.v2("a", {}, { ...hold, ack: false });
    const turn = await (await first.person()).ask("hi");
    expect((await bot.waitFor("chat")).attempt).toBe(1);
    const second = await restart();
    const back = await second.v2("a", { session: bot.registered.session }, hold);
    expect(back.registered.pending).toEqual([]);
    const chat = await back.waitFor("chat");
    expect([chat.id, chat.attempt, chat.content]).toEqual([turn.id, 2, "hi"]);
    back.end(chat, "once");
    expect(shown(await (await (await second.person()).resume(turn.id)).all())).toBe("once");
    expect(back.chats).toHaveLength(1);
  });

  test("gives what had not been accepted to another bot when its own does not return within ten seconds", async () => {
    const { first, restart } = await lives();
    const bot = await first.v2("a", {}, { ...hold, ack: false });
    const turn = await (await first.person()).ask("hi");
    await bot.waitFor("chat");
    const second = await restart();
    const other = await second.v2("b", {}, hold);
    second.later(9_000);
    await Bun.sleep(20);
    expect(other.chats).toHaveLength(0);
    const ahead = await (await second.person()).resume(turn.id, "0:4"); // saw text of the first that was never stored
    second.later(1_000);
    const chat = await other.waitFor("chat");
    other.end(chat, "another answer");
    expect(shown(await ahead.all())).toBe("another answer"); // and not that answer from its fifth character on
  });

  test("gives what a key asked that is made for some bots to no other one, asked or still waiting", async () => {
    const { first, restart } = await lives();
    await first.v2("b", {}, hold); // the first of those the person may use
    const bot = await first.v2("a", { maxConcurrency: 1 }, { ...hold, ack: false });
    const me = await first.person();
    const made = await me<{ key: string }>("POST", "/api/keys", { name: "k", bots: ["a"] });
    const script = api(first.url, made.body.key);
    const asked = await readSse<Said>(await script.stream("/api/chat/stream", { message: "asked" }));
    const waits = await readSse<Said>(await script.stream("/api/chat/stream", { message: "waits" }));
    await bot.waitFor("chat");
    await waits.find(({ kind }) => kind === "queued");
    const { turnId, conversationId } = (await asked.find(({ type }) => type === "start")).data;
    const second = await restart();
    const other = await second.v2("b", {}, hold);
    second.later(11_000);
    const end = await (await (await second.person()).resume(turnId!)).all(); // nobody else may have it
    expect(end.at(-1)?.data).toMatchObject({ type: "error", code: "bot_disconnected" });
    const back = await second.v2("a", {}, hold);
    const chat = await back.waitFor("chat", ({ content }) => content === "waits");
    expect(chat.conversationId).toBe(conversationId); // the one with this bot, also while nobody had it
    back.end(chat);
    await second.quiet();
    expect(other.chats).toHaveLength(0);
  });

  test("lists as pending what was accepted, also by an event or text alone, and nothing that is over", async () => {
    const { first, restart } = await lives();
    const bot = await first.v2("a", {}, { ...hold, ack: false });
    const me = await first.person();
    const ids: string[] = [];
    for (const text of ["acked", "evented", "written", "ended", "cancelled", "untouched"]) {
      ids.push((await me.ask(text, { clientId: text })).id);
      await bot.waitFor("chat", ({ content }) => content === text);
    }
    const [acked, evented, written, ended, cancelled, untouched] = ids.map((id) => ({ id }));
    bot.ack(acked!);
    bot.send({ type: "event", replyTo: evented!.id, kind: "typing" });
    bot.write(written!, "text");
    bot.end(ended!, "done");
    await me("POST", `/api/turns/${cancelled!.id}/cancel`);
    await bot.waitFor("ack", (ack) => "replyTo" in ack && ack.replyTo === written!.id);
    await until(() => first.turns.count() === 4, 2000, "two to be over");
    const second = await restart();
    const back = await second.v2("a", { session: bot.registered.session }, hold);
    expect(back.registered.pending!.toSorted((a, b) => a.seq - b.seq || (a.id < b.id ? -1 : 1))).toEqual([
      { id: acked!.id, seq: 0 },
      { id: evented!.id, seq: 0 },
      { id: written!.id, seq: 1 },
    ]);
    expect((await back.waitFor("chat")).id).toBe(untouched!.id);
    for (const [turn, seq] of [
      [acked!, 1],
      [evented!, 1],
      [written!, 2],
      [untouched!, 1],
    ] as const)
      back.end(turn, "fin", { seq });
    await second.quiet();
  });

  test("counts the frames of a further attempt from one, also over the next restart", async () => {
    const { first, restart } = await lives();
    const caps = ["ack", "seq", "idempotent"];
    const a = await first.v2("a", { caps }, hold);
    const turn = await (await first.person()).ask("hi");
    const chat = await a.waitFor("chat");
    const b = await first.v2("b", { caps }, { ...hold, ack: false });
    for (let i = 0; i < 5; i++) a.write(chat, `${i}`);
    await a.waitFor("ack", (ack) => "seq" in ack && ack.seq === 5);
    a.cut();
    expect((await b.waitFor("chat")).attempt).toBe(2);
    const second = await restart();
    // b had not accepted: it is asked again, instead of being told that five frames of it are stored.
    const back = await second.v2("b", { caps, session: b.registered.session }, hold);
    expect(back.registered.pending).toEqual([]);
    const third = await back.waitFor("chat");
    expect(third.attempt).toBe(3);
    back.end(third, "b alone");
    expect(shown(await (await (await second.person()).resume(turn.id, "0:5")).all())).toBe("b alone");
  });

  test("a file whose frame was lost with the process, even twice, is there once when it is sent again", async () => {
    const { first, restart, peek } = await lives();
    const dying = (rig: Rig): void => {
      rig.gateway.gate.store.turns.log = () => Promise.reject(new Reject("storage_failed"));
    };
    const bot = await first.v2("a", { caps: ["ack", "seq", "attachments"] }, hold);
    const turn = await (await first.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "before ");
    await bot.waitFor("ack");
    dying(first); // the kill comes before the next batch
    const attachments = [{ name: "a.txt", mime: "text/plain", data: Buffer.from("file").toString("base64") }];
    bot.write(chat, "with file ", { attachments });
    await until(() => peek("SELECT id FROM attachments").length === 1, 2000, "the file to be stored");
    const second = await restart();
    dying(second);
    const register = { caps: ["ack", "seq", "attachments"] };
    const between = await second.v2("a", { ...register, session: bot.registered.session }, hold);
    expect(between.registered.pending).toEqual([{ id: chat.id, seq: 1 }]);
    between.write(chat, "with file ", { seq: 2, attachments });
    await until(() => [...second.turns.all()][0]?.text === "before with file ", 2000, "the frame");
    await second.stop();
    const third = await rigs.open({}, { dataDir: second.dataDir, clock: second.clock });
    const back = await third.v2("a", { ...register, session: between.registered.session }, hold);
    expect(back.registered.pending).toEqual([{ id: chat.id, seq: 1 }]);
    back.write(chat, "with file ", { seq: 2, attachments });
    back.end(chat, "after", { seq: 3 });
    const me = await third.person();
    expect(shown(await (await me.resume(turn.id)).all())).toBe("before with file after");
    expect((await me.messages(turn.conversation)).at(-1)?.attachments.map(({ name }) => name)).toEqual(["a.txt"]);
  });

  test("files of an attempt that lost do not come back with a restart", async () => {
    const { first, restart } = await lives();
    const caps = ["ack", "seq", "idempotent"];
    const file = (name: string) => [{ name, mime: "text/plain", data: Buffer.from(name).toString("base64") }];
    const a = await first.v2("a", { caps }, hold);
    const turn = await (await first.person()).ask("hi");
    a.write(await a.waitFor("chat"), "from a", { attachments: file("a.txt") });
    await a.waitFor("ack");
    const b = await first.v2("b", { caps }, hold);
    a.cut();
    const chat = await b.waitFor("chat");
    b.write(chat, "from b", { attachments: file("b.txt") });
    await b.waitFor("ack");
    const second = await restart();
    const back = await second.v2("b", { caps, session: b.registered.session }, hold);
    back.end(chat, "!", { seq: 2 });
    const me = await second.person();
    expect(shown(await (await me.resume(turn.id)).all())).toBe("from b!");
    expect((await me.messages(turn.conversation)).at(-1)?.attachments.map(({ name }) => name)).toEqual(["b.txt"]);
  });

  test("a caller that waits for its answer when the gateway stops is told so, and finds the answer later", async () => {
    const { first, restart } = await lives();
    const bot = await first.v2("a", {}, hold);
    const me = await first.person();
    const waiting = me("POST", "/api/chat", { message: "hi", clientId: "c" });
    const chat = await bot.waitFor("chat");
    bot.write(chat, "to be ");
    await bot.waitFor("ack");
    const second = await restart();
    expect(await waiting).toMatchObject({ status: 503, body: { code: "shutting_down" } });
    const back = await second.v2("a", { session: bot.registered.session }, hold);
    back.end(chat, "continued", { seq: 2 });
    const again = await second.person();
    expect((await again("POST", "/api/chat", { message: "hi", clientId: "c" })).body.content).toBe("to be continued");
  });
});

describe("a disk that refuses", () => {
  test("an end is told only once it is stored; it is tried again, and the bot keeps its text until then", async () => {
    const rig = await rigs.open();
    const { store } = rig.gateway.gate;
    const bot = await rig.v2("a", {}, hold);
    const me = await rig.person();
    const events = await me.reader("/api/events");
    const turn = await me.ask("hi");
    const chat = await bot.waitFor("chat");
    bot.write(chat, "whole ", { seq: 1 });
    await bot.waitFor("ack");
    const end = store.turns.end;
    let tries = 0;
    store.turns.end = () => {
      tries++;
      return Promise.reject(new Reject("storage_failed"));
    };
    bot.end(chat, "answer", { seq: 2 });
    await until(() => tries === 1, 2000, "the first try");
    rig.later(5_000);
    await until(() => tries === 2, 2000, "the second try");
    // Whatever was said until now has arrived when this has.
    const mark = `mark ${crypto.randomUUID()}`;
    await me("POST", "/api/conversations", { title: mark });
    await events.find((event) => JSON.stringify(event).includes(mark));
    expect(turn.events.some(({ data }) => data.type === "end" || data.done === true)).toBe(false);
    expect(events.events.some(({ data }) => data.message?.role === "bot")).toBe(false);
    bot.cut();
    await until(() => rig.bots.count() === 0, 2000, "the bot to be gone");
    const back = await rig.v2("a", { session: bot.registered.session }, hold);
    expect(back.registered.pending).toEqual([{ id: chat.id, seq: 1 }]);
    back.end(chat, "answer", { seq: 2 });
    store.turns.end = end;
    rig.later(5_000);
    expect(shown(await turn.all())).toBe("whole answer");
    expect(await back.waitFor("ack")).toMatchObject({ replyTo: chat.id, seq: 2 });
    expect((await me.messages(turn.conversation)).map(({ content }) => content)).toEqual(["hi", "whole answer"]);
    await rig.quiet();
  });

  test("text that could not be written is written later and in order, and acked only then", async () => {
    const { first, restart } = await lives();
    const { store } = first.gateway.gate;
    const bot = await first.v2("a", {}, hold);
    const turn = await (await first.person()).ask("hi");
    const chat = await bot.waitFor("chat");
    const log = store.turns.log;
    let refused = 0;
    store.turns.log = async () => {
      refused++;
      await Bun.sleep(100);
      throw new Reject("storage_failed");
    };
    bot.write(chat, "one ");
    await until(() => refused > 0, 2000, "a try that is going to be refused");
    const large = "x".repeat(5000);
    for (let i = 0; i < 20; i++) bot.write(chat, large);
    bot.write(chat, " two");
    await until(() => shown(turn.events).endsWith(" two"), 2000, "the reader to have it all the same");
    expect(refused).toBeLessThan(5); // not once per frame
    expect(bot.frames.some(({ type }) => type === "ack")).toBe(false);
    store.turns.log = log;
    await bot.waitFor("ack", (ack) => "seq" in ack && ack.seq === 22, 4000);
    const second = await restart();
    const reader = await (await second.person()).resume(turn.id);
    const text = (await reader.find(({ type }) => type === "chunk")).data.content;
    expect(text).toBe(`one ${large.repeat(20)} two`);
    const back = await second.v2("a", { session: bot.registered.session }, hold);
    back.end(chat, "", { seq: 23 });
    await reader.all();
  });

  test("an end that fails for another reason than the disk leaves nobody waiting: it is told, text and all, and counted", async () => {
    const rig = await rigs.open();
    rig.gateway.gate.store.turns.end = () => Promise.reject(new TypeError("a bug"));
    await rig.v1("a", { onChat: (chat, bot) => bot.reply(chat, "an answer", true) });
    const person = await rig.person();
    const events = await person.reader("/api/events");
    await events.find(({ type }) => type === "bots");
    const answer = await person("POST", "/api/chat", { message: "hi" });
    expect([answer.status, answer.body.code]).toEqual([500, "internal"]);
    const told = await events.find(({ message }) => message?.role === "bot" && message.state === "failed");
    expect(told.data.message).toMatchObject({ content: "an answer", error: { code: "internal" } });
    const before = await events.find(({ message }) => message?.role === "user");
    expect(told.id).toBe(before.id); // no revision holds it
    await rig.quiet();
    expect(rig.logged("end_not_stored")).toHaveLength(1);
    expect(rig.gateway.gate.metrics.summary().turns).toEqual({ done: 0, failed: 1, cancelled: 0 });
  });
});

test("what /api/events says of an open turn after a restart is a snapshot, then what is new", async () => {
  const { first, restart } = await lives();
  const bot = await first.v2("a", {}, hold);
  const turn = await (await first.person()).ask("hi");
  const chat = await bot.waitFor("chat");
  bot.write(chat, "one ");
  await bot.waitFor("ack");
  const second = await restart();
  const events = await (await second.person()).reader("/api/events");
  const snapshot = (await events.find(({ type }) => type === "turn")).data as Said;
  expect(snapshot).toMatchObject({ turnId: turn.id, content: "one ", generation: 0, botId: "a" });
  const back = await second.v2("a", { session: bot.registered.session }, hold);
  back.write(chat, "two", { seq: 2 });
  expect((await events.find(({ type }) => type === "chunk")).data).toMatchObject({ offset: 4, content: "two" });
  back.end(chat, "!", { seq: 3 });
  expect((await events.find(({ message }) => message?.role === "bot")).data.message).toMatchObject({
    content: "one two!",
    state: "done",
  });
});
