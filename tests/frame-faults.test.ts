/** What a bot's frame calls breaks: that is logged and answered as `internal`, and everything else goes on (F6). */
import { afterEach, expect, test } from "bun:test";
import { BOT_TOKEN, rawSocket, within } from "./harness.ts";
import { createRigs } from "./harness/rig.ts";

const rigs = createRigs();
afterEach(() => rigs.closeAll());

const TYPES: [type: string, frame: (turn: string) => object][] = [
  ["reply", (replyTo) => ({ type: "reply", replyTo, content: "x", done: false, seq: 1 })],
  ["ack", (id) => ({ type: "ack", id })],
  ["event", (replyTo) => ({ type: "event", replyTo, kind: "typing" })],
  ["message", () => ({ type: "message", id: "m", to: { userId: "admin" }, content: "hi" })],
  ["draining", () => ({ type: "event", kind: "draining" })],
];

test.each(TYPES)(
  "a fault of ours under a frame of type %s leaves the bot, its turn and everybody else (F6)",
  async (_, frame) => {
    const rig = await rigs.open();
    const bot = await rig.v2("a", { caps: ["ack", "seq", "message"] }, { onChat: () => {}, ack: false });
    const admin = await rig.person();
    const turn = await admin.ask("hi");
    const chat = await bot.waitFor("chat");
    const { turns, inbox } = rig.gateway.gate;
    const kept = { get: turns.get, frame: turns.frame, message: inbox.message, roomChanged: turns.roomChanged };
    const fail = (): never => {
      throw new Error("secret detail /etc/passwd");
    };
    Object.assign(turns, { get: fail, frame: fail, roomChanged: fail });
    Object.assign(inbox, { message: fail });
    bot.send(frame(chat.id));
    const told = await bot.waitFor("error");
    expect(told).toMatchObject({ code: "internal", message: "Internal error" });
    expect(JSON.stringify(bot.frames)).not.toMatch(/secret|passwd/);
    expect(rig.logged("frame_failed")).toHaveLength(1);
    Object.assign(turns, kept);
    Object.assign(inbox, { message: kept.message });

    // A fault of ours is no bad frame of the bot's, however often it comes.
    expect([...rig.bots.connections()].map(({ botId, badFrames }) => [botId, badFrames])).toEqual([["a", 0]]);
    bot.ack(chat);
    bot.end(chat, "still here", { seq: 1 });
    const said = await turn.all();
    expect(said.map(({ data }) => data.content ?? "").join("")).toBe("still here");
    await rig.quiet();
  },
);

test("a fault of ours under register closes that socket alone, and the bot may come back (F6)", async () => {
  const rig = await rigs.open();
  const { access } = rig.gateway.gate.store;
  const kept = access.botSession;
  access.botSession = () => {
    throw new Error("secret detail");
  };
  const refused = await rawSocket(rig.wsUrl);
  refused.send({ type: "register", botId: "a", token: BOT_TOKEN, proto: 2 });
  expect((await within(refused.closed, 5_000, "the socket to be closed")).code).toBe(4002); // come back later
  expect(JSON.stringify(refused.frames)).not.toContain("secret");
  expect(rig.logged("bot_session_failed")).toHaveLength(1);
  expect(rig.bots.count()).toBe(0);
  access.botSession = kept;
  const bot = await rig.v2("a");
  expect((await (await rig.person())("POST", "/api/chat", { message: "hi" })).body.content).toBe("echo: hi");
  await bot.close();
});
