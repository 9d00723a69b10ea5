/** Models of the config over reloads and restarts of their gateway: answers that were on their way arrive, whole and once. */
import { afterEach, expect, test } from "bun:test";
import type { Message } from "../lib/protocol.ts";
import { api, BOT_TOKEN, login, rawSocket, startGateway, tempDir, until } from "./harness.ts";
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

/** An answer that has begun and goes on when the test says so. */
const held = (begin: string, rest: string, go: Promise<void>): Response => {
  const { readable, writable } = new TransformStream<string, string>();
  const writer = writable.getWriter();
  void writer.write(openAi.text(begin));
  void go.then(async () => {
    await writer.write(openAi.text(rest) + openAi.finish());
    await writer.close();
  });
  return new Response(readable.pipeThrough(new TextEncoderStream()), {
    headers: { "Content-Type": "text/event-stream" },
  });
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
  const old = service(() => held("begun ", "and finished", finish.promise));
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

test("a model that was removed, be it with its token, finishes what it is saying and is asked no more", async () => {
  const fake = service(() => pieces([openAi.text("last "), 300, openAi.text("words"), openAi.finish()]));
  const { gateway, call, ask } = await setup([{ id: "m", openai: `${fake.url}/v1`, model: "one" }]);
  const asked = await ask("go");
  await until(() => fake.asked.length === 1);
  gateway.reload({ models: [], botToken: "nxb_another-token-of-the-harness" });
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

/** The config with another model beside them, which is there once those before would have been started again. */
const reloaded = async ({ gateway, call }: Awaited<ReturnType<typeof setup>>, models: object[], more: object) => {
  const late = `late-${crypto.randomUUID()}`;
  gateway.reload({ models: [...models, { id: late, echo: true, pools: ["late"] }], ...more });
  await until(async () =>
    (await call<{ bots: { id: string }[] }>("GET", "/api/bots")).body.bots.some(({ id }) => id === late),
  );
};

test("a program that is answering hears nothing of a token that is rotated, and its answer arrives to the end", async () => {
  const folder = await tempDir("models-life");
  closing.push(folder.remove);
  const [runs, go] = [`${folder.path}/runs`, `${folder.path}/go`];
  const command = `echo one; echo run >> ${runs}; while [ ! -e ${go} ]; do sleep 0.05; done; echo two`;
  const models = [{ id: "m", command }];
  const rig = await setup(models);
  const asked = await rig.ask("go");
  await until(() => Bun.file(runs).exists());
  await reloaded(rig, models, { botToken: ["nxb_new-token-of-the-harness", BOT_TOKEN] });
  await reloaded(rig, models, { botToken: "nxb_new-token-of-the-harness" });
  await Bun.write(go, "");
  expect(await answerTo(rig.call, asked)).toMatchObject({ state: "done", content: "one\ntwo\n" });
  expect(await Bun.file(runs).text()).toBe("run\n");
});

test("a reload that replaces every token leaves an answer with the model that is giving it", async () => {
  const finish = Promise.withResolvers<void>();
  const mine = service(() => held("begun ", "and finished", finish.promise));
  const beside = service(() => pieces([openAi.text("of another"), openAi.finish()]));
  const models = [
    { id: "m", openai: `${mine.url}/v1`, model: "one" },
    { id: "n", openai: `${beside.url}/v1`, model: "two" },
  ];
  const before = { m: { token: "nxb_token-of-its-own-before" } };
  const rig = await setup(models);
  await reloaded(rig, models, { bots: before });
  const { id } = (await rig.call<{ id: string }>("POST", "/api/conversations", { botId: "m" })).body;
  const body = { clientId: crypto.randomUUID(), content: "hello" };
  const sent = await rig.call<{ turnId: string }>("POST", `/api/conversations/${id}/messages`, body);
  await until(() => mine.asked.length === 1);
  await reloaded(rig, models, {
    botToken: "nxb_another-token-of-the-harness",
    bots: { m: { token: "nxb_token-of-its-own-after-" } },
  });
  finish.resolve();
  const answer = await answerTo(rig.call, { conversation: id, turn: sent.body.turnId });
  expect(answer).toMatchObject({ state: "done", botId: "m", content: "begun and finished" });
  expect([mine.asked.length, beside.asked.length]).toEqual([1, 0]);
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

test("a gateway that stops leaves who waits in the queue, whoever else is free", async () => {
  const folder = await tempDir("models-life");
  closing.push(folder.remove);
  const models = [{ id: "m", command: "echo one; sleep 30", maxConcurrency: 1 }];
  const before = await setup(models, folder.path);
  const { id } = (await before.call<{ id: string }>("POST", "/api/conversations", {})).body;
  const messages = async ({ call }: typeof before) =>
    (await call<{ messages: Message[] }>("GET", `/api/conversations/${id}/messages`)).body.messages;
  const send = async (content: string) =>
    (
      await before.call<{ turnId: string }>("POST", `/api/conversations/${id}/messages`, {
        clientId: crypto.randomUUID(),
        content,
      })
    ).body.turnId;
  const said = (turn: string) => async () => (await messages(before)).some((one) => one.id === turn && one.content);
  const first = await send("1");
  await until(said(first));
  await before.call("POST", `/api/turns/${first}/cancel`); // from here on the conversation is the model's
  const second = await send("2");
  await until(said(second));
  const idle = await rawSocket(before.gateway.wsUrl);
  idle.send({ type: "register", botId: "idle", token: BOT_TOKEN });
  await idle.waitFor("registered");
  const waiting = await send("3");
  await before.gateway.stop();
  expect(idle.frames.filter(({ type }) => type === "chat")).toEqual([]);
  const after = await setup([{ id: "m", echo: true }], folder.path);
  const answer = await until(async () =>
    (await messages(after)).find((one) => one.id === waiting && one.state === "done"),
  );
  expect([answer.botId, answer.content]).toEqual(["m", "3"]);
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
