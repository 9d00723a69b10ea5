/** The admin page, action by action: on a person, on a bot; who finds no way in; on a phone, in English and in the dark. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { BrowserContextOptions } from "playwright-core";
import { connectBot } from "../../plugin/client.ts";
import { api, BOT_TOKEN, login, v1Bot } from "../harness.ts";
import { createBrowser } from "../signin/browser.ts";
import { startRig } from "../signin/rig.ts";
import {
  type Browser,
  DESK,
  type Gateway,
  gateway,
  launch,
  openPage,
  type Page,
  PASSWORD,
  PHONE,
  signIn,
  sleep,
  textOf,
  until,
  waitFor,
  type Watch,
} from "./rig.ts";

/** Where pictures go when somebody wants to look: `SHOTS=/tmp/shots bun test tests/e2e/admin.test.ts`. */
const SHOTS = process.env.SHOTS;

let browser: Browser;
const ends: (() => unknown)[] = [];
beforeAll(async () => {
  browser = await launch();
  if (SHOTS) await mkdir(SHOTS, { recursive: true });
});
afterAll(() => browser?.close());
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const shot = async (page: Page, name: string): Promise<void> => {
  if (!SHOTS) return;
  await sleep(300);
  await page.screenshot({ path: `${SHOTS}/${name}.png` });
};
const visit = async (
  gate: { url: string },
  options: BrowserContextOptions = DESK,
): Promise<{ page: Page; watch: Watch }> => {
  const context = await browser.newContext(options);
  ends.push(() => context.close());
  return await openPage(context, gate.url);
};
const start = async (config: Record<string, unknown> = {}): Promise<Gateway> => {
  const gate = await gateway({
    users: { admin: { password: PASSWORD, displayName: "管理员", role: "admin" } },
    ...config,
  });
  ends.push(gate.stop);
  return gate;
};
const openAdmin = async (page: Page): Promise<void> => {
  await page.click(".gear");
  await page.click("#open-admin");
  await page.waitForSelector("#admin .tile");
};
const section = async (page: Page, name: string): Promise<void> => {
  await page.click(`[data-to=${name}]`);
  await page.waitForSelector(`[data-section=${name}]`);
};
const actions = (page: Page): Promise<string[]> =>
  page.evaluate<string[]>(`[...document.querySelectorAll("[data-action]")].map((e) => e.dataset.action).reverse()`);

describe("every action of the page", () => {
  test("on a person: changed, limited, disabled, enabled, exported, one sign-in ended, removed", async () => {
    const gate = await start();
    const { page } = await visit(gate);
    await signIn(page, gate.url);
    await openAdmin(page);
    await section(page, "users");
    await page.click(".admin-tools .primary");
    await page.fill("#admin-username", "han");
    await page.fill("#admin-password", "a long enough one");
    await page.click("#admin-add-user [type=submit]");
    const open = async (): Promise<void> => {
      await waitFor(page, `document.querySelectorAll("dialog[open]").length === 1`);
      await page.click("[data-user=han]");
      await page.waitForSelector("#admin-user");
    };
    const { people, sessions } = gate.gateway.gate;
    await open();
    await page.fill("#admin-display-name", "韩梅梅");
    await page.selectOption("#admin-role", "admin");
    await page.fill("#admin-per-day", "7");
    await page.fill("#admin-at-once", "2");
    await page.fill("#admin-password", "another long one");
    await page.click("#admin-user [type=submit]");
    await waitFor(page, `document.querySelector("[data-user=han]").textContent.includes("韩梅梅")`);
    expect(people.get("han")).toMatchObject({
      displayName: "韩梅梅",
      role: "admin",
      messagesPerDay: 7,
      turnsAtOnce: 2,
    });

    await sessions.create("han");
    await open();
    await page.click("#admin-user .plain .quiet");
    await until(() => sessions.of("han").length === 0 || undefined, 5000, "the sign-in to end");
    const download = page.waitForEvent("download");
    await page.click("#admin-user .acts .act:nth-of-type(1) button");
    expect((await download).suggestedFilename()).toBe("nexus-han.json");
    await page.click("#admin-user .acts .act:nth-of-type(2) button");
    await page.waitForSelector(".badge-off");
    expect(people.has("han")).toBe(false);
    await open();
    await shot(page, "13-disabled");
    await page.click("#admin-user .acts .act:nth-of-type(2) button");
    await waitFor(page, `!document.querySelector(".badge-off")`);
    expect(people.has("han")).toBe(true);
    await open();
    await page.click("#admin-user .acts .danger");
    expect(people.has("han")).toBe(true); // asked once
    await page.click("#admin-user .acts .danger");
    await waitFor(page, `!document.querySelector("[data-user=han]")`);
    expect(people.has("han")).toBe(false);

    // Oneself is not for disabling, and config.json is not for changing here.
    await page.click("[data-user=admin]");
    await page.waitForSelector("#admin-user");
    expect(await page.isDisabled("#admin-display-name")).toBe(true);
    expect(await page.evaluate<number>(`document.querySelectorAll("#admin-user .acts .act").length`)).toBe(1);
    await page.keyboard.press("Escape");
    await section(page, "audit");
    await waitFor(page, `document.querySelector("[data-action=person_removed]")`);
    for (const one of [
      "person_added",
      "person_changed",
      "sessions_ended",
      "exported",
      "person_disabled",
      "person_enabled",
    ])
      expect(await actions(page)).toContain(one);
    await page.selectOption("[data-section=audit] select", "exported");
    await waitFor(page, `document.querySelectorAll("[data-action]").length === 1`);
  }, 60_000);

  test("on a bot: renamed, pooled, limited, disconnected, disabled, enabled, a new token, forgotten", async () => {
    const gate = await start();
    const { page } = await visit(gate);
    await signIn(page, gate.url);
    await openAdmin(page);
    await section(page, "bots");
    await page.click(".admin-tools .primary");
    await page.fill("#admin-bot-id", "b");
    await page.click("#admin-add-bot [type=submit]");
    await page.waitForSelector("#admin-once");
    const token = await page.inputValue("#admin-once-2");
    await page.keyboard.press("Escape");
    const closes: (number | undefined)[] = [];
    const bot = connectBot({
      url: gate.wsUrl,
      botId: "b",
      token,
      reconnect: { minMs: 50, maxMs: 100 },
      onTurn: (turn) => turn.write("ok"),
      onState: (state) => void (state.state === "waiting" && closes.push(state.code)),
    });
    ends.push(() => bot.close());
    const { bots } = gate.gateway.gate;
    const online = (): Promise<unknown> => until(() => bots.isOnline("b") || undefined, 5000, "the bot to be online");
    await online();
    const open = async (): Promise<void> => {
      await waitFor(page, `document.querySelectorAll("dialog[open]").length === 1`);
      await page.click("[data-bot-id=b]");
      await page.waitForSelector("#admin-bot");
    };
    await waitFor(page, `document.querySelector("[data-section=bots] .badge-on")`);
    await open();
    await page.fill("#admin-bot-name", "新名字");
    await page.fill("#admin-pools", "default, fast");
    await page.fill("#admin-concurrency", "3");
    await page.check("#admin-who-some");
    await page.check(".person input[value=admin]");
    await shot(page, "14-bot");
    await page.click("#admin-bot [type=submit]");
    await waitFor(page, `document.querySelector("[data-bot-id=b]").textContent.includes("新名字")`);
    const [held] = [...bots.connections()];
    expect(held).toMatchObject({ name: "新名字", pools: ["default", "fast"], maxConcurrency: 3 });
    expect(bots.mayUse("somebody", "b")).toBe(false);

    await open();
    await page.click("#admin-bot .dialog-body > div:not(.acts) .act .secondary");
    await until(() => closes.includes(4004) || undefined, 5000, "the bot to be disconnected");
    await online();
    await open();
    await page.click("#admin-bot .acts .act:nth-of-type(2) button");
    await page.waitForSelector("[data-section=bots] .badge-off");
    expect(bots.isOnline("b")).toBe(false);
    await open();
    await page.click("#admin-bot .acts .act:nth-of-type(2) button");
    await online();
    await open();
    await page.click("#admin-bot .acts .act:nth-of-type(1) button");
    await page.waitForSelector("#admin-once");
    expect(await page.inputValue("#admin-once-2")).not.toBe(token);
    await page.keyboard.press("Escape");
    await until(() => !bots.isOnline("b") || undefined, 5000, "the old token to count no more");
    await open();
    await page.click("#admin-bot .acts .danger");
    await page.click("#admin-bot .acts .danger");
    await waitFor(page, `!document.querySelector("[data-bot-id=b]")`);
    expect(gate.gateway.gate.botSettings.has("b")).toBe(false);
  }, 60_000);
});

test("use and the audit log are saved as CSV by their buttons, a dead letter is deleted, what sign-in costs is shown", async () => {
  const rig = await startRig({ page: true, config: { users: { admin: { password: PASSWORD, role: "admin" } } } });
  ends.push(rig.stop);
  await createBrowser("feishu").go(`${rig.url}/`);
  const { page, watch } = await visit(rig);
  await signIn(page, rig.url);
  await openAdmin(page);
  await page.waitForSelector("#admin-sign-ins .grid");
  const cells = await page.evaluate<string[][]>(
    `[...document.querySelectorAll("#admin-sign-ins tbody tr")].map((r) => [...r.cells].map((c) => c.innerText))`,
  );
  expect(cells.map((row) => row.slice(0, 5))).toEqual([
    ["飞书\nfeishu", "1", "0", "2", "0"],
    ["钉钉\ndingtalk", "0", "0", "0", "0"],
    ["企业微信\nwecom", "0", "0", "0", "0"],
  ]);
  expect(cells[0]![5]).toBe("每月 10,000 次\n2024-11-13 · custom-app-api-call-limit");
  await shot(page, "20-sign-ins");

  const saved = async (): Promise<[name: string, text: string]> => {
    const waiting = page.waitForEvent("download");
    await page.click(".admin-tools .secondary");
    const file = await waiting;
    return [file.suggestedFilename(), await Bun.file(await file.path()).text()];
  };
  const me = api(rig.url, await login(rig.url));
  const echo = await v1Bot(rig.wsUrl, { botId: "echo", token: BOT_TOKEN });
  ends.push(() => echo.ws.close());
  await me("POST", "/api/chat", { message: "四个字啊" });
  await section(page, "usage");
  const [usageName, usage] = await saved();
  expect(usageName).toBe("nexus-usage.csv");
  expect(usage).toContain(",admin,,1,0,0,0,0,0,0\r\n");
  expect(usage).toContain(",admin,echo,0,1,0,0,");
  await section(page, "audit");
  const [auditName, audit] = await saved();
  expect(auditName).toBe("nexus-audit.csv");
  expect(audit).toContain(",feishu:tenant1:on_1,sign_in,,");
  expect(audit).toContain(',admin,exported,,"{""what"":""usage""}",');

  const { inbox } = rig.gateway.gate.store;
  echo.send({ type: "reply", id: "r", replyTo: "outbound-9", content: "给谁呢", done: true, timestamp: 1 });
  await until(() => inbox.deadCount() === 1 || undefined, 5000, "the dead letter");
  await section(page, "dead");
  await waitFor(
    page,
    `document.querySelector("[data-section=dead] td")?.closest("tr").innerText.includes("没有写明给谁")`,
  );
  await page.click("[data-section=dead] td .secondary");
  await page.click("#admin-letter .actions .secondary:last-child");
  await waitFor(page, `document.querySelector("[data-section=dead]").textContent.includes("没有死信")`);
  expect(inbox.deadCount()).toBe(0);
  expect(watch.errors).toEqual([]);
}, 60_000);

test("somebody without the role finds no way in, also by the address, and changes the own password in the settings", async () => {
  const gate = await start({
    users: {
      admin: { password: PASSWORD, role: "admin" },
      user1: { password: PASSWORD },
    },
  });
  const { page } = await visit(gate);
  await signIn(page, `${gate.url}/admin/users`, "user1");
  const loaded: string[] = [];
  page.on("request", (request) => loaded.push(request.url()));
  await page.click(".gear");
  await page.waitForSelector("#settings");
  expect(await page.isVisible("#open-admin")).toBe(false);
  await page.click(".password-change summary");
  await page.fill("#current-password", "wrong");
  await page.fill("#new-password", "a long enough one");
  await page.click(".password-change [type=submit]");
  await waitFor(page, `document.querySelector(".password-change [role=alert]").textContent.includes("不对")`);
  await page.fill("#current-password", PASSWORD);
  await page.click(".password-change [type=submit]");
  await page.waitForSelector(".toast");
  await shot(page, "15-password");
  expect(await page.evaluate<number>(`fetch("/api/me").then((r) => r.status)`)).toBe(200);
  expect(await page.evaluate<boolean>(`Boolean(document.getElementById("admin"))`)).toBe(false);
  expect(loaded.filter((url) => url.includes("/admin-") || url.includes("/api/admin"))).toEqual([]);
}, 60_000);

test("an admin who comes by the address lands in that section; on a phone rows are cards; English and dark too", async () => {
  const gate = await start();
  const { page, watch } = await visit(gate, PHONE);
  await signIn(page, `${gate.url}/admin/users`);
  await page.waitForSelector("#admin [data-user=admin]");
  expect(await page.evaluate<boolean>(`document.documentElement.scrollWidth <= innerWidth`)).toBe(true);
  await shot(page, "16-phone-users");
  await section(page, "overview");
  await shot(page, "17-phone-overview");
  expect(watch.errors).toEqual([]);

  const dark = await visit(gate, { ...DESK, locale: "en-GB", colorScheme: "dark" });
  await signIn(dark.page, `${gate.url}/admin`);
  await dark.page.waitForSelector("#admin .tile");
  expect(await textOf(dark.page, "#admin")).toContain("Being answered");
  expect(await textOf(dark.page, "#admin")).not.toMatch(/[\u4e00-\u9fff]/);
  for (const name of ["users", "bots", "turns", "dead", "usage", "audit", "limits"]) {
    await section(dark.page, name);
    await sleep(150);
    // The admin's own display name is the only Chinese there is.
    expect((await textOf(dark.page, "#admin")).replaceAll("管理员", "")).not.toMatch(/[\u4e00-\u9fff]/);
  }
  await shot(dark.page, "18-dark-limits");
  await section(dark.page, "audit");
  await dark.page.waitForSelector("[data-action]");
  await shot(dark.page, "19-dark-audit");
}, 60_000);

test("axe finds nothing serious in any section, light and dark, and in the dialogs of a person and a bot", async () => {
  const axe = await Bun.file(join(import.meta.dir, "../../node_modules/axe-core/axe.min.js")).text();
  const gate = await start({ bots: { b: { token: "nxb_a-token-that-is-long-enough", users: ["admin"] } } });
  const old = await v1Bot(gate.wsUrl, { botId: "old", token: BOT_TOKEN });
  ends.push(() => old.ws.close());
  old.send({ type: "reply", id: "r", replyTo: "outbound-9", content: "x", done: true, timestamp: 1 });
  type Violation = { id: string; impact: string; nodes: { html: string; failureSummary: string }[] };
  const check = async (page: Page, where: string): Promise<void> => {
    const found = await page.evaluate<Violation[]>(
      `axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }).then((r) => r.violations)`,
    );
    const serious = found.filter(({ impact }) => impact === "serious" || impact === "critical");
    expect([
      where,
      serious.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 200)}`)),
    ]).toEqual([where, []]);
  };
  for (const colorScheme of ["light", "dark"] as const) {
    const { page } = await visit(gate, { ...DESK, colorScheme });
    await signIn(page, gate.url);
    await openAdmin(page);
    await page.evaluate(axe);
    for (const name of ["overview", "users", "bots", "turns", "dead", "usage", "audit", "limits"]) {
      await section(page, name);
      await sleep(200);
      await check(page, `${name}, ${colorScheme}`);
    }
    await section(page, "users");
    await page.click("[data-user=admin]");
    await page.waitForSelector("#admin-user .plain td");
    await check(page, `a person, ${colorScheme}`);
    await page.keyboard.press("Escape");
    await section(page, "bots");
    await page.click("[data-bot-id=b]");
    await page.waitForSelector("#admin-bot .person input");
    await check(page, `a bot, ${colorScheme}`);
  }
}, 120_000);
