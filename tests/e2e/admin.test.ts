/**
 * Looking after a gateway from the admin's browser alone: a person is added, a bot connected and limited to them, a turn
 * watched and cancelled, a dead letter read, the person signed out, and all of it is in the audit log and in /metrics.
 */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdir } from "node:fs/promises";
import type { BrowserContextOptions } from "playwright-core";
import { connectBot } from "../../plugin/client.ts";
import { BOT_TOKEN, v1Bot } from "../harness.ts";
import {
  type Browser,
  DESK,
  finished,
  type Gateway,
  gateway,
  launch,
  openPage,
  type Page,
  PASSWORD,
  send,
  signIn,
  sleep,
  textOf,
  until,
  violations,
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
const visit = async (gate: Gateway, options: BrowserContextOptions = DESK): Promise<{ page: Page; watch: Watch }> => {
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

test("from an empty gateway, with the browser only, everything there is to look after is done and written down", async () => {
  const gate = await start();
  const { page, watch } = await visit(gate);
  await signIn(page, gate.url);
  await openAdmin(page);
  expect(new URL(page.url()).pathname).toBe("/admin/overview");
  await waitFor(page, `document.querySelector("[data-tile=tileSessions] .tile-value").textContent === "1"`);
  await shot(page, "1-overview-empty");

  // A person, with a password the gateway makes.
  await section(page, "users");
  await page.click(".admin-tools .primary");
  await page.fill("#admin-username", "lilei");
  await page.fill("#admin-display-name", "李雷");
  await page.fill("#admin-per-day", "50");
  await shot(page, "2-add-person");
  await page.click("#admin-add-user [type=submit]");
  await page.waitForSelector("#admin-once");
  const password = await page.inputValue("#admin-once-1");
  expect(password).toMatch(/^[a-z2-9-]{19}$/);
  await shot(page, "3-password-once");
  await page.keyboard.press("Escape");
  await page.waitForSelector(".row-button[data-user=lilei]");

  // A bot, limited to that person.
  await section(page, "bots");
  await page.click(".admin-tools .primary");
  await page.fill("#admin-bot-id", "writer");
  await page.fill("#admin-bot-name", "写手");
  await page.check("#admin-who-some");
  await page.check(".person input[value=lilei]");
  await shot(page, "4-add-bot");
  await page.click("#admin-add-bot [type=submit]");
  await page.waitForSelector("#admin-once");
  const [url, botId, token] = await Promise.all([0, 1, 2].map((i) => page.inputValue(`#admin-once-${i}`)));
  expect(url).toBe(gate.wsUrl);
  await shot(page, "5-connect-bot");
  await page.keyboard.press("Escape");
  let cancelled = false;
  const bot = connectBot({
    url: url!,
    botId: botId!,
    token: token!,
    onTurn: async (turn) => {
      turn.write("一段很长的回答，");
      await new Promise<void>((done) => turn.signal.addEventListener("abort", () => done()));
      cancelled = true;
    },
  });
  ends.push(() => bot.close());
  await waitFor(page, `document.querySelector("[data-section=bots] td .badge-on")`);
  await shot(page, "6-bots");

  // The admin may not use it, the person does.
  const person = await visit(gate);
  await person.page.goto(gate.url);
  await person.page.fill("#username", "lilei");
  await person.page.fill("#password", password);
  await person.page.click("#login-submit");
  await person.page.waitForSelector('.status[data-link="online"]');
  expect(await page.evaluate<number>(`fetch("/api/bots").then((r) => r.json()).then(({ bots }) => bots.length)`)).toBe(
    0,
  );
  await send(person.page, "写一篇长文");

  // The turn is watched and cancelled.
  await section(page, "turns");
  await waitFor(page, `document.querySelector("[data-turn]")?.textContent.includes("正在写")`);
  expect(await textOf(page, "[data-turn]")).toContain("李雷");
  expect(await textOf(page, "#admin")).not.toContain("一段很长");
  await shot(page, "7-turns");
  await page.click("[data-turn] .secondary");
  await waitFor(page, `!document.querySelector("[data-turn]")`);
  await until(() => cancelled || undefined, 5000, "the bot to be told");
  await finished(person.page);

  // What a v1 bot says to nobody.
  const old = await v1Bot(gate.wsUrl, { botId: "old", token: BOT_TOKEN });
  ends.push(() => old.ws.close());
  old.send({ type: "reply", id: "r", replyTo: "outbound-9", content: "给不知道谁的话", done: true, timestamp: 1 });
  await until(() => gate.gateway.gate.store.inbox.deadCount() > 0 || undefined, 5000, "the dead letter");
  await section(page, "dead");
  await page.click("[data-section=dead] td .secondary");
  await page.waitForSelector("#admin-letter");
  expect(await textOf(page, "#admin-letter")).toContain("给不知道谁的话");
  await shot(page, "8-dead-letter");
  await page.keyboard.press("Escape");

  // The person is signed out everywhere: their page notices within a second.
  await section(page, "users");
  await page.click("[data-user=lilei]");
  await page.waitForSelector("#admin-user .plain td");
  await shot(page, "9-person");
  const at = performance.now();
  await page.click("#admin-user .dialog-body > div:not(.acts) > .secondary");
  await person.page.waitForSelector("#relogin");
  expect(performance.now() - at).toBeLessThan(3000);
  await page.keyboard.press("Escape");

  // All of it is in the audit log, in the figures and in /metrics.
  await section(page, "usage");
  await page.selectOption("#admin-usage-by", "user");
  await waitFor(page, `document.querySelector("[data-section=usage] tbody")?.textContent.includes("李雷")`);
  await shot(page, "10-usage");
  await section(page, "audit");
  await waitFor(page, `document.querySelectorAll("[data-action]").length >= 7`);
  expect(await actions(page)).toEqual([
    "sign_in",
    "person_added",
    "bot_added",
    "sign_in",
    "turn_cancelled",
    "dead_letter_read",
    "sessions_ended",
  ]);
  await shot(page, "11-audit");
  await section(page, "overview");
  await waitFor(page, `document.querySelector("[data-tile=tileDead] .tile-value").textContent === "1"`);
  await shot(page, "12-overview");
  const metrics = await (await fetch(`${gate.url}/metrics`)).text();
  for (const line of [
    'nexus_turns_total{outcome="cancelled"} 1',
    "nexus_bots_online 2",
    "nexus_people 2",
    "nexus_sessions 1",
    "nexus_dead_letters 1",
    "nexus_messages_today 1",
    'nexus_audit_entries_total{action="person_added"} 1',
    'nexus_audit_entries_total{action="turn_cancelled"} 1',
    'nexus_audit_entries_total{action="dead_letter_read"} 1',
    'nexus_audit_entries_total{action="sessions_ended"} 1',
  ])
    expect(metrics.split("\n")).toContain(line);

  expect(await violations(page, watch)).toEqual([]);
  expect(watch.foreign).toEqual([]);
  expect(watch.errors).toEqual([]);
  await page.click("#admin > .dialog-head .icon");
  await page.waitForSelector("#composer");
  await waitFor(page, `location.pathname === "/"`);
}, 120_000);
