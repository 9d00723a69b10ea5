/** Messages per day and turns at once, and the figures of who used what: right across midnight, restarts and kills. */
import { afterEach, describe, expect, test } from "bun:test";
import { createDays } from "../lib/days.ts";
import type { AdminUsageRow } from "../lib/protocol/admin.ts";
import { api, BOT_TOKEN, login, PASSWORD, startGateway, startProcess, v2Bot, type Call } from "./harness.ts";
import { tempDir } from "./harness/wait.ts";

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const USERS = { admin: { password: PASSWORD, role: "admin" }, user1: { password: PASSWORD, messagesPerDay: 3 } };
/** Noon in Shanghai, where no clock is ever set. */
const NOON = Date.UTC(2026, 10, 22, 4);

const open = async (config: Record<string, unknown> = {}, options: Parameters<typeof startGateway>[1] = {}) => {
  const gate = await startGateway({ users: USERS, timeZone: "Asia/Shanghai", ...config }, options);
  undo.push(gate.stop);
  const bot = await v2Bot(gate.wsUrl, { register: { botId: "b", token: BOT_TOKEN } });
  undo.push(() => bot.ws.close());
  return {
    ...gate,
    bot,
    admin: api(gate.url, await login(gate.url)),
    me: api(gate.url, await login(gate.url, "user1")),
  };
};
const send = (who: Call, message = "hi", more: Record<string, unknown> = {}, init: RequestInit = {}) =>
  who<{ error: string; code: string; retryAfter: number; content: string }>(
    "POST",
    "/api/chat",
    { message, ...more },
    init,
  );
const usage = async (admin: Call, by: string): Promise<AdminUsageRow[]> =>
  (await admin<{ usage: AdminUsageRow[] }>("GET", `/api/admin/usage?by=${by}`)).body.usage;

describe("days", () => {
  const at = (iso: string, timeZone: string) => createDays({ now: () => Date.parse(iso), timeZone: () => timeZone });
  test("end at midnight of their zone, also on days of 23 and 25 hours and where midnight itself is skipped", () => {
    const until = (iso: string, zone: string) => new Date(at(iso, zone).tomorrowAt()).toISOString();
    expect(at("2026-11-22T16:30:00Z", "Asia/Shanghai").today()).toBe("2026-11-23");
    expect(until("2026-11-22T15:59:59Z", "Asia/Shanghai")).toBe("2026-11-22T16:00:00.000Z");
    expect(until("2026-03-08T05:00:00Z", "America/New_York")).toBe("2026-03-09T04:00:00.000Z");
    expect(until("2026-11-01T04:00:00Z", "America/New_York")).toBe("2026-11-02T05:00:00.000Z");
    // Chile sets its clocks at midnight: the 6th of September 2026 begins at one o'clock.
    expect(until("2026-09-05T12:00:00Z", "America/Santiago")).toBe("2026-09-06T04:00:00.000Z");
    expect(at("2026-03-02T12:00:00Z", "Asia/Shanghai").daysAgo(3)).toBe("2026-02-27");
  });
});

describe("messages per day", () => {
  test("the one too many is refused with a sentence that says until when, and midnight frees them", async () => {
    let clock = NOON;
    const { me, admin } = await open({}, { now: () => clock });
    for (let i = 0; i < 3; i++) expect((await send(me)).status).toBe(200);
    const refused = await send(me);
    expect(refused.status).toBe(429);
    expect(refused.body).toMatchObject({ code: "rate_limited", retryAfter: 12 * 3600 });
    expect(refused.headers.get("retry-after")).toBe(String(12 * 3600));
    expect(refused.body.error).toBe("今天的 3 条消息已经用完，明天 0 点（Asia/Shanghai）恢复");
    const english = await send(me, "hi", {}, { headers: { "Accept-Language": "en" } });
    expect(english.body.error).toBe("Today's 3 messages are used up; there will be more at midnight (Asia/Shanghai)");
    expect((await send(admin)).status).toBe(200);
    clock = Date.UTC(2026, 10, 22, 15, 59, 59, 999);
    expect((await send(me)).body.retryAfter).toBe(1);
    clock += 1;
    expect((await send(me)).status).toBe(200);
  });

  test("twenty at the same moment: as many as are left get through", async () => {
    const { me } = await open();
    const answers = await Promise.all(Array.from({ length: 20 }, () => send(me)));
    expect(answers.map(({ status }) => status).sort()).toEqual([...Array(3).fill(200), ...Array(17).fill(429)]);
  });

  test("the same send twice counts once, and a deleted conversation gives nothing back", async () => {
    const { me } = await open();
    for (let i = 0; i < 3; i++) expect((await send(me, "same", { clientId: "once" })).status).toBe(200);
    await send(me);
    const { conversations } = (await me<{ conversations: { id: string }[] }>("GET", "/api/conversations")).body;
    for (const { id } of conversations) await me("DELETE", `/api/conversations/${id}`);
    expect((await send(me)).status).toBe(200);
    expect((await send(me)).status).toBe(429);
  });

  test("an admin's other limit counts at once, and config.json's again when it says something new", async () => {
    const { me, admin, reload } = await open();
    for (let i = 0; i < 3; i++) await send(me);
    await admin("PATCH", "/api/admin/users/user1", { messagesPerDay: 4 });
    expect((await send(me)).status).toBe(200);
    expect((await send(me)).status).toBe(429);
    await admin("PATCH", "/api/admin/users/user1", { messagesPerDay: 0 });
    expect((await send(me)).status).toBe(200);
    reload({ users: { ...USERS, user1: { password: PASSWORD, messagesPerDay: 2 } }, timeZone: "Asia/Shanghai" });
    expect((await send(me)).status).toBe(429);
  });

  test("a restart gives nothing back", async () => {
    const data = await tempDir("quota");
    undo.push(data.remove);
    const first = await open({}, { dataDir: data.path });
    await send(first.me);
    await send(first.me);
    await first.gateway.close();
    const second = await open({}, { dataDir: data.path });
    expect((await send(second.me)).status).toBe(200);
    expect((await send(second.me)).status).toBe(429);
  });
});

describe("turns at once", () => {
  test("one person may be held to fewer than the others", async () => {
    const { me, admin, url, wsUrl } = await open();
    const silent = await v2Bot(wsUrl, { register: { botId: "silent", token: BOT_TOKEN }, onChat: () => {} });
    undo.push(() => silent.ws.close());
    await admin("PATCH", "/api/admin/users/user1", { turnsAtOnce: 2, messagesPerDay: 0 });
    const held = Array.from({ length: 2 }, () => me.stream("/api/chat/stream", { message: "x", target: "silent" }));
    for (const response of await Promise.all(held)) undo.push(() => response.body?.cancel());
    const refused = await send(me, "x", { target: "silent" });
    expect(refused.status).toBe(429);
    expect(refused.body).toMatchObject({ retryAfter: 5, error: "同时进行的对话过多（上限 2），请等前面的回答完成" });
    expect((await send(api(url, await login(url)), "x", { target: "b" })).status).toBe(200);
  });
});

describe("use", () => {
  test("equals what was sent and answered, per day, person and bot", async () => {
    let clock = NOON;
    const { me, admin, wsUrl } = await open(
      { users: { ...USERS, user1: { password: PASSWORD } } },
      { now: () => clock },
    );
    const other = await v2Bot(wsUrl, {
      register: { botId: "other", token: BOT_TOKEN },
      onChat: (chat, self) =>
        chat.content === "fail"
          ? self.end(chat, "", { error: { code: "x", message: "no", retryable: false } })
          : self.end(chat, "12345", { usage: { prompt_tokens: 7, completion_tokens: 3 } }),
    });
    undo.push(() => other.ws.close());
    await send(me, "ab", { target: "b" });
    await send(me, "ab", { target: "other" });
    await send(me, "fail", { target: "other" });
    await send(admin, "ab", { target: "other" });
    clock += 14 * 3_600_000; // two in the morning
    await send(admin, "abc", { target: "b" });
    const none = { failed: 0, cancelled: 0, promptTokens: 0, completionTokens: 0 };
    expect(await usage(admin, "user")).toEqual([
      {
        key: "user1",
        name: "user1",
        messages: 3,
        done: 2,
        failed: 1,
        cancelled: 0,
        chars: 13,
        promptTokens: 7,
        completionTokens: 3,
      },
      { ...none, key: "admin", name: "admin", messages: 2, done: 2, chars: 14, promptTokens: 7, completionTokens: 3 },
    ]);
    expect(await usage(admin, "bot")).toEqual([
      {
        key: "other",
        name: "Bot",
        messages: 3,
        done: 2,
        failed: 1,
        cancelled: 0,
        chars: 10,
        promptTokens: 14,
        completionTokens: 6,
      },
      { ...none, key: "b", name: "Bot", messages: 2, done: 2, chars: 17 },
    ]);
    expect((await usage(admin, "day")).map(({ key, messages, done }) => [key, messages, done])).toEqual([
      ["2026-11-23", 1, 1],
      ["2026-11-22", 4, 3],
    ]);
    expect((await admin("GET", "/api/admin/usage?by=colour")).status).toBe(400);
  });

  test("is exact after the process was killed: every message that was answered is counted, once", async () => {
    const folder = await tempDir("killed");
    undo.push(folder.remove);
    const config = { users: USERS, limits: { sendsPerMinute: 0, turnsPerUser: 0 } };
    const first = await startProcess({ cwd: folder.path, config });
    undo.push(first.stop);
    const bot = await v2Bot(first.wsUrl, { register: { botId: "b", token: BOT_TOKEN } });
    const admin = api(first.url, await login(first.url));
    const answered = await Promise.all(Array.from({ length: 40 }, (_, i) => send(admin, `m${i}`)));
    expect(answered.every(({ status }) => status === 200)).toBe(true);
    first.kill("SIGKILL");
    await first.exited;
    bot.ws.close();
    const second = await startProcess({ cwd: folder.path, config });
    undo.push(second.stop);
    const again = api(second.url, await login(second.url));
    expect(await usage(again, "day")).toMatchObject([{ messages: 40, done: 40 }]);
  });
});
