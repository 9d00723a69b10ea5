/** Signing in and staying in; the connection; the page on another server. Behaviours 25, 26 and 28. */
import { describe, expect, test } from "bun:test";
import { tempDir } from "../harness.ts";
import { buildPage } from "../../ui/build.ts";
import {
  bot,
  DESK,
  drawn,
  finished,
  gateway,
  openPage,
  PASSWORD,
  send,
  signIn,
  sleep,
  textOf,
  until,
  waitFor,
} from "./rig.ts";
import { scene } from "./scene.ts";

const stage = scene();

describe("the login", () => {
  test("asks nothing of the gateway before it is submitted, and the password never stands in an address", async () => {
    const context = await stage.browser.newContext(DESK);
    const { page, watch } = await openPage(context, stage.gate.url);
    const calls: string[] = [];
    page.on("request", (request) => {
      const { pathname } = new URL(request.url());
      if (pathname.startsWith("/api/")) calls.push(`${request.method()} ${pathname}`);
    });
    await page.goto(stage.gate.url);
    await page.waitForSelector("#login-submit");
    await sleep(1000);
    // At most which ways to sign in there are, asked once.
    expect(calls.filter((call) => call !== "GET /api/sign-in")).toEqual([]);
    expect(calls.length).toBeLessThanOrEqual(1);
    expect(await page.getAttribute("#login-form", "method")).toBe("post");
    expect(await page.getAttribute("#username", "autocomplete")).toBe("username");
    expect(await page.getAttribute("#password", "autocomplete")).toBe("current-password");
    await page.fill("#username", "admin");
    await page.fill("#password", "wrong-secret");
    await page.click("#show-password");
    expect(await page.getAttribute("#password", "type")).toBe("text");
    const shown = await page.evaluate<number>(`new Promise((done) => {
      const begin = performance.now();
      new MutationObserver(() => done(performance.now() - begin)).observe(document.getElementById("login-submit"), { attributes: true, childList: true });
      document.getElementById("login-submit").click();
    })`);
    expect(shown).toBeLessThanOrEqual(200);
    await waitFor(page, `document.getElementById("login-error").textContent !== ""`);
    expect(await page.getAttribute("#login-error", "role")).toBe("alert");
    expect(await page.inputValue("#username")).toBe("admin");
    expect(calls.join()).not.toContain("wrong-secret");
    await page.fill("#password", PASSWORD);
    await page.keyboard.press("Enter");
    await page.waitForSelector("#composer");
    expect(page.url()).toBe(`${stage.gate.url}/`);
    expect(watch.errors).toEqual([]);
    await context.close();
  });

  test("without JavaScript the form still posts, and the address stays clean", async () => {
    const context = await stage.browser.newContext({ ...DESK, javaScriptEnabled: false });
    const page = await context.newPage();
    await page.goto(stage.gate.url);
    const html = await page.content();
    expect(html).toContain('method="post"');
    expect(html).toContain('action="/api/login"');
    await context.close();
  });

  test("says what is wrong when the gateway cannot be reached, in both languages", async () => {
    const context = await stage.browser.newContext(DESK);
    const { page } = await openPage(context, stage.gate.url);
    await page.goto(stage.gate.url);
    await page.route("**/api/login", (route) => route.abort());
    await page.fill("#username", "admin");
    await page.fill("#password", "x");
    await page.click("#login-submit");
    await waitFor(page, `document.getElementById("login-error").textContent.includes("连不上网关")`);
    await page.click("#login-language");
    await waitFor(page, `document.documentElement.lang === "en"`);
    expect(await textOf(page, "#login-submit")).toBe("Sign in");
    await page.click("#login-submit");
    await waitFor(page, `document.getElementById("login-error").textContent.includes("cannot be reached")`);
    await context.close();
  });

  test("a deep link leads to the conversation after signing in", async () => {
    const { page, context } = await stage.open();
    await send(page, "深链");
    await finished(page);
    const address = page.url();
    const fresh = await stage.browser.newContext(DESK);
    const other = (await openPage(fresh, stage.gate.url)).page;
    await signIn(other, address);
    await waitFor(other, `document.querySelector(".bubble")?.textContent === "深链"`);
    await context.close();
    await fresh.close();
  });
});

describe("a session that ends in the middle", () => {
  test("asks for the password over the chat; draft and transcript stay; the message goes out after", async () => {
    const { page, context } = await stage.open();
    await send(page, "之前的话");
    await finished(page);
    await context.clearCookies();
    await page.fill("#composer", "还没发的草稿");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#relogin[open]");
    expect(await textOf(page, ".messages")).toContain("之前的话");
    await page.fill("#again-password", "wrong");
    await page.keyboard.press("Enter");
    await waitFor(page, `document.querySelector("#relogin .error").textContent !== ""`);
    await page.fill("#again-password", PASSWORD);
    await page.keyboard.press("Enter");
    await waitFor(page, `!document.querySelector("#relogin")`);
    await finished(page, 2);
    expect(await page.locator(".msg.user").count()).toBe(2);
    expect(await textOf(page, ".messages")).toContain("还没发的草稿");
    await context.close();
  });

  test("the dialog for it stays, with what was typed, however often Escape is pressed", async () => {
    const { page, context } = await stage.open();
    await context.clearCookies();
    await send(page, "过期后写的");
    await page.waitForSelector("#relogin[open]");
    await page.keyboard.type(PASSWORD);
    for (let i = 0; i < 6; i++) {
      await page.keyboard.press("Escape");
      await drawn(page);
    }
    expect(await page.locator("#relogin[open]").count()).toBe(1);
    await page.keyboard.press("Enter"); // the caret is still in the field
    await waitFor(page, `!document.querySelector("#relogin")`);
    await finished(page);
    await context.close();
  });

  test("without a network nobody is signed out, nothing is forgotten, and it is said; a session that is over is no obstacle", async () => {
    const { page, context } = await stage.open();
    const signOut = async (before: () => Promise<void>): Promise<void> => {
      await page.click(".gear");
      await waitFor(page, `document.querySelector("#settings")?.textContent.includes("还没有密钥")`); // all of it is there
      await before();
      await page.click('#settings button:has-text("退出登录")');
    };
    await page.fill("#composer", "草稿");
    await signOut(() => context.setOffline(true));
    await waitFor(page, `document.querySelector(".toast")?.textContent.includes("还没有退出登录")`);
    await context.setOffline(false);
    expect(await page.isVisible("#login")).toBe(false);
    await page.reload();
    await page.waitForSelector('.status[data-link="online"]');
    expect(await page.inputValue("#composer")).toBe("草稿");
    await signOut(() => context.clearCookies());
    await page.waitForSelector("#login:not([hidden])");
    expect(await page.locator("#relogin").count()).toBe(0);
    await context.close();
  });

  test("signing out forgets drafts and asks nothing more", async () => {
    const { page, context } = await stage.open();
    await page.fill("#composer", "秘密草稿");
    await page.click(".gear");
    await page.click('#settings button:has-text("退出登录")');
    await page.waitForSelector("#login:not([hidden])");
    expect(await page.evaluate<string>("JSON.stringify(localStorage)")).not.toContain("秘密草稿");
    const calls: string[] = [];
    page.on("request", (request) => calls.push(request.url()));
    await sleep(800);
    expect(calls).toEqual([]);
    await context.close();
  });
});

describe("the connection", () => {
  test("a short break is not worth a word, a longer one is one calm line; it comes back by itself", async () => {
    const { page, context } = await stage.open();
    expect(await textOf(page, ".status-text")).toBe("1 个机器人在线");
    await context.setOffline(true);
    await page.evaluate(`window.dispatchEvent(new Event("offline"))`);
    await sleep(1200);
    expect(await textOf(page, ".status-text")).toBe("1 个机器人在线");
    await waitFor(page, `document.querySelector(".status-text").textContent.includes("离线")`);
    expect(await page.isEditable("#composer")).toBe(true);
    await context.setOffline(false);
    await page.evaluate(`window.dispatchEvent(new Event("online"))`);
    await waitFor(page, `document.querySelector(".status-text").textContent === "1 个机器人在线"`, 5000);
    await context.close();
  });

  test("a gateway that is restarted in the middle of an answer: the text goes on, whole and once", async () => {
    const folder = await tempDir("restart");
    const first = await gateway({}, folder.path);
    const text = "这是一段会被打断的回答。\n\n".repeat(120);
    const slow = await bot(first, "slow", async (turn) => {
      for (let at = 0; at < text.length; at += 13) {
        turn.write(text.slice(at, at + 13));
        await sleep(25);
      }
    });
    const context = await stage.browser.newContext(DESK);
    const { page } = await openPage(context, first.url);
    await signIn(page, first.url);
    await send(page, "写");
    await waitFor(page, `document.querySelector(".md")?.textContent.length > 200`);
    await first.gateway.close();
    await waitFor(page, `document.querySelector(".status").dataset.link === "reconnecting"`);
    expect(await textOf(page, ".status-text")).toContain("网关");
    const second = await gateway({ port: first.port }, folder.path);
    await finished(page, 1, 30_000);
    const stored = await page.evaluate<string>(
      `fetch("/api/conversations/" + location.pathname.slice(3) + "/messages").then((r) => r.json()).then((a) => a.messages.at(-1).content)`,
    );
    expect(stored).toBe(text);
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.click('.msg.bot [data-act="copy"]');
    await page.waitForSelector(".toast");
    expect(await page.evaluate<string>("navigator.clipboard.readText()")).toBe(text);
    await context.close();
    await slow.close();
    await second.stop();
    await folder.remove();
  }, 60_000);

  test("a conversation that could not be fetched comes when the network is back, or on a press", async () => {
    const { page, context } = await stage.open();
    await send(page, "一");
    await finished(page);
    await page.goto(stage.gate.url);
    await page.waitForSelector(".row-link");
    await page.route("**/messages?limit=*", (route) => route.abort());
    await page.click(".row-link");
    await page.waitForSelector(".note button:not([hidden])");
    await page.unroute("**/messages?limit=*");
    await page.click(".note button");
    await waitFor(page, `document.querySelector(".bubble")?.textContent === "一"`);
    await page.goto(stage.gate.url);
    await page.waitForSelector(".row-link");
    await context.setOffline(true);
    await page.click(".row-link");
    await page.waitForSelector(".note button:not([hidden])");
    await context.setOffline(false);
    await waitFor(page, `document.querySelector(".bubble")?.textContent === "一"`);
    await context.close();
  });

  test("no bot online is said, and differs from no gateway", async () => {
    const lonely = await gateway();
    const context = await stage.browser.newContext(DESK);
    const { page } = await openPage(context, lonely.url);
    await signIn(page, lonely.url);
    expect(await textOf(page, ".status-text")).toBe("没有机器人在线");
    await send(page, "有人吗");
    await page.waitForSelector(".unsent.failed, .ended.failed");
    await context.close();
    await lonely.stop();
  });
});

test("the page on another server: signs in with a token, streams, shows pictures, exports", async () => {
  const files = new Map((await buildPage({ standalone: true })).map((file) => [file.path, file]));
  const host = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => {
      const file = files.get(new URL(request.url).pathname);
      return file
        ? new Response(file.bytes, { headers: { "Content-Type": file.type } })
        : new Response("", { status: 404 });
    },
  });
  const origin = `http://127.0.0.1:${host.port}`;
  const far = await gateway({ corsOrigins: [origin] });
  const made = await bot(far, "far", async (turn) => {
    turn.write("远方的回答");
    await turn.attach({ name: "点.png", mime: "image/png", data: PIXEL });
  });
  const context = await stage.browser.newContext(DESK);
  const page = await context.newPage();
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(`${origin}/?gateway=${encodeURIComponent(far.url)}`);
  await waitFor(page, `document.getElementById("gateway").value === ${JSON.stringify(far.url)}`);
  await page.fill("#username", "admin");
  await page.fill("#password", PASSWORD);
  await page.click("#login-submit");
  await page.waitForSelector('.status[data-link="online"]');
  await send(page, "你好");
  await finished(page);
  expect(await textOf(page, ".md")).toBe("远方的回答");
  await waitFor(page, `document.querySelector(".shot img")?.naturalWidth === 1`);
  expect(await context.cookies()).toEqual([]);
  // Remembered: the address is needed once.
  await page.goto(`${origin}/`);
  await page.waitForSelector(".row-link");
  await page.click(".row-link");
  await page.waitForSelector(".msg.bot");
  expect(new URL(page.url()).hash).toStartWith("#/c/");
  const download = page.waitForEvent("download");
  await page.click('.bar [aria-haspopup="menu"]');
  await page.click('.menu-item:has-text("Markdown")');
  expect((await download).suggestedFilename()).toEndWith(".md");
  expect(errors).toEqual([]);
  await context.close();
  await made.close();
  await far.stop();
  await host.stop(true);
  await until(() => true, 100);
});

/** The smallest PNG. */
const PIXEL = Uint8Array.fromBase64(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGOoAwAAfwB+ua2bVwAAAABJRU5ErkJggg==",
);
