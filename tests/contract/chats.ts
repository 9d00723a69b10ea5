/** The published contract, part three: both chat calls. */
import { strict as assert } from "node:assert";
import type { ChatFrame } from "../../lib/protocol.ts";
import { api, login } from "../harness/client.ts";
import { readSse } from "../harness/sse.ts";
import { until, within } from "../harness/wait.ts";
import { assertError, assertStream, type Check, PLAIN, type StreamEvent } from "./check.ts";

type ChatAnswer = { botId: string; content: string; timestamp: number; attachments?: { url: string; mime: string }[] };

/** One pixel: the smallest thing every decoder calls a PNG. */
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const PIXEL_URL = `data:image/png;base64,${PIXEL}`;

export const chats: Check[] = [
  {
    name: "a chat answers botId, content and timestamp",
    async run({ gateway, token, bot }) {
      await bot({ botId: "echo" });
      const before = Date.now();
      const answer = await api(gateway.url, token)<ChatAnswer>("POST", "/api/chat", {
        message: "你好",
        target: "echo",
      });
      assert.equal(answer.status, 200);
      assert.equal(answer.body.botId, "echo");
      assert.equal(answer.body.content, "echo: 你好");
      assert.ok(answer.body.timestamp >= before && answer.body.timestamp <= Date.now());
    },
  },
  {
    name: "the bot sees type, id, content, the display name and a timestamp",
    async run({ gateway, token, bot }) {
      const one = await bot({ botId: "watcher" });
      await api(gateway.url, token)("POST", "/api/chat", { message: "看", target: "watcher" });
      const [chat] = one.chats;
      assert.equal(chat?.content, "看");
      assert.equal(chat?.from, "管理员");
      assert.ok(typeof chat?.id === "string" && chat.id.length > 0);
      assert.ok(Math.abs(chat.timestamp - Date.now()) < 60_000);
      assert.ok(!("image" in chat));
    },
  },
  {
    name: "the pieces of a reply are joined for the synchronous call",
    async run({ gateway, token, bot }) {
      const onChat = (chat: ChatFrame, self: { reply: (to: ChatFrame, text: string, done?: boolean) => void }) => {
        for (const piece of ["你", "好", "，", "world"]) self.reply(chat, piece, false);
        self.reply(chat, "", true);
      };
      await bot({ botId: "pieces", onChat });
      const answer = await api(gateway.url, token)<ChatAnswer>("POST", "/api/chat", { message: "?", target: "pieces" });
      assert.equal(answer.body.content, "你好，world");
    },
  },
  {
    name: "without a target an online bot answers",
    async run({ gateway, token, bot }) {
      await bot({ botId: "only-one" });
      const answer = await api(gateway.url, token)<ChatAnswer>("POST", "/api/chat", { message: "anyone?" });
      assert.deepEqual([answer.body.botId, answer.body.content], ["only-one", "echo: anyone?"]);
    },
  },
  {
    name: "a leading @bot-id picks the bot and is taken off, in both calls",
    async run({ gateway, token, bot, stream }) {
      await bot({ botId: "not-me" });
      await bot({ botId: "call-me" });
      const answer = await api(gateway.url, token)<ChatAnswer>("POST", "/api/chat", { message: "@call-me  hello" });
      assert.deepEqual([answer.body.botId, answer.body.content], ["call-me", "echo: hello"]);
      const reader = await stream({ message: "@call-me 你好" });
      assert.equal(assertStream(await reader.all(), "call-me"), "echo: 你好");
    },
  },
  {
    name: "without a target the bots share the work",
    v1Defect: "always picks the first bot",
    async run({ gateway, token, bot }) {
      const three = [await bot(), await bot(), await bot()];
      for (let i = 0; i < 30; i++) await api(gateway.url, token)("POST", "/api/chat", { message: `n${i}` });
      const counts = three.map((one) => one.chats.length);
      assert.equal(
        counts.reduce((sum, n) => sum + n, 0),
        30,
      );
      assert.ok(Math.min(...counts) >= 5, `shared as ${counts.join(", ")}`);
    },
  },
  {
    name: "an empty message without an image is 400 in both calls",
    async run({ gateway, token, bot }) {
      await bot();
      for (const path of ["/api/chat", "/api/chat/stream"])
        for (const body of [{}, { message: "" }]) assertError(await api(gateway.url, token)("POST", path, body), 400);
    },
  },
  {
    name: "a message that is not text is 400 and the process lives on",
    v1Defect: '{"message": {}} ends the process',
    apart: true,
    async run({ start, bot }) {
      const gateway = await start();
      const token = await login(gateway.url, "admin", PLAIN);
      await bot({}, gateway);
      for (const path of ["/api/chat", "/api/chat/stream"])
        for (const message of [{}, [], 7, true])
          assertError(await api(gateway.url, token)("POST", path, { message }), 400);
      assert.equal((await api(gateway.url)("GET", "/health")).status, 200);
    },
  },
  {
    name: "a chat while no bot is online is 503 in both calls",
    async run({ gateway, token }) {
      for (const path of ["/api/chat", "/api/chat/stream"])
        assertError(await api(gateway.url, token)("POST", path, { message: "?" }), 503);
    },
  },
  {
    name: "an unknown target is 404 in the synchronous call",
    v1Defect: "answers 500",
    async run({ gateway, token, bot }) {
      await bot();
      assertError(await api(gateway.url, token)("POST", "/api/chat", { message: "?", target: "nobody" }), 404);
    },
  },
  {
    name: "an unknown target is 404 before any stream starts",
    v1Defect: "starts a stream",
    async run({ gateway, token, bot }) {
      await bot();
      assertError(await api(gateway.url, token)("POST", "/api/chat/stream", { message: "?", target: "nobody" }), 404);
    },
  },
  {
    name: "a stream is start, chunks of which only the last is done, end",
    async run({ stream, bot }) {
      await bot({
        botId: "streamer",
        botName: "流",
        onChat: (chat, self) => {
          self.reply(chat, "你", false);
          self.reply(chat, "好", false);
          self.reply(chat, "！", true);
        },
      });
      const reader = await stream({ message: "hi", target: "streamer" });
      const events = await reader.all();
      assert.equal(assertStream(events, "streamer"), "你好！");
      assert.equal(events[0]?.data.botName, "流");
    },
  },
  {
    name: "pieces that come apart are shown one by one, as they come",
    async run({ stream, bot }) {
      const one = await bot({ botId: "slow", onChat: () => {} });
      const opening = stream({ message: "hi", target: "slow" });
      const chat = await one.waitFor("chat");
      const reader = await opening;
      await reader.find((event) => event.type === "start");
      for (const piece of ["一", "二", "三"]) {
        one.reply(chat, piece, false);
        const got = await reader.find((event) => event.type === "chunk" && event.content === piece, 1000);
        assert.equal(got.data.done, false);
      }
      one.reply(chat, "。", true);
      assert.equal(assertStream(await reader.all(), "slow"), "一二三。");
    },
  },
  {
    name: "a stream says that it is one and must not be cached",
    async run({ gateway, token, bot }) {
      await bot({ botId: "headers" });
      const call = api(gateway.url, token);
      const response = await call.stream("/api/chat/stream", { message: "hi", target: "headers" });
      assert.equal(response.status, 200);
      assert.match(response.headers.get("content-type") ?? "", /^text\/event-stream/);
      assert.match(response.headers.get("cache-control") ?? "", /no-cache/);
      await readSse<StreamEvent>(response).all();
    },
  },
  {
    name: "text arrives exactly: line ends, separators, markup, emoji, SSE words",
    async run({ stream, bot }) {
      const text = 'a\r\nb\nc\rd\u2028e\u2029f\tg\0h data: x\n\nid: 9\n<b>&amp;"\\ 👩‍👩‍👧 \u{1F600}';
      await bot({ botId: "exact", onChat: (chat, self) => self.reply(chat, text) });
      const reader = await stream({ message: text, target: "exact" });
      assert.equal(assertStream(await reader.all(), "exact"), text);
    },
  },
  {
    name: "streams of one bot do not mix",
    async run({ stream, bot }) {
      const one = await bot({ botId: "busy", onChat: () => {} });
      const opening = [0, 1, 2, 3].map((n) => stream({ message: `q${n}`, target: "busy" }));
      await until(() => one.chats.length === 4, 3000, "four chats");
      for (let round = 0; round < 5; round++)
        for (const chat of one.chats) one.reply(chat, `${chat.content};`, round === 4);
      const readers = await Promise.all(opening);
      for (const [n, reader] of readers.entries())
        assert.equal(assertStream(await reader.all(), "busy"), `q${n};`.repeat(5));
    },
  },
  {
    name: "a reader that leaves disturbs nobody",
    async run({ stream, bot }) {
      const one = await bot({ botId: "host", onChat: () => {} });
      const leaving = stream({ message: "bye", target: "host" });
      await until(() => one.chats.length === 1, 3000, "the first chat");
      one.reply(one.chats[0]!, "x", false);
      const gone = await leaving;
      await gone.next();
      await gone.leave();
      const staying = stream({ message: "stay", target: "host" });
      await until(() => one.chats.length === 2, 3000, "the second chat");
      one.reply(one.chats[0]!, "to nobody", true);
      one.reply(one.chats[1]!, "to you", true);
      assert.equal(assertStream(await (await staying).all(), "host"), "to you");
    },
  },
  {
    name: "an image reaches the bot as it came, as a data URL and as bare base64",
    async run({ stream, bot }) {
      const one = await bot({ botId: "eyes" });
      for (const image of [PIXEL_URL, PIXEL]) {
        const reader = await stream({ message: "看图", image, target: "eyes" });
        await reader.all();
        assert.equal(one.chats.at(-1)?.image, image);
      }
    },
  },
  {
    name: "an image needs no message",
    async run({ stream, bot }) {
      const one = await bot({ botId: "mute" });
      const reader = await stream({ message: "", image: PIXEL_URL, target: "mute" });
      assert.equal(assertStream(await reader.all(), "mute"), "echo: ");
      assert.equal(one.chats[0]?.image, PIXEL_URL);
      assert.equal(one.chats[0]?.content, "");
    },
  },
  {
    name: "a 4 MiB image passes whole",
    async run({ stream, bot }) {
      const one = await bot({ botId: "big" });
      // A PNG by its first bytes; the rest is noise that nobody may touch.
      const bytes = Buffer.alloc(4 * 1024 * 1024, 0x5a);
      Buffer.from(PIXEL, "base64").copy(bytes);
      const image = `data:image/png;base64,${bytes.toString("base64")}`;
      const reader = await stream({ message: "big", image, target: "big" });
      await reader.all();
      assert.ok(one.chats[0]?.image === image, "the image was changed on its way");
    },
  },
  {
    name: "the synchronous call carries an image too",
    v1Defect: "drops the image",
    async run({ gateway, token, bot }) {
      const one = await bot({ botId: "sync-eyes" });
      const body = { message: "look", image: PIXEL_URL, target: "sync-eyes" };
      const answer = await api(gateway.url, token)<ChatAnswer>("POST", "/api/chat", body);
      assert.equal(answer.status, 200);
      assert.equal(one.chats[0]?.image, PIXEL_URL);
    },
  },
  {
    name: "an image from the bot reaches the person, in both calls",
    v1Defect: "drops the image",
    async run({ gateway, token, bot, stream }) {
      await bot({ botId: "painter", onChat: (chat, self) => self.reply(chat, "done", true, { image: PIXEL_URL }) });
      const load = async (url: string) => {
        const response = await fetch(new URL(url, gateway.url), { headers: { authorization: `Bearer ${token}` } });
        return Buffer.from(await response.arrayBuffer()).toString("base64");
      };
      const reader = await stream({ message: "draw", target: "painter" });
      const shown = (await reader.all()).find((item) => item.data.type === "attachment")?.data.attachment;
      assert.ok(shown, "no attachment in the stream");
      assert.equal(await load(shown.url), PIXEL);
      const answer = await api(gateway.url, token)<ChatAnswer>("POST", "/api/chat", {
        message: "draw",
        target: "painter",
      });
      const [picture] = answer.body.attachments ?? [];
      assert.ok(picture, "no attachment in the synchronous answer");
      assert.equal(await load(picture.url), PIXEL);
    },
  },
  {
    name: "two people talk to one bot and each gets their own answer",
    async run({ gateway, token, bot }) {
      const one = await bot({ botId: "shared", onChat: () => {} });
      const other = await login(gateway.url, "user1", PLAIN);
      const mine = api(gateway.url, token)<ChatAnswer>("POST", "/api/chat", { message: "mine", target: "shared" });
      const theirs = api(gateway.url, other)<ChatAnswer>("POST", "/api/chat", { message: "theirs", target: "shared" });
      await until(() => one.chats.length === 2, 3000, "two chats");
      for (const chat of one.chats) one.reply(chat, `${chat.from}: ${chat.content}`);
      assert.equal((await within(mine, 3000, "my answer")).body.content, "管理员: mine");
      assert.equal((await within(theirs, 3000, "their answer")).body.content, "用户1: theirs");
    },
  },
];
