/** Sockets that only take up room: five hundred that say too little (B5), and more of them than the process may hold. */
import { afterEach, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { api, BOT_TOKEN, login, readSse, ROOT, startProcess, until, v2Bot } from "../harness.ts";
import type { Said } from "../harness/rig.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

type Slow = { socket: Socket; endedAt: number | undefined };

const slow = (port: number, begin: string): Slow => {
  const socket = connect(port, "127.0.0.1");
  const one: Slow = { socket, endedAt: undefined };
  socket.on("close", () => {
    one.endedAt = performance.now();
  });
  socket.on("error", () => {});
  socket.on("data", () => {});
  if (begin !== "") socket.write(begin);
  return one;
};

test("five hundred sockets with slow headers, slow bodies or nothing to say end within 30 s; a person is served meanwhile (B5)", async () => {
  const run = await startProcess({ config: { limits: { sendsPerMinute: 0 } } });
  closers.push(run.stop);
  const token = await login(run.url);
  const call = api(run.url, token);
  const bot = await v2Bot(run.wsUrl, { register: { botId: "a", token: BOT_TOKEN } });
  const head = (path: string, length: number): string =>
    `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAuthorization: Bearer ${token}\r\nContent-Length: ${length}\r\n\r\n`;
  const kinds: [name: string, begin: string, drip: string][] = [
    ["nothing", "", ""],
    ["half a header", "GET /api/me HTTP/1.1\r\nHost: 127.0", ""],
    ["a header byte by byte", "GET /api/me HTTP/1.1\r\nX: ", "x"],
    ["a body that stops", `${head("/api/chat", 1000)}{"mess`, ""],
    ["a body byte by byte", `${head("/api/login", 60_000)}{"u": "`, "u"],
  ];
  const began = performance.now();
  const all = kinds.flatMap(([, begin]) => Array.from({ length: 100 }, () => slow(run.port, begin)));
  let worst = 0;
  let served = 0;
  while (performance.now() - began < 30_000 && all.some(({ endedAt }) => endedAt === undefined)) {
    kinds.forEach(([, , drip], kind) => {
      if (drip === "") return;
      for (const { socket, endedAt } of all.slice(kind * 100, kind * 100 + 100))
        if (endedAt === undefined) socket.write(drip);
    });
    const asked = performance.now();
    expect((await call("POST", "/api/chat", { message: "hi" })).status).toBe(200);
    worst = Math.max(worst, performance.now() - asked);
    served++;
    await Bun.sleep(1_000);
  }
  const open = kinds.filter((_, i) => all.slice(i * 100, i * 100 + 100).some(({ endedAt }) => endedAt === undefined));
  expect(open.map(([name]) => name)).toEqual([]);
  const last = Math.max(...all.map(({ endedAt }) => endedAt! - began));
  console.log(
    `the last of 500 ended after ${(last / 1000).toFixed(1)} s; ${served} chats meanwhile, the slowest ${worst.toFixed(0)} ms`,
  );
  expect(last).toBeLessThan(30_000);
  expect(worst).toBeLessThan(2_000);
  await bot.close();
}, 60_000);

test("near the limit of file descriptors newcomers that would stay get 503; at it, who is connected goes on; all is well when there is room again", async () => {
  const limits = { connectionsPerAddress: 0, streamsPerUser: 0, sendsPerMinute: 0 };
  const run = await startProcess({
    run: ["prlimit", "--nofile=160", process.execPath, `${ROOT}/server.ts`],
    config: { limits },
  });
  closers.push(run.stop);
  const held = (): number => readdirSync(`/proc/${run.pid}/fd`).length;
  const token = await login(run.url);
  const call = api(run.url, token);
  const bot = await v2Bot(run.wsUrl, { register: { botId: "a", token: BOT_TOKEN }, onChat: () => {} });
  const turn = readSse<Said>(await call.stream("/api/chat/stream", { message: "hi" }));
  await turn.find(({ type }) => type === "start");
  const chat = await bot.waitFor("chat");
  bot.write(chat, "before ");
  await turn.find(({ type }) => type === "chunk");
  const upload = () =>
    call("POST", "/api/attachments", crypto.randomUUID(), {
      headers: { "content-type": "text/plain", "x-filename": "a.txt" },
    });
  expect((await upload()).status).toBe(201);

  // Whoever would stay is refused before the last descriptor is gone, so that the rest goes on: files, sign-ins, health.
  const stream = `GET /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`;
  const answers: string[] = [];
  const polite = Array.from({ length: 400 }, () => {
    const one = slow(run.port, stream);
    one.socket.once("data", (data) => {
      const head = data.toString("latin1");
      answers.push(head.slice(9, 12));
      if (!head.startsWith("HTTP/1.1 503")) return;
      expect(head).toMatch(/\r\nRetry-After: \d+\r\n/i);
      one.socket.destroy();
    });
    return one;
  });
  await until(() => answers.length === 400, 20_000, "an answer to each of 400");
  const accepted = answers.filter((status) => status === "200").length;
  expect(answers.filter((status) => status === "503").length).toBe(400 - accepted);
  expect(accepted).toBeGreaterThan(60);
  expect(accepted).toBeLessThan(130);
  expect((await upload()).status).toBe(201);
  expect(await login(run.url)).toStartWith("nxs_");
  expect(run.stdout()).toContain("descriptors_full");
  for (const { socket } of polite) socket.destroy();
  await until(() => held() < 60, 20_000, "the polite ones to be gone");

  // And at the very limit, by those who do not go.
  const crowd = Array.from({ length: 400 }, () => slow(run.port, stream));
  await until(() => held() >= 160, 10_000, "every descriptor to be taken");
  // Over the connection that was there before.
  const refused = await upload();
  expect([refused.status, refused.body.code]).toEqual([503, "storage_failed"]);
  bot.write(chat, "during ");
  await turn.find(({ content }) => content?.includes("during") === true);
  expect((await call("GET", "/health")).status).toBe(200);

  for (const { socket } of crowd) socket.destroy();
  await until(() => held() < 60, 20_000, "the descriptors to be free again");
  expect((await upload()).status).toBe(201);
  expect(await login(run.url)).toStartWith("nxs_");
  bot.end(chat, "after");
  const said = await turn.all();
  expect(said.map(({ data }) => data.content ?? "").join("")).toBe("before during after");
  expect(run.stdout()).not.toMatch(/uncaught|unhandled/);
  run.kill("SIGTERM");
  expect(await run.exited).toBe(0);
}, 60_000);
