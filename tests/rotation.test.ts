/** Changing a bot's token while it works: two are good for a while, then the old one is not; no answer is lost on the way. */
import { afterEach, describe, expect, test } from "bun:test";
import { within } from "./harness.ts";
import { createRigs } from "./harness/rig.ts";

const rigs = createRigs();
afterEach(() => rigs.closeAll());

const OLD = "token-of-before-long";
const NEW = "token-of-after-long-";
const hold = { onChat: () => {} };

describe.each([
  ["the shared token", (token: string | string[]) => ({ botToken: token })],
  ["a token of its own", (token: string | string[]) => ({ bots: { a: { token } } })],
])("rotating %s", (_, config) => {
  test("keeps the bot and its answer while both are good, takes the new one, and closes whoever still has the old", async () => {
    const rig = await rigs.open(config(OLD));
    const admin = await rig.person();
    const before = await rig.v2("a", { token: OLD }, hold);
    const turn = await admin.ask("during the rotation");
    const chat = await before.waitFor("chat");
    before.write(chat, "first half, ");
    await before.waitFor("ack");

    rig.reload(config([OLD, NEW]));
    expect(before.ws.readyState).toBe(WebSocket.OPEN);
    // The bot is restarted with the new token and shows its session: it goes on with the answer.
    const after = await rig.v2("a", { token: NEW, session: before.registered.session }, hold);
    expect(after.registered.pending).toEqual([{ id: chat.id, seq: 1 }]);
    expect((await within(before.closed, 5_000, "the one before to be replaced")).code).toBe(4003);
    // Another one has not been told yet.
    const straggler = await rig.v2("a", { token: OLD, instanceId: "second" }, hold);

    rig.reload(config([NEW]));
    expect((await within(straggler.closed, 5_000, "the straggler to be closed")).code).toBe(4501);
    expect(after.ws.readyState).toBe(WebSocket.OPEN);
    expect((await rig.v2("a", { token: OLD, instanceId: "third" })).registered.success).toBe(false);
    after.end(chat, "second half", { seq: 2 });
    const said = await turn.all();
    expect(said.map(({ data }) => data.content ?? "").join("")).toBe("first half, second half");
    await rig.quiet();
  });
});
