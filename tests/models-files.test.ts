/** Files of a conversation as a model sees them: those of the question, those of what came before, those that are gone. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { unlink } from "node:fs/promises";
import type { ModelEntry } from "../lib/config/models.ts";
import { decodeId } from "../lib/ids.ts";
import { openAi, pieces, refusal, startFake, type Answer } from "./models/fake.ts";
import { KEY, PIXEL, startRig } from "./models/rig.ts";

let rig: Awaited<ReturnType<typeof startRig>>;
beforeAll(async () => {
  rig = await startRig();
});
afterEach(() => rig.close());
afterAll(() => rig.gateway.stop());

const service = async (answers: Answer[], more: Partial<ModelEntry> = {}) => {
  const fake = startFake(...answers);
  rig.closing.push(fake.stop);
  await rig.start({ openai: `${fake.url}/v1`, model: "model-1", key: KEY, ...more });
  return fake;
};

const upload = async (name: string, type: string, body: Uint8Array): Promise<string> =>
  (
    await rig.call<{ id: string }>("POST", "/api/attachments", body, {
      headers: { "content-type": type, "x-filename": name },
    })
  ).body.id;

test("a service gets pictures as pictures, text files as text", async () => {
  const fake = await service([() => pieces([openAi.text("a dot"), openAi.finish()])]);
  const attachments = [
    await upload("dot.png", "image/png", Buffer.from(PIXEL, "base64")),
    await upload("notes.txt", "text/plain", new TextEncoder().encode("buy milk")),
  ];
  await rig.ask("what?", { attachments, conversationId: await rig.newConversation() });
  const [message] = fake.asked[0]!.body.messages as { content: { type: string; text?: string }[] }[];
  expect(message!.content).toEqual([
    { type: "text", text: "what?\n\n--- notes.txt ---\nbuy milk\n--- / notes.txt ---" },
    { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } } as { type: string },
  ]);
});

test("a service sees earlier pictures and text files again, newest first as far as the budget goes, and others by name", async () => {
  const fake = await service([() => pieces([openAi.text("I see"), openAi.finish()])], {
    historyTokens: 1100,
  });
  const dot = Buffer.from(PIXEL, "base64");
  const conversationId = await rig.newConversation();
  const old = await upload("old.png", "image/png", dot);
  await rig.ask("old", { conversationId, attachments: [old] });
  const [picture, notes] = [await upload("new.png", "image/png", dot), new TextEncoder().encode("buy milk")];
  // A picture without a word is a message too.
  await rig.ask("", { conversationId, attachments: [picture, await upload("notes.txt", "text/plain", notes)] });
  await rig.ask("what was it?", { conversationId });
  const messages = fake.asked[2]!.body.messages as { role: string; content: unknown }[];
  expect(messages).toEqual([
    { role: "user", content: `old\n\n[old.png, image/png, ${dot.length} bytes]` },
    { role: "assistant", content: "I see" },
    {
      role: "user",
      content: [
        { type: "text", text: "--- notes.txt ---\nbuy milk\n--- / notes.txt ---" },
        { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } },
      ],
    },
    { role: "assistant", content: "I see" },
    { role: "user", content: "what was it?" },
  ]);
});

test("a question is asked all the same when an earlier file is gone", async () => {
  const fake = await service([() => pieces([openAi.text("yes"), openAi.finish()])]);
  const words = new TextEncoder().encode("gone tomorrow");
  const id = await upload("notes.txt", "text/plain", words);
  const conversationId = await rig.newConversation();
  await rig.ask("keep this", { conversationId, attachments: [id] });
  const { attachments } = rig.gateway.gateway.gate.store;
  await unlink(attachments.path(attachments.get(decodeId(id))!));
  expect((await rig.ask("and now?", { conversationId })).body.content).toBe("yes");
  const [first] = fake.asked[1]!.body.messages as { content: string }[];
  expect(first!.content).toBe(`keep this\n\n[notes.txt, text/plain, ${words.length} bytes]`);
});

test("a picture that the model cannot take fails its own question, and none after it", async () => {
  const sent = (body: Record<string, unknown>): boolean => JSON.stringify(body).includes("image_url");
  const blind: Answer = ({ body }) =>
    sent(body)
      ? refusal(500, { message: "image input is not supported" }, { "x-should-retry": "false" })
      : pieces([openAi.text("words only"), openAi.finish()]);
  const fake = await service([blind]);
  const conversationId = await rig.newConversation();
  const image = `data:image/png;base64,${PIXEL}`;
  expect((await rig.ask("look", { conversationId, image })).body.error).toContain("image input is not supported");
  expect((await rig.ask("then listen", { conversationId })).body.content).toBe("words only");
  expect(fake.asked.map(({ body }) => sent(body))).toEqual([true, true, false]);
  expect(fake.asked[2]!.body.messages).toEqual([
    { role: "user", content: "look\n\nthen listen\n\n[image.png, image/png]" },
  ]);
});
