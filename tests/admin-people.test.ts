/** People over `/api/admin/users`: added, disabled, removed, signed out; and everybody's own password. */
import { afterEach, describe, expect, test } from "bun:test";
import type { AdminPerson } from "../lib/protocol/admin.ts";
import { api, login, PASSWORD, readSse, startGateway, until, v2Bot, BOT_TOKEN, type Call } from "./harness.ts";

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const open = async (config: Record<string, unknown> = {}, options: Parameters<typeof startGateway>[1] = {}) => {
  const gate = await startGateway(config, options);
  undo.push(gate.stop);
  const admin = api(gate.url, await login(gate.url));
  const bot = async (botId: string, more: Parameters<typeof v2Bot>[1] = {}) => {
    const made = await v2Bot(gate.wsUrl, { ...more, register: { botId, token: BOT_TOKEN, ...more.register } });
    undo.push(() => made.ws.close());
    return made;
  };
  return { ...gate, admin, bot };
};

const person = async (admin: Call, username: string, name: string): Promise<AdminPerson | undefined> =>
  (await admin<{ users: AdminPerson[] }>("GET", `/api/admin/users?q=${encodeURIComponent(username)}`)).body.users.find(
    (one) => one.username === name,
  );

describe("people", () => {
  test("an added person signs in with the password that was shown once, also after a restart", async () => {
    const { url, admin, dataDir, gateway } = await open();
    const { status, body } = await admin<{ password: string; user: AdminPerson }>("POST", "/api/admin/users", {
      username: "小李",
      displayName: "李雷",
      messagesPerDay: 5,
    });
    expect(status).toBe(201);
    expect(body.user).toMatchObject({
      username: "小李",
      displayName: "李雷",
      role: "user",
      source: "page",
      messagesPerDay: 5,
    });
    expect(body.password).toMatch(/^([a-z2-9]{4}-){3}[a-z2-9]{4}$/);
    await login(url, "小李", body.password);
    expect((await admin("POST", "/api/admin/users", { username: "小李" })).status).toBe(409);
    expect((await admin("POST", "/api/admin/users", { username: "user1" })).status).toBe(409);
    expect((await admin("POST", "/api/admin/users", { username: "a:b" })).status).toBe(400);
    expect((await admin("POST", "/api/admin/users", { username: "x", password: "12345678" })).status).toBe(400);
    // Names that an address cannot carry, or that look like another's.
    for (const odd of [".", "..", " ", " li", "li ", "li\u202e", "l\u200bi", "\ud800"]) {
      expect([odd, (await admin("POST", "/api/admin/users", { username: odd })).status]).toEqual([odd, 400]);
      expect([odd, (await admin("POST", "/api/admin/bots", { id: odd })).status]).toEqual([odd, 400]);
    }
    await gateway.close();
    const again = await startGateway({}, { dataDir });
    undo.push(again.stop);
    await login(again.url, "小李", body.password);
  });

  test("who is disabled or removed while an answer streams loses every stream within a second, and the turn stops", async () => {
    const { url, admin, bot, gateway } = await open();
    await bot("slow", { onChat: (chat, self) => void self.write(chat, "one ") });
    for (const [username, end] of [
      ["li", () => admin("PATCH", "/api/admin/users/li", { disabled: true })],
      ["wang", () => admin("DELETE", "/api/admin/users/wang")],
    ] as const) {
      await admin("POST", "/api/admin/users", { username, password: "a long enough one" });
      const me = api(url, await login(url, username, "a long enough one"));
      const key = (await me<{ key: string }>("POST", "/api/keys", { name: "k" })).body.key;
      const streams = [
        readSse(await me.stream("/api/events")),
        readSse(await me.stream("/api/chat/stream", { message: "hi" })),
        readSse(await api(url, key).stream("/api/chat/stream", { message: "by key" })),
      ];
      await streams[1]!.find((_, item) => item.text.includes("one "));
      await streams[2]!.find((_, item) => item.text.includes("one "));
      const at = performance.now();
      expect((await end()).status).toBe(200);
      for (const stream of streams) await stream.ended;
      expect(performance.now() - at).toBeLessThan(1000);
      expect((await me("GET", "/api/me")).status).toBe(401);
      expect((await api(url, key)("GET", "/api/bots")).status).toBe(401);
      await until(() => gateway.gate.turns.openOf(username).length === 0, 2000, "their turns to end");
      await expect(login(url, username, "a long enough one")).rejects.toThrow("401");
    }
    await admin("PATCH", "/api/admin/users/li", { disabled: false });
    await login(url, "li", "a long enough one");
  });

  test("a removed name leaves nothing for the next person of that name: no conversation, no key, no sign-in", async () => {
    const { url, admin, bot } = await open();
    await bot("b");
    await admin("POST", "/api/admin/users", { username: "li", password: "a long enough one" });
    const token = await login(url, "li", "a long enough one");
    const me = api(url, token);
    await me("POST", "/api/chat", { message: "secret of the first" });
    const key = (await me<{ key: string }>("POST", "/api/keys", { name: "k", scope: "all" })).body.key;
    await admin("DELETE", "/api/admin/users/li");
    await admin("POST", "/api/admin/users", { username: "li", password: "a long enough one" });
    for (const old of [token, key]) expect((await api(url, old)("GET", "/api/me")).status).toBe(401);
    const next = api(url, await login(url, "li", "a long enough one"));
    expect((await next("GET", "/api/conversations")).body).toEqual({ conversations: [] });
    expect((await next("GET", "/api/search?q=secret")).body).toEqual({ hits: [] });
    expect((await next("GET", "/api/keys")).body).toEqual({ keys: [] });
  });

  test("a name that left conversations with config.json is not given to somebody else, and two at once make one person", async () => {
    const { url, bot, reload } = await open();
    await bot("b");
    const user = api(url, await login(url, "user1"));
    await user("POST", "/api/chat", { message: "mine" });
    const key = (await user<{ key: string }>("POST", "/api/keys", { name: "k", scope: "all" })).body.key;
    reload({ users: { admin: { password: PASSWORD, role: "admin" }, temp: { password: PASSWORD } } });
    const again = api(url, await login(url));
    expect((await again("POST", "/api/admin/users", { username: "user1" })).status).toBe(409);
    expect((await api(url, key)("GET", "/api/me")).status).toBe(401);
    const temp = api(url, await login(url, "temp"));
    const tempKey = (await temp<{ key: string }>("POST", "/api/keys", { name: "k" })).body.key;
    await again("PATCH", "/api/admin/users/temp", { disabled: true });
    reload({ users: { admin: { password: PASSWORD, role: "admin" } } });
    const made = await Promise.all(
      Array.from({ length: 5 }, () => again<{ password: string }>("POST", "/api/admin/users", { username: "temp" })),
    );
    const won = made.filter(({ status }) => status === 201);
    expect(won).toHaveLength(1);
    await login(url, "temp", won[0]!.body.password);
    expect((await api(url, tempKey)("GET", "/api/bots")).status).toBe(401);
  });

  test("a user of config.json can be disabled and limited, not removed or renamed", async () => {
    const { url, admin } = await open();
    expect((await admin("DELETE", "/api/admin/users/user1")).status).toBe(409);
    expect((await admin("PATCH", "/api/admin/users/user1", { role: "admin" })).status).toBe(409);
    await admin("PATCH", "/api/admin/users/user1", { messagesPerDay: 3, turnsAtOnce: 1 });
    expect(await person(admin, "user1", "user1")).toMatchObject({
      source: "config",
      messagesPerDay: 3,
      turnsAtOnce: 1,
      set: { messagesPerDay: true, turnsAtOnce: true },
    });
    await admin("PATCH", "/api/admin/users/user1", { messagesPerDay: null, turnsAtOnce: null });
    expect(await person(admin, "user1", "user1")).toMatchObject({ messagesPerDay: 0, turnsAtOnce: 20 });
    await admin("PATCH", "/api/admin/users/user1", { disabled: true });
    await expect(login(url, "user1")).rejects.toThrow("401");
    expect((await person(admin, "user1", "user1"))?.disabledAt).toBeGreaterThan(0);
  });

  test("sign-ins are listed and ended, one or all", async () => {
    const { url, admin } = await open();
    const tokens = [await login(url, "user1"), await login(url, "user1"), await login(url, "user1")];
    const path = "/api/admin/users/user1/sessions";
    const { sessions } = (await admin<{ sessions: { id: string }[] }>("GET", path)).body;
    expect(sessions).toHaveLength(3);
    await admin("DELETE", `${path}/${sessions[0]!.id}`);
    const left = async () =>
      (await Promise.all(tokens.map((token) => api(url, token)("GET", "/api/me")))).filter(
        ({ status }) => status === 200,
      );
    expect(await left()).toHaveLength(2);
    expect((await admin("DELETE", `${path}/${sessions[0]!.id}`)).status).toBe(404);
    expect((await admin("DELETE", path)).body).toEqual({ ended: 2 });
    expect(await left()).toHaveLength(0);
    expect((await admin("GET", "/api/admin/users/nobody/sessions")).status).toBe(404);
  });
});

describe("one's own password", () => {
  test("is changed with the current one; this sign-in stays, every other ends", async () => {
    const { url } = await open();
    const [mine, other] = [await login(url, "user1"), await login(url, "user1")];
    const change = (current: string, password: string) =>
      api(url, mine)("POST", "/api/me/password", { current, password });
    expect((await change("wrong", "a long enough one")).status).toBe(400);
    expect((await change(PASSWORD, "short")).status).toBe(400);
    expect((await change(PASSWORD, "12345678")).status).toBe(400);
    expect((await change(PASSWORD, "a long enough one")).status).toBe(200);
    expect((await api(url, mine)("GET", "/api/me")).status).toBe(200);
    expect((await api(url, other)("GET", "/api/me")).status).toBe(401);
    await expect(login(url, "user1")).rejects.toThrow("401");
    await login(url, "user1", "a long enough one");
  });

  test("of a user of config.json it holds over a restart, until the config has another", async () => {
    const { url, dataDir, gateway, reload } = await open();
    const mine = api(url, await login(url, "user1"));
    await mine("POST", "/api/me/password", { current: PASSWORD, password: "a long enough one" });
    reload({});
    expect((await mine("GET", "/api/me")).status).toBe(200);
    await gateway.close();
    const again = await startGateway({}, { dataDir });
    undo.push(again.stop);
    await login(again.url, "user1", "a long enough one");
    const users = { admin: { password: PASSWORD, role: "admin" }, user1: { password: "from the config now" } };
    again.reload({ users });
    await login(again.url, "user1", "from the config now");
    await expect(login(again.url, "user1", "a long enough one")).rejects.toThrow("401");
  });

  test("cannot be changed by an API key", async () => {
    const { url, admin } = await open();
    const key = (await admin<{ key: string }>("POST", "/api/keys", { name: "k", scope: "all" })).body.key;
    const body = { current: PASSWORD, password: "a long enough one" };
    expect((await api(url, key)("POST", "/api/me/password", body)).status).toBe(403);
  });
});
