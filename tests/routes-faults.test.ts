/** Every route of the table when it is given what it does not expect, and when it breaks (F6). */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Route } from "../lib/http.ts";
import { api, BOT_TOKEN, startGateway, until, v1Bot, type V1Bot } from "./harness.ts";
import { person, type Person } from "./harness/person.ts";
import { callRoute, named } from "./harness/routes.ts";

let gateway: Awaited<ReturnType<typeof startGateway>>;
let bot: V1Bot;
let admin: Person;

beforeAll(async () => {
  gateway = await startGateway({
    publicUrl: "https://nexus.example.com",
    limits: { sendsPerMinute: 0, streamsPerUser: 0, turnsPerUser: 0 },
  });
  bot = await v1Bot(gateway.wsUrl, { token: BOT_TOKEN });
  admin = await person(gateway.url);
});
afterAll(async () => {
  await bot.close();
  await gateway.stop();
});

const routes = (): Route[] => gateway.gateway.routes;
const call = (route: Route, init?: Parameters<typeof callRoute>[2]) => callRoute(gateway.url, route, init);

describe("bodies", () => {
  const NASTY = [
    "",
    "{",
    "null",
    "[]",
    '"x"',
    "5",
    "true",
    '{"__proto__":{"admin":true}}',
    '{"constructor":{"prototype":{}}}',
    `${"[".repeat(20_000)}${"]".repeat(20_000)}`,
    `{"a":${'{"a":'.repeat(5000)}1${"}".repeat(5000)}}`,
    '{"message":{},"content":{},"clientId":{},"username":{},"password":{},"name":{},"title":{},"model":{},"messages":{}}',
    '{"message":["x"],"content":5,"clientId":5,"username":5,"password":5,"name":5,"title":5,"model":5,"messages":5}',
    '{"message":"\\ud800","content":"\\ud800","clientId":"\\ud800","username":"\\u0000","password":"\\u0000","name":"\\ud800"}',
    '{"attachments":[{}],"clientId":"a","content":"b","message":"b"}',
    '{"limit":1e400,"expiresAt":-1,"name":"x","read":"","pinned":null}',
    "\ufeff{}",
    '{"a":"\u2028"}',
  ];

  test("of any kind bring a refusal or an answer, never a failure, and the next caller is served", async () => {
    for (const route of routes().filter(({ method }) => method === "POST" || method === "PATCH")) {
      if (route.path === "/api/logout") continue;
      for (const body of NASTY) {
        const { status } = await call(route, { token: admin.token, body });
        if (status >= 500 && status !== 503) throw new Error(`${named(route)} ${body.slice(0, 80)}: ${status}`);
      }
    }
    expect(gateway.logs.filter(({ event }) => event === "request_failed")).toEqual([]);
    expect((await fetch(`${gateway.url}/health`)).status).toBe(200);
  });

  test("that are no JSON or of the wrong shape are 400, and say where", async () => {
    const id = await admin.conversation();
    const cases: [method: string, path: string, body: string, says: RegExp][] = [
      ["POST", "/api/login", "{", /JSON/],
      ["POST", "/api/login", '{"username":"admin"}', /password/],
      ["POST", "/api/chat", '{"message":{}}', /message/],
      ["POST", "/api/chat/stream", '{"message":5}', /message/],
      ["POST", "/api/keys", "{}", /name/],
      ["POST", "/api/keys", '{"name":"x","scope":"root"}', /scope/],
      ["POST", `/api/conversations/${id}/messages`, '{"content":"x"}', /clientId/],
      ["PATCH", `/api/conversations/${id}`, '{"pinned":"yes"}', /pinned/],
      ["POST", "/api/conversations", '{"botId":"a b"}', /botId/],
    ];
    for (const [method, path, body, says] of cases) {
      const answer = await api(gateway.url, admin.token)(method, path, body, { headers: { "Accept-Language": "en" } });
      expect(`${path} ${answer.status} ${answer.body.code}`).toBe(`${path} 400 bad_request`);
      expect(String(answer.body.error)).toMatch(says);
    }
  });

  test("refusals are in the language that is asked for, zh by itself", async () => {
    const ask = async (language?: string) =>
      (
        await api(gateway.url)("GET", "/api/me", undefined, {
          headers: language ? { "Accept-Language": language } : {},
        })
      ).body.error;
    expect(await ask()).toBe("请先登录");
    expect(await ask("en-US,en;q=0.9,zh;q=0.8")).toBe("Sign in first");
    expect(await ask("zh-CN,zh;q=0.9,en;q=0.8")).toBe("请先登录");
    expect(await ask("fr")).toBe("请先登录");
  });
});

describe("a route that breaks (F6)", () => {
  const breaks: [how: string, handle: () => Response | Promise<Response>][] = [
    [
      "throws",
      () => {
        throw new Error("secret detail /etc/passwd");
      },
    ],
    [
      "rejects",
      async () => {
        throw new TypeError("secret detail /etc/passwd");
      },
    ],
    [
      "throws text",
      () => {
        throw "secret detail /etc/passwd";
      },
    ],
    [
      "throws nothing",
      () => {
        throw undefined;
      },
    ],
    [
      "throws what cannot be shown",
      () => {
        throw Object.create(null);
      },
    ],
  ];

  test("answers 500 with a request id and nothing else; the rest goes on", async () => {
    for (const route of routes()) {
      const kept = route.handle;
      for (const [how, handle] of breaks) {
        route.handle = handle;
        const before = gateway.logs.length;
        const { status, text } = await call(route, { token: admin.token });
        expect(`${named(route)} ${how} ${status}`).toBe(`${named(route)} ${how} 500`);
        const body = JSON.parse(text);
        const inner = route.refusal ? body.error : body;
        if (!route.refusal) expect(Object.keys(body).sort()).toEqual(["code", "error", "requestId"]);
        expect(text).not.toMatch(/secret|passwd|\.ts|at /);
        const id: string = body.requestId ?? inner.requestId ?? /[0-9a-f-]{36}/.exec(text)?.[0] ?? "";
        const line = gateway.logs.slice(before).find(({ event }) => event === "request_failed");
        expect(String(line?.fields.requestId)).toMatch(/^[0-9a-f-]{36}$/);
        expect(line!.fields.method).toBe(route.method);
        if (id !== "") expect(line!.fields.requestId).toBe(id);
      }
      route.handle = kept;
    }
    expect((await api(gateway.url, admin.token)("POST", "/api/chat", { message: "still there?" })).body.content).toBe(
      "echo: still there?",
    );
    await until(() => gateway.gateway.gate.streams.count() === 0);
    expect(gateway.gateway.gate.turns.count()).toBe(0);
  });

  test("is named to the caller by the id their proxy gave, if that is a plain one", async () => {
    const route = routes().find(({ path }) => path === "/api/me")!;
    const kept = route.handle;
    route.handle = () => {
      throw new Error("x");
    };
    for (const [given, plain] of [
      ["req-123", true],
      ["a b", false],
      ["x".repeat(200), false],
      ["<script>", false],
    ] as const) {
      const { text } = await call(route, { token: admin.token, headers: { "X-Request-Id": given } });
      expect(JSON.parse(text).requestId === given).toBe(plain);
    }
    route.handle = kept;
  });
});
