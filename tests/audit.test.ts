/** The audit log: every sign-in and every admin action is in it, and no secret and no word of anybody. */
import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { join } from "node:path";
import { ACTIONS } from "../lib/audit.ts";
import { api, BOT_TOKEN, login, PASSWORD, startGateway, until, v1Bot, v2Bot } from "./harness.ts";

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

type Entry = { actor: string; action: string; target: string; detail: Record<string, unknown>; address: string };

test("every action is written down with who, what, to whom and from where; no password, token or message is", async () => {
  const gate = await startGateway();
  undo.push(gate.stop);
  const secrets = new Set<string>([
    PASSWORD,
    BOT_TOKEN,
    "canary-new-password",
    "canary-other-password",
    "canary-wrong-one",
  ]);
  const secret = (value: string): string => {
    secrets.add(value);
    return value;
  };
  const token = secret(await login(gate.url));
  const admin = api(gate.url, token);
  await expect(login(gate.url, "admin", "canary-wrong-one")).rejects.toThrow();
  await expect(login(gate.url, "canary-typed-into-the-name", "x")).rejects.toThrow();
  secrets.add("canary-typed-into-the-name");

  const made = await admin<{ password: string }>("POST", "/api/admin/users", { username: "li", displayName: "李" });
  const li = api(gate.url, secret(await login(gate.url, "li", secret(made.body.password))));
  const change = { current: made.body.password, password: "canary-new-password" };
  expect((await li("POST", "/api/me/password", change)).status).toBe(200);
  const key = await li<{ key: string; id: string }>("POST", "/api/keys", { name: "tool", scope: "all" });
  secret(key.body.key);
  await li("DELETE", `/api/keys/${key.body.id}`);
  await li("POST", "/api/logout", {});
  await admin("PATCH", "/api/admin/users/li", { password: "canary-other-password", messagesPerDay: 9 });
  await admin("PATCH", "/api/admin/users/li", { disabled: true });
  await admin("PATCH", "/api/admin/users/li", { disabled: false });
  await admin("DELETE", "/api/admin/users/li/sessions");

  const bot = await admin<{ token: string }>("POST", "/api/admin/bots", { id: "b", users: ["admin"] });
  secret(bot.body.token);
  const next = await admin<{ token: string }>("POST", "/api/admin/bots/b/token", {});
  secret(next.body.token);
  const b = await v2Bot(gate.wsUrl, {
    register: { botId: "b", token: next.body.token },
    onChat: (chat, self) => void self.write(chat, "canary-answer"),
  });
  undo.push(() => b.ws.close());
  await admin("PATCH", "/api/admin/bots/b", { name: "B", users: ["admin", "li"] });
  const asked = admin("POST", "/api/chat", { message: "canary-question" });
  const turn = await until(
    async () => (await admin<{ turns: { id: string }[] }>("GET", "/api/admin/turns")).body.turns[0],
    5000,
    "the turn",
  );
  await admin("POST", `/api/admin/turns/${turn.id}/cancel`, {});
  await asked;
  await admin("POST", "/api/admin/bots/b/disconnect", {});
  await admin("PATCH", "/api/admin/bots/b", { disabled: true });
  await admin("PATCH", "/api/admin/bots/b", { disabled: false });
  await admin("DELETE", "/api/admin/bots/b");

  const old = await v1Bot(gate.wsUrl, { botId: "old", token: BOT_TOKEN });
  undo.push(() => old.ws.close());
  old.send({ type: "reply", id: "r", replyTo: "outbound-1", content: "canary-letter", done: true, timestamp: 1 });
  await until(() => gate.gateway.gate.store.inbox.deadCount() > 0, 5000, "the dead letter");
  const letters = await admin<{ deadLetters: { id: string }[] }>("GET", "/api/admin/dead-letters");
  const letter = letters.body.deadLetters[0]!.id;
  await admin("GET", `/api/admin/dead-letters/${letter}`);
  await admin("DELETE", `/api/admin/dead-letters/${letter}`);
  await admin("GET", "/api/admin/users/admin/export");
  await admin("DELETE", "/api/admin/users/li");
  for (const word of ["canary-question", "canary-answer", "canary-letter"]) secrets.add(word);

  const { body, text } = await admin<{ entries: Entry[]; next?: string }>("GET", "/api/admin/audit?limit=200");
  expect([...new Set(body.entries.map(({ action }) => action))].sort()).toEqual([...ACTIONS].sort());
  expect(body.entries.every(({ address }) => address === "127.0.0.1")).toBe(true);
  const find = (action: string): Entry => body.entries.find((entry) => entry.action === action)!;
  expect(find("person_added")).toMatchObject({
    actor: "admin",
    target: "li",
    detail: { displayName: "李", role: "user" },
  });
  expect(find("person_changed")).toMatchObject({ target: "li", detail: { password: "changed", messagesPerDay: 9 } });
  expect(find("password_changed")).toMatchObject({ actor: "li", target: "li" });
  expect(find("bot_changed")).toMatchObject({ target: "b", detail: { name: "B", users: ["admin", "li"] } });
  expect(find("turn_cancelled")).toMatchObject({ target: turn.id, detail: { user: "admin", bot: "b" } });
  expect(body.entries.filter(({ action }) => action === "sign_in_failed").map(({ target }) => target)).toEqual([
    "",
    "admin",
  ]);

  for (const word of secrets) expect(text.includes(word)).toBe(false);
  const logged = JSON.stringify(gate.logs);
  for (const word of secrets) expect(logged.includes(word)).toBe(false);
  // On disk too: only the audit log and what the page set, since messages are where they belong.
  const db = new Database(join(gate.dataDir, "nexus.db"), { readonly: true });
  for (const table of ["audit", "bot_settings", "person_settings", "people", "sessions", "api_keys"]) {
    const rows = JSON.stringify(db.query(`SELECT * FROM ${table}`).all());
    for (const word of secrets) expect([table, word, rows.includes(word)]).toEqual([table, word, false]);
  }
  db.close();

  // Narrowed and in pages.
  const page = await admin<{ entries: Entry[]; next: string }>("GET", "/api/admin/audit?limit=2&who=li");
  expect(page.body.entries).toHaveLength(2);
  expect(page.body.entries.every(({ actor, target }) => actor === "li" || target === "li")).toBe(true);
  const more = await admin<{ entries: Entry[] }>("GET", `/api/admin/audit?limit=2&who=li&before=${page.body.next}`);
  expect(more.body.entries).toHaveLength(2);
  expect(more.body.entries[0]).not.toEqual(page.body.entries[0]!);
  const only = await admin<{ entries: Entry[] }>("GET", "/api/admin/audit?action=bot_added");
  expect(only.body.entries).toHaveLength(1);
});
