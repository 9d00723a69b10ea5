/** The published contract, part two: the bot socket. */
import { strict as assert } from "node:assert";
import { join } from "node:path";
import { rawSocket, type V1Options } from "../harness/bots.ts";
import { api, login } from "../harness/client.ts";
import { until, within } from "../harness/wait.ts";
import { assertError, assertStream, type Check, PLAIN, type StreamEvent, TOKEN } from "./check.ts";
import { readSse } from "../harness/sse.ts";

type BotList = { bots: { id: string; name: string; connectedAt: string }[] };
type ChatAnswer = { botId: string; content: string; timestamp: number };

/**
 * The published ten-line client, each numbered step run at the moment its comment names: 1 when the socket is open, 4
 * when a chat came, 5 when a ping came. Only the address, the token and the id of the message are put in.
 */
const publishedBot = async (wsUrl: string) => {
  const printed = await Bun.file(join(import.meta.dir, "published-bot.txt")).text();
  const code = printed.replace("ws://your-server:17392/bot-ws", wsUrl).replace("your-bot-token", TOKEN);
  const steps = code.split(/^(?=\/\/ \d\.)/m);
  const step = (n: number) => steps.find((part) => part.startsWith(`// ${n}.`)) ?? "";
  const run = (source: string, ws: WebSocket) => new Function("ws", source)(ws);
  const ws: WebSocket = new Function(`${steps[0]}; return ws;`)();
  const seen: { type: string }[] = [];
  ws.addEventListener("open", () => run(step(1), ws));
  ws.addEventListener("message", (event) => {
    const frame = JSON.parse(String(event.data));
    seen.push(frame);
    if (frame.type !== "chat") return;
    const reply = step(4).replace("msg-xxx", frame.id);
    run(reply, ws);
    run(reply.replace("done: false", "done: true"), ws);
  });
  return { ws, seen };
};

export const bots: Check[] = [
  {
    name: "register with the right token is answered with success",
    async run({ bot }) {
      const one = await bot();
      assert.equal(one.registered.type, "registered");
      assert.equal(one.registered.success, true);
      assert.equal(one.registered.error, undefined);
    },
  },
  {
    name: "a wrong token is answered with a sentence and then closed",
    async run({ bot, gateway }) {
      const one = await bot({ token: "wrong" });
      assert.equal(one.registered.success, false);
      assert.equal(typeof one.registered.error, "string");
      await within(one.closed, 3000, "the close after a wrong token");
      assert.equal((await api(gateway.url)("GET", "/health")).body.bots, 0);
    },
  },
  {
    name: "a missing token is refused too",
    async run({ gateway }) {
      const socket = await rawSocket(gateway.wsUrl);
      socket.send({ type: "register", botId: "tokenless", botName: "T" });
      assert.equal((await socket.waitFor("registered")).success, false);
      await within(socket.closed, 3000, "the close after a missing token");
    },
  },
  {
    name: "an empty botToken lets every bot in",
    apart: true,
    async run({ start, bot }) {
      const gateway = await start({ botToken: "" });
      const one = await bot({ botId: "open", token: "whatever" }, gateway);
      assert.equal(one.registered.success, true);
    },
  },
  {
    name: "the list of bots has id, name and the time of connecting",
    async run({ gateway, token, bot }) {
      await bot({ botId: "listed", botName: "列出的" });
      const answer = await api(gateway.url, token)<BotList>("GET", "/api/bots");
      assert.equal(answer.status, 200);
      const [one] = answer.body.bots;
      assert.equal(one?.id, "listed");
      assert.equal(one?.name, "列出的");
      assert.match(one?.connectedAt ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    },
  },
  {
    name: "a bot that leaves is gone from the list and from health",
    async run({ gateway, token, bot }) {
      const one = await bot({ botId: "leaver" });
      await one.close();
      const gone = async () => (await api(gateway.url)("GET", "/health")).body.bots === 0;
      await until(gone, 2000, "health to count 0");
      assert.deepEqual((await api(gateway.url, token)<BotList>("GET", "/api/bots")).body.bots, []);
    },
  },
  {
    name: "the same botId again replaces the older connection and keeps the id",
    async run({ gateway, token, bot }) {
      const old = await bot({ botId: "twice" });
      const fresh = await bot({ botId: "twice", onChat: (chat, self) => self.reply(chat, "the new one") });
      await within(old.closed, 3000, "the older connection to be closed");
      const answer = await api(gateway.url, token)<ChatAnswer>("POST", "/api/chat", { message: "?", target: "twice" });
      assert.equal(answer.body.content, "the new one");
      assert.deepEqual((await api(gateway.url)("GET", "/health")).body.botIds, ["twice"]);
      assert.equal(fresh.chats.length, 1);
    },
  },
  {
    name: "a frame before register changes nothing, and register still works",
    async run({ gateway }) {
      const socket = await rawSocket(gateway.wsUrl);
      socket.send({ type: "reply", id: "x", replyTo: "y", content: "z", done: true, timestamp: 0 });
      socket.send({ type: "register", botId: "late", botName: "Late", token: TOKEN });
      assert.equal((await socket.waitFor("registered")).success, true);
      await socket.close();
    },
  },
  {
    name: "frames that are not JSON, not objects or of an unknown type do not end the connection",
    async run({ gateway, token, bot }) {
      const one = await bot({ botId: "mumbler" });
      for (const frame of ["{not json", "null", "[]", '"text"', '{"type":"dance"}', "{}"]) one.send(frame);
      const answer = await api(gateway.url, token)<ChatAnswer>("POST", "/api/chat", {
        message: "hi",
        target: "mumbler",
      });
      assert.equal(answer.body.content, "echo: hi");
    },
  },
  {
    name: "a bot that answers pings stays",
    apart: true,
    async run({ start, bot }) {
      const gateway = await start({ pingInterval: 400, botTimeout: 1500 });
      const one = await bot({ botId: "alive" }, gateway);
      await until(() => one.frames.filter((frame) => frame.type === "ping").length >= 3, 5000, "three pings");
      assert.deepEqual((await api(gateway.url)("GET", "/health")).body.botIds, ["alive"]);
    },
  },
  {
    name: "a bot that answers no ping is closed after botTimeout and leaves the list",
    apart: true,
    async run({ start, bot }) {
      const gateway = await start({ pingInterval: 200, botTimeout: 600 });
      const one = await bot({ botId: "dead", pong: false }, gateway);
      await within(one.closed, 3000, "the close after botTimeout");
      assert.equal((await api(gateway.url)("GET", "/health")).body.bots, 0);
    },
  },
  {
    name: "a published bot never receives a frame type it does not know",
    async run({ gateway, token, bot }) {
      const one = await bot({ botId: "old-fashioned" });
      const call = api(gateway.url, token);
      await call("POST", "/api/chat", { message: "one", target: "old-fashioned" });
      const response = await call.stream("/api/chat/stream", { message: "two", target: "old-fashioned" });
      await readSse<StreamEvent>(response).all();
      one.send({ type: "unheard-of" });
      await call("POST", "/api/chat", { message: "three", target: "old-fashioned" });
      const unknown = one.frames.filter((frame) => !["registered", "chat", "ping", "error"].includes(frame.type));
      assert.deepEqual(unknown, []);
    },
  },
  {
    name: "a reply from a bot that was not asked reaches nobody",
    v1Defect: "any bot can answer another bot's turn",
    async run({ stream, bot }) {
      const intruder = await bot({ botId: "intruder" });
      const asked = await bot({
        botId: "asked",
        onChat: (chat, self) => {
          intruder.reply(chat, "FORGED", false);
          // Long enough for the forged frame to be handled first, and then one round trip more.
          setTimeout(() => self.reply(chat, "genuine"), 150);
        },
      });
      const reader = await stream({ message: "who?", target: "asked" });
      assert.equal(assertStream(await reader.all(), "asked"), "genuine");
      assert.equal(asked.chats.length, 1);
    },
  },
  {
    name: "a reply to a message that never was is ignored",
    async run({ gateway, token, bot }) {
      const one = await bot({ botId: "dreamer" });
      one.reply({ id: "msg-never-was" }, "hello?");
      const answer = await api(gateway.url, token)<ChatAnswer>("POST", "/api/chat", {
        message: "hi",
        target: "dreamer",
      });
      assert.equal(answer.body.content, "echo: hi");
    },
  },
  {
    name: "a bot that dies in the middle ends its stream with an error, in seconds",
    v1Defect: "the caller waits five minutes",
    apart: true,
    async run({ start, bot }) {
      const gateway = await start();
      const onChat: V1Options["onChat"] = (chat, self) => {
        self.reply(chat, "I was going to s", false);
        setTimeout(() => self.cut(), 50);
      };
      await bot({ botId: "mortal", onChat }, gateway);
      const call = api(gateway.url, await login(gateway.url, "admin", PLAIN));
      const response = await call.stream("/api/chat/stream", { message: "?", target: "mortal" });
      const reader = readSse<StreamEvent>(response);
      const events = await reader.all(6000);
      assert.equal(events.at(-1)?.data.type, "error");
      assert.equal(typeof events.at(-1)?.data.error, "string");
    },
  },
  {
    name: "a bot that dies before it answers ends the synchronous call with 502, in seconds",
    v1Defect: "the caller waits five minutes",
    apart: true,
    async run({ start, bot }) {
      const gateway = await start();
      await bot({ botId: "silent-death", onChat: (_, self) => self.cut() }, gateway);
      const token = await login(gateway.url, "admin", PLAIN);
      const call = api(gateway.url, token)("POST", "/api/chat", { message: "?", target: "silent-death" });
      assertError(await within(call, 6000, "the answer after the bot died"), 502);
    },
  },
  {
    name: "the published ten-line client works as printed",
    apart: true,
    async run({ start }) {
      const gateway = await start();
      const token = await login(gateway.url, "admin", PLAIN);
      const { ws, seen } = await publishedBot(gateway.wsUrl);
      try {
        await until(() => seen.some((frame) => frame.type === "registered"), 3000, "registered");
        const response = await api(gateway.url, token).stream("/api/chat/stream", {
          message: "你好",
          target: "my-bot",
        });
        const events = await readSse<StreamEvent>(response).all();
        assert.equal(events[0]?.data.botName, "My Bot");
        assert.equal(assertStream(events, "my-bot"), "你好！你好！");
      } finally {
        ws.terminate();
      }
    },
  },
];
