/** The list of conversations under one's hands: renaming, deleting and searching while other things happen. */
import { describe, expect, test } from "bun:test";
import { DESK, drawn, finished, type Page, PHONE, send, textOf, until, waitFor } from "./rig.ts";
import { held, scene } from "./scene.ts";

const stage = scene();

const call = <T>(page: Page, method: string, path: string, body?: object): Promise<T> =>
  page.evaluate<T>(`fetch(${JSON.stringify(path)}, {
    method: "${method}",
    ${body ? `headers: { "Content-Type": "application/json" }, body: ${JSON.stringify(JSON.stringify(body))},` : ""}
  }).then((r) => r.json())`);

/** A conversation of this title, made elsewhere; the next one stands above it. */
const make = async (page: Page, title: string): Promise<string> => {
  const { id } = await call<{ id: string }>(page, "POST", "/api/conversations", { title });
  await say(page, id, `问${title}`);
  await page.waitForSelector(row(id));
  await waitFor(page, onTop(id));
  return id;
};
/** A question and its answer: after that nothing moves by itself. */
const say = async (page: Page, id: string, content: string): Promise<void> => {
  const path = `/api/conversations/${id}/messages`;
  await call(page, "POST", path, { clientId: crypto.randomUUID(), content });
  const answered = async (): Promise<boolean> =>
    (await call<{ messages: { state: string }[] }>(page, "GET", path)).messages.at(-1)?.state === "done";
  await until(answered, 5000, "an answer");
};

const row = (id: string): string => `.row:has([href="/c/${id}"])`;
/** In the page: whether this conversation stands on top. */
const onTop = (id: string): string => `document.querySelector(".row [href]").getAttribute("href") === "/c/${id}"`;
const titles = (page: Page): Promise<string[]> =>
  page.evaluate(`[...document.querySelectorAll(".row .row-title, .row .rename")].map((e) => e.value ?? e.textContent)`);
const choose = async (page: Page, id: string, item: string): Promise<void> => {
  await page.hover(row(id));
  await page.click(`${row(id)} .row-menu`);
  await page.click(`.menu-item:has-text("${item}")`);
};
const focused = (page: Page): Promise<string> =>
  page.evaluate(`document.activeElement.getAttribute("href")?.slice(3) ?? document.activeElement.tagName`);

describe("renaming", () => {
  test("a press elsewhere saves the name and takes the focus there: what is typed next is not lost", async () => {
    const { page, context } = await stage.open();
    const id = await make(page, "旧名");
    await choose(page, id, "重命名");
    await page.fill(".rename", "新名");
    await page.click("#composer");
    await page.keyboard.type("hello");
    expect(await page.inputValue("#composer")).toBe("hello");
    expect((await titles(page))[0]).toBe("新名");
    await choose(page, id, "重命名");
    await page.fill(".rename", "再改");
    await page.keyboard.press("Enter");
    expect([await focused(page), (await titles(page))[0]]).toEqual([id, "再改"]);
    await context.close();
  });

  test("goes on, and a row keeps the focus, when answers elsewhere move the list", async () => {
    const { page, context } = await stage.open();
    const below = await make(page, "下面的");
    const own = await make(page, "在改的");
    const above = await make(page, "上面的");
    await choose(page, own, "重命名");
    await page.fill(".rename", "写到一半");
    await say(page, below, "别处的一句");
    await waitFor(page, onTop(below));
    expect((await titles(page)).slice(0, 3)).toEqual(["下面的", "上面的", "写到一半"]);
    await page.keyboard.type("再写");
    // Pinned elsewhere it will be in another group, but not while it is being named; and it hears of that before the next.
    await call(page, "PATCH", `/api/conversations/${own}`, { pinned: true });
    await say(page, above, "又一句");
    await waitFor(page, onTop(above));
    expect(await page.evaluate<string>("document.querySelector('.rename')?.value")).toBe("写到一半再写");
    await page.keyboard.press("Escape");
    expect([(await titles(page))[0], await focused(page)]).toEqual(["在改的", own]);
    await call(page, "PATCH", `/api/conversations/${own}`, { pinned: false });
    await waitFor(page, onTop(above));
    await say(page, own, "这里的一句");
    await waitFor(page, onTop(own));
    expect(await focused(page)).toBe(own);
    await context.close();
  });

  test("from the line above the conversation: the search makes room, on a phone the drawer opens", async () => {
    const desk = await stage.open();
    await send(desk.page, "搜索词甲");
    await finished(desk.page);
    await desk.page.keyboard.press("Control+k");
    await desk.page.keyboard.type("搜索词");
    await desk.page.waitForSelector(".results:not([hidden])");
    const rename = async (page: Page): Promise<void> => {
      await page.click('.bar > [aria-haspopup="menu"]');
      await page.click('.menu-item:has-text("重命名")');
      await page.waitForSelector(".rename", { state: "visible", timeout: 3000 });
      expect(await page.evaluate<string>("document.activeElement.className")).toBe("rename");
      await page.keyboard.press("Escape");
    };
    await rename(desk.page);
    const url = desk.page.url();
    await desk.context.close();
    const phone = await stage.open(PHONE);
    await phone.page.goto(url);
    await phone.page.waitForSelector(".bubble");
    await rename(phone.page);
    await phone.context.close();
  });
});

describe("deleting", () => {
  test("an undo that the network swallows brings no ghost, says so and can be tried again", async () => {
    const { page, context } = await stage.open();
    const id = await make(page, "要删的");
    const there = page.locator(row(id));
    await choose(page, id, "删除");
    await page.waitForSelector(".toast button");
    await context.setOffline(true);
    await page.click(".toast button");
    await waitFor(page, `document.querySelector(".toast")?.textContent.startsWith("没有恢复")`);
    expect(await there.count()).toBe(0);
    await context.setOffline(false);
    await page.click(".toast button");
    await there.waitFor();
    await waitFor(page, `document.querySelector(".bubble")?.textContent === "问要删的"`);
    await page.reload();
    await there.waitFor();
    await context.close();
  });

  test("what was deleted is not shown from memory; undone, it is there with how its answer ended", async () => {
    const { page, context } = await stage.open();
    stage.script = async (turn) => {
      turn.write("一些字");
      await held(turn);
    };
    await send(page, "会删除");
    await waitFor(page, `document.querySelector(".msg.bot .md")?.textContent === "一些字"`);
    const id = new URL(page.url()).pathname.slice(3);
    await choose(page, id, "删除");
    await page.waitForSelector(".toast button");
    await page.goBack();
    await waitFor(page, `document.querySelector(".note:not([hidden])")?.textContent.includes("已删除")`);
    expect(await page.locator(".msg").count()).toBe(0);
    await page.click(".toast button");
    await page.waitForSelector(".msg.bot[data-state=cancelled]");
    expect(await textOf(page, ".msg.bot .md")).toBe("一些字");
    expect(await page.locator(".send[data-mode=stop]").count()).toBe(0);
    // Elsewhere, and undone there: the open page follows both ways.
    await call(page, "DELETE", `/api/conversations/${id}`);
    await waitFor(page, `document.querySelector(".note:not([hidden])")?.textContent.includes("已删除")`);
    expect(await page.locator(".msg").count()).toBe(0);
    await call(page, "POST", `/api/conversations/${id}/restore`);
    await page.waitForSelector(".msg.bot[data-state=cancelled]");
    await context.close();
  });

  test("with the keyboard leaves the focus on the row that takes its place", async () => {
    const { page, context } = await stage.open();
    const below = await make(page, "留下的");
    const id = await make(page, "用键盘删的");
    await page.focus(`${row(id)} .row-menu`);
    for (const key of ["Enter", "End", "Enter"]) await page.keyboard.press(key);
    await page.locator(row(id)).waitFor({ state: "detached" });
    expect(await focused(page)).toBe(below);
    await context.close();
  });
});

test("Enter in the search opens a hit of what stands there, also before the list has come", async () => {
  const { page, context } = await stage.open(DESK, "user1");
  const first = await make(page, "alpha 苹果");
  const second = await make(page, "beta 香蕉");
  // The gateway reads new titles into its index a little later.
  const indexed = async (): Promise<boolean> =>
    (await call<{ hits: { conversationId: string }[] }>(page, "GET", "/api/search?q=beta")).hits.length > 0;
  await until(indexed, 15_000, "the index");
  const search = async (query: string): Promise<void> => {
    await page.keyboard.press("Control+k");
    await page.keyboard.type(query);
    await page.keyboard.press("Enter");
  };
  await search("alpha");
  await page.waitForURL(`**/c/${first}`, { timeout: 5000 });
  await search("beta");
  await page.waitForURL(`**/c/${second}`, { timeout: 5000 });
  // Who went on to something else is not taken away from it by an answer that comes late.
  await page.route("**/api/search?*", async (route) => {
    await drawn(page);
    await route.continue();
  });
  await search("alpha");
  await page.click("#composer");
  await page.waitForSelector(".hit:has-text('alpha')");
  expect(page.url()).toEndWith(second);
  await context.close();
});
