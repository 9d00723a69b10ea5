/** Looking after a gateway over `/api/admin/*`: every action, who may not, what ends at once, what is written down. */
import { afterEach, describe, expect, test } from "bun:test";
import type { AdminBot, AdminPerson, AdminTurn } from "../lib/protocol/admin.ts";
import { api, login, PASSWORD, readSse, startGateway, until, v1Bot, v2Bot, BOT_TOKEN, type Call } from "./harness.ts";

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
const actions = async (admin: Call): Promise<string[]> =>
  (await admin<{ entries: { action: string }[] }>("GET", "/api/admin/audit?limit=200")).body.entries
    .map(({ action }) => action)
    .reverse();

describe("who may", () => {
  test("every admin route is refused to a person without the role, to every kind of API key, and to nobody signed in", async () => {
    const { gateway, url, admin } = await open();
    const user = api(url, await login(url, "user1"));
    const secrets: string[] = [];
    for (const [who, scope] of [
      [admin, "all"],
      [admin, "chat"],
      [user, "all"],
    ] as const)
      secrets.push((await who<{ key: string }>("POST", "/api/keys", { name: "k", scope })).body.key);
    const routes = gateway.routes.filter(({ path }) => path.startsWith("/api/admin/"));
    expect(routes.length).toBeGreaterThan(20);
    for (const { method, path } of routes) {
      const real = path.replace(/:\w+/g, "user1");
      const body = method === "GET" || method === "DELETE" ? undefined : {};
      expect([path, (await user(method, real, body)).status]).toEqual([path, 403]);
      for (const secret of secrets)
        expect([path, (await api(url, secret)(method, real, body)).status]).toEqual([path, 403]);
      expect([path, (await api(url)(method, real, body)).status]).toEqual([path, 401]);
    }
    expect((await admin("GET", "/api/admin/users")).body.total).toBe(2);
  });

  test("an admin cannot disable, remove or demote the own account, so there always is one", async () => {
    const { url, admin } = await open();
    expect((await admin("PATCH", "/api/admin/users/admin", { disabled: true })).status).toBe(409);
    expect((await admin("DELETE", "/api/admin/users/admin")).status).toBe(409);
    await admin("POST", "/api/admin/users", { username: "chef", password: "a long enough one", role: "admin" });
    const second = api(url, await login(url, "chef", "a long enough one"));
    expect((await second("PATCH", "/api/admin/users/chef", { role: "user" })).status).toBe(409);
    expect((await second("PATCH", "/api/admin/users/admin", { disabled: true })).status).toBe(200);
    expect((await admin("GET", "/api/me")).status).toBe(401);
  });
});

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
    await gateway.close();
    const again = await startGateway({}, { dataDir });
    undo.push(again.stop);
    await login(again.url, "小李", body.password);
  });

  test("who is disabled or removed while an answer streams loses every stream within a second, and the turn stops", async () => {
    const { url, admin, bot, gateway } = await open();
    const started: string[] = [];
    await bot("slow", { onChat: (chat, self) => void (started.push(chat.id), self.write(chat, "one ")) });
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

describe("bots", () => {
  const listed = async (admin: Call, id: string): Promise<AdminBot | undefined> =>
    (await admin<{ bots: AdminBot[] }>("GET", "/api/admin/bots")).body.bots.find((one) => one.id === id);

  test("one that is added gets a token of its own, and only with it may the name be used", async () => {
    const { admin, bot, wsUrl, url } = await open();
    const { body } = await admin<{ token: string; bot: AdminBot }>("POST", "/api/admin/bots", {
      id: "helper",
      name: "帮手",
      users: ["user1"],
    });
    expect(body.token).toMatch(/^nxb_[\w-]{43}$/);
    const refused = await v1Bot(wsUrl, { botId: "helper", token: BOT_TOKEN });
    expect(refused.registered.success).toBe(false);
    await bot("helper", { register: { token: body.token } });
    expect(await listed(admin, "helper")).toMatchObject({
      name: "帮手",
      online: true,
      users: ["user1"],
      hasToken: true,
    });
    const of = async (who: string) =>
      (
        await api(url, await login(url, who))<{ bots: { id: string; name: string }[] }>("GET", "/api/bots")
      ).body.bots.map(({ id, name }) => `${id} ${name}`);
    expect(await of("user1")).toEqual(["helper 帮手"]);
    expect(await of("admin")).toEqual([]);
    await admin("PATCH", "/api/admin/bots/helper", { users: null, name: "Helper" });
    expect(await of("admin")).toEqual(["helper Helper"]);
  });

  test("a bot on the shared token is not limited before it has one of its own, since any bot could take its name", async () => {
    const { admin, bot } = await open();
    const shared = await bot("shared");
    expect((await admin("PATCH", "/api/admin/bots/shared", { users: ["user1"] })).status).toBe(409);
    const { token } = (await admin<{ token: string }>("POST", "/api/admin/bots/shared/token", {})).body;
    expect((await shared.closed).code).toBe(4501);
    await bot("shared", { register: { token } });
    expect((await admin("PATCH", "/api/admin/bots/shared", { users: ["user1"] })).status).toBe(200);
  });

  test("disconnected, it may come back; disabled, it is refused until it is enabled; removed, config.json counts again", async () => {
    const { admin, bot, wsUrl } = await open();
    const first = await bot("b");
    expect((await admin("POST", "/api/admin/bots/b/disconnect", {})).body).toEqual({ disconnected: 1 });
    expect((await first.closed).code).toBe(4004);
    const second = await bot("b");
    await admin("PATCH", "/api/admin/bots/b", { disabled: true });
    expect((await second.closed).code).toBe(4004);
    const refused = await v1Bot(wsUrl, { botId: "b", token: BOT_TOKEN });
    expect(refused.registered.success).toBe(false);
    expect((await refused.closed).code).toBe(4004);
    await admin("PATCH", "/api/admin/bots/b", { disabled: false });
    const third = await bot("b");
    expect(third.registered.success).toBe(true);
    await admin("DELETE", "/api/admin/bots/b");
    expect(await listed(admin, "b")).toMatchObject({ onPage: false, online: true });
    expect((await admin("DELETE", "/api/admin/bots/b")).status).toBe(409);
  });

  test("what the page set over an entry of config.json holds over a restart and until that entry changes", async () => {
    const entry = { token: "nxb_of-the-file-long-enough", users: ["user1"], name: "File" };
    const { admin, dataDir, gateway } = await open({ bots: { b: entry } });
    await admin("PATCH", "/api/admin/bots/b", { name: "Page" });
    expect(await listed(admin, "b")).toMatchObject({ name: "Page", users: ["user1"], inConfig: true });
    await admin("PATCH", "/api/admin/bots/b", { users: null });
    expect(await listed(admin, "b")).toMatchObject({ name: "Page", users: null });
    await gateway.close();
    const again = await startGateway({ bots: { b: entry } }, { dataDir });
    undo.push(again.stop);
    const next = api(again.url, await login(again.url));
    expect(await listed(next, "b")).toMatchObject({ name: "Page", users: null });
    again.reload({ bots: { b: { ...entry, users: ["admin"] } } });
    expect(await listed(next, "b")).toMatchObject({ name: "File", users: ["admin"] });
  });
});

describe("what is going on", () => {
  test("an open turn is seen without its text and cancelled; its bot and its person are told", async () => {
    const { admin, bot, url } = await open();
    const slow = await bot("slow", {
      onChat: (chat, self) => void self.write(chat, "a private answer"),
    });
    const me = api(url, await login(url, "user1"));
    const answer = me("POST", "/api/chat", { message: "hi" }, { headers: { "X-Request-Id": "proxy-7" } });
    const seen = await until(
      async () => {
        const { body, text } = await admin<{ turns: AdminTurn[] }>("GET", "/api/admin/turns");
        const turn = body.turns[0];
        return turn && turn.chars > 0 ? { turn, text } : undefined;
      },
      5000,
      "the turn to be seen",
    );
    expect(seen.turn).toMatchObject({
      user: "user1",
      botId: "slow",
      state: "streaming",
      chars: 16,
      requestId: "proxy-7",
    });
    expect(seen.text).not.toContain("private");
    expect(slow.chats[0]?.requestId).toBe("proxy-7");
    const { body } = await admin("POST", `/api/admin/turns/${seen.turn.id}/cancel`, {});
    expect(body).toEqual({ turnId: seen.turn.id, state: "cancelled" });
    expect((await answer).body).toMatchObject({ content: "a private answer", finish: "cancelled" });
    await slow.waitFor("cancel");
    expect((await admin("POST", `/api/admin/turns/${seen.turn.id}/cancel`, {})).status).toBe(404);
    expect((await admin("GET", "/api/admin/overview")).body).toMatchObject({
      turns: { open: 0, cancelled: 1 },
      bots: { online: 1, connections: 1 },
    });
  });

  test("dead letters are listed without what they say, opened, and taken away", async () => {
    const { admin, wsUrl, gateway } = await open();
    const old = await v1Bot(wsUrl, { botId: "old", token: BOT_TOKEN });
    undo.push(() => old.ws.close());
    old.send({ type: "reply", id: "r", replyTo: "outbound-1", content: "for nobody", done: true, timestamp: 1 });
    await until(() => gateway.gate.store.inbox.deadCount() === 1, 5000, "the dead letter");
    const list = await admin<{ deadLetters: { id: string }[]; total: number }>("GET", "/api/admin/dead-letters");
    expect(list.body.total).toBe(1);
    expect(list.text).not.toContain("for nobody");
    const id = list.body.deadLetters[0]!.id;
    expect((await admin<{ frame: string }>("GET", `/api/admin/dead-letters/${id}`)).body.frame).toContain("for nobody");
    await admin("DELETE", `/api/admin/dead-letters/${id}`);
    expect((await admin("GET", `/api/admin/dead-letters/${id}`)).status).toBe(404);
    expect(await actions(admin)).toEqual(["sign_in", "dead_letter_read", "dead_letter_removed"]);
  });

  test("a person's conversations are exported whole, and use and the audit log as CSV that no spreadsheet runs", async () => {
    const { admin, bot, url } = await open();
    await bot("b");
    const name = "=HYPERLINK(1)";
    await admin("POST", "/api/admin/users", { username: name, password: "a long enough one" });
    const me = api(url, await login(url, name, "a long enough one"));
    await me("POST", "/api/chat", { message: "第一" });
    await me("POST", "/api/chat", { message: "second" });
    const out = await admin<{ conversations: { messages: { content: string }[] }[] }>(
      "GET",
      `/api/admin/users/${encodeURIComponent(name)}/export`,
    );
    expect(out.body.conversations.flatMap(({ messages }) => messages.map(({ content }) => content))).toEqual([
      "第一",
      "echo: 第一",
      "second",
      "echo: second",
    ]);
    const { text } = await admin("GET", "/api/admin/export/usage.csv");
    expect(text).toContain(",'=HYPERLINK(1),b,0,2,0,0,");
    expect((await admin("GET", "/api/admin/export/audit.csv")).text).toContain("'=HYPERLINK(1)");
  });
});
