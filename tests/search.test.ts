/** Full-text search on a store: what it finds, what it must never find, and why it tokenises as it does. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { spaced } from "../lib/store/search.ts";
import { testStore, type TestStore } from "./harness/store.ts";

let made: TestStore;
const ids = new Map<string, { conversation: number; question: number }>();

const SAID: [user: string, question: string, answer: string][] = [
  ["admin", "今天火山爆发了吗", "没有，火山很安静。"],
  ["admin", "山火怎么办", "请拨打 119。"],
  ["admin", "gw-02 磁盘使用率 95%", "清理 /var/log/nexus-gateway.log"],
  ["admin", "How do I configure Kubernetes?", "Use kubectl apply -f."],
  ["admin", "Café in Zürich", "naïve résumé"],
  ["admin", "カタカナとひらがな", "한국어 검색"],
  ["admin", "部署v2.1.7版本到prod环境", "已部署。"],
  ["admin", "𠮷野家", "牛丼"],
  ["user1", "火山是我的秘密 kubernetes", "owner 秘密"],
  ["admin", 'AND OR NOT NEAR("x" * body : owner', "ok"],
];

beforeAll(async () => {
  made = await testStore();
  for (const [user, question, answer] of SAID) ids.set(question, await made.exchange(user, question, answer));
  await made.index();
});
afterAll(() => made.stop());

/** Contents found for `user`, messages only. */
const find = async (q: string, user = "admin"): Promise<string[]> => {
  const hits = await made.store.search.search(user, q, 50);
  return hits.filter(({ messageId }) => messageId !== undefined).map(({ snippet }) => snippet);
};
const count = async (q: string, user?: string): Promise<number> => (await find(q, user)).length;

describe("search finds", () => {
  const found: [q: string, snippets: string[]][] = [
    ["火山", ["没有，火山很安静。", "今天火山爆发了吗"]],
    ["火山爆发", ["今天火山爆发了吗"]],
    ["山", ["山火怎么办", "没有，火山很安静。", "今天火山爆发了吗"]],
    ["磁盘", ["gw-02 磁盘使用率 95%"]],
    ["gw-02 磁盘", ["gw-02 磁盘使用率 95%"]],
    ["磁盘 gw", ["gw-02 磁盘使用率 95%"]],
    ["kubern", ["How do I configure Kubernetes?"]],
    ["KUBERNETES", ["How do I configure Kubernetes?"]],
    ["how configure", ["How do I configure Kubernetes?"]],
    ["cafe zurich", ["Café in Zürich"]],
    ["resume", ["naïve résumé"]],
    ["nexus-gate", ["清理 /var/log/nexus-gateway.log"]],
    ["カタ", ["カタカナとひらがな"]],
    ["검색", ["한국어 검색"]],
    ["部署v2.1", ["部署v2.1.7版本到prod环境"]],
    ["prod环境", ["部署v2.1.7版本到prod环境"]],
    ["v2", ["部署v2.1.7版本到prod环境"]],
    ["𠮷野", ["𠮷野家"]],
    ["95%", ["gw-02 磁盘使用率 95%"]],
  ];
  test.each(found)("%s", async (q, snippets) => {
    expect((await find(q)).sort()).toEqual(snippets.sort());
  });

  test("titles too, and says which conversation a hit is in", async () => {
    const hits = await made.store.search.search("admin", "山火", 10);
    const { conversation, question } = ids.get("山火怎么办")!;
    const key = conversation.toString(36);
    expect(hits).toEqual([
      {
        conversationId: key,
        messageId: question.toString(36),
        title: "山火怎么办",
        snippet: "山火怎么办",
        createdAt: expect.any(Number),
      },
      { conversationId: key, title: "山火怎么办", snippet: "山火怎么办", createdAt: expect.any(Number) },
    ]);
  });

  test("the newest first, and no more than asked for", async () => {
    const hits = await made.store.search.search("admin", "部署", 2);
    expect(hits.map(({ snippet }) => snippet)).toEqual(["已部署。", "部署v2.1.7版本到prod环境"]);
  });

  test("the place in a long message", async () => {
    const long = `${"前言。".repeat(200)}这里有一只独角兽，${"后记。".repeat(200)}`;
    await made.exchange("admin", "long", long);
    await made.index();
    const [snippet] = await find("独角兽");
    expect(snippet).toContain("独角兽");
    expect(snippet!.length).toBeLessThan(130);
  });
});

describe("search does not find", () => {
  test("characters in another order, or apart", async () => {
    expect(await count("山火")).toBe(1);
    expect(await count("爆火")).toBe(0);
    expect(await count("火爆发")).toBe(0);
  });

  test("another person's words, whoever asks and however", async () => {
    expect(await find("秘密")).toEqual([]);
    expect((await find("秘密", "user1")).sort()).toEqual(["owner 秘密", "火山是我的秘密 kubernetes"]);
    expect(await count("火山", "user1")).toBe(1);
    expect(await count("火山", "nobody")).toBe(0);
    for (const q of ["owner", "秘密 OR 火山", "owner : u*", "秘密*", '" OR "秘密'])
      for (const snippet of await find(q)) expect(snippet).not.toContain("秘密");
  });

  test("what was deleted, at once; and finds it again when it comes back", async () => {
    const { conversation } = await made.exchange("admin", "独一无二的鸭嘴兽", "鸭嘴兽");
    await made.index();
    expect(await count("鸭嘴兽")).toBe(2);
    await made.store.conversations.delete("admin", conversation);
    expect(await count("鸭嘴兽")).toBe(0);
    await made.index();
    await made.store.conversations.restore("admin", conversation);
    expect(await count("鸭嘴兽")).toBe(2);
  });

  test("what was deleted before it was indexed; and finds it when that is undone", async () => {
    const { conversation } = await made.exchange("admin", "转瞬即逝的蜉蝣", "蜉蝣");
    await made.store.conversations.delete("admin", conversation);
    await made.index();
    expect(await count("蜉蝣")).toBe(0);
    await made.store.conversations.restore("admin", conversation);
    await made.index();
    expect(await count("蜉蝣")).toBe(2);
  });

  test("what ended in a deleted conversation; and finds it when that is undone, read before or after", async () => {
    const { store } = made;
    const read = await made.ask("admin", "问一", { conversation: "new" });
    const unread = await made.ask("admin", "问二", { conversation: "new" });
    for (const { conversation } of [read, unread]) await store.conversations.delete("admin", conversation);
    await made.answer(read.turn, "穿山甲");
    await made.index();
    await made.answer(unread.turn, "穿山甲");
    expect(await count("穿山甲")).toBe(0);
    for (const { conversation } of [read, unread]) await store.conversations.restore("admin", conversation);
    await made.index();
    expect(await count("穿山甲")).toBe(2);
  });

  test("old titles: a renamed conversation is found by its new name only", async () => {
    const { id } = await made.store.conversations.create("admin", "老鹰", null);
    await made.index();
    await made.store.conversations.patch("admin", id, { title: "麻雀" });
    await made.index();
    const titles = async (q: string) => (await made.store.search.search("admin", q, 10)).map(({ title }) => title);
    expect(await titles("老鹰")).toEqual([]);
    expect(await titles("麻雀")).toEqual(["麻雀"]);
  });
});

describe("whatever is typed", () => {
  test("FTS5 syntax and punctuation are words or nothing: no error, nothing extra", async () => {
    const nasty = [
      '"',
      "'",
      "*",
      "(",
      ")",
      '"unbalanced',
      "a AND",
      "NOT",
      "NEAR(a b, 5)",
      "body:x",
      "-x",
      "^x",
      "{a b}:c",
      "+",
      "a+b",
      "\u0000",
      "\\",
      "%",
      "_",
      ";",
      "--",
      "); DROP TABLE messages; --",
      "，。？！",
      "   ",
      "\ud83d",
      "😀",
      "x".repeat(200),
      "火".repeat(200),
      "a ".repeat(100),
      "\u202e火山",
      "\ufffd",
    ];
    for (const q of nasty) {
      const hits = await made.store.search.search("admin", q, 5);
      expect(Array.isArray(hits)).toBe(true);
    }
    for (const q of ["", " ", "*", '"', "，。", "()", "-"]) expect(await count(q)).toBe(0);
    // The words of the syntax are words: all of them have to occur.
    expect(await count("AND OR NOT")).toBe(1);
    expect(await count('NEAR("x"')).toBe(1);
    expect(await count("火山 NOT 爆发")).toBe(0);
    expect(await count("火山 OR kubernetes")).toBe(0);
  });
});

describe("the index", () => {
  test("reads every message, also when more conversations change than one read holds, each mixed with the others", async () => {
    const other = await testStore();
    const conversations: number[] = [];
    for (let i = 0; i < 250; i++) conversations.push((await other.store.conversations.create("admin", "", "bot")).id);
    const rounds = 3;
    for (let round = 0; round < rounds; round++)
      await Promise.all(conversations.map((id, i) => other.exchange("admin", `needle r${round}n${i}`, "hay", id)));
    await other.index();
    const messages = async (q: string): Promise<number> =>
      (await other.store.search.search("admin", q, 1000)).filter(({ messageId }) => messageId !== undefined).length;
    for (let round = 0; round < rounds; round++)
      for (const i of [0, 110, 124, 248, 249]) expect(`${i}: ${await messages(`r${round}n${i}`)}`).toBe(`${i}: 1`);
    // Latin words are found by their beginnings: 1, 10 to 19, 100 to 199.
    expect(await messages("r1n1")).toBe(111);
    expect(await other.store.search.search("admin", "needle", 2000)).toHaveLength(250 * rounds + 250);
    await other.stop();
  });

  test("goes on where a kill stopped it", async () => {
    const first = await testStore();
    const dir = first.dir;
    await first.exchange("admin", "斑马 one", "x");
    await first.index();
    await first.exchange("admin", "斑马 two", "x");
    first.store.close();
    const second = await testStore({ dir });
    await second.index();
    expect((await second.store.search.search("admin", "斑马", 10)).filter(({ messageId }) => messageId)).toHaveLength(
      2,
    );
    await second.stop();
    await Bun.$`rm -rf ${dir}`.quiet();
  });
});

test("the tokeniser had to be this one: neither unicode61 alone nor trigram finds two Chinese characters", () => {
  const db = new Database(":memory:");
  const text = "今天火山爆发了吗";
  const finds = (tokenize: string, body: string, query: string): boolean => {
    db.run("DROP TABLE IF EXISTS t");
    db.run(`CREATE VIRTUAL TABLE t USING fts5 (body, tokenize='${tokenize}')`);
    db.query("INSERT INTO t VALUES (?)").run(body);
    return db.query("SELECT rowid FROM t WHERE t MATCH ?").all(query).length > 0;
  };
  expect(finds("unicode61", text, '"火山"')).toBe(false);
  expect(finds("unicode61", text, '"火山" *')).toBe(false);
  expect(finds("trigram", text, '"火山"')).toBe(false);
  expect(finds("trigram", text, '"火山爆"')).toBe(true);
  expect(finds("unicode61", spaced(text), '"火 山"')).toBe(true);
  expect(finds("unicode61", spaced(text), '"山 火"')).toBe(false);
  db.close();
});
