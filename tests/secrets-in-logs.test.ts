/** No secret and nobody's words in the log, in errors or in addresses (S11): a day of use in small, searched afterwards. */
import { expect, test } from "bun:test";
import { createLog } from "../lib/log.ts";
import { createGateway } from "../lib/gateway.ts";
import { parseConfig } from "../lib/config.ts";
import {
  api,
  PASSWORD,
  rawSocket,
  readSse,
  startProcess,
  tempDir,
  testConfig,
  until,
  v1Bot,
  v2Bot,
} from "./harness.ts";
import { CHEAP_HASHES } from "./harness/config.ts";
import { upload } from "./harness/files.ts";
import { person } from "./harness/person.ts";

const CANARY = {
  botToken: "nxb_canary-bot-token-canary-bot-token",
  ownToken: "canary-token-of-one-bot",
  wrongPassword: "canary-wrong-password",
  text: "canary-message-text",
  reply: "canary-reply-text",
  title: "canary-title",
  file: "canary-file-name",
  bytes: "canary-file-bytes",
  query: "canary-search-words",
  error: "canary-error-of-the-bot",
  json: "canary-in-broken-json",
} as const;

/** Uses everything once, well and badly; returns the secrets that were made on the way. */
const useAll = async (url: string, wsUrl: string): Promise<string[]> => {
  const bot = await v2Bot(wsUrl, {
    register: { botId: "canary-bot", token: CANARY.botToken, caps: ["ack", "seq", "message", "attachments"] },
    onChat: (chat, self) => {
      if (chat.content.includes("fail")) self.end(chat, "", { error: { code: "x", message: CANARY.error } });
      else self.end(chat, CANARY.reply);
    },
  });
  const old = await v1Bot(wsUrl, { botId: "own", token: CANARY.ownToken });
  await rawSocket(wsUrl).then(async (socket) => {
    socket.send({ type: "register", botId: "intruder", token: CANARY.ownToken });
    await socket.closed;
  });
  bot.send(`{"type":"reply","content":"${CANARY.json}"`);
  bot.send({ type: "reply", replyTo: "outbound-1", content: CANARY.reply, done: true });
  bot.send({ type: "message", id: "m1", to: { userId: "admin" }, content: CANARY.reply });
  bot.send({ type: "message", id: "m2", to: { userId: "nobody" }, content: CANARY.reply });
  await bot.waitFor("ack", (frame) => "id" in frame && frame.id === "m1");

  const admin = await person(url);
  for (const body of [
    { username: "admin", password: CANARY.wrongPassword },
    { username: CANARY.wrongPassword, password: PASSWORD },
    `{"username":"admin","password":"${CANARY.json}"`,
  ])
    await api(url)("POST", "/api/login", body);
  const id = await admin.conversation({ title: CANARY.title });
  await admin.exchange(id, CANARY.text, { target: "canary-bot" });
  await admin.exchange(id, `fail ${CANARY.text}`, { target: "canary-bot" });
  await admin.call("POST", "/api/chat", { message: CANARY.text, target: CANARY.text });
  await admin.call("POST", "/api/chat", `{"message":"${CANARY.json}`);
  await admin.call("POST", "/api/chat", { message: { [CANARY.json]: 1 } });
  await readSse(await admin.call.stream("/api/chat/stream", { message: CANARY.text, target: "own" })).all();
  const file = await upload(admin, CANARY.bytes, { "X-Filename": CANARY.file });
  await admin.call("GET", `/api/attachments/${file.body.id}`);
  await admin.call("GET", `/api/search?q=${CANARY.query}`);
  await admin.call("GET", `/api/conversations/${id}/export`);
  await admin.call("GET", `/api/me?token=${admin.token}`);
  const key = (await admin.call<{ key: string }>("POST", "/api/keys", { name: "k", scope: "all" })).body.key;
  await api(url, key)("GET", "/api/conversations");
  await fetch(`${url}/api/me`, { headers: { Cookie: `nexus=${admin.token}` } });
  await fetch(`${url}/api/conversations`, {
    method: "POST",
    headers: { Cookie: `nexus=${admin.token}`, Origin: "https://evil.example" },
    body: CANARY.json,
  });
  await admin.call("POST", "/api/logout");
  const secrets = [admin.token, key, bot.registered.session!];
  await bot.close();
  await old.close();
  return secrets;
};

const config = () => ({
  botToken: CANARY.botToken,
  bots: { own: { token: CANARY.ownToken, users: ["admin"] } },
  language: "en",
});

const leaks = (output: string, secrets: string[]): string[] =>
  [...Object.values(CANARY), PASSWORD, ...secrets, ...secrets.map((secret) => secret.slice(4))].filter((secret) =>
    output.includes(secret),
  );

/** What every refusal says while `run` runs: its body and its headers. */
const refusalsOf = async <T>(run: () => Promise<T>): Promise<[result: T, refusals: string]> => {
  const real = globalThis.fetch;
  const said: string[] = [];
  const listening = async (...given: Parameters<typeof fetch>): Promise<Response> => {
    const response = await real(...given);
    if (response.status >= 400) said.push(`${await response.clone().text()} ${JSON.stringify([...response.headers])}`);
    return response;
  };
  globalThis.fetch = Object.assign(listening, real);
  try {
    return [await run(), said.join("\n")];
  } finally {
    globalThis.fetch = real;
  }
};

test("the output of the process holds none of it, and no refusal repeats any of it", async () => {
  const running = await startProcess({ config: config() });
  const [secrets, refusals] = await refusalsOf(() => useAll(running.url, running.wsUrl));
  expect(refusals.split("\n").length).toBeGreaterThan(5);
  expect(leaks(refusals, secrets)).toEqual([]);
  running.kill("SIGTERM");
  expect(await running.exited).toBe(0);
  const output = running.stdout() + running.stderr();
  expect(output).toContain("login_failed");
  expect(output).toContain("dead_letter");
  expect(leaks(output, secrets)).toEqual([]);
  await running.stop();
}, 15_000);

test("neither does the log at its most talkative, also while every route breaks with somebody's words in the error", async () => {
  const dir = await tempDir("s11");
  const parsed = parseConfig(testConfig({ ...config(), dataDir: dir.path }, true), {}, undefined, CHEAP_HASHES);
  if (!parsed.ok) throw new Error(parsed.faults.map(({ path }) => path).join());
  const lines: string[] = [];
  const log = createLog({ json: true, colour: false, level: "debug", write: (line) => void lines.push(line) });
  const gateway = await createGateway({ config: parsed.config, log, dataDir: dir.path });
  const { port, url } = gateway.listen();
  const secrets = await useAll(url, `ws://127.0.0.1:${port}/bot-ws`);

  const admin = await person(url);
  secrets.push(admin.token);
  const id = await admin.conversation();
  for (const error of [
    new Error(`no detail`),
    new SyntaxError(`JSON Parse error: ${CANARY.json}`),
    { content: CANARY.text, token: admin.token },
  ]) {
    for (const route of gateway.routes) {
      const kept = route.handle;
      route.handle = () => {
        throw error;
      };
      await admin.call(
        route.method,
        route.path.replace(/:[a-z]+/gi, id),
        route.method === "POST" ? { message: CANARY.text } : undefined,
      );
      route.handle = kept;
    }
  }
  await until(() => lines.some((line) => line.includes("request_failed")));
  expect(leaks(lines.join(""), secrets)).toEqual([]);
  await gateway.close();
  await dir.remove();
}, 15_000);
