/** Every route of the table: who may call it, by what method, and what is on its answer. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { contentSecurityPolicy } from "../lib/assets.ts";
import type { Route } from "../lib/http.ts";
import { api, BOT_TOKEN, startGateway, v1Bot, type V1Bot } from "./harness.ts";
import { person, type Person } from "./harness/person.ts";
import { callRoute, codeOf, named } from "./harness/routes.ts";

let gateway: Awaited<ReturnType<typeof startGateway>>;
let bot: V1Bot;
let admin: Person;
let user: Person;

beforeAll(async () => {
  gateway = await startGateway({
    publicUrl: "https://nexus.example.com",
    limits: { sendsPerMinute: 0, streamsPerUser: 0, turnsPerUser: 0 },
  });
  bot = await v1Bot(gateway.wsUrl, { token: BOT_TOKEN });
  admin = await person(gateway.url);
  user = await person(gateway.url, "user1");
});
afterAll(async () => {
  await bot.close();
  await gateway.stop();
});

const routes = (): Route[] => gateway.gateway.routes;
const call = (route: Route, init?: Parameters<typeof callRoute>[2]) => callRoute(gateway.url, route, init);
const guarded = (): Route[] => routes().filter(({ auth }) => auth !== "none");

describe("who may call", () => {
  test("nobody without a session reaches a route that is not open to all, whatever it brings instead", async () => {
    expect(guarded().length).toBeGreaterThan(20);
    for (const route of guarded())
      for (const headers of [
        {},
        { Authorization: "Bearer " },
        { Authorization: "Bearer nxs_forged" },
        { Authorization: "Bearer nxk_forged" },
        { Authorization: "Bearer nxb_forged" },
        { Authorization: `Bearer ${BOT_TOKEN}` },
        { Authorization: `Basic ${btoa("admin:correct horse")}` },
        { Cookie: "nexus=nxs_forged; __Host-nexus=nxs_forged" },
      ]) {
        const { status, text } = await call(route, { headers: headers as Record<string, string> });
        expect(`${named(route)} ${JSON.stringify(headers)} ${status}`).toBe(
          `${named(route)} ${JSON.stringify(headers)} 401`,
        );
        expect(["unauthorized", "invalid_api_key"]).toContain(codeOf(text) as string);
      }
  });

  test("routes of admins are closed to people without the role, and to every key", async () => {
    const key = (await admin.call("POST", "/api/keys", { name: "all", scope: "all" })).body.key as string;
    const closed = routes().filter(({ auth }) => auth === "admin");
    expect(closed.length).toBeGreaterThan(0);
    for (const route of closed)
      for (const token of [user.token, key])
        expect(`${named(route)} ${(await call(route, { token })).status}`).toBe(`${named(route)} 403`);
  });

  test("a key of scope chat reaches only what its scope says; no key reaches keys, sign-out or the password", async () => {
    const chat = (await admin.call("POST", "/api/keys", { name: "c" })).body.key as string;
    const all = (await admin.call("POST", "/api/keys", { name: "a", scope: "all" })).body.key as string;
    const reaches = new Set(
      guarded()
        .filter(({ scope }) => scope === "chat")
        .map(({ path }) => path),
    );
    expect([...reaches].filter((path) => !/^\/(v1\/|api\/(chat|turns|bots))/.test(path))).toEqual([]);
    expect(
      guarded()
        .filter(({ auth }) => auth === "session")
        .map(named),
    ).toEqual(expect.arrayContaining(["POST /api/logout", "GET /api/keys", "POST /api/keys", "DELETE /api/keys/:id"]));
    for (const route of guarded()) {
      const withChat = (await call(route, { token: chat })).status === 403;
      expect(`${named(route)} closed to chat: ${withChat}`).toBe(
        `${named(route)} closed to chat: ${route.scope !== "chat"}`,
      );
      const withAll = (await call(route, { token: all })).status === 403;
      expect(`${named(route)} closed to all: ${withAll}`).toBe(
        `${named(route)} closed to all: ${route.auth !== "user"}`,
      );
    }
  });
});

describe("methods and paths (S15)", () => {
  const METHODS = ["GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"];

  test("a method that is not listed is 405 with the ones that are", async () => {
    const byPath = new Map<string, Set<string>>();
    for (const route of routes()) byPath.set(route.path, (byPath.get(route.path) ?? new Set()).add(route.method));
    for (const [path, methods] of byPath) {
      const allowed = methods.has("GET") ? new Set([...methods, "HEAD"]) : methods;
      for (const method of METHODS) {
        if (methods.has(method)) continue;
        const url = gateway.url + path.replace(/:[a-zA-Z]+/g, "x");
        const response = await fetch(url, { method, headers: { Authorization: `Bearer ${admin.token}` } });
        const text = await response.text();
        expect(`${method} ${path} ${response.status}`).toBe(`${method} ${path} 405`);
        expect(codeOf(text)).toBe("method_not_allowed");
        // A more special path may allow what this one does not: `/a/b` is also `/a/:x`.
        const told = new Set(response.headers.get("allow")!.split(", "));
        for (const one of allowed) expect(told).toContain(one);
        expect(told).not.toContain(method);
      }
    }
  });

  test("an unknown path is 404, in JSON under /api, whoever asks and by whatever method", async () => {
    const paths = [
      "/api",
      "/api/",
      "/api/nosuch",
      "/api/conversations/x/y",
      "/api/../api/x",
      "/nosuch",
      "/.env",
      "/config.json",
      "/data/nexus.db",
      "/%2e%2e/etc/passwd",
      "/api/me/",
    ];
    for (const path of paths)
      for (const method of ["GET", "POST", "DELETE"]) {
        const { status, text } = await api(gateway.url, admin.token)(method, path);
        expect(`${method} ${path} ${status}`).toBe(`${method} ${path} 404`);
        expect(codeOf(text)).toBe("not_found");
      }
  });

  test("HEAD is GET without a body", async () => {
    for (const path of ["/health", "/api/me", "/api/conversations", "/api/bots", "/api/keys"]) {
      const head = await fetch(gateway.url + path, {
        method: "HEAD",
        headers: { Authorization: `Bearer ${admin.token}` },
      });
      expect(`${path} ${head.status} ${await head.text()}`).toBe(`${path} 200 `);
      expect(head.headers.get("content-type")).toContain("json");
    }
    expect((await fetch(`${gateway.url}/api/me`, { method: "HEAD" })).status).toBe(401);
  });
});

describe("headers (S5)", () => {
  const check = (what: string, headers: Headers): void => {
    const lines: [name: string, value: RegExp][] = [
      ["content-security-policy", /^default-src 'none'; /],
      ["x-content-type-options", /^nosniff$/],
      ["referrer-policy", /^(same-origin|no-referrer)$/],
      ["cross-origin-opener-policy", /^same-origin$/],
      ["cross-origin-resource-policy", /^same-origin$/],
      ["strict-transport-security", /^max-age=31536000$/],
    ];
    for (const [name, value] of lines)
      expect(`${what} ${name}: ${value.test(headers.get(name) ?? "")}`).toEndWith(": true");
  };

  test("are on every answer of every route, good or bad, and on what no route took", async () => {
    for (const route of routes())
      for (const token of [undefined, admin.token, user.token]) {
        if (route.path === "/api/logout" && token !== undefined) continue;
        const { headers, status } = await call(route, token === undefined ? {} : { token });
        check(`${named(route)} ${status}`, headers);
        const type = headers.get("content-type") ?? "";
        if (type.includes("json"))
          expect(`${named(route)} ${headers.get("cache-control")}`).toBe(`${named(route)} no-store`);
        if (type.includes("event-stream")) expect(headers.get("cache-control")).toBe("no-cache, no-transform");
      }
    for (const [method, path] of [
      ["GET", "/nosuch"],
      ["PUT", "/api/me"],
      ["OPTIONS", "/api/me"],
      ["GET", "/api/nosuch"],
    ] as const) {
      const response = await fetch(gateway.url + path, { method });
      await response.text();
      check(`${method} ${path}`, response.headers);
    }
  });

  test("the policy on the API is the page's, to the letter", async () => {
    const { headers } = await call(routes().find(({ path }) => path === "/health")!);
    const policy = headers.get("content-security-policy")!;
    expect(policy).toBe(contentSecurityPolicy(["'self'"]));
    for (const part of [
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "img-src 'self' blob: data:",
      "connect-src 'self'",
      "base-uri 'none'",
      "form-action 'self'",
      "frame-ancestors 'self'",
      "require-trusted-types-for 'script'",
      "trusted-types 'none'",
    ])
      expect(policy.split("; ")).toContain(part);
  });
});
