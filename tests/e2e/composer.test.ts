/** Writing a message: input methods, keys, drafts, mentions, pictures. Behaviours 1 to 6 of facts/chat-page.md. */
import { describe, expect, test } from "bun:test";
import { bot, DESK, finished, openPage, type Page, PHONE, signIn, sleep, textOf, waitFor } from "./rig.ts";
import { scene, THREE } from "./scene.ts";

const stage = scene({
  bots: THREE,
  script: (turn) => {
    turn.write(`好的：${turn.text}`);
    if (turn.text === "慢慢说") return sleep(800);
  },
});
const own = (page: Page): Promise<number> => page.evaluate<number>(`document.querySelectorAll(".msg.user").length`);
const value = (page: Page): Promise<string> => page.inputValue("#composer");

describe("input methods", () => {
  test("Enter while composing keeps the text, Enter after it sends once", async () => {
    const { page } = await stage.open();
    await page.focus("#composer");
    const cdp = await page.context().newCDPSession(page);
    await cdp.send("Input.imeSetComposition", { text: "nihao", selectionStart: 5, selectionEnd: 5 });
    await cdp.send("Input.dispatchKeyEvent", {
      type: "rawKeyDown",
      key: "Process",
      windowsVirtualKeyCode: 229,
      code: "Enter",
    });
    expect(await own(page)).toBe(0);
    expect(await value(page)).toBe("nihao");
    await cdp.send("Input.insertText", { text: "你好" });
    await page.keyboard.press("Enter");
    await finished(page);
    expect(await own(page)).toBe(1);
    expect(await textOf(page, ".bubble")).toBe("你好");
    await page.context().close();
  });

  test("the order in which Safari ends a composition does not send, and a lost compositionend does not block", async () => {
    const { page } = await stage.open();
    await page.fill("#composer", "草稿");
    await page.evaluate(`(() => {
      const field = document.getElementById("composer");
      field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", keyCode: 229, isComposing: false, bubbles: true, cancelable: true }));
      field.dispatchEvent(new CompositionEvent("compositionstart", { bubbles: true }));
      field.blur();
    })()`);
    expect(await own(page)).toBe(0);
    expect(await value(page)).toBe("草稿");
    await page.focus("#composer");
    await page.keyboard.press("Enter");
    await finished(page);
    expect(await own(page)).toBe(1);
    await page.context().close();
  });

  test("composing in the login, the search and the rename field does not submit either", async () => {
    const context = await stage.browser.newContext(DESK);
    const { page } = await openPage(context, stage.gate.url);
    await page.goto(stage.gate.url);
    let posts = 0;
    page.on("request", (request) => {
      if (request.method() === "POST" || request.method() === "PATCH") posts++;
    });
    await page.fill("#username", "a");
    await page.fill("#password", "b");
    const enter = (selector: string): Promise<boolean> =>
      page.evaluate<boolean>(`(() => {
        const event = new KeyboardEvent("keydown", { key: "Enter", keyCode: 229, bubbles: true, cancelable: true });
        document.querySelector(${JSON.stringify(selector)}).dispatchEvent(event);
        return event.defaultPrevented;
      })()`);
    expect(await enter("#username")).toBe(true);
    await signIn(page, stage.gate.url);
    await page.fill("#composer", "一");
    await page.keyboard.press("Enter");
    await finished(page);
    await page.dblclick(".row-link");
    await page.waitForSelector(".rename");
    posts = 0;
    await page.fill(".rename", "改名");
    await enter(".rename");
    await page.waitForSelector(".rename");
    expect(posts).toBe(0);
    await page.keyboard.press("Enter");
    await waitFor(page, `document.querySelector(".row-title").textContent === "改名"`);
    await context.close();
  });
});

describe("keys", () => {
  test("on a desk Enter sends and Shift+Enter makes a line; the setting swaps them", async () => {
    const { page } = await stage.open();
    await page.focus("#composer");
    await page.keyboard.type("一");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("二");
    expect(await value(page)).toBe("一\n二");
    await page.keyboard.press("Enter");
    await finished(page);
    expect(await textOf(page, ".bubble")).toBe("一\n二");
    await page.click(".gear");
    await page.check("#sendKey-ctrl");
    await page.keyboard.press("Escape");
    await page.focus("#composer");
    await page.keyboard.type("三");
    await page.keyboard.press("Enter");
    expect(await value(page)).toBe("三\n");
    await page.keyboard.press("Control+Enter");
    await finished(page, 2);
    expect(await own(page)).toBe(2);
    await page.context().close();
  });

  test("on a phone Enter makes a line, Ctrl+Enter and the button send, and nothing is focused unasked", async () => {
    const { page } = await stage.open(PHONE);
    expect(await page.evaluate<string>("document.activeElement.id")).not.toBe("composer");
    await page.tap("#composer");
    await page.keyboard.type("一");
    await page.keyboard.press("Enter");
    expect(await value(page)).toBe("一\n");
    expect(await own(page)).toBe(0);
    await page.keyboard.press("Control+Enter");
    await finished(page);
    expect(await own(page)).toBe(1);
    await page.fill("#composer", "二");
    await page.tap(".send");
    await finished(page, 2);
    await page.context().close();
  });

  test("the field grows to 40 % of the height and then scrolls", async () => {
    const { page } = await stage.open();
    await page.fill("#composer", "行\n".repeat(60));
    const [height, scrolls] = await page.evaluate<[number, boolean]>(
      `(() => { const f = document.getElementById("composer"); return [f.offsetHeight, f.scrollHeight > f.clientHeight]; })()`,
    );
    expect(height).toBeLessThanOrEqual(320);
    expect(height).toBeGreaterThan(240);
    expect(scrolls).toBe(true);
    await page.context().close();
  });

  test("nothing empty is sent, and ArrowUp in an empty field brings back the last message", async () => {
    const { page } = await stage.open();
    await page.fill("#composer", "  \n ");
    await page.keyboard.press("Enter");
    expect(await own(page)).toBe(0);
    expect(await page.isDisabled(".send")).toBe(true);
    await page.fill("#composer", "第一句");
    await page.keyboard.press("Enter");
    await finished(page);
    await page.keyboard.press("ArrowUp");
    expect(await value(page)).toBe("第一句");
    await page.context().close();
  });
});

test("every conversation keeps its draft over switching and reload", async () => {
  const { page } = await stage.open();
  await page.fill("#composer", "甲");
  await page.keyboard.press("Enter");
  await finished(page);
  const first = page.url();
  await page.fill("#composer", "甲的草稿");
  await page.click(".new-chat");
  expect(await value(page)).toBe("");
  await page.fill("#composer", "新对话的草稿");
  await page.goto(first);
  await page.waitForSelector(".msg");
  expect(await value(page)).toBe("甲的草稿");
  await page.click(".new-chat");
  expect(await value(page)).toBe("新对话的草稿");
  await page.context().close();
});

describe("while a new conversation is made", () => {
  /** The call that makes it waits until the returned function is called. */
  const hold = async (page: Page): Promise<() => void> => {
    let go = (): void => {};
    const wait = new Promise<void>((done) => (go = done));
    await page.route("**/api/conversations", async (route) => {
      if (route.request().method() === "POST") await wait;
      await route.continue();
    });
    return go;
  };
  const made = (page: Page): Promise<void> => waitFor(page, `location.pathname.startsWith("/c/")`);

  test("what is written, added and chosen meanwhile stays, and belongs to it", async () => {
    const { page } = await stage.open();
    const go = await hold(page);
    await page.fill("#composer", "第一句");
    await page.keyboard.press("Enter");
    await page.keyboard.type("写到一半");
    await page.setInputFiles("input[type=file]", [{ name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("a") }]);
    await page.waitForSelector(".thumb[data-state=ready]");
    await page.click(".bot-chip");
    await page.click('.mention-row:has-text("伽马")');
    go();
    await made(page);
    await finished(page);
    expect(await value(page)).toBe("写到一半");
    expect(await page.locator(".thumb").count()).toBe(1);
    expect(await textOf(page, ".bot-chip")).toBe("伽马");
    await page.click(".new-chat");
    expect(await value(page)).toBe("");
    expect(await page.locator(".thumb").count()).toBe(0);
    expect(await textOf(page, ".bot-chip")).toBe("自动");
    await page.goBack();
    await page.reload();
    await page.waitForSelector(".thumb[data-state=ready]");
    expect(await value(page)).toBe("写到一半");
    await page.context().close();
  });

  test("an input method goes on composing", async () => {
    const { page } = await stage.open();
    const go = await hold(page);
    await page.fill("#composer", "第一句");
    await page.keyboard.press("Enter");
    const cdp = await page.context().newCDPSession(page);
    await cdp.send("Input.imeSetComposition", { text: "nihao", selectionStart: 5, selectionEnd: 5 });
    go();
    await made(page);
    await finished(page);
    expect(await value(page)).toBe("nihao");
    await cdp.send("Input.insertText", { text: "你好" });
    expect(await value(page)).toBe("你好");
    await page.context().close();
  });

  test("what is written meanwhile is there also when the reader has gone elsewhere", async () => {
    const { page } = await stage.open();
    await page.fill("#composer", "别处");
    await page.keyboard.press("Enter");
    await finished(page);
    const { pathname } = new URL(page.url());
    await page.click(".new-chat");
    const go = await hold(page);
    await page.fill("#composer", "问了就走");
    await page.keyboard.press("Enter");
    await page.keyboard.type("写到一半");
    await page.click(`.row-link[href="${pathname}"]`);
    expect(await value(page)).toBe("");
    go();
    await page.click('.row-link:has-text("问了就走")');
    await finished(page);
    expect(await value(page)).toBe("写到一半");
    await page.context().close();
  });
});

test("who signs in next finds nothing of what was being written, nor who was chosen", async () => {
  const { page } = await stage.open();
  await page.click(".bot-chip");
  await page.click('.mention-row:has-text("伽马")');
  await page.fill("#composer", "别人看不到");
  await page.setInputFiles("input[type=file]", [{ name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("a") }]);
  await page.waitForSelector(".thumb[data-state=ready]");
  await page.click(".gear");
  await page.click('#settings button:has-text("退出登录")');
  await page.waitForSelector("#login:not([hidden])");
  expect(await value(page)).toBe("");
  await signIn(page, stage.gate.url);
  expect(await value(page)).toBe("");
  expect(await page.locator(".thumb").count()).toBe(0);
  expect(await textOf(page, ".bot-chip")).toBe("自动");
  await page.context().close();
});

test("an edit in progress outlives another language, and a click on its own conversation", async () => {
  const { page } = await stage.open();
  await page.fill("#composer", "原文");
  await page.keyboard.press("Enter");
  await finished(page);
  await page.hover(".msg.user");
  await page.click('.msg.user [data-act="edit"]');
  await page.fill("#composer", "改到一半");
  await page.click(".row-link[aria-current=page]");
  expect(await value(page)).toBe("改到一半");
  const other = await page.context().newPage();
  await other.goto(stage.gate.url);
  await other.evaluate(`localStorage["nexus.lang"] = "en"`);
  await waitFor(page, `document.querySelector(".notice").textContent.startsWith("Editing")`);
  expect(await value(page)).toBe("改到一半");
  await page.bringToFront();
  await page.click(".send");
  await waitFor(page, `document.querySelector(".pager")`);
  expect(await textOf(page, ".bubble")).toBe("改到一半");
  await page.context().close();
});

describe("mentions", () => {
  const rows = (page: Page): Promise<string[]> =>
    page.evaluate<string[]>(
      `document.querySelector(".mentions").hidden ? [] : [...document.querySelectorAll(".mention-row .mention-name")].map((e) => e.textContent)`,
    );
  const type = async (page: Page, text: string): Promise<string[]> => {
    await page.fill("#composer", "");
    await page.focus("#composer");
    await page.keyboard.type(text);
    return await rows(page);
  };

  test("opens at the start, after a space and after Chinese, never in an address or code", async () => {
    const { page } = await stage.open();
    expect(await type(page, "@")).toEqual(["Alpha", "伽马", "Two Words"]);
    expect(await type(page, "问 @")).toHaveLength(3);
    expect(await type(page, "请@")).toHaveLength(3);
    expect(await type(page, "a@")).toEqual([]);
    expect(await type(page, "`x @")).toEqual([]);
    await page.context().close();
  });

  test("Enter takes the highlighted row of the filtered list; arrows wrap; Escape closes and keeps the text", async () => {
    const { page } = await stage.open();
    expect(await type(page, "@gam")).toEqual(["伽马"]);
    expect(await page.getAttribute("#composer", "aria-activedescendant")).toBe("mention-0");
    await page.keyboard.press("Enter");
    expect(await value(page)).toBe("@伽马 ");
    expect(await own(page)).toBe(0);
    await type(page, "@");
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Tab");
    expect(await value(page)).toBe("@two-words "); // a name of two words is written as its id
    await type(page, "@al");
    await page.keyboard.press("Escape");
    expect(await rows(page)).toEqual([]);
    expect(await value(page)).toBe("@al");
    await type(page, "@");
    await page.click(".mention-row:nth-child(2)");
    expect(await value(page)).toBe("@伽马 ");
    await page.keyboard.press("Backspace");
    expect(await value(page)).toBe("");
    await page.keyboard.type("@伽马 你是谁");
    await page.keyboard.press("Enter");
    await finished(page);
    expect(await textOf(page, ".msg.bot .name")).toBe("伽马");
    expect(stage.asked.at(-1)!.text).toBe("你是谁");
    expect(await textOf(page, ".mention")).toBe("@伽马");
    await page.context().close();
  });

  test("a bot that left is shown but cannot be taken; on a phone with its keyboard the list stays inside", async () => {
    const leaving = await bot(stage.gate, "leaving", () => {}, { botName: "要走的" });
    const { page } = await stage.open(PHONE);
    await waitFor(page, `document.querySelectorAll(".bot-row").length === 4`);
    await type(page, "@");
    await leaving.close();
    await waitFor(page, `document.querySelector('.mention-row[aria-disabled]')?.textContent.includes("要走的")`);
    await page.setViewportSize({ width: 390, height: 500 });
    const box = await page.locator(".mentions").boundingBox();
    expect(box!.y).toBeGreaterThanOrEqual(0);
    expect(box!.y + box!.height).toBeLessThanOrEqual(500);
    await page.tap(".mention-row[aria-disabled]", { force: true });
    expect(await value(page)).toBe("@");
    expect(await type(page, "@leav")).toEqual(["要走的"]);
    await page.keyboard.press("Enter");
    expect(await value(page)).toBe("@leav");
    await type(page, "@");
    await page.tap(".mention-row:nth-child(1)");
    expect(await value(page)).toBe("@Alpha ");
    await page.context().close();
  });

  test("the button of the composer chooses who answers", async () => {
    const { page } = await stage.open();
    await page.click(".bot-chip");
    await page.click('.mention-row:has-text("Two Words")');
    expect(await textOf(page, ".bot-chip")).toBe("Two Words");
    await page.fill("#composer", "在吗");
    await page.keyboard.press("Enter");
    await finished(page);
    expect(await textOf(page, ".msg.bot .name")).toBe("Two Words");
    // Whoever answered last answers next, and the button says so while the answer is still written.
    await page.fill("#composer", "@Alpha 慢慢说");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".msg.bot[data-state=streaming] .md p");
    expect(await textOf(page, ".bot-chip")).toBe("Alpha");
    await finished(page, 2);
    await page.context().close();
  });

  test("in an empty conversation a tap on a bot chooses it, shows it, and takes it back", async () => {
    const { page } = await stage.open(PHONE);
    const row = page.locator('.bot-row[data-bot="gamma"]');
    expect(await row.getAttribute("aria-pressed")).toBe("false");
    await row.tap();
    await page.waitForSelector('.bot-row[data-bot="gamma"][aria-pressed="true"]');
    expect(await textOf(page, ".bot-chip")).toBe("伽马");
    await row.tap();
    await page.waitForSelector('.bot-row[data-bot="gamma"][aria-pressed="false"]');
    expect(await textOf(page, ".bot-chip")).toBe("自动");
    await row.tap();
    await page.fill("#composer", "在吗");
    await page.tap(".send");
    await finished(page);
    expect(await textOf(page, ".msg.bot .name")).toBe("伽马");
    await page.context().close();
  });
});
