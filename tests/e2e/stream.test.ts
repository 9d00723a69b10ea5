/** Sending, streaming, resuming, scrolling. Behaviours 7 to 16, 24 and 27 of facts/chat-page.md. */
import { describe, expect, test } from "bun:test";
import { finished, openPage, type Page, send, sleep, textOf, until, waitFor } from "./rig.ts";
import { drip, held, heldText, PARAGRAPH, scene, stored } from "./scene.ts";

const stage = scene({ config: { turnTimeout: 120_000 }, bots: [{ botId: "writer" }] });
const mdLength = (page: Page): Promise<number> =>
  page.evaluate<number>(`document.querySelector(".md")?.textContent.length ?? 0`);

describe("sending", () => {
  test("one's own message stands there within 50 ms and never vanishes or doubles", async () => {
    const { page, context } = await stage.open();
    await page.route("**/messages", async (route) => {
      await sleep(400);
      await route.continue();
    });
    await page.fill("#composer", "第一句");
    const ms = await page.evaluate<number>(`new Promise((done) => {
      window.__counts = [];
      new MutationObserver(() => window.__counts.push(document.querySelectorAll(".msg.user").length))
        .observe(document.querySelector(".messages"), { childList: true, subtree: true });
      const begin = performance.now();
      const wait = () => document.querySelector(".msg.user") ? done(performance.now() - begin) : setTimeout(wait, 0);
      document.querySelector(".send").click();
      wait();
    })`);
    console.log(`own message after ${ms.toFixed(1)} ms`);
    expect(ms).toBeLessThanOrEqual(50);
    expect(await textOf(page, ".unsent")).toContain("发送中");
    await finished(page);
    const counts = await page.evaluate<number[]>("window.__counts");
    expect(new Set(counts)).toEqual(new Set([1]));
    await context.close();
  });

  test("a refused message stays with its reason, can be sent again and discarded", async () => {
    const { page, context } = await stage.open();
    await page.route("**/messages", (route) =>
      route.fulfill({
        status: 503,
        contentType: "application/json",
        body: `{"error":"机器人都在忙","code":"bot_busy"}`,
      }),
    );
    await send(page, "忙吗");
    await page.waitForSelector(".unsent.failed");
    expect(await textOf(page, ".unsent.failed")).toContain("机器人都在忙");
    await page.unroute("**/messages");
    await page.click('[data-act="retry-send"]');
    await finished(page);
    expect(await page.locator(".msg.user").count()).toBe(1);
    expect(stage.asked.filter((turn) => turn.text === "忙吗")).toHaveLength(1);
    await page.route("**/messages", (route) =>
      route.fulfill({ status: 503, contentType: "application/json", body: `{"error":"忙","code":"bot_busy"}` }),
    );
    await send(page, "再来");
    await page.click('[data-act="discard"]');
    await waitFor(page, `document.querySelectorAll(".msg.user").length === 1`);
    await context.close();
  });

  test("a message written offline goes out once when the network is back, also when its answer got lost", async () => {
    const { page, context } = await stage.open();
    await send(page, "先来一句");
    await finished(page);
    await context.setOffline(true);
    await send(page, "离线写的");
    await waitFor(page, `document.querySelector(".unsent")?.textContent.includes("网络恢复")`);
    expect(await page.isEditable("#composer")).toBe(true);
    await page.reload().catch(() => {}); // what is unsent survives even that
    await context.setOffline(false);
    await page.reload();
    await finished(page, 2);
    expect(stage.asked.filter((turn) => turn.text === "离线写的")).toHaveLength(1);
    // The gateway takes it, the answer never arrives: the same id goes again and is the same message.
    let lost = 0;
    await page.route("**/messages", async (route) => {
      if (route.request().method() !== "POST" || lost > 0) return await route.continue();
      lost++;
      await route.fetch();
      await route.abort();
    });
    await send(page, "答复丢了");
    await finished(page, 3);
    await waitFor(page, `!document.querySelector(".unsent")`);
    expect(stage.asked.filter((turn) => turn.text === "答复丢了")).toHaveLength(1);
    expect(await page.locator(".msg.user").count()).toBe(3);
    await context.close();
  }, 30_000);
});

describe("resuming", () => {
  const text = PARAGRAPH.repeat(6);

  test("a reload at 30 % shows the text so far at once and goes on without gap or repeat", async () => {
    const { page, context } = await stage.open();
    stage.script = (turn) => drip(turn, text, 12, 150);
    await send(page, "写");
    await waitFor(page, `document.querySelector(".md")?.textContent.length > ${Math.floor(text.length * 0.2)}`);
    const before = await mdLength(page);
    await page.reload();
    await page.waitForSelector(".md p");
    expect(await mdLength(page)).toBeGreaterThanOrEqual(before * 0.9);
    await finished(page, 1, 20_000);
    const { content } = await stored(page);
    expect(content).toBe(text);
    expect(await heldText(page)).toBe(text);
    await context.close();
  }, 30_000);

  test("offline for some seconds: the text is whole", async () => {
    const { page, context } = await stage.open();
    stage.script = (turn) => drip(turn, text, 12, 40);
    await send(page, "写");
    await waitFor(page, `document.querySelector(".md")?.textContent.length > 100`);
    await context.setOffline(true);
    await page.evaluate(`window.dispatchEvent(new Event("offline"))`);
    await sleep(4000);
    await context.setOffline(false);
    await finished(page, 1, 30_000);
    expect((await stored(page)).content).toBe(text);
    expect(await heldText(page)).toBe(text);
    await context.close();
  }, 45_000);

  test("a page from the back/forward cache takes up the stream again", async () => {
    const { page, context } = await stage.open();
    stage.script = (turn) => drip(turn, text, 12, 150);
    await send(page, "写");
    await waitFor(page, `document.querySelector(".md")?.textContent.length > 100`);
    let streams = 0;
    page.on("request", (request) => {
      if (request.url().endsWith("/api/events")) streams++;
    });
    await page.evaluate(`window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }))`);
    await until(() => streams > 0 || undefined, 5000, "a new stream");
    await finished(page, 1, 20_000);
    expect(await heldText(page)).toBe(text);
    await context.close();
  }, 30_000);

  test("a gap in the text is closed by a snapshot, without a word to the reader", async () => {
    const { page, context } = await stage.open();
    let broken = 0;
    await page.route("**/api/events", async (route) => {
      // The first stream ends in the middle of the answer with a chunk that does not fit.
      if (broken++ > 0) return await route.continue();
      await route.fulfill({
        contentType: "text/event-stream",
        body: `data: {"type":"hello","epoch":"x","rev":0,"user":{"username":"admin","displayName":"管理员"}}\n\ndata: {"type":"chunk","turnId":"zz","generation":0,"offset":50,"content":"洞"}\n\n`,
      });
    });
    await page.reload();
    stage.script = (turn) => drip(turn, text, 24, 300);
    await send(page, "写");
    await finished(page, 1, 20_000);
    expect(broken).toBeGreaterThan(1);
    expect(await heldText(page)).toBe(text);
    expect(await page.evaluate<string>("document.body.textContent")).not.toContain("洞");
    await context.close();
  }, 30_000);

  test("two tabs on one conversation show the same, also while it streams", async () => {
    const { page, context } = await stage.open();
    const long = PARAGRAPH.repeat(12);
    stage.script = (turn) => drip(turn, long, 12, 100);
    await send(page, "写");
    await waitFor(page, "location.pathname.startsWith('/c/')");
    const second = (await openPage(context, stage.gate.url)).page;
    await second.goto(page.url());
    // While it is written each shows a growing part of it. Which of the two is in front does not matter.
    const shown = (p: Page): Promise<string> => textOf(p, ".md");
    for (const p of [second, page, second]) {
      const before = (await shown(p)).length;
      await until(async () => (await shown(p)).length > before, 10_000, "more of the text");
      expect(await p.locator(".msg.bot[data-state=streaming]").count()).toBe(1);
    }
    await finished(page, 1, 20_000);
    await finished(second, 1, 20_000);
    // Drawing follows the data by some frames, in a tab behind another by more.
    const body = `document.querySelector(".messages").textContent`;
    await until(
      async () => {
        const [one, other] = await Promise.all([page.evaluate<string>(body), second.evaluate<string>(body)]);
        return one === other && one.length > long.length / 2;
      },
      10_000,
      "the same text in both tabs",
    );
    expect(await heldText(second)).toBe(long);
    await send(second, "从另一边");
    await finished(page, 2, 20_000);
    expect(await page.locator(".msg.user").count()).toBe(2);
    await context.close();
  }, 30_000);
});

describe("ends", () => {
  test("stop keeps the text, says so, and nothing more appears; Escape does it too", async () => {
    const { page, context } = await stage.open();
    stage.script = (turn) => drip(turn, PARAGRAPH.repeat(50), 12, 100);
    for (const how of ["button", "Escape"]) {
      await send(page, "写");
      await waitFor(page, `document.querySelector(".md.streaming")?.textContent.length > 50`);
      if (how === "button") await page.click(".send[data-mode=stop]");
      else await page.keyboard.press("Escape");
      await page.waitForSelector(".msg:last-child .ended");
      expect(await page.locator(".ended").last().textContent()).toBe("已停止");
      const length = await page.evaluate<number>(`[...document.querySelectorAll(".md")].at(-1).textContent.length`);
      await until(() => stage.asked.at(-1)!.signal.aborted || undefined, 5000, "the bot to be told");
      await until(async () => (await stored(page)).state === "cancelled", 5000, "the cancelled state");
      expect(length).toBeGreaterThan(50);
      await page.waitForSelector(".send[data-mode=send]");
    }
    await page.reload();
    await page.waitForSelector(".ended");
    expect(await textOf(page, ".ended")).toBe("已停止");
    await context.close();
  });

  test("a bot that fails or goes away ends the answer with a reason, and it can be tried again", async () => {
    const { page, context } = await stage.open();
    stage.script = async (turn) => {
      turn.write("写了一半");
      await sleep(100);
      await turn.fail({ code: "model_down", message: "模型超时", retryable: false });
    };
    await send(page, "写");
    await page.waitForSelector(".ended.failed");
    expect(await textOf(page, ".ended.failed")).toContain("已中断");
    expect(await textOf(page, ".md")).toBe("写了一半");
    expect(await page.locator(".streaming").count()).toBe(0);
    stage.script = (turn) => turn.write("这次好了");
    await page.click('.ended [data-act="regenerate"]');
    await waitFor(page, `document.querySelector(".md")?.textContent === "这次好了"`);
    await page.waitForSelector(".pager");
    await page.click('[data-act="version-prev"]');
    await waitFor(page, `document.querySelector(".md")?.textContent === "写了一半"`);
    await context.close();
  });

  test("what the bot does is shown while it works, folds to one line after, and is not copied", async () => {
    const { page, context } = await stage.open();
    stage.script = async (turn) => {
      turn.event({ kind: "tool", tool: { id: "1", name: "查询天气", phase: "start" } });
      await sleep(600);
      turn.event({ kind: "status", text: "正在整理" });
      await sleep(600);
      turn.write("晴。");
    };
    await send(page, "天气");
    await waitFor(page, `document.querySelector(".when.live")?.textContent.includes("查询天气")`);
    await waitFor(page, `document.querySelector(".when.live")?.textContent.includes("正在整理")`);
    await finished(page);
    expect(await textOf(page, ".steps summary")).toMatch(/^已处理 [\d.]+ 秒$/);
    expect(await page.evaluate<boolean>(`document.querySelector(".steps").open`)).toBe(false);
    expect(await heldText(page)).toBe("晴。");
    await context.close();
  });

  test("after a minute of silence the page says it still waits, with a clock", async () => {
    const { page, context } = await stage.open();
    await page.clock.install();
    stage.script = held;
    await send(page, "慢慢想");
    await page.waitForSelector(".when.live");
    await page.clock.runFor(64_000);
    await waitFor(page, `/仍在处理 · 1:0\\d/.test(document.querySelector(".when.live")?.textContent)`);
    await page.click(".send[data-mode=stop]");
    await page.waitForSelector(".ended");
    await context.close();
  });
});
