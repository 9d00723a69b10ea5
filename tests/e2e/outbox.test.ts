/** What is on its way out: nothing of it hides anything, no tab takes another one's, and it says what it waits for. */
import { describe, expect, test } from "bun:test";
import {
  bot,
  DESK,
  finished,
  gateway,
  openPage,
  type Page,
  send,
  signIn,
  sleep,
  textOf,
  until,
  waitFor,
} from "./rig.ts";
import { edit, scene } from "./scene.ts";

const stage = scene();

/** What stands there, from above to below. */
const SHOWN = `[...document.querySelectorAll(".msg")].map((e) => e.querySelector(".bubble, .md").textContent)`;
const shown = (page: Page): Promise<string[]> => page.evaluate<string[]>(SHOWN);
const shows = (page: Page, texts: readonly string[]): Promise<void> =>
  waitFor(page, `JSON.stringify(${SHOWN}) === ${JSON.stringify(JSON.stringify(texts))}`).catch(async () =>
    expect(await shown(page)).toEqual([...texts]),
  );
/** The next of these is refused. */
const refuseOne = async (page: Page): Promise<void> => {
  let refused = 0;
  await page.route("**/messages", async (route) => {
    if (route.request().method() !== "POST" || refused++ > 0) return await route.continue();
    await route.fulfill({ status: 503, contentType: "application/json", body: `{"error":"忙","code":"bot_busy"}` });
  });
};

describe("what is not stored yet hides nothing", () => {
  test("a refused message stays where it stood, and what is asked and answered later is seen, also after a reload", async () => {
    const { page, context } = await stage.open();
    await send(page, "一");
    await finished(page);
    await refuseOne(page);
    await send(page, "被拒的");
    await page.waitForSelector(".unsent.failed");
    await send(page, "二");
    await shows(page, ["一", "回：一", "被拒的", "二", "回：二"]);
    await page.reload();
    await shows(page, ["一", "回：一", "被拒的", "二", "回：二"]);
    await page.click('[data-act="retry-send"]');
    await shows(page, ["一", "回：一", "二", "回：二", "被拒的", "回：被拒的"]);
    expect(await page.locator(".pager").count()).toBe(0);
    await context.close();
  });

  test("a refused edit gives back what it was to replace", async () => {
    const { page, context } = await stage.open();
    await send(page, "一");
    await finished(page);
    await send(page, "然后呢");
    await finished(page, 2);
    await refuseOne(page);
    await edit(page, 0, "改过");
    await page.waitForSelector(".unsent.failed");
    await shows(page, ["一", "回：一", "然后呢", "回：然后呢", "改过"]);
    await page.click('[data-act="retry-send"]');
    await shows(page, ["改过", "回：改过"]);
    await context.close();
  });

  test("of several that wait all are seen, in their order, and they go out in it", async () => {
    const { page, context } = await stage.open();
    await send(page, "一");
    await finished(page);
    await context.setOffline(true);
    for (const text of ["二", "三", "四"]) await send(page, text);
    await shows(page, ["一", "回：一", "二", "三", "四"]);
    await context.setOffline(false);
    await finished(page, 4);
    await shows(page, ["一", "回：一", "二", "回：二", "三", "回：三", "四", "回：四"]);
    await context.close();
  }, 30_000);

  test("several sent while their conversation is made are all seen and each goes out once", async () => {
    const { page, context } = await stage.open();
    const sent: string[] = [];
    await page.route("**/api/conversations/*/messages", async (route) => {
      if (route.request().method() === "POST") {
        sent.push((route.request().postDataJSON() as { content: string }).content);
        await sleep(300);
      }
      await route.continue();
    });
    for (const text of ["快一", "快二", "快三"]) await send(page, text);
    await shows(page, ["快一", "快二", "快三"]);
    await until(() => sent.length > 0 || undefined, 5000, "the first on its way");
    await send(page, "快四");
    await finished(page, 4);
    expect(sent).toEqual(["快一", "快二", "快三", "快四"]);
    await context.close();
  });

  test("one sent while an older version is shown is seen at once", async () => {
    const { page, context } = await stage.open();
    await send(page, "一");
    await finished(page);
    await edit(page, 0, "改过");
    await shows(page, ["改过", "回：改过"]);
    await page.hover(".msg.user");
    await page.click('[data-act="version-prev"]');
    await shows(page, ["一", "回：一"]);
    await page.route("**/messages", (route) => route.abort());
    await send(page, "接着问");
    await shows(page, ["改过", "回：改过", "接着问"]);
    await context.close();
  });

  test("one sent before the conversation is loaded does not keep it away", async () => {
    const { page, context } = await stage.open();
    await send(page, "一");
    await finished(page);
    const { pathname } = new URL(page.url());
    await page.click(".new-chat");
    await page.reload();
    let load = (): void => {};
    const loading = new Promise<void>((done) => (load = done));
    await page.route("**/messages**", async (route) => {
      if (route.request().method() === "POST") return await route.abort();
      await loading;
      await route.continue();
    });
    await page.click(`.row-link[href="${pathname}"]`);
    await send(page, "抢先");
    await shows(page, ["抢先"]);
    load();
    await shows(page, ["一", "回：一", "抢先"]);
    await context.close();
  });
});

describe("two tabs", () => {
  const noSends = (page: Page): Promise<unknown> =>
    page.route("**/messages", (route) => (route.request().method() === "POST" ? route.abort() : route.continue()));
  const waiting = '.msg[data-state="waiting"]';

  test("what waits in one outlives what another one sends", async () => {
    const { page, context } = await stage.open();
    await send(page, "一");
    await finished(page);
    const other = await context.newPage();
    await other.goto(stage.gate.url);
    await other.waitForSelector('.status[data-link="online"]');
    await page.bringToFront();
    await noSends(page);
    await send(page, "甲写的");
    await page.waitForSelector(waiting);
    await other.bringToFront();
    await send(other, "乙写的");
    await finished(other);
    await page.bringToFront();
    await page.unroute("**/messages");
    await page.reload();
    await shows(page, ["一", "回：一", "甲写的", "回：甲写的"]);
    expect(await page.evaluate<string[]>(`Object.keys(localStorage).filter((k) => /outbox/.test(k))`)).toEqual([]);
    await context.close();
  }, 30_000);

  test("what is discarded in one is not sent by another", async () => {
    const { page, context } = await stage.open();
    await send(page, "一");
    await finished(page);
    await noSends(page);
    await send(page, "不要了");
    await page.waitForSelector(waiting);
    const other = await context.newPage();
    await noSends(other);
    await other.goto(page.url());
    await other.waitForSelector(waiting);
    await page.bringToFront();
    await page.click('[data-act="discard"]');
    await shows(page, ["一", "回：一"]);
    await shows(other, ["一", "回：一"]);
    await context.close();
  });

  test("what the version before left, all under one key, is sent", async () => {
    const { page, context } = await stage.open();
    await send(page, "一");
    await finished(page);
    const id = page.url().split("/c/")[1]!;
    const left = ["旧一", "旧二"].map((content, i) => ({
      clientId: `left-${id}-${i}`,
      conversationId: id,
      content,
      attachments: [],
      createdAt: Date.now() + i,
      state: "waiting",
    }));
    await page.evaluate(`localStorage["nexus.outbox"] = ${JSON.stringify(JSON.stringify(left))}`);
    await page.reload();
    await shows(page, ["一", "回：一", "旧一", "回：旧一", "旧二", "回：旧二"]);
    expect(await page.evaluate<string[]>(`Object.keys(localStorage).filter((k) => /outbox/.test(k))`)).toEqual([]);
    await context.close();
  });
});

test("one that waits for another answer to end says so, not that the network is away", async () => {
  const gate = await gateway({ limits: { turnsPerUser: 1, streamsPerUser: 0, sendsPerMinute: 0 } });
  let free = (): void => {};
  const helper = await bot(gate, "helper", async (turn) => {
    if (turn.text === "等") await new Promise<void>((done) => (free = done));
    turn.write(`回：${turn.text}`);
  });
  const context = await stage.browser.newContext(DESK);
  const { page } = await openPage(context, gate.url);
  await signIn(page, gate.url);
  await send(page, "等");
  await page.waitForSelector(".msg.bot[data-state=streaming]");
  await send(page, "下一句");
  await page.waitForSelector('.msg[data-state="waiting"]');
  const said = await textOf(page, ".unsent");
  expect(said).toContain("稍后自动发送：同时进行的对话过多");
  expect(said).not.toContain("网络");
  free();
  await finished(page, 2, 20_000);
  expect(await page.locator(".unsent").count()).toBe(0);
  await context.close();
  await helper.close();
  await gate.stop();
}, 30_000);
