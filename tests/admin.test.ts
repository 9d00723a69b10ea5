/** Looking after a gateway over `/api/admin/*`: every action, who may not, what ends at once, what is written down. */
import { Database } from "bun:sqlite";
import { afterEach, describe, expect, test } from "bun:test";
import type { AdminBot, AdminTurn } from "../lib/protocol/admin.ts";
import { join } from "node:path";
import { api, login, ROOT, startGateway, until, v1Bot, v2Bot, within, BOT_TOKEN, type Call } from "./harness.ts";

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

test("two admins who put each other out at the same moment leave one of them", async () => {
  const { url, admin } = await open();
  for (let round = 0; round < 2; round++) {
    const name = `chef${round}`;
    await admin("POST", "/api/admin/users", { username: name, password: "a long enough one", role: "admin" });
    const second = api(url, await login(url, name, "a long enough one"));
    const both = await Promise.all([
      admin("PATCH", `/api/admin/users/${name}`, { disabled: true }),
      second("PATCH", "/api/admin/users/admin", { disabled: true }),
    ]);
    expect(both.map(({ status }) => status).sort()).not.toEqual([200, 200]);
    const winner = both[0].status === 200 ? admin : second;
    expect((await winner("GET", "/api/admin/users")).status).toBe(200);
    if (winner === second) break; // ours is out
  }
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

  test("a model of the gateway needs no token: the page makes none, and who may use it is set without one", async () => {
    const { admin, url } = await open({ models: [{ id: "m", echo: true }] });
    const person = api(url, await login(url, "user1"));
    const online = async () => (await listed(admin, "m"))?.online;
    await until(online, 5000, "the model to be online");
    for (const [path, body] of [["/api/admin/bots/m/token", {}] as const, ["/api/admin/bots", { id: "m" }] as const])
      expect(await admin<{ code: string }>("POST", path, body)).toMatchObject({
        status: 409,
        body: { code: "conflict" },
      });
    const set = { name: "Model", users: ["user1"], pools: ["own"] };
    expect((await admin("PATCH", "/api/admin/bots/m", set)).status).toBe(200);
    expect(await listed(admin, "m")).toMatchObject({ ...set, online: true, model: true, hasToken: false });
    expect((await person("POST", "/api/chat", { message: "hi", target: "m" })).body.content).toBe("hi");
    expect((await admin("POST", "/api/chat", { message: "hi", target: "m" })).status).toBe(404);
    expect((await admin("DELETE", "/api/admin/bots/m")).status).toBe(200);
    expect(await listed(admin, "m")).toMatchObject({ name: "m", users: null, online: true });
    expect((await admin("POST", "/api/chat", { message: "hi", target: "m" })).body.content).toBe("hi");
  });

  test("under the name of a model nobody comes in but the gateway itself, whatever token they bring", async () => {
    const { admin, bot, wsUrl, reload, logs } = await open();
    const { token } = (await admin<{ token: string }>("POST", "/api/admin/bots", { id: "m" })).body;
    const before = await bot("m", { register: { token, instanceId: "before" } });
    const models = [{ id: "m", echo: true }];
    reload({ models });
    expect((await within(before.closed, 2_000, "the bot of that name to be closed")).code).toBe(4501);
    await until(async () => (await listed(admin, "m"))?.online, 5000, "the model to be online over the page's token");
    const [held] = (await listed(admin, "m"))!.connections;
    const own = "nxb_of-the-file-long-enough";
    reload({ models, bots: { m: { token: own } } });
    for (const shown of [token, own, BOT_TOKEN, ""])
      for (const instanceId of [held!.instance, "another"]) {
        const refused = await v2Bot(wsUrl, { register: { botId: "m", instanceId, token: shown } });
        expect(refused.registered.success).toBe(false);
        expect((await refused.closed).code).toBe(4501);
      }
    reload({ models, botToken: "" });
    const stranger = await v2Bot(wsUrl, { register: { botId: "m", instanceId: held!.instance } });
    expect(stranger.registered.success).toBe(false);
    expect((await listed(admin, "m"))!.connections).toMatchObject([
      { instance: held!.instance, connectedAt: held!.connectedAt },
    ]);
    expect(JSON.stringify(logs)).not.toMatch(/nxb_[\w-]{43}/);
    // No model any more: the page's token counts again.
    reload({ models: [] });
    expect((await bot("m", { register: { token } })).registered.success).toBe(true);
  });

  test("a name that was limited while it was a model's is nobody's afterwards, until it has a token", async () => {
    const { admin, bot, wsUrl, reload } = await open({ models: [{ id: "m", echo: true }] });
    expect((await admin("PATCH", "/api/admin/bots/m", { users: ["user1"] })).status).toBe(200);
    reload({ models: [] });
    const stranger = await v2Bot(wsUrl, { register: { botId: "m", token: BOT_TOKEN } });
    expect(stranger.registered.success).toBe(false);
    const { token } = (await admin<{ token: string }>("POST", "/api/admin/bots/m/token", {})).body;
    expect((await bot("m", { register: { token } })).registered.success).toBe(true);
  });

  test("a model that is disabled is closed at once, and back when it is enabled", async () => {
    const { admin } = await open({ models: [{ id: "m", echo: true }] });
    const online = async () => (await listed(admin, "m"))?.online;
    await until(online, 5000, "the model to be online");
    await admin("PATCH", "/api/admin/bots/m", { disabled: true });
    expect(await listed(admin, "m")).toMatchObject({ online: false, disabled: true });
    await admin("PATCH", "/api/admin/bots/m", { disabled: false });
    await until(online, 20_000, "the model to come back");
  }, 30_000);

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

test("a year of use of many people is summed and exported while everything else goes on", async () => {
  const { admin, dataDir, gateway } = await open();
  const db = new Database(join(dataDir, "nexus.db"));
  db.run("PRAGMA busy_timeout = 5000");
  const days = 60;
  // So many that the calls take long beside one of their pieces also where a machine is fast.
  const many = 800;
  db.transaction(() => {
    const sent = db.prepare("INSERT INTO usage_sent (day, user, messages) VALUES (?, ?, 2)");
    const ended = db.prepare("INSERT INTO usage_turns VALUES (?, ?, 'b', 1, 1, 0, 10, 0, 0)");
    for (let ago = 0; ago < days; ago++) {
      const day = gateway.gate.days.daysAgo(ago);
      for (let person = 0; person < many; person++) {
        sent.run(day, `person${person}`);
        ended.run(day, `person${person}`);
      }
    }
  })();
  db.close();
  /** How much of the time that a call takes is one span in which nothing else ran. */
  const held = async (path: string): Promise<{ share: number; text: string }> => {
    let worst = 0;
    let last = performance.now();
    const began = last;
    const timer = setInterval(() => {
      const at = performance.now();
      worst = Math.max(worst, at - last);
      last = at;
    }, 1);
    const { text } = await admin("GET", path);
    clearInterval(timer);
    const end = performance.now();
    return { share: Math.max(worst, end - last) / (end - began), text };
  };
  for (const path of [`usage?by=user&days=${days}`, `export/usage.csv?days=${days}`]) {
    const tries = [
      await held(`/api/admin/${path}`),
      await held(`/api/admin/${path}`),
      await held(`/api/admin/${path}`),
    ];
    expect(Math.min(...tries.map(({ share }) => share))).toBeLessThan(0.5);
    const { text } = tries[0]!;
    if (path.startsWith("export")) expect(text.trimEnd().split("\r\n")).toHaveLength(1 + 2 * many * days);
    else expect(JSON.parse(text).usage).toHaveLength(many);
    if (!path.startsWith("export"))
      for (const row of JSON.parse(text).usage)
        expect(row).toMatchObject({ messages: 2 * days, done: days, failed: days, chars: 10 * days });
  }
});

describe("the documents", () => {
  test.each(["docs/admin.md", "docs/admin.en.md"])(
    "%s names every admin route and every metric, and none that is not there",
    async (file) => {
      const { gateway, url } = await open();
      const text = await Bun.file(join(ROOT, file)).text();
      const named = [...text.matchAll(/^\| `(GET|POST|PATCH|DELETE) (\/api\/admin\/\S+)`/gm)].map(
        ([, method, path]) => `${method} ${path}`,
      );
      const there = gateway.routes
        .filter(({ path }) => path.startsWith("/api/admin/"))
        .map(({ method, path }) => `${method} ${path}`);
      expect(named.sort()).toEqual(there.sort());
      const families = [...(await (await fetch(`${url}/metrics`)).text()).matchAll(/^# TYPE (\S+)/gm)].map(
        ([, name]) => name,
      );
      const metrics = [...text.matchAll(/`((?:nexus|process)_[a-z_]+)(?:\{[a-z,]+\})?`/g)].map(([, name]) => name);
      expect([...new Set(metrics)].sort()).toEqual(families.sort());
    },
  );
});
