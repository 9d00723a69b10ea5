/** Writing a message: input methods, keys, drafts, mentions, pictures. Behaviours 1 to 6 of facts/chat-page.md. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  bot,
  type Browser,
  type BrowserContextOptions,
  DESK,
  finished,
  type Gateway,
  gateway,
  launch,
  openPage,
  type Page,
  PHONE,
  signIn,
  textOf,
  type Turn,
  until,
  waitFor,
} from "./rig.ts";

let browser: Browser;
let gate: Gateway;
const asked: Turn[] = [];
const ends: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  gate = await gateway();
  const answer = (turn: Turn): void => {
    asked.push(turn);
    turn.write(`好的：${turn.text}`);
  };
  for (const [id, botName] of [
    ["alpha", "Alpha"],
    ["gamma", "伽马"],
    ["two-words", "Two Words"],
  ] as const) {
    const made = await bot(gate, id, answer, { botName });
    ends.push(() => made.close());
  }
  browser = await launch();
});
afterAll(async () => {
  await browser?.close();
  for (const end of ends) await end();
  await gate?.stop();
});

const open = async (options: BrowserContextOptions = DESK): Promise<Page> => {
  const context = await browser.newContext(options);
  const { page } = await openPage(context, gate.url);
  await signIn(page, gate.url);
  return page;
};
const own = (page: Page): Promise<number> => page.evaluate<number>(`document.querySelectorAll(".msg.user").length`);
const value = (page: Page): Promise<string> => page.inputValue("#composer");

describe("input methods", () => {
  test("Enter while composing keeps the text, Enter after it sends once", async () => {
    const page = await open();
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
    const page = await open();
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
    const context = await browser.newContext(DESK);
    const { page } = await openPage(context, gate.url);
    await page.goto(gate.url);
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
    await signIn(page, gate.url);
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
    const page = await open();
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
    const page = await open(PHONE);
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
    const page = await open();
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
    const page = await open();
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
  const page = await open();
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
    const page = await open();
    expect(await type(page, "@")).toEqual(["Alpha", "伽马", "Two Words"]);
    expect(await type(page, "问 @")).toHaveLength(3);
    expect(await type(page, "请@")).toHaveLength(3);
    expect(await type(page, "a@")).toEqual([]);
    expect(await type(page, "`x @")).toEqual([]);
    await page.context().close();
  });

  test("Enter takes the highlighted row of the filtered list; arrows wrap; Escape closes and keeps the text", async () => {
    const page = await open();
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
    expect(asked.at(-1)!.text).toBe("你是谁");
    expect(await textOf(page, ".mention")).toBe("@伽马");
    await page.context().close();
  });

  test("a bot that left is shown but cannot be taken; on a phone with its keyboard the list stays inside", async () => {
    const leaving = await bot(gate, "leaving", () => {}, { botName: "要走的" });
    const page = await open(PHONE);
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
    await page.tap(".mention-row:nth-child(1)");
    expect(await value(page)).toBe("@Alpha ");
    await page.context().close();
  });

  test("the button of the composer chooses who answers", async () => {
    const page = await open();
    await page.click(".bot-chip");
    await page.click('.mention-row:has-text("Two Words")');
    expect(await textOf(page, ".bot-chip")).toBe("Two Words");
    await page.fill("#composer", "在吗");
    await page.keyboard.press("Enter");
    await finished(page);
    expect(await textOf(page, ".msg.bot .name")).toBe("Two Words");
    await page.context().close();
  });
});

/** The smallest PNG: one grey pixel. */
const PIXEL = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGOoAwAAfwB+ua2bVwAAAABJRU5ErkJggg==",
  "base64",
);

describe("pictures", () => {
  const image = (name: string, buffer: Buffer) => ({ name, mimeType: "image/png", buffer });

  test("several keep their order, can be removed, and arrive at the bot; a large photo becomes at most 1 MB", async () => {
    const page = await open();
    // Made in the page: a photo of 12 megapixels is too long a text for the debugging pipe.
    const heavy = await page.evaluate<number>(`(async () => {
      const draw = (name, type, width, height, patches) => new Promise((done) => {
        const canvas = document.createElement("canvas");
        canvas.width = width; canvas.height = height;
        const c = canvas.getContext("2d");
        for (let i = 0; i < patches; i++) {
          c.fillStyle = "hsl(" + ((i * 137) % 360) + " 60% " + ((i * 29) % 100) + "%)";
          c.fillRect((i * 7919) % width, (i * 104729) % height, 3 + (i % 61), 3 + (i % 43));
        }
        canvas.toBlob((blob) => done(new File([blob], name, { type })), type, 0.95);
      });
      const files = [
        await draw("一.png", "image/png", 40, 30, 3),
        await draw("二.png", "image/png", 50, 30, 3),
        await draw("大.jpeg", "image/jpeg", 4000, 3000, 40000),
      ];
      const data = new DataTransfer();
      for (const file of files) data.items.add(file);
      const input = document.querySelector("input[type=file]");
      input.files = data.files;
      input.dispatchEvent(new Event("change"));
      return files[2].size;
    })()`);
    expect(heavy).toBeGreaterThan(2_000_000);
    await page.waitForSelector(".thumb:nth-child(3)");
    await page.click(".thumb:nth-child(2) .remove");
    await page.fill("#composer", "看图");
    await page.click(".send"); // before everything is ready: it waits
    await finished(page, 1, 20_000);
    const files = asked.at(-1)!.attachments;
    expect(files.map((file) => file.name)).toEqual(["一.png", "大.jpg"]);
    expect(files[1]!.size).toBeLessThanOrEqual(1_000_000);
    expect(Math.max(files[1]!.width ?? 0, files[1]!.height ?? 0)).toBeLessThanOrEqual(2048);
    expect(await own(page)).toBe(1);
    await waitFor(page, `document.querySelectorAll(".msg.user .shot img").length === 2`);
    await waitFor(
      page,
      `[...document.querySelectorAll(".msg.user .shot img")].every((i) => i.complete && i.naturalWidth > 0)`,
    );
    await page.click(".shot");
    await page.waitForSelector("dialog.viewer[open]");
    await page.keyboard.press("Escape");
    await page.context().close();
  });

  test("nine at most; a file that is no picture is refused with its name; a failed upload can be tried again", async () => {
    const page = await open();
    const small = PIXEL;
    await page.setInputFiles(
      "input[type=file]",
      Array.from({ length: 11 }, (_, i) => image(`${i}.png`, small)),
    );
    await waitFor(page, `document.querySelectorAll('.thumb[data-state=ready]').length === 9`);
    expect(await textOf(page, ".toast")).toContain("9");
    await page.reload();
    await page.setInputFiles("input[type=file]", [image("坏.png", Buffer.from("no picture"))]);
    await waitFor(page, `document.querySelector(".toast")?.textContent.includes("坏.png")`);
    expect(await page.locator(".thumb").count()).toBe(0);
    await page.route("**/api/attachments", (route) => route.abort());
    await page.setInputFiles("input[type=file]", [image("a.png", small)]);
    await page.waitForSelector('.thumb[data-state="failed"]');
    await page.unroute("**/api/attachments");
    await page.click(".again");
    await page.waitForSelector('.thumb[data-state="ready"]');
    await page.context().close();
  });

  test("paste and drop add pictures, and a drop never leaves the page", async () => {
    const page = await open();
    const bytes = [...PIXEL];
    await page.evaluate(`(() => {
      const file = new File([new Uint8Array(${JSON.stringify(bytes)})], "p.png", { type: "image/png" });
      const data = new DataTransfer();
      data.items.add(file);
      document.getElementById("composer").dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
      const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
      document.querySelector(".sidebar").dispatchEvent(drop);
      if (!drop.defaultPrevented) throw new Error("the browser would open the file");
    })()`);
    await waitFor(page, `document.querySelectorAll('.thumb[data-state=ready]').length === 2`);
    await page.context().close();
  });

  test("a photo that a camera turned arrives upright", async () => {
    const page = await open();
    // A JPEG made by the browser, with an EXIF block that says "turn by 90°" put behind its first marker.
    const turned = await page.evaluate<number[]>(`(async () => {
      const canvas = document.createElement("canvas");
      canvas.width = 60; canvas.height = 20;
      canvas.getContext("2d").fillRect(0, 0, 60, 20);
      const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg"));
      const jpeg = new Uint8Array(await blob.arrayBuffer());
      const exif = [0xff,0xe1,0,34,0x45,0x78,0x69,0x66,0,0,0x4d,0x4d,0,42,0,0,0,8,0,1,0x01,0x12,0,3,0,0,0,1,0,6,0,0,0,0,0,0];
      return [...jpeg.slice(0, 2), ...exif, ...jpeg.slice(2)];
    })()`);
    await page.setInputFiles("input[type=file]", [
      { name: "t.jpg", mimeType: "image/jpeg", buffer: Buffer.from(turned) },
    ]);
    await page.waitForSelector('.thumb[data-state="ready"]');
    await page.click(".send");
    await finished(page);
    const [file] = asked.at(-1)!.attachments;
    expect([file!.width, file!.height]).toEqual([20, 60]);
    await page.context().close();
  });
});

test("a long paste can go as a file", async () => {
  const page = await open();
  const before = asked.length;
  await page.focus("#composer");
  await page.evaluate(`(() => {
    const data = new DataTransfer();
    const text = "日志 ".repeat(4000);
    data.setData("text/plain", text);
    const field = document.getElementById("composer");
    field.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
    field.setRangeText(text, 0, 0, "end");
    field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  })()`);
  await page.click(".offer .chip");
  expect(await value(page)).toBe("");
  await waitFor(
    page,
    `document.querySelector(".thumb")?.dataset.state === "ready" || document.querySelector(".toast")`,
  );
  expect(await textOf(page, ".toast")).toBe("");
  await page.click(".send");
  await until(() => asked.length > before || undefined, 5000, "the file at the bot");
  expect(asked.at(-1)!.attachments[0]!.mime).toStartWith("text/plain");
  await page.context().close();
});
