/** What the store does with writes: group commits, ids, files, what is swept away and what is not. */
import { Database } from "bun:sqlite";
import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createIds, decodeId, encodeId } from "../lib/ids.ts";
import { Reject } from "../lib/protocol.ts";
import { bytesOf, testStore, type TestStore } from "./harness/store.ts";
import { tempDir } from "./harness/wait.ts";

const DAY = 86_400_000;

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});
const folder = async (): Promise<string> => {
  const made = await tempDir("store");
  undo.push(made.remove);
  return made.path;
};
const open = async (options: Parameters<typeof testStore>[0] = {}): Promise<TestStore> => {
  const made = await testStore(options);
  undo.push(made.stop);
  return made;
};

const titles = async ({ store }: TestStore, user = "admin"): Promise<string[]> =>
  (await store.conversations.list(user, 100)).conversations.map(({ title }) => title);

describe("which turns are open", () => {
  const openIds = ({ store }: TestStore): number[] => store.turns.open().map(({ row }) => row.id);

  test("is known after any restart, however often what is over was passed by", async () => {
    const dir = await folder();
    const made = await testStore({ dir });
    const turns: number[] = [];
    for (let i = 0; i < 30; i++) turns.push((await made.ask("admin", `${i}`)).turn);
    const due = (over: number[]): number[] => turns.filter((_, i) => !over.includes(i));
    await made.store.turns.prune();
    expect(openIds(made)).toEqual(due([]));
    const over = [0, 1, 2, 5, 29];
    for (const i of over) await made.answer(turns[i]!, "a", { seq: 7, generation: 2 });
    for (let round = 0; round < 2; round++) {
      expect(openIds(made)).toEqual(due(over));
      await made.store.turns.prune();
    }
    await made.stop();

    const again = await open({ dir });
    expect(openIds(again)).toEqual(due(over));
    expect(again.store.turns.get(turns[1]!)).toMatchObject({ state: "done", seq: 7, generation: 2 });
    expect(again.store.turns.get(turns[1]!)!.ended_at).not.toBeNull();
    for (const i of turns.keys()) if (!over.includes(i)) await again.answer(turns[i]!, "b");
    await again.store.turns.prune();
    expect(openIds(again)).toEqual([]);
    const { turn } = await again.ask("admin", "the next");
    expect(openIds(again)).toEqual([turn]);
    await again.store.turns.prune();
    expect(openIds(again)).toEqual([turn]);
  });

  test("is known also when the clock was set back meanwhile: no turn comes before those that are over", async () => {
    const dir = await folder();
    const made = await testStore({ dir });
    const { conversation } = await made.exchange("admin", "a", "b");
    await made.store.turns.prune();
    await made.store.conversations.delete("admin", conversation);
    made.clock.at += 60_000;
    await made.store.conversations.sweep(0);
    await made.stop();
    const again = await open({ dir, at: Date.now() - DAY });
    const { turn } = await again.ask("admin", "the next");
    expect(openIds(again)).toEqual([turn]);
  });

  test("does not depend on messages that were deleted since", async () => {
    const made = await open();
    const { store } = made;
    const { conversation } = await made.exchange("admin", "a", "b");
    const { turn } = await made.ask("admin", "open");
    await store.conversations.delete("admin", conversation);
    made.clock.at += 60_000;
    await store.conversations.sweep(0);
    expect(openIds(made)).toEqual([turn]);
    made.clock.at += 3 * DAY;
    const kept = await made.ask("admin", "of today");
    await store.conversations.sweep(1);
    await store.conversations.sweep(1);
    await store.turns.prune();
    // Old, but nobody has answered: it is not for the sweep to say that nobody will.
    expect(openIds(made)).toEqual([turn, kept.turn]);
  });
});

describe("group commit", () => {
  test("what comes in one turn of the event loop is one commit", async () => {
    const { store } = await open();
    const before = store.stats();
    await Promise.all(Array.from({ length: 50 }, (_, i) => store.conversations.create("admin", `c${i}`, null)));
    expect(store.stats().commits - before.commits).toBe(1);
    expect(store.stats().writes - before.writes).toBe(50);
  });

  test("one failing write harms no other of its commit, and leaves nothing of itself", async () => {
    const made = await open();
    const { store } = made;
    const results = await Promise.allSettled([
      store.conversations.create("admin", "first", null),
      store.write(() => {
        void store.conversations.create("admin", "of a write inside", null);
        throw new Error("a bug");
      }),
      store.conversations.create("admin", "second", null),
      store.conversations.patch("admin", 12345, { title: "nobody's" }),
      store.conversations.create("admin", "third", null),
    ]);
    expect(results.map(({ status }) => status)).toEqual([
      "fulfilled",
      "rejected",
      "fulfilled",
      "rejected",
      "fulfilled",
    ]);
    expect((results[1] as PromiseRejectedResult).reason.message).toBe("a bug");
    expect((results[3] as PromiseRejectedResult).reason).toMatchObject({ code: "not_found" });
    expect((await titles(made)).sort()).toEqual(expect.arrayContaining(["first", "second", "third"]));
  });

  test("a write that fails takes its revisions back: whoever was told a revision finds it again after a restart", async () => {
    const dir = await folder();
    const made = await testStore({ dir });
    const { conversation } = await made.exchange("admin", "a", "b");
    const rev = made.store.rev();
    const failing = made.store.write(() => {
      made.store.turns.makeConversation("admin", null, "never", false);
      made.store.turns.makeConversation("admin", null, "stored", false);
      throw new Error("a bug");
    });
    expect(failing).rejects.toThrow("a bug");
    await failing.catch(() => {});
    expect(made.store.rev()).toBe(rev);
    await made.store.conversations.patch("admin", conversation, { pinned: true });
    const told = made.store.rev();
    await made.stop();
    expect((await open({ dir })).store.rev()).toBe(told);
  });

  test("after close a write is refused instead of lost in silence", async () => {
    const made = await testStore();
    await made.stop();
    const late = made.store.conversations.create("admin", "late", null);
    expect(late).rejects.toBeInstanceOf(Reject);
    await late.catch(() => {});
  });
});

describe("ids", () => {
  test("grow with every row, also after a clock that was set back a year, also over a restart", async () => {
    const dir = await folder();
    const first = await testStore({ dir });
    const a = await first.exchange("admin", "a", "b");
    first.clock.at -= 365 * DAY;
    const b = await first.exchange("admin", "c", "d");
    expect(b.conversation).toBeGreaterThan(a.turn);
    await first.stop();
    const second = await open({ dir, at: first.clock.at });
    const c = await second.exchange("admin", "e", "f");
    expect(c.conversation).toBeGreaterThan(b.turn);
    const page = await second.store.conversations.list("admin", 10);
    expect(page.conversations).toHaveLength(3);
  });

  test("are different within a millisecond and text that is read back exactly", () => {
    const ids = createIds(() => 1_800_000_000_000);
    const made = Array.from({ length: 5000 }, () => ids.next());
    expect(new Set(made).size).toBe(5000);
    for (const id of [0, 1, made[0]!, made.at(-1)!, Number.MAX_SAFE_INTEGER]) expect(decodeId(encodeId(id))).toBe(id);
  });

  test("that are none are the id nobody has", () => {
    const wrong = ["", "A", "-1", "1.5", " 1", "1 ", "../1", "zzzzzzzzzzz", "1".repeat(12), "é", "x_1", "%31"];
    for (const text of wrong) expect(`${text}: ${decodeId(text)}`).toBe(`${text}: 0`);
  });
});

describe("text of an open turn", () => {
  test("is read back exactly, wherever a bot cut it: in an emoji, before a control, at nothing", async () => {
    const dir = await folder();
    const first = await testStore({ dir });
    const { turn } = await first.ask("admin", "q");
    const pieces = ["a\ud83d", "\ude00b", "", "\u0001c", "\u0000", "\ud83d", "\u0001\ude00", "中", "\ufeff"];
    for (const [i, text] of pieces.entries()) await first.store.turns.log([{ turn, generation: 0, seq: i + 1, text }]);
    await first.stop();
    const second = await open({ dir });
    expect(second.store.turns.open().map(({ text, row }) => [text, row.seq])).toEqual([[pieces.join(""), 9]]);
  });

  test("of an older generation is not shown, and chunks of ended turns are pruned", async () => {
    const made = await open();
    const { store } = made;
    const over = await made.ask("admin", "over");
    const open1 = await made.ask("admin", "open");
    await store.turns.log([{ turn: over.turn, generation: 0, seq: 1, text: "gone" }]);
    await store.turns.log([{ turn: open1.turn, generation: 0, seq: 1, text: "old" }]);
    await store.turns.log([{ turn: open1.turn, generation: 1, seq: 2, text: "new" }]);
    await made.answer(over.turn, "gone");
    await store.turns.prune();
    expect(store.turns.open().map(({ text }) => text)).toEqual(["new"]);
    await made.answer(open1.turn, "new");
    await store.turns.prune();
    expect(store.turns.open()).toEqual([]);
  });
});

describe("files", () => {
  const files = (dir: string): string[] =>
    existsSync(join(dir, "files"))
      ? readdirSync(join(dir, "files")).flatMap((sub) => readdirSync(join(dir, "files", sub)))
      : [];
  const add = (made: TestStore, text: string, user = "admin") =>
    made.store.attachments.add({ user, name: "a.txt", mime: "text/plain", bytes: bytesOf(text), turn: null });
  /** The sweep looks at one folder of bytes each time. */
  const sweepAll = async (made: TestStore): Promise<void> => {
    for (let i = 0; i < 256; i++) await made.store.attachments.sweep();
  };

  test("of the same content are kept once, and stay while anybody has one", async () => {
    const made = await open();
    const mine = await add(made, "same");
    const theirs = await add(made, "same", "user1");
    expect(files(made.dir)).toHaveLength(1);
    expect(theirs.id).not.toBe(mine.id);
    await made.ask("user1", "look", { files: [theirs.id] });
    made.clock.at += DAY + 1;
    await sweepAll(made);
    expect(made.store.attachments.get(mine.id)).toBeUndefined();
    expect(new TextDecoder().decode(await made.store.attachments.bytes(theirs))).toBe("same");
  });

  test("that no message names go after a day, not before; those of messages go with the conversation", async () => {
    const made = await open();
    const sent = await add(made, "sent");
    const unsent = await add(made, "unsent");
    const { conversation, turn } = await made.ask("admin", "look", { files: [sent.id] });
    await made.answer(turn, "seen");
    made.clock.at += DAY - 1000;
    await sweepAll(made);
    expect(made.store.attachments.get(unsent.id)).toBeDefined();
    made.clock.at += 2000;
    await sweepAll(made);
    expect(made.store.attachments.get(unsent.id)).toBeUndefined();
    expect(files(made.dir)).toEqual([sent.sha]);
    await made.store.conversations.delete("admin", conversation);
    made.clock.at += 20_000;
    await made.store.conversations.sweep(0);
    await sweepAll(made);
    expect(made.store.attachments.get(sent.id)).toBeUndefined();
    expect(files(made.dir)).toEqual([]);
  });

  test("of a turn stay while it is open, however old; after it those that its message does not name go", async () => {
    const dir = await folder();
    const made = await testStore({ dir });
    const { turn } = await made.ask("admin", "draw");
    const ofTurn = (text: string) =>
      made.store.attachments.add({ user: "admin", name: text, mime: "text/plain", bytes: bytesOf(text), turn });
    const [named, unnamed] = [await ofTurn("named"), await ofTurn("unnamed")];
    made.clock.at += 2 * DAY;
    await sweepAll(made);
    await made.stop();
    const again = await open({ dir, at: made.clock.at });
    await again.store.turns.prune();
    await sweepAll(again);
    expect(again.store.attachments.ofTurn(turn).map(({ id }) => id)).toEqual([named.id, unnamed.id]);
    await again.answer(turn, "drawn", { files: [named.id] });
    await sweepAll(again);
    expect(again.store.attachments.ofTurn(turn).map(({ id }) => id)).toEqual([named.id]);
    expect(files(dir)).toEqual([named.sha]);
  });

  test("that are gone when the answer ends cost it neither its text nor the files that are there", async () => {
    const made = await open();
    const there = await add(made, "there");
    const { conversation, turn } = await made.ask("admin", "draw");
    const { row } = await made.answer(turn, "drawn", { files: [there.id + 999, there.id] });
    expect([row.content, row.files]).toEqual(["drawn", 1]);
    const { messages } = await made.store.conversations.messages("admin", conversation, 10);
    expect(messages.at(-1)!.attachments.map(({ name }) => name)).toEqual([there.name]);
  });

  test("uploaded while their content is being swept away keep their bytes", async () => {
    const made = await open();
    await add(made, "wanted again");
    made.clock.at += DAY + 1;
    // Between the commit that drops the old row and the removal of its bytes.
    const adding = made.store.write(() => {}).then(() => add(made, "wanted again"));
    await made.store.attachments.sweep();
    const again = await adding;
    expect(new TextDecoder().decode(await made.store.attachments.bytes(again))).toBe("wanted again");
  });

  test("left half written, or without a row, by a kill are removed; nothing else is", async () => {
    const dir = await folder();
    const first = await testStore({ dir });
    const kept = await add(first, "kept");
    await first.stop();
    const sha = new Bun.CryptoHasher("sha256").update("orphan").digest("hex");
    const sub = join(dir, "files", sha.slice(0, 2));
    mkdirSync(sub, { recursive: true });
    writeFileSync(join(sub, sha), "orphan");
    writeFileSync(join(sub, `${sha}.123.part`), "orp");
    const second = await open({ dir });
    expect(files(dir)).toHaveLength(2);
    await sweepAll(second);
    expect(files(dir)).toEqual([kept.sha]);
  });
});

describe("retention", () => {
  test("of 0 keeps everything; of n days empties what is older, for every reader, and frees the disk of its words", async () => {
    const made = await open();
    const { store, clock } = made;
    const old = await made.exchange("admin", "古老的问题", "古老的回答");
    const mixed = await made.exchange("admin", "mixed old", "mixed old answer");
    clock.at += 40 * DAY;
    await made.exchange("admin", "mixed new", "mixed new answer", mixed.conversation);
    const titled = await store.conversations.create("admin", "new and empty", null);
    await made.index();
    await store.conversations.sweep(0);
    expect(await titles(made)).toHaveLength(3);
    const rev = store.rev();
    for (let i = 0; i < 3; i++) await store.conversations.sweep(30);
    expect((await titles(made)).sort()).toEqual(["mixed old", "new and empty"]);
    const left = await store.conversations.messages("admin", mixed.conversation, 10);
    expect(left.messages.map(({ content }) => content)).toEqual(["mixed new", "mixed new answer"]);
    expect(store.conversations.changedConversations("admin", rev)).toEqual([
      expect.objectContaining({ deleted: old.conversation }),
    ]);
    expect(await store.search.search("admin", "古老", 10)).toEqual([]);
    expect(store.turns.get(old.turn)).toBeUndefined();
    expect(store.turns.get(mixed.turn)).toBeUndefined();
    expect(store.conversations.find("admin", titled.id)).toBeDefined();
  });

  test("leaves a turn that is still open alone", async () => {
    const made = await open();
    const { turn } = await made.ask("admin", "slow");
    made.clock.at += 40 * DAY;
    for (let i = 0; i < 3; i++) await made.store.conversations.sweep(30);
    expect(made.store.turns.get(turn)).toBeDefined();
    expect((await made.answer(turn, "at last")).row.content).toBe("at last");
  });
});

describe("a deleted conversation", () => {
  test("of many messages is emptied in parts that let others come between", async () => {
    const made = await open();
    const { store, clock } = made;
    const { id } = await store.conversations.create("admin", "", "bot");
    await store.write(() => {
      const row = store.turns.conversation(id)!;
      for (let i = 0; i < 1000; i++) {
        const say = { bot: "bot", botName: "Bot", content: `n${i}`, files: [], turn: null, parent: null };
        store.turns.appendBotMessage(row, say);
      }
    });
    await store.conversations.delete("admin", id);
    clock.at += 13_000;
    let turns = 0;
    let over = false;
    const others = (async () => {
      for (; !over; turns++) await store.write(() => {});
    })();
    await store.conversations.sweep(0);
    over = true;
    await others;
    expect(turns).toBeGreaterThan(4);
    expect(store.turns.conversation(id)!.leaf).toBeNull();
    await store.conversations.sweep(0);
  });

  test("comes back with what ended in it as its newest change, also when the process was another one by then", async () => {
    const dir = await folder();
    const made = await testStore({ dir });
    const { conversation, turn: before } = await made.exchange("admin", "a", "b");
    const first = await made.ask("admin", "c", { conversation });
    const second = await made.ask("admin", "d", { conversation });
    await made.store.conversations.delete("admin", conversation);
    await made.answer(second.turn, "f");
    await made.stop();
    // The clock decides nothing of it.
    const { store, ...again } = await open({ dir, at: made.clock.at - 5000 });
    await again.answer(first.turn, "e");
    const rev = store.rev();
    const { row, messages } = await store.conversations.restore("admin", conversation);
    expect(messages.map(({ id, content, rev }) => [id, content, rev])).toEqual([
      [second.turn, "f", rev + 1],
      [first.turn, "e", rev + 2],
    ]);
    expect(row.rev).toBe(rev + 2);
    const missed = store.conversations.changedMessages("admin", rev, store.rev(), 10);
    expect(missed.map(({ message }) => message.content)).toEqual(["f", "e"]);
    expect(store.turns.message(before)!.rev).toBeLessThan(rev);
    // Once: an undo with nothing to tell changes the conversation alone.
    await store.conversations.delete("admin", conversation);
    expect((await store.conversations.restore("admin", conversation)).messages).toEqual([]);
  });

  test("comes back whole within the undo time, and its words are gone after it", async () => {
    const made = await open();
    const { store, clock } = made;
    const { conversation } = await made.exchange("admin", "秘密的计划", "好");
    const named = await store.conversations.create("admin", "only a name", null);
    for (const id of [conversation, named.id]) await store.conversations.delete("admin", id);
    clock.at += 9_900;
    await store.conversations.sweep(0);
    await store.conversations.restore("admin", conversation);
    expect((await store.conversations.messages("admin", conversation, 10)).messages).toHaveLength(2);
    await store.conversations.delete("admin", conversation);
    clock.at += 13_000;
    expect(store.conversations.restore("admin", conversation)).rejects.toMatchObject({ code: "not_found" });
    await store.conversations.sweep(0);
    for (const id of [conversation, named.id]) {
      const row = store.turns.conversation(id)!;
      expect([row.title, row.last_text, row.leaf]).toEqual(["", null, null]);
    }
    const file = new Database(join(made.dir, "nexus.db"), { readonly: true });
    expect(file.query("SELECT key FROM meta WHERE key LIKE 'deletion%'").all()).toEqual([]);
    file.close();
  });
});
