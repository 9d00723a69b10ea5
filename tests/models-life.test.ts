/** Models of the config over reloads and restarts of their gateway: answers that were on their way arrive, whole and once. */
import { afterEach, expect, test } from "bun:test";
import type { Message } from "../lib/protocol.ts";
import { api, BOT_TOKEN, login, startGateway, tempDir, until } from "./harness.ts";
import { openAi, pieces, startFake, type Answer } from "./models/fake.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const service = (...answers: Answer[]) => {
  const fake = startFake(...answers);
  closing.push(fake.stop);
  return fake;
};

/** One person at a gateway with one model `m`. */
const setup = async (models: object[], dataDir?: string) => {
  const gateway = await startGateway({ models }, dataDir === undefined ? {} : { dataDir });
  closing.push(gateway.stop);
  const call = api(gateway.url, await login(gateway.url));
  const online = async () => (await call<{ bots: { id: string }[] }>("GET", "/api/bots")).body.bots.length > 0;
  await until(online, 5000, "the model to be online");
  return {
    gateway,
    call,
    ask: async (content: string) => {
      const { id } = (await call<{ id: string }>("POST", "/api/conversations", {})).body;
      const body = { clientId: crypto.randomUUID(), content, target: "m" };
      const sent = await call<{ turnId: string }>("POST", `/api/conversations/${id}/messages`, body);
      return { conversation: id, turn: sent.body.turnId };
    },
  };
};
const answerTo = (call: ReturnType<typeof api>, { conversation, turn }: { conversation: string; turn: string }) =>
  until(
    async () => {
      const { messages } = (await call<{ messages: Message[] }>("GET", `/api/conversations/${conversation}/messages`))
        .body;
      return messages.find(({ id, state }) => id === turn && state !== "streaming");
    },
    10_000,
    "the answer to end",
  );

test("an edited model finishes what it is saying, and whoever asks meanwhile gets the new one", async () => {
  const finish = Promise.withResolvers<void>();
  const old = service(async () => {
    const rest = new TransformStream<string, string>();
    const writer = rest.writable.getWriter();
    void writer.write(openAi.text("begun "));
    void finish.promise.then(async () => {
      await writer.write(openAi.text("and finished") + openAi.finish());
      await writer.close();
    });
    return new Response(rest.readable.pipeThrough(new TextEncoderStream()), {
      headers: { "Content-Type": "text/event-stream" },
    });
  });
  const fresh = service(() => pieces([openAi.text("new"), openAi.finish()]));
  const { gateway, call, ask } = await setup([{ id: "m", openai: `${old.url}/v1`, model: "one" }]);
  const first = await ask("before");
  await until(() => old.asked.length === 1);
  const instances = async () =>
    (await call<{ bots: { instances: number }[] }>("GET", "/api/bots")).body.bots[0]?.instances;
  gateway.reload({ models: [{ id: "m", openai: `${fresh.url}/v1`, model: "two" }] });
  await until(async () => (await instances()) === 2, 5000, "the new one to be online beside the old one");
  const second = await ask("after");
  expect(await answerTo(call, second)).toMatchObject({ state: "done", content: "new" });
  finish.resolve();
  expect(await answerTo(call, first)).toMatchObject({ state: "done", content: "begun and finished" });
  expect([old.asked.length, fresh.asked.length]).toEqual([1, 1]);
  await until(async () => (await instances()) === 1, 5000, "the old one to be gone");
});

test("a model that was removed finishes what it is saying and is asked no more", async () => {
  const fake = service(() => pieces([openAi.text("last "), 300, openAi.text("words"), openAi.finish()]));
  const { gateway, call, ask } = await setup([{ id: "m", openai: `${fake.url}/v1`, model: "one" }]);
  const asked = await ask("go");
  await until(() => fake.asked.length === 1);
  gateway.reload({ models: [] });
  expect(await answerTo(call, asked)).toMatchObject({ state: "done", content: "last words" });
  await until(async () => (await call<{ bots: object[] }>("GET", "/api/bots")).body.bots.length === 0);
});

test("a model is there all the time while it is edited again and again", async () => {
  const { gateway, call } = await setup([{ id: "m", echo: true, description: "0" }]);
  const answers: Promise<{ status: number }>[] = [];
  const botToken = [BOT_TOKEN];
  for (let i = 1; i <= 20; i++) {
    // Every fourth time only the token changes; those before hold a little longer, as when tokens are rotated.
    if (i % 4 === 0) botToken.unshift(`nxb_rotated-token-number-${i}`);
    const models = [{ id: "m", echo: true, description: String(i - (i % 4 === 0 ? 1 : 0)) }];
    gateway.reload({ models, botToken: [...botToken] });
    answers.push(call("POST", "/api/chat", { message: `message ${i}`, target: "m" }));
    await Bun.sleep(i % 3);
  }
  for (const answer of await Promise.all(answers)) expect(answer).toMatchObject({ status: 200 });
  const instances = async () => (await call<{ bots: { instances: number }[] }>("GET", "/api/bots")).body.bots;
  await until(async () => (await instances())[0]?.instances === 1, 5000, "all but the last to be gone");
});

test("a gateway that is stopped in the middle of an answer asks again after its start", async () => {
  const folder = await tempDir("models-life");
  closing.push(folder.remove);
  const fake = service(
    () => pieces([openAi.text("lost "), 30_000]),
    () => pieces([openAi.text("whole answer"), openAi.finish()]),
  );
  const models = [{ id: "m", openai: `${fake.url}/v1`, model: "one" }];
  const before = await setup(models, folder.path);
  const asked = await before.ask("hello");
  await until(() => fake.asked.length === 1);
  await before.gateway.stop();
  const after = await setup(models, folder.path);
  expect(await answerTo(after.call, asked)).toMatchObject({ state: "done", content: "whole answer" });
  expect(fake.asked).toHaveLength(2);
});

test("a gateway that stops gives nobody's answer to the model beside it", async () => {
  const folder = await tempDir("models-life");
  closing.push(folder.remove);
  const [mine, beside] = [
    service(
      () => pieces([openAi.text("lost "), 30_000]),
      () => pieces([openAi.text("whole answer"), openAi.finish()]),
    ),
    service(() => pieces([openAi.text("of another"), openAi.finish()])),
  ];
  const models = [
    { id: "m", openai: `${mine.url}/v1`, model: "one" },
    { id: "n", openai: `${beside.url}/v1`, model: "two" },
  ];
  const before = await setup(models, folder.path);
  const { id } = (await before.call<{ id: string }>("POST", "/api/conversations", { botId: "m" })).body;
  await before.call("POST", `/api/conversations/${id}/messages`, { clientId: crypto.randomUUID(), content: "hello" });
  await until(() => mine.asked.length === 1);
  await before.gateway.stop();
  const after = await setup(models, folder.path);
  const answer = await until(async () => {
    const { messages } = (await after.call<{ messages: Message[] }>("GET", `/api/conversations/${id}/messages`)).body;
    return messages.find(({ role, state }) => role === "bot" && state === "done");
  });
  expect([answer.botId, answer.content]).toEqual(["m", "whole answer"]);
  expect([mine.asked.length, beside.asked.length]).toEqual([2, 0]);
});
