/** The published contract, part one: signing in, sessions, health, the page, the process. */
import { strict as assert } from "node:assert";
import { join } from "node:path";
import { api, login, type LoginAnswer } from "../harness/client.ts";
import { freePort, within } from "../harness/wait.ts";
import { assertError, type Check, PLAIN } from "./check.ts";

export const people: Check[] = [
  {
    name: "login answers a token, the user and the end of the session",
    async run({ gateway }) {
      const before = Date.now();
      const body = { username: "admin", password: PLAIN };
      const answer = await api(gateway.url)<LoginAnswer>("POST", "/api/login", body);
      assert.equal(answer.status, 200);
      assert.ok(answer.body.token.length >= 32);
      assert.equal(answer.body.user.username, "admin");
      assert.equal(answer.body.user.displayName, "管理员");
      const ttl = answer.body.expiresAt - before;
      assert.ok(ttl >= 86_400_000 && ttl < 86_400_000 + 60_000, `a session of ${ttl} ms`);
    },
  },
  {
    name: "a wrong password is 401 with a sentence",
    run: async ({ gateway }) =>
      assertError(await api(gateway.url)("POST", "/api/login", { username: "user1", password: "no" }), 401),
  },
  {
    name: "an unknown user is 401 with a sentence",
    run: async ({ gateway }) =>
      assertError(await api(gateway.url)("POST", "/api/login", { username: "nobody", password: PLAIN }), 401),
  },
  {
    name: "a login without a password, or without anything, is 400",
    async run({ gateway }) {
      assertError(await api(gateway.url)("POST", "/api/login", { username: "admin" }), 400);
      assertError(await api(gateway.url)("POST", "/api/login", {}), 400);
    },
  },
  {
    name: "malformed JSON is 400 as JSON, without a stack",
    v1Defect: "answers an HTML page with a stack trace",
    run: async ({ gateway }) => assertError(await api(gateway.url)("POST", "/api/login", '{"username": '), 400),
  },
  {
    name: "names that every object has are not users",
    async run({ gateway }) {
      for (const username of ["constructor", "toString"])
        assertError(await api(gateway.url)("POST", "/api/login", { username, password: PLAIN }), 401);
    },
  },
  {
    name: "a user named __proto__ in config.json is a user like any other",
    apart: true,
    async run({ start }) {
      const users = JSON.parse(`{"__proto__": {"password": "${PLAIN}", "displayName": "P"}}`);
      const gateway = await start({ users });
      const token = await login(gateway.url, "__proto__", PLAIN);
      const answer = await api(gateway.url, token)<Omit<LoginAnswer, "token">>("GET", "/api/me");
      assert.equal(answer.body.user.username, "__proto__");
      assert.equal(answer.body.user.displayName, "P");
    },
  },
  {
    name: "admin/admin123 does not exist unless config.json says so",
    v1Defect: "merges its default admin into every config",
    apart: true,
    async run({ start }) {
      const gateway = await start({ users: { zhang: { password: PLAIN, displayName: "张三" } } });
      await login(gateway.url, "zhang", PLAIN);
      assertError(await api(gateway.url)("POST", "/api/login", { username: "admin", password: "admin123" }), 401);
    },
  },
  {
    name: "me answers the user and the end of the session",
    async run({ gateway, token }) {
      const answer = await api(gateway.url, token)<Omit<LoginAnswer, "token">>("GET", "/api/me");
      assert.equal(answer.status, 200);
      assert.equal(answer.body.user.username, "admin");
      assert.equal(answer.body.user.displayName, "管理员");
      assert.equal(typeof answer.body.expiresAt, "number");
    },
  },
  {
    name: "every call that needs a session is 401 without one and with a wrong one",
    async run({ gateway }) {
      for (const token of [undefined, "nonsense"])
        for (const [method, path] of [
          ["GET", "/api/me"],
          ["GET", "/api/bots"],
          ["POST", "/api/logout"],
          ["POST", "/api/chat"],
          ["POST", "/api/chat/stream"],
        ] as const)
          assertError(
            await api(gateway.url, token)(method, path, method === "POST" ? { message: "hi" } : undefined),
            401,
          );
    },
  },
  {
    name: "logout ends this session and no other",
    async run({ gateway, token }) {
      const mine = await login(gateway.url, "admin", PLAIN);
      const answer = await api(gateway.url, mine)("POST", "/api/logout");
      assert.equal(answer.status, 200);
      assert.equal(answer.body.success, true);
      assertError(await api(gateway.url, mine)("GET", "/api/me"), 401);
      assert.equal((await api(gateway.url, token)("GET", "/api/me")).status, 200);
    },
  },
  {
    name: "a session ends after sessionTTL",
    apart: true,
    async run({ start }) {
      const gateway = await start({ sessionTTL: 1000 });
      const token = await login(gateway.url, "admin", PLAIN);
      assert.equal((await api(gateway.url, token)("GET", "/api/me")).status, 200);
      await Bun.sleep(1100);
      assertError(await api(gateway.url, token)("GET", "/api/me"), 401);
    },
  },
  {
    name: "health needs no session and counts the bots",
    async run({ gateway, bot }) {
      const one = await bot();
      assert.equal(one.registered.success, true);
      const answer = await api(gateway.url)<{ botIds: string[] }>("GET", "/health");
      assert.equal(answer.status, 200);
      assert.deepEqual({ ...answer.body }, { status: "ok", bots: 1, botIds: answer.body.botIds });
      assert.match(answer.body.botIds.join(), /^bot-\d+$/);
    },
  },
  {
    name: "the root is the chat page",
    async run({ gateway }) {
      const answer = await api(gateway.url)("GET", "/");
      assert.equal(answer.status, 200);
      assert.match(answer.headers.get("content-type") ?? "", /^text\/html/);
      assert.match(answer.text, /<!doctype html>/i);
    },
  },
  {
    name: "an unknown path is 404",
    run: async ({ gateway, token }) =>
      assert.equal((await api(gateway.url, token)("GET", "/api/nothing-here")).status, 404),
  },
  {
    name: "a preflight is answered",
    async run({ gateway }) {
      const headers = { origin: "https://elsewhere.example", "access-control-request-method": "POST" };
      const answer = await api(gateway.url)("OPTIONS", "/api/chat", undefined, { headers });
      assert.ok(answer.status === 200 || answer.status === 204, `status ${answer.status}`);
    },
  },
  {
    name: "the first start in an empty folder writes config.json with the published fields",
    apart: true,
    async run({ start }) {
      const port = freePort();
      const gateway = await start({}, { config: null, port, env: { ...basicEnv(), PORT: String(port) } });
      const written = await Bun.file(join(gateway.cwd, "config.json")).json();
      assert.equal(written.port, 17392);
      for (const key of ["botToken", "users"]) assert.ok(key in written, `${key} is missing`);
    },
  },
  {
    name: "the first start makes no password anybody could guess",
    v1Defect: "writes admin/admin123",
    apart: true,
    async run({ start }) {
      const port = freePort();
      const gateway = await start({}, { config: null, port, env: { ...basicEnv(), PORT: String(port) } });
      assertError(await api(gateway.url)("POST", "/api/login", { username: "admin", password: "admin123" }), 401);
    },
  },
  {
    name: "PORT in the environment overrides the config",
    apart: true,
    async run({ start }) {
      const port = freePort();
      const gateway = await start({ port: freePort() }, { port, env: { ...basicEnv(), PORT: String(port) } });
      assert.equal((await api(gateway.url)("GET", "/health")).status, 200);
    },
  },
  {
    name: "SIGTERM ends the process with 0",
    apart: true,
    async run({ start, bot }) {
      const gateway = await start();
      await bot({}, gateway);
      gateway.kill("SIGTERM");
      const code = await within(gateway.exited, 5000, "the process to end");
      assert.equal(code, 0, gateway.stdout() + gateway.stderr());
    },
  },
];

const basicEnv = () => ({ PATH: process.env.PATH ?? "" });
