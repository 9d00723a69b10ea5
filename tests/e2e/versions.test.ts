/** Versions, quotes, messages nobody asked for, print. Behaviours 21, 22 and 42 of facts/chat-page.md. */
import { describe, expect, test } from "bun:test";
import { v2Bot } from "../harness/bots.ts";
import { BOT_TOKEN } from "../harness/config.ts";
import { person } from "../harness/person.ts";
import {
  bot,
  DESK,
  finished,
  openPage,
  type Page,
  send,
  signIn,
  sleep,
  textOf,
  type Turn,
  until,
  waitFor,
} from "./rig.ts";
import { edit, scene, search } from "./scene.ts";

const stage = scene();

test("the buttons of an older message of one's own can be pressed, and none hangs over another", async () => {
  const { page, context } = await stage.open();
  for (let i = 1; i <= 5; i++) {
    await send(page, `第 ${i} 句`);
    await finished(page, i);
  }
  // The browser skips drawing what is not near the end, and cuts off what hangs out of it.
  await page.evaluate(`document.querySelector(".scroller").scrollTop = 0`);
  for (const i of [0, 1, 4]) {
    const own = page.locator(".msg.user").nth(i);
    await own.scrollIntoViewIfNeeded();
    await own.hover();
    await own.locator('[data-act="edit"]').click({ timeout: 3000 });
    expect(await page.inputValue("#composer")).toBe(`第 ${i + 1} 句`);
    await page.keyboard.press("Escape");
  }
  const overlaps = await page.evaluate<number>(`(() => {
    const boxes = [...document.querySelectorAll(".bubble, .msg.user .actions, .msg.bot .head")].map((e) => e.getBoundingClientRect());
    let n = 0;
    for (let i = 1; i < boxes.length; i++) if (boxes[i].top < boxes[i - 1].bottom - 1) n++;
    return n;
  })()`);
  expect(overlaps).toBe(0);
  await context.close();
});

describe("versions", () => {
  test("an edit on an older branch is shown there, and so is its answer", async () => {
    const { page, context } = await stage.open();
    await send(page, "一");
    await finished(page);
    await send(page, "二");
    await finished(page, 2);
    const answered = (text: string) =>
      waitFor(page, `[...document.querySelectorAll(".md")].at(-1)?.textContent === "回：${text}"`);
    await edit(page, 0, "一改");
    await answered("一改");
    await page.hover(".msg.user");
    await page.click('[data-act="version-prev"]');
    await waitFor(page, `document.querySelectorAll(".msg").length === 4`);
    await edit(page, 1, "二改");
    await answered("二改");
    const shown = `[...document.querySelectorAll(".bubble, .md")].map((one) => one.textContent)`;
    expect(await page.evaluate<string[]>(shown)).toEqual(["一", "回：一", "二改", "回：二改"]);
    await context.close();
  });

  test("an edit makes a new version and keeps the old branch; a quote reaches the bot", async () => {
    const { page, context } = await stage.open();
    await send(page, "一加一");
    await finished(page);
    await send(page, "然后呢");
    await finished(page, 2);
    await page.hover(".msg.user");
    await page.click('.msg.user [data-act="edit"]');
    expect(await page.inputValue("#composer")).toBe("一加一");
    await page.fill("#composer", "二加二");
    await page.keyboard.press("Enter");
    await waitFor(page, `document.querySelector(".md")?.textContent === "回：二加二"`);
    expect(await page.locator(".msg").count()).toBe(2);
    await page.hover(".msg.user");
    expect(await textOf(page, ".pager .meta")).toBe("2/2");
    await page.click('[data-act="version-prev"]');
    await waitFor(page, `document.querySelectorAll(".msg").length === 4`);
    expect(await textOf(page, ".bubble")).toBe("一加一");
    await page.click('.msg.bot [data-act="quote"]');
    await send(page, "这句什么意思");
    await until(() => stage.asked.find((turn) => turn.replyTo)?.replyTo, 5000, "a quote at the bot");
    expect(stage.asked.at(-1)!.replyTo!.content).toBe("回：一加一");
    await page.waitForSelector(".quoted");
    await context.close();
  });

  test("an edit of what quotes keeps the quote", async () => {
    const { page, context } = await stage.open();
    await send(page, "一");
    await finished(page);
    await page.hover(".msg.bot");
    await page.click('.msg.bot [data-act="quote"]');
    await send(page, "什么意思");
    await finished(page, 2);
    await page.locator(".msg.user").last().hover();
    await page.locator('.msg.user [data-act="edit"]').last().click();
    await page.fill("#composer", "到底什么意思");
    await page.keyboard.press("Enter");
    await until(() => stage.asked.at(-1)?.text === "到底什么意思" || undefined, 5000, "the edit at the bot");
    expect(stage.asked.at(-1)!.replyTo?.content).toBe("回：一");
    await finished(page, 2);
    expect(await page.locator(".msg.user .quoted").count()).toBe(1);
    await context.close();
  });

  test("whoever gave an answer gives it again, also when another bot was the last to answer here", async () => {
    const by: string[] = [];
    const say = (name: string) => (turn: Turn) => {
      by.push(name);
      turn.write(`${name}答`);
    };
    const alpha = await bot(stage.gate, "alpha", say("alpha"), { botName: "Alpha" });
    const gamma = await bot(stage.gate, "gamma", say("gamma"), { botName: "Gamma" });
    const { page, context } = await stage.open();
    const askOf = async (name: string, count: number): Promise<void> => {
      await page.click(".bot-chip");
      await page.click(`.mention-row:has-text("${name}")`);
      await send(page, `问 ${name}`);
      await finished(page, count);
    };
    await askOf("Alpha", 1);
    await askOf("Gamma", 2);
    await page.reload();
    await finished(page, 2);
    await page.locator(".msg.bot").first().hover();
    await page.locator('.msg.bot [data-act="regenerate"]').first().click();
    await until(() => by[2], 5000, "the third answer");
    expect(by).toEqual(["alpha", "gamma", "alpha"]);
    await finished(page);
    // Not who is away: then it is anybody's.
    await alpha.close();
    await waitFor(page, `document.querySelector(".bot-chip").dataset.offline === "true"`);
    await page.locator(".msg.bot").first().hover();
    await page.locator('.msg.bot [data-act="regenerate"]').first().click();
    await waitFor(page, `[...document.querySelectorAll(".msg.bot .name")].at(-1)?.textContent !== "Alpha"`);
    expect(await page.locator(".unsent.failed").count()).toBe(0);
    await gamma.close();
    await context.close();
  });

  test("a quote of what is not loaded yet leads there, and then shows its words", async () => {
    const admin = await person(stage.gate.url);
    const id = await admin.conversation();
    const first = await admin.exchange(id, "最早的一句");
    for (let i = 0; i < 30; i++) await admin.exchange(id, `第 ${i} 句`);
    await admin.exchange(id, "记得吗", { replyTo: first.question.id });
    const { page, context } = await stage.open();
    await page.goto(`${stage.gate.url}/c/${id}`);
    await waitFor(page, `document.querySelector(".quoted")?.textContent === "引用了更早的消息"`);
    await page.click(".quoted");
    await waitFor(page, `document.querySelector(".flash")?.textContent.includes("最早的一句")`);
    await waitFor(page, `document.querySelector(".quoted")?.textContent === "我 最早的一句"`);
    expect(await page.locator(".quoted").count()).toBe(1);
    await context.close();
  });

  test("a search hit or a quote of a version that is not shown shows it, and loads nothing for it", async () => {
    const admin = await person(stage.gate.url);
    const id = await admin.conversation();
    for (let i = 0; i < 30; i++) await admin.exchange(id, `第 ${i} 句`);
    const first = await admin.exchange(id, "原话");
    const deep = await admin.exchange(id, "袋熊在深处");
    await admin.exchange(id, "深处改了", { replaces: deep.question.id });
    await admin.exchange(id, "改了", { replaces: first.question.id });
    await admin.exchange(id, "记得吗", { replyTo: first.reply.id });
    const { page, context } = await stage.open();
    let older = 0;
    page.on("request", (request) => {
      if (request.url().includes("before=")) older++;
    });
    await page.goto(`${stage.gate.url}/c/${id}`);
    const bubbles = `[...document.querySelectorAll(".bubble")].map((one) => one.textContent).slice(-2).join()`;
    await waitFor(page, `${bubbles} === "改了,记得吗"`);
    await page.click(".quoted");
    await waitFor(page, `document.querySelector(".flash .md")?.textContent === "回：原话"`);
    expect(await page.evaluate<string>(bubbles)).toBe("原话,深处改了");
    await search(page, "袋熊");
    await page.locator(".hit").last().click();
    await waitFor(page, `[...document.querySelectorAll(".flash")].at(-1)?.textContent.includes("袋熊在深处")`);
    expect(await page.evaluate<string>(bubbles)).toBe("原话,袋熊在深处");
    expect(await page.locator(".msg.user .pager .meta").allTextContents()).toEqual(["1/2", "1/2"]);
    expect(older).toBe(0);
    await context.close();
  });

  test("turning versions in a conversation that fits the window keeps the end", async () => {
    const { page, context } = await stage.open();
    await send(page, "问");
    await finished(page);
    await page.hover(".msg.user");
    await page.click('.msg.user [data-act="edit"]');
    await page.fill("#composer", "再问");
    await page.keyboard.press("Enter");
    await waitFor(page, `document.querySelector(".md")?.textContent === "回：再问"`);
    for (const [way, text] of [
      ["prev", "回：问"],
      ["next", "回：再问"],
    ]) {
      await page.hover(".msg.user");
      await page.click(`[data-act="version-${way}"]`);
      await waitFor(page, `document.querySelector(".md")?.textContent === "${text}"`);
      await sleep(300);
      expect(await page.isVisible(".latest")).toBe(false);
    }
    await context.close();
  });

  test("a new answer to the same question keeps the older one as 1/2", async () => {
    const { page, context } = await stage.open();
    let n = 0;
    stage.script = (turn) => turn.write(`答案 ${++n}`);
    await send(page, "问");
    await finished(page);
    await page.click('[data-act="regenerate"]');
    await waitFor(page, `document.querySelector(".md")?.textContent === "答案 2"`);
    expect(await textOf(page, ".msg.bot .pager .meta")).toBe("2/2");
    await page.focus('.msg.bot [data-act="version-prev"]');
    await page.keyboard.press("Enter");
    await waitFor(page, `document.querySelector(".md")?.textContent === "答案 1"`);
    expect(await page.locator(".msg.user").count()).toBe(1);
    await page.reload();
    await waitFor(page, `document.querySelector(".md")?.textContent === "答案 2"`);
    await context.close();
  });
});

describe("messages nobody asked for", () => {
  test("said late about an older question, they are no version of a newer one, and ask their own one again", async () => {
    const late = await v2Bot(stage.gate.wsUrl, { register: { botId: "late", token: BOT_TOKEN }, onChat: () => {} });
    const admin = await person(stage.gate.url);
    const id = await admin.conversation();
    const ask = async (content: string, more: object = {}) => {
      const { message, turnId } = (await admin.send(id, content, { target: "late", ...more })).body;
      return { question: message.id, chat: await late.waitFor("chat", (chat) => chat.id === turnId) };
    };
    const acked = (turn: { id: string }, seq: number) =>
      late.waitFor("ack", (ack) => "seq" in ack && ack.replyTo === turn.id && ack.seq === seq);
    const first = await ask("一");
    late.end(first.chat, "答一");
    await acked(first.chat, 1);
    const second = await ask("二");
    late.end(second.chat, "答二");
    await acked(second.chat, 1);
    const again = await ask("二", { replaces: second.question });
    late.end(first.chat, "后来想到的");
    await acked(first.chat, 2);
    late.end(again.chat, "再答二");
    await acked(again.chat, 1);
    const { page, context } = await stage.open();
    await page.goto(`${stage.gate.url}/c/${id}`);
    const shown = `[...document.querySelectorAll(".msg.bot .md")].map((one) => one.textContent).join()`;
    await waitFor(page, `${shown} === "答一,再答二,后来想到的"`);
    expect(await page.locator(".msg.bot .pager").count()).toBe(1);
    const said = page.locator(".msg.bot").last();
    await said.hover();
    await said.locator('[data-act="regenerate"]').click();
    expect((await until(() => late.chats[3], 5000, "the question")).content).toBe("一");
    await context.close();
    await late.close();
  });

  test("are shown live; elsewhere they count, in the list, the title and the icon, until seen, in every tab", async () => {
    const { page, context } = await stage.open();
    await send(page, "开头");
    await finished(page);
    const id = page.url().split("/c/")[1]!;
    await stage.bots[0]!.send({ conversationId: id }, "主动的一句");
    await waitFor(page, `document.body.textContent.includes("主动的一句")`);
    // Seen at once, as this page is looked at; other conversations of this person may have unread ones.
    await page.waitForSelector(`.row-link[href="/c/${id}"]`);
    const count = "Number(/^\\((\\d+)/.exec(document.title)?.[1] ?? 0)";
    const unread = (): Promise<number> =>
      page.evaluate<number>(
        `fetch("/api/conversations?limit=200").then((r) => r.json()).then((a) => a.conversations.find((c) => c.id === "${id}").unread)`,
      );
    await until(async () => (await unread()) === 0, 5000, "the message to be seen");
    await sleep(300);
    const base = await page.evaluate<number>(count);
    await page.click(".new-chat");
    const other = (await openPage(context, stage.gate.url)).page;
    await other.goto(stage.gate.url);
    await other.waitForSelector(".row");
    await page.bringToFront();
    await stage.bots[0]!.send({ conversationId: id }, "又一句");
    await stage.bots[0]!.send({ conversationId: id }, "再一句");
    await waitFor(
      page,
      `document.querySelector('.row-link[href="/c/${id}"] .badge:not([hidden])')?.textContent === "2"`,
    );
    expect(await page.evaluate<number>(count)).toBe(base + 2);
    await waitFor(page, `document.getElementById("favicon").href.startsWith("data:image/png")`);
    await waitFor(other, `${count} === ${base + 2}`);
    await page.click(`.row-link[href="/c/${id}"]`);
    await waitFor(page, `${count} === ${base}`);
    await waitFor(other, `${count} === ${base}`);
    await context.close();
  });
});

test("the picture of the person stands beside their name", async () => {
  const { page, context } = await stage.open();
  expect(await page.locator(".gear img").count()).toBe(0);
  await page.route("**/api/events", (route) =>
    route.fulfill({
      contentType: "text/event-stream",
      body: `data: {"type":"hello","epoch":"x","rev":0,"user":{"username":"admin","displayName":"管理员","avatar":"/icon-192.png"}}\n\n`,
    }),
  );
  await page.reload();
  await waitFor(page, `document.querySelector(".gear img")?.naturalWidth > 0`);
  // Asked until it is so: read once, it failed now and then.
  await waitFor(
    page,
    `((box) => box && box.width === 24 && box.height === 24)(document.querySelector(".gear img")?.getBoundingClientRect())`,
  );
  await waitFor(page, `document.querySelector(".gear")?.textContent === "管理员"`);
  await context.close();
});

test("eight tabs on plain http: the one looked at works, the hidden ones give their connections back and still count", async () => {
  const context = await stage.browser.newContext(DESK);
  const open = new Set<unknown>();
  const tab = async (): Promise<Page> => {
    const { page } = await openPage(context, stage.gate.url);
    await page.addInitScript(`(() => {
      let state = "visible";
      Object.defineProperty(document, "visibilityState", { get: () => state });
      window.__look = (next) => { state = next; document.dispatchEvent(new Event("visibilitychange")); };
    })()`);
    page.on("request", (request) => request.url().endsWith("/api/events") && open.add(request));
    page.on("requestfailed", (request) => open.delete(request));
    page.on("requestfinished", (request) => open.delete(request));
    return page;
  };
  const first = await tab();
  await signIn(first, stage.gate.url);
  const tabs = [first];
  for (let i = 1; i < 8; i++) {
    await tabs.at(-1)!.evaluate("__look('hidden')");
    const next = await tab();
    await next.goto(stage.gate.url);
    await next.waitForSelector('.status[data-link="online"]');
    tabs.push(next);
  }
  await until(() => open.size <= 3 || undefined, 5000, "three streams at most");
  stage.script = (turn) => turn.write(`回：${turn.text}`);
  const last = tabs.at(-1)!;
  await send(last, "还能用吗");
  await finished(last);
  expect(await textOf(last, ".md")).toBe("回：还能用吗");
  const conversationId = last.url().split("/c/")[1]!;
  const unread = `fetch("/api/conversations/${conversationId}").then((r) => r.json()).then((c) => c.unread)`;
  await until(async () => (await last.evaluate<number>(unread)) === 0, 5000, "the answer to count as read");
  await last.click(".new-chat");
  // Other conversations of this person may count already.
  const counted = `Number(/^\\((\\d+)/.exec(document.title)?.[1] ?? 0)`;
  const before = await last.evaluate<number>(counted);
  await stage.bots[0]!.send({ conversationId }, "主动的一句");
  for (const one of tabs) await waitFor(one, `${counted} === ${before + 1}`);
  // Looked at again, the first takes up its stream where it was.
  await last.evaluate("__look('hidden')");
  await first.evaluate("__look('visible')");
  await first.click(`.row-link[href="/c/${conversationId}"]`);
  await waitFor(first, `[...document.querySelectorAll(".md")].at(-1)?.textContent === "主动的一句"`);
  await send(first, "再来");
  await finished(first, 3);
  for (const one of tabs) await waitFor(one, `${counted} === ${before}`);
  await until(() => open.size <= 3 || undefined, 5000, "three streams at most");
  expect(await first.getAttribute(".status", "data-link")).toBe("online");
  await context.close();
}, 60_000);

test("printing shows the conversation only", async () => {
  const { page, context } = await stage.open();
  await send(page, "打印");
  await finished(page);
  await page.emulateMedia({ media: "print", colorScheme: "dark" });
  expect(await page.isVisible(".sidebar")).toBe(false);
  expect(await page.isVisible(".composer")).toBe(false);
  expect(await page.isVisible(".msg.bot .name")).toBe(true);
  expect(await page.evaluate<string>("getComputedStyle(document.body).backgroundColor")).toBe("rgb(255, 255, 255)");
  await context.close();
});

test("a conversation that does not exist says so", async () => {
  const { page, context } = await stage.open();
  await page.goto(`${stage.gate.url}/c/zzzzzzzz`);
  await waitFor(page, `document.querySelector(".note")?.textContent.includes("不存在")`);
  await context.close();
});
