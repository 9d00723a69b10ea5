/** Sessions, keys and origins over HTTP: what is on disk (S1), what dies when (S1, S14), cookies and foreign pages (S3). */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { UserEvent } from "../lib/protocol.ts";
import { api, BOT_TOKEN, PASSWORD, startGateway, tempDir, testConfig, v1Bot, v2Bot, until } from "./harness.ts";
import { person, type Person } from "./harness/person.ts";
import { readSse } from "./harness/sse.ts";

type KeyAnswer = { id: string; key: string; name: string; scope: string; bots?: string[] };

let gateway: Awaited<ReturnType<typeof startGateway>>;
let admin: Person;
const clock = { at: Date.now() };
const closing: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  gateway = await startGateway({ limits: { sendsPerMinute: 0 }, sessionTTL: 3600_000 }, { now: () => clock.at });
  for (const botId of ["one", "two"]) closing.push((await v1Bot(gateway.wsUrl, { botId, token: BOT_TOKEN })).close);
  admin = await person(gateway.url);
});
afterAll(async () => {
  for (const close of closing) await close();
  await gateway.stop();
});

const makeKey = async (body: object, who = admin): Promise<KeyAnswer> =>
  (await who.call<KeyAnswer>("POST", "/api/keys", body)).body;
const status = async (token: string, path = "/api/me"): Promise<number> =>
  (await api(gateway.url, token)("GET", path)).status;
/** Everything in the folder of the data, as one text. */
const onDisk = (dir: string): string =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), "latin1"))
    .join("\n");

describe("secrets (S1)", () => {
  test("have 256 random bits, and only their SHA-256 is on disk, in every file and every table", async () => {
    const dir = await tempDir("s1");
    const other = await startGateway({}, { dataDir: dir.path });
    const session = await person(other.url);
    const key = (await session.call<KeyAnswer>("POST", "/api/keys", { name: "k" })).body.key;
    const bot = await v2Bot(other.wsUrl, { register: { token: BOT_TOKEN } });
    const secrets = [session.token, key, bot.registered.session!];
    expect(secrets.map((secret) => secret.slice(0, 4))).toEqual(["nxs_", "nxk_", "nxb_"]);
    for (const secret of secrets) expect(Buffer.from(secret.slice(4), "base64url")).toHaveLength(32);
    other.gateway.gate.store.flush();

    const disk = onDisk(dir.path);
    const digest = (secret: string) => new Bun.CryptoHasher("sha256").update(secret).digest("hex");
    for (const secret of secrets) {
      expect(disk).toContain(digest(secret));
      expect(disk).not.toContain(secret);
      expect(disk).not.toContain(secret.slice(4));
      expect(disk).not.toContain(Buffer.from(secret.slice(4), "base64url").toString("hex"));
    }
    expect(disk).not.toContain(PASSWORD);
    expect(disk).not.toContain(BOT_TOKEN);
    const db = new Database(join(dir.path, "nexus.db"), { readonly: true });
    const tables = db.query<{ name: string }, []>("SELECT name FROM sqlite_schema WHERE type = 'table'").all();
    const dump = JSON.stringify(tables.map(({ name }) => db.query(`SELECT * FROM "${name}"`).values()));
    for (const secret of [...secrets, PASSWORD, BOT_TOKEN]) expect(dump).not.toContain(secret);
    db.close();
    await bot.close();
    await other.stop();
    await dir.remove();
  });

  test("are all different", async () => {
    const people = await Promise.all(Array.from({ length: 5 }, () => person(gateway.url)));
    expect(new Set(people.map(({ token }) => token)).size).toBe(5);
  });
});

describe("a session", () => {
  test("survives a restart and ends at its time, at sign-out and with its user's password, then for good (S1)", async () => {
    const dir = await tempDir("session");
    const users = testConfig({}, true).users as Record<string, object>;
    const changed = { users: { ...users, user1: { ...users.user1, password: "changed while away" } } };
    let at = Date.now();
    const start = (config: object = {}) =>
      startGateway({ sessionTTL: 3600_000, ...config }, { dataDir: dir.path, now: () => at });
    const status = async (base: string, token: string) => (await api(base, token)("GET", "/api/me")).status;

    const first = await start();
    const [kept, out, user] = [await person(first.url), await person(first.url), await person(first.url, "user1")];
    await out.call("POST", "/api/logout");
    await first.stop();

    const second = await start(changed);
    expect(await status(second.url, kept.token)).toBe(200);
    expect(await status(second.url, out.token)).toBe(401);
    expect(await status(second.url, user.token)).toBe(401);
    await second.stop();

    // The old password in the config again does not bring the session back.
    const third = await start();
    expect(await status(third.url, user.token)).toBe(401);
    expect(await status(third.url, kept.token)).toBe(200);
    at += 3600_000;
    expect(await status(third.url, kept.token)).toBe(401);
    third.gateway.sweeps.minute();
    await third.stop();
    const fourth = await start();
    at -= 3600_000;
    expect(await status(fourth.url, kept.token)).toBe(401);
    await fourth.stop();
    await dir.remove();
  });

  test("answers who it is and until when; nothing else signs it in", async () => {
    const me = await admin.call("GET", "/api/me");
    expect(me.body).toEqual({
      user: { username: "admin", displayName: "管理员", role: "admin" },
      expiresAt: clock.at + 3600_000,
    });
    for (const token of [
      `${admin.token}x`,
      admin.token.slice(0, -1),
      admin.token.toUpperCase(),
      ` ${admin.token} x`,
      "",
    ])
      expect(`${token.length} ${await status(token)}`).toBe(`${token.length} 401`);
    expect((await fetch(`${gateway.url}/api/me?token=${admin.token}`)).status).toBe(401);
  });
});

describe("a key", () => {
  test("is shown once, listed without its secret, and used until it is deleted", async () => {
    const made = await makeKey({ name: "ci", bots: ["one"] });
    expect(made).toMatchObject({ name: "ci", scope: "chat", bots: ["one"] });
    const listed = (await admin.call<{ keys: Record<string, unknown>[] }>("GET", "/api/keys")).body.keys;
    const mine = listed.find(({ id }) => id === made.id)!;
    expect(Object.keys(mine).sort()).toEqual(["bots", "createdAt", "id", "name", "scope"]);
    expect(JSON.stringify(listed)).not.toContain("nxk_");
    expect(await status(made.key, "/api/bots")).toBe(200);
    gateway.gateway.sweeps.minute();
    const again = (await admin.call<{ keys: { id: string; lastUsedAt?: number }[] }>("GET", "/api/keys")).body.keys;
    expect(again.find(({ id }) => id === made.id)!.lastUsedAt).toBe(clock.at);
    expect((await admin.call("DELETE", `/api/keys/${made.id}`)).status).toBe(200);
    expect(await status(made.key, "/api/bots")).toBe(401);
    expect((await admin.call("DELETE", `/api/keys/${made.id}`)).status).toBe(404);
  });

  test("with a list of bots sees and reaches only those", async () => {
    const { key } = await makeKey({ name: "one only", scope: "all", bots: ["one"] });
    const script = api(gateway.url, key);
    expect((await script<{ bots: { id: string }[] }>("GET", "/api/bots")).body.bots.map(({ id }) => id)).toEqual([
      "one",
    ]);
    for (let i = 0; i < 4; i++) expect((await script("POST", "/api/chat", { message: "x" })).body.botId).toBe("one");
    for (const body of [
      { message: "x", target: "two" },
      { message: "@two x", target: "two" },
    ])
      expect((await script("POST", "/api/chat", body)).body.code).toBe("bot_not_found");
    // A name it may not use is text like any other.
    expect((await script("POST", "/api/chat", { message: "@two hi" })).body).toMatchObject({
      botId: "one",
      content: "echo: @two hi",
    });
    // Not even a conversation in which the other one answers brings it there.
    const id = await admin.conversation();
    await admin.exchange(id, "hello", { target: "two" });
    expect((await script("POST", "/api/chat", { message: "and now?", conversationId: id })).body.botId).toBe("one");
    expect((await script("POST", "/api/conversations", { botId: "two" })).body.code).toBe("bot_not_found");
    expect((await script("POST", "/api/conversations", { botId: "one" })).status).toBe(201);
    const none = await makeKey({ name: "none", bots: [] });
    expect((await api(gateway.url, none.key)("POST", "/api/chat", { message: "x" })).status).toBe(503);
  });

  test("with a list of bots hears of only those in the stream of everything, when it comes and later", async () => {
    const { key } = await makeKey({ name: "one only", scope: "all", bots: ["one", "late-one"] });
    const told = async (token: string, late: string[]): Promise<string[][]> => {
      const stream = readSse<UserEvent>(await api(gateway.url, token).stream("/api/events"));
      const lists: string[][] = [];
      const next = async (): Promise<void> => {
        for (;;) {
          const { data } = await stream.next();
          if (data.type === "bots") return void lists.push(data.bots.map(({ id }) => id).sort());
        }
      };
      await next();
      for (const botId of late) {
        const bot = await v1Bot(gateway.wsUrl, { botId, token: BOT_TOKEN });
        if (botId === late.at(-1)) await next();
        await bot.close();
      }
      await next();
      await stream.leave();
      return lists;
    };
    const both = ["one", "two"];
    expect(await told(admin.token, ["late-two"])).toEqual([both, ["late-two", ...both], both]);
    // Of one that it may not ask it hears neither the name nor that something changed.
    expect(await told(key, ["late-two", "late-one"])).toEqual([["one"], ["late-one", "one"], ["one"]]);
  });

  test("with a list of bots has no turn of another one, open or over, and cannot stop it", async () => {
    const { key } = await makeKey({ name: "one only", bots: ["one"] });
    const script = api(gateway.url, key);
    const held = await v2Bot(gateway.wsUrl, { register: { botId: "held", token: BOT_TOKEN }, onChat: () => {} });
    const id = await admin.conversation();
    for (const target of ["held", "two", "one"]) {
      const { turnId } = (await admin.send(id, "hello", { target })).body;
      if (target === "held") await held.waitFor("chat");
      if (target !== "held") await readSse(await admin.call.stream(`/api/turns/${turnId}/stream`)).all();
      const status = target === "one" ? 200 : 404;
      const stream = await script.stream(`/api/turns/${turnId}/stream`);
      expect({ target, status: stream.status }).toEqual({ target, status });
      await stream.body?.cancel();
      expect((await script("POST", `/api/turns/${turnId}/cancel`)).status).toBe(status);
    }
    expect(held.frames.some(({ type }) => type === "cancel")).toBe(false);
    await held.close();
  });

  test("with a list of bots has its own turn while that waits, and no other one that waits for any bot", async () => {
    const only = await startGateway({ limits: { sendsPerMinute: 0 } });
    const register = { botId: "busy", token: BOT_TOKEN, maxConcurrency: 1 };
    const busy = await v2Bot(only.wsUrl, { register, onChat: () => {} });
    const me = await person(only.url);
    const key = (await me.call<KeyAnswer>("POST", "/api/keys", { name: "k", scope: "all", bots: ["busy"] })).body.key;
    const mine = async (who: ReturnType<typeof api>, target?: string): Promise<string> => {
      const id = await me.conversation();
      const body = { clientId: crypto.randomUUID(), content: "hello", ...(target && { target }) };
      return (await who<{ turnId: string }>("POST", `/api/conversations/${id}/messages`, body)).body.turnId;
    };
    const script = api(only.url, key);
    await mine(me.call);
    await busy.waitFor("chat");
    const waiting = { own: await mine(script), aimed: await mine(me.call, "busy"), any: await mine(me.call) };
    const cancel = async (turnId: string): Promise<number> =>
      (await script("POST", `/api/turns/${turnId}/cancel`)).status;
    expect([await cancel(waiting.own), await cancel(waiting.aimed), await cancel(waiting.any)]).toEqual([
      200, 200, 404,
    ]);
    // Over without any bot: as before.
    expect([await cancel(waiting.own), await cancel(waiting.aimed)]).toEqual([200, 200]);
    expect(busy.frames.filter(({ type }) => type === "chat")).toHaveLength(1);
    await busy.close();
    await only.stop();
  });

  test("ends at its time, which is to come when it is made", async () => {
    const { key } = await makeKey({ name: "short", expiresAt: clock.at + 60_000 });
    expect(await status(key, "/api/bots")).toBe(200);
    clock.at += 60_000;
    expect(await status(key, "/api/bots")).toBe(401);
    for (const expiresAt of [clock.at, clock.at - 1, 1.5, "tomorrow"])
      expect((await admin.call("POST", "/api/keys", { name: "x", expiresAt })).status).toBe(400);
  });

  test("is one of at most 50, each person having their own", async () => {
    const user = await person(gateway.url, "user1");
    let refused = 0;
    for (let i = 0; i < 52; i++) if ((await user.call("POST", "/api/keys", { name: `${i}` })).status === 409) refused++;
    expect(refused).toBe(2);
    const { keys } = (await user.call<{ keys: { id: string }[] }>("GET", "/api/keys")).body;
    expect(keys).toHaveLength(50);
    expect((await admin.call("DELETE", `/api/keys/${keys[0]!.id}`)).status).toBe(404);
    expect((await makeKey({ name: "of admin" })).key).toStartWith("nxk_");
  });
});

describe("a cookie (S3)", () => {
  const cookieOf = async (): Promise<string> => {
    const answer = await api(gateway.url)("POST", "/api/login", { username: "admin", password: PASSWORD });
    const set = answer.headers.get("set-cookie")!;
    expect(set).toMatch(/^nexus=nxs_[\w-]{43}; Path=\/; Max-Age=3600; HttpOnly; SameSite=Lax$/);
    return set.split(";")[0]!;
  };
  const send = async (
    method: string,
    path: string,
    headers: Record<string, string>,
    body?: string,
  ): Promise<number> => {
    const response = await fetch(gateway.url + path, { method, headers, ...(body !== undefined && { body }) });
    await response.text();
    return response.status;
  };

  test("signs our own page in, and counts for nothing when another site sends the request", async () => {
    const Cookie = await cookieOf();
    const json = { "Content-Type": "application/json" };
    const own = { Origin: gateway.url };
    const foreign = { Origin: "https://evil.example" };
    const body = '{"title":"from a page"}';
    const path = "/api/conversations";
    await until(() => gateway.gateway.gate.turns.count() === 0, 2000, "the answers of the tests before to be stored");
    const before = gateway.gateway.gate.store.rev();
    const refused: Record<string, string>[] = [
      { ...json, ...foreign },
      { ...json, ...foreign, "Sec-Fetch-Site": "cross-site" },
      { ...json, Origin: "null" },
      { ...json, "Sec-Fetch-Site": "cross-site" },
      { ...json, "Sec-Fetch-Site": "same-site" },
      { ...json },
      { ...own, "Content-Type": "text/plain" },
      { ...own, "Content-Type": "application/x-www-form-urlencoded" },
      { "Sec-Fetch-Site": "same-origin", "Content-Type": "text/plain" },
    ];
    for (const headers of refused)
      for (const [method, where] of [
        ["POST", path],
        ["POST", "/api/chat"],
        ["POST", "/api/attachments"],
        ["PATCH", `${path}/x`],
      ] as const)
        expect(
          `${method} ${where} ${JSON.stringify(headers)} ${await send(method, where, { Cookie, ...headers }, body)}`,
        ).toEndWith(" 403");
    for (const headers of [foreign, { "Sec-Fetch-Site": "cross-site" }, { "Sec-Fetch-Site": "none" }])
      expect(await send("DELETE", `${path}/x`, { Cookie, ...headers } as Record<string, string>)).toBe(403);
    expect(gateway.gateway.gate.store.rev()).toBe(before);

    expect(await send("POST", path, { Cookie, ...json, ...own }, body)).toBe(201);
    expect(await send("POST", path, { Cookie, ...json, "Sec-Fetch-Site": "same-origin" }, body)).toBe(201);
    expect(await send("GET", "/api/me", { Cookie })).toBe(200);
    // A foreign page gets to read nothing: no permission, and not even the cookie's answer.
    const answer = await fetch(`${gateway.url}/api/me`, { headers: { Cookie, ...foreign } });
    expect([answer.status, answer.headers.get("access-control-allow-origin")]).toEqual([401, null]);
    // A login from elsewhere would sign somebody in as somebody else.
    expect(
      await send(
        "POST",
        "/api/login",
        { ...json, ...foreign },
        JSON.stringify({ username: "admin", password: PASSWORD }),
      ),
    ).toBe(403);
  });

  test("is taken away at sign-out, and dead", async () => {
    const Cookie = await cookieOf();
    const response = await fetch(`${gateway.url}/api/logout`, {
      method: "POST",
      headers: { Cookie, Origin: gateway.url },
    });
    expect(response.headers.get("set-cookie")).toBe("nexus=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    expect(await send("GET", "/api/me", { Cookie })).toBe(401);
  });

  test("of a page elsewhere that the config lists is neither read nor set; a token works there", async () => {
    const listed = "https://intranet.example";
    const other = await startGateway({ corsOrigins: [listed] });
    const headers = { Origin: listed, "Content-Type": "application/json" };
    const login = await fetch(`${other.url}/api/login`, {
      method: "POST",
      headers,
      body: JSON.stringify({ username: "admin", password: PASSWORD }),
    });
    const { token } = (await login.json()) as { token: string };
    expect(login.headers.get("set-cookie")).toBeNull();
    expect(login.headers.get("access-control-allow-origin")).toBe(listed);
    expect(login.headers.get("access-control-allow-credentials")).toBeNull();
    const withCookie = await fetch(`${other.url}/api/me`, { headers: { ...headers, Cookie: `nexus=${token}` } });
    expect(withCookie.status).toBe(401);
    const withToken = await fetch(`${other.url}/api/me`, { headers: { ...headers, Authorization: `Bearer ${token}` } });
    expect(withToken.status).toBe(200);
    expect(withToken.headers.get("cross-origin-resource-policy")).toBe("cross-origin");
    const preflight = await fetch(`${other.url}/api/chat`, {
      method: "OPTIONS",
      headers: {
        Origin: listed,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
      },
    });
    expect([preflight.status, preflight.headers.get("access-control-allow-origin")]).toEqual([204, listed]);
    const stranger = await fetch(`${other.url}/api/chat`, {
      method: "OPTIONS",
      headers: { Origin: "https://evil.example", "Access-Control-Request-Method": "POST" },
    });
    expect([stranger.status, stranger.headers.get("access-control-allow-origin")]).toEqual([204, null]);
    await other.stop();
  });
});
