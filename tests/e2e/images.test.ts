/** Pictures and pasted files in a message. Behaviours 5 and 6 of facts/chat-page.md. */
import { describe, expect, test } from "bun:test";
import { finished, type Page, textOf, until, waitFor } from "./rig.ts";
import { scene, THREE } from "./scene.ts";

const stage = scene({ bots: THREE, script: (turn) => turn.write(`好的：${turn.text}`) });
const own = (page: Page): Promise<number> => page.evaluate<number>(`document.querySelectorAll(".msg.user").length`);
const value = (page: Page): Promise<string> => page.inputValue("#composer");

/** The smallest PNG: one grey pixel. */
const PIXEL = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGOoAwAAfwB+ua2bVwAAAABJRU5ErkJggg==",
  "base64",
);

describe("pictures", () => {
  const image = (name: string, buffer: Buffer) => ({ name, mimeType: "image/png", buffer });

  test("several keep their order, can be removed, and arrive at the bot; a large photo becomes at most 1 MB", async () => {
    const { page } = await stage.open();
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
    const files = stage.asked.at(-1)!.attachments;
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
    const { page } = await stage.open();
    const small = PIXEL;
    await page.setInputFiles(
      "input[type=file]",
      Array.from({ length: 11 }, (_, i) => image(`${i}.png`, small)),
    );
    await waitFor(page, `document.querySelectorAll('.thumb[data-state=ready]').length === 9`);
    expect(await textOf(page, ".toast")).toContain("9");
    for (let i = 0; i < 9; i++) await page.click(".thumb .remove");
    await page.setInputFiles("input[type=file]", [image("坏.png", Buffer.from("no picture"))]);
    await waitFor(page, `document.querySelector(".toast")?.textContent.includes("坏.png")`);
    await page.click(".thumb[data-state=failed] .remove");
    expect(await page.locator(".thumb").count()).toBe(0);
    await page.route("**/api/attachments", (route) => route.abort());
    await page.setInputFiles("input[type=file]", [image("a.png", small)]);
    await page.waitForSelector('.thumb[data-state="failed"]');
    await page.unroute("**/api/attachments");
    await page.click(".again");
    await page.waitForSelector('.thumb[data-state="ready"]');
    await page.context().close();
  });

  test("a message does not go out without the picture that cannot be read", async () => {
    const { page } = await stage.open();
    await page.fill("#composer", "看这张图");
    await page.setInputFiles("input[type=file]", [
      { name: "坏.jpg", mimeType: "image/jpeg", buffer: Buffer.from("no picture") },
    ]);
    await page.press("#composer", "Enter");
    await page.waitForSelector(".thumb[data-state=failed]");
    expect(await value(page)).toBe("看这张图");
    expect(await own(page)).toBe(0);
    await page.press("#composer", "Enter");
    expect(await textOf(page, ".toast")).toContain("请重试或移除");
    expect(await own(page)).toBe(0);
    // Without it only when the person says so.
    await page.click(".thumb .remove");
    await page.click(".send");
    await finished(page);
    expect(await own(page)).toBe(1);
    await page.context().close();
  });

  test("they stay with their conversation and are there after a reload; an edit keeps those of the message", async () => {
    const { page } = await stage.open();
    await page.fill("#composer", "一");
    await page.click(".send");
    await finished(page);
    await page.setInputFiles("input[type=file]", [image("甲.png", PIXEL), image("乙.png", PIXEL)]);
    await waitFor(page, `document.querySelectorAll(".thumb[data-state=ready]").length === 2`);
    await page.click(".new-chat");
    expect(await page.locator(".thumb").count()).toBe(0);
    await page.goBack();
    expect(await page.locator(".thumb").count()).toBe(2);
    await page.reload();
    await waitFor(page, `[...document.querySelectorAll(".thumb img")].filter((i) => i.naturalWidth > 0).length === 2`);
    await page.click(".thumb:nth-child(2) .remove");
    await page.reload();
    await page.waitForSelector(".thumb[data-state=ready]");
    await page.fill("#composer", "二");
    await page.click(".send");
    await finished(page, 2);
    expect(stage.asked.at(-1)!.attachments.map((file) => file.name)).toEqual(["甲.png"]);
    expect(await page.locator(".thumb").count()).toBe(0);
    // The words of a message are changed; what hung on it stays, and so does what was being written meanwhile.
    await page.fill("#composer", "写到一半");
    await page.locator(".msg.user").last().hover();
    await page.locator('.msg.user [data-act="edit"]').last().click();
    expect(await page.locator(".thumb").count()).toBe(1);
    await page.fill("#composer", "二，改过");
    await page.click(".send");
    await waitFor(page, `document.querySelector(".pager")`);
    await until(() => stage.asked.at(-1)!.text === "二，改过" || undefined, 5000, "the edit at the bot");
    expect(stage.asked.at(-1)!.attachments.map((file) => file.name)).toEqual(["甲.png"]);
    expect(await value(page)).toBe("写到一半");
    expect(await page.locator(".thumb").count()).toBe(0);
    // Nothing of it is left for the next person.
    await page.setInputFiles("input[type=file]", [image("丙.png", PIXEL)]);
    await page.waitForSelector(".thumb[data-state=ready]");
    await page.click(".gear");
    await page.locator("#account-more button").last().click();
    await page.waitForSelector("#login-submit");
    expect(await page.evaluate<string[]>("Object.keys(localStorage).filter((k) => /draft|files/.test(k))")).toEqual([]);
    await page.context().close();
  });

  test("paste and drop add pictures, and a drop never leaves the page", async () => {
    const { page } = await stage.open();
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
    const { page } = await stage.open();
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
    const [file] = stage.asked.at(-1)!.attachments;
    expect([file!.width, file!.height]).toEqual([20, 60]);
    await page.context().close();
  });
});

describe("a long paste", () => {
  const paste = async (page: Page, text: string): Promise<void> => {
    await page.evaluate(`navigator.clipboard.writeText(${JSON.stringify(text)})`);
    await page.focus("#composer");
    await page.keyboard.press("Control+v");
    await page.waitForSelector(".offer:not([hidden])");
  };
  const open = async (): Promise<Page> => {
    const { page } = await stage.open();
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    return page;
  };

  test("can go as a file, whole, whatever its line ends and also where the field is too small for it", async () => {
    const page = await open();
    for (const text of ["日志 ".repeat(4000), "a long line\r\n".repeat(1000), "b".repeat(150_000)]) {
      const before = stage.asked.length;
      await page.fill("#composer", "前");
      await paste(page, text);
      await page.click(".offer .chip");
      expect(await value(page)).toBe("前");
      await page.waitForSelector(".thumb[data-state=ready]");
      await page.click(".send");
      await until(() => stage.asked.length > before || undefined, 5000, "the file at the bot");
      const [file] = stage.asked.at(-1)!.attachments;
      expect(file!.mime).toStartWith("text/plain");
      expect(file!.size).toBeGreaterThanOrEqual(text.replace(/\r/g, "").length);
    }
    expect(await textOf(page, ".toast")).toBe("");
    await page.context().close();
  });

  test("is not offered in another conversation", async () => {
    const page = await open();
    await page.fill("#composer", "一");
    await page.click(".send");
    await finished(page);
    await paste(page, "日志 ".repeat(4000));
    await page.click(".new-chat");
    expect(await page.locator(".offer").isVisible()).toBe(false);
    await page.context().close();
  });
});
