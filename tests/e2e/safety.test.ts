/** What a bot's text can and cannot do, and that it is shown right. Behaviours 29 to 37 of facts/chat-page.md. */
import { describe, expect, test } from "bun:test";
import { finished, type Page, PHONE, send, textOf, violations, waitFor } from "./rig.ts";
import { scene } from "./scene.ts";

/** What the bot answers next. */
let answer = "";
const EVIL_NAME = `<img src=x onerror=alert(1)>'"\u202e名字`;
const stage = scene({
  script: (turn) => turn.write(answer),
  bots: [
    {
      botId: "evil",
      botName: EVIL_NAME.replace("\u202e", ""), // the gateway refuses direction marks in names of bots
      description: "<svg/onload=alert(1)>",
      suggestions: ["<b onclick=alert(1)>x</b>"],
    },
  ],
  init: `window.alert = () => { window.__hit = true; };`,
});

let shown = 0;
const say = async (page: Page, text: string, ms?: number): Promise<void> => {
  answer = text;
  const count = await page.evaluate<number>(`document.querySelectorAll(".msg.bot").length`);
  await send(page, `问 ${++shown}`);
  await finished(page, count + 1, ms);
};
const last = (page: Page, expression: string): Promise<unknown> =>
  page.evaluate(`((md) => ${expression})([...document.querySelectorAll(".md")].at(-1))`);

const CORPUS = [
  ...["pre", "script", "code", "kbd", "textarea", "style"].map((tag) => `a <${tag}> <img src=x onerror=alert(1) `),
  "<svg/onload=alert(1)>",
  "<details open ontoggle=alert(1)>x</details>",
  "<iframe src=javascript:alert(1)></iframe>",
  "<script>alert(1)</script>",
  "<math><a xlink:href=javascript:alert(1)>x",
  ...[
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "javascript&colon;alert(1)",
    "&#106;avascript:alert(1)",
    "&#x6A;avascript:alert(1)",
    "java&Tab;script:alert(1)",
    "java&NewLine;script:alert(1)",
    "&#x1;javascript:alert(1)",
    "javascript\\:alert(1)",
    "vbscript:x",
    "data:text/html,<script>alert(1)</script>",
    "blob:x",
    "file:///etc/passwd",
    "//evil.example",
    "https:evil.example",
    "\\\\\\\\evil.example",
  ].flatMap((href) => [`[x](${href})`, `[x](<${href}>)`, `<${href}>`, `[x][r]\n\n[r]: ${href}`, `![x](${href})`]),
  `![x](http://evil.example/b.png "t' onerror=alert(1)")`,
  `![" onerror=alert(1) x="](http://evil.example/c.png)`,
  '```a"><img src=x onerror=alert(1)>\nx\n```',
  "|a|\n|-|\n|<img src=x onerror=alert(1)>|",
  ">".repeat(2000),
  "```html\n<script>alert(1)</script>\n```",
  "```mermaid\ngraph TD; A-->B\n```",
  `[\u202e evil](https://a.example)`,
];

const inspect = `(() => {
  const bad = [];
  for (const e of document.querySelectorAll("*")) {
    if (["SCRIPT", "IFRAME", "OBJECT", "EMBED", "BASE"].includes(e.tagName) && !e.src?.startsWith(location.origin)) bad.push(e.tagName);
    for (const a of e.attributes) {
      if (/^on/i.test(a.name)) bad.push(a.name);
      if (["href", "src", "action", "xlink:href"].includes(a.name) && /^\\s*(javascript|vbscript|data:text|blob:x|file:)/i.test(a.value)) bad.push(a.value);
    }
  }
  const links = [...document.querySelectorAll(".md a")].filter((a) => !/^(https?|mailto|tel):$/.test(a.protocol) || !/noopener noreferrer nofollow/.test(a.rel));
  return { bad, links: links.map((a) => a.outerHTML), hit: Boolean(window.__hit) };
})()`;

test("the attack corpus does nothing: no script, no handler, no request, no violation of the policy", async () => {
  const { page, watch } = await stage.open();
  for (const text of [CORPUS.slice(0, 40).join("\n\n"), CORPUS.slice(40).join("\n\n"), ...CORPUS.slice(0, 8)])
    await say(page, text);
  // The same from the person, as a message, a title and a search.
  await send(page, `<img src=x onerror=alert(1)> ${EVIL_NAME}`);
  await finished(page, 11);
  await page.dblclick(".row-link");
  await page.fill(".rename", EVIL_NAME);
  await page.keyboard.press("Enter");
  await waitFor(page, `document.querySelector(".title").textContent.startsWith("<img")`);
  await page.fill(".search input", "<img");
  await page.waitForSelector(".hit");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  expect(await textOf(page, ".msg.bot .name")).toContain("<img src=x");
  await page.reload();
  await page.waitForSelector(".msg.bot");
  expect(await page.evaluate(inspect)).toEqual({ bad: [], links: [], hit: false });
  expect(watch.foreign).toEqual([]);
  expect(watch.errors).toEqual([]);
  expect(await violations(page, watch)).toEqual([]);
  const response = await page.request.get(stage.gate.url);
  expect(response.headers()["content-security-policy"]).toBe(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types 'none'",
  );
  await page.context().close();
}, 60_000);

test("a full run of the page breaks no rule of its policy and has no inline style, script or handler", async () => {
  const { page, watch } = await stage.open();
  await say(page, "```js\nlet a = 1;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n![x](http://evil.example/x.png)");
  await page.waitForSelector(".h-keyword");
  await page.click(".gear");
  await page.waitForSelector("#settings[open]");
  await page.check("#theme-dark");
  await page.check("#lang-en");
  await page.waitForSelector('#settings h2:has-text("Settings")');
  await page.fill("#key-name", "ci");
  await page.click(".key-form button");
  await page.waitForSelector(".made:not([hidden])");
  expect(await page.inputValue(".secret")).toStartWith("nxk_");
  await page.click(".keys button");
  await waitFor(page, `document.querySelectorAll(".keys li").length === 0`);
  await page.keyboard.press("Escape");
  await page.click(".status");
  await page.waitForSelector("#bots[open]");
  await page.keyboard.press("Escape");
  await page.click('.bar [aria-haspopup="menu"]');
  await page.waitForSelector(".menu");
  await page.keyboard.press("Escape");
  const html = await (await page.request.get(stage.gate.url)).text();
  expect(html).not.toMatch(/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/);
  expect(await violations(page, watch)).toEqual([]);
  expect(watch.foreign).toEqual([]);
  expect(watch.errors).toEqual([]);
  await page.context().close();
});

describe("text is shown right", () => {
  test("Chinese emphasis, tildes and links", async () => {
    const { page } = await stage.open();
    await say(
      page,
      "**重点：**这里\n\n这是**“引号”**后\n\n3~5元，2~3天 ~~删~~\n\nhttps://a.com/x。谢谢（https://b.com）",
    );
    expect(await last(page, `[...md.querySelectorAll("strong")].map((e) => e.textContent)`)).toEqual([
      "重点：",
      "“引号”",
    ]);
    expect(await last(page, `[...md.querySelectorAll("del")].map((e) => e.textContent)`)).toEqual(["删"]);
    expect(await last(page, `[...md.querySelectorAll("a")].map((e) => e.href)`)).toEqual([
      "https://a.com/x",
      "https://b.com/",
    ]);
    await page.context().close();
  });

  test("formulas are kept, money is no formula", async () => {
    const { page } = await stage.open();
    await say(page, "$$a_1*b*c$$\n\n式\\(x_1*y*\\)\n\n$5 和 $10");
    expect(await last(page, `[...md.querySelectorAll(".math")].map((e) => e.textContent)`)).toEqual([
      "$$a_1*b*c$$",
      "\\(x_1*y*\\)",
    ]);
    expect(await last(page, `md.textContent.includes("$5 和 $10")`)).toBe(true);
    await page.context().close();
  });

  test("code copies exactly, also where the clipboard needs the old command; it wraps on wish; its head stays", async () => {
    const { page } = await stage.open();
    const source = `  indented\n\n\ttab ${"x".repeat(5000)}\nlast\n`;
    await say(page, `\`\`\`py\n${source}\`\`\`\n\n\`\`\`\nnever closed`);
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.click('[data-act="copy-code"]');
    expect(await page.evaluate<string>("navigator.clipboard.readText()")).toBe(source);
    // As on plain http in an intranet, where there is no clipboard API.
    await page.evaluate(`navigator.clipboard.writeText("")`);
    await page.evaluate(`Object.defineProperty(window, "isSecureContext", { value: false })`);
    await page.click('[data-act="copy-code"]');
    await waitFor(page, `document.querySelector(".toast")?.textContent === "已复制"`);
    expect((await page.evaluate<string>("navigator.clipboard.readText()")).replace(/\r/g, "")).toBe(source);
    const wide = `(() => { const p = document.querySelector(".code pre"); return p.scrollWidth > p.clientWidth; })()`;
    expect(await page.evaluate<boolean>(wide)).toBe(true);
    await page.click('[data-act="wrap"]');
    expect(await page.evaluate<boolean>(wide)).toBe(false);
    expect(await last(page, `[...md.querySelectorAll("pre > code")].map((c) => c.textContent)`)).toEqual([
      source,
      "never closed\n",
    ]);
    await say(page, `\`\`\`\n${"line\n".repeat(300)}\`\`\``);
    await page.mouse.move(700, 400);
    await page.mouse.wheel(0, -1500);
    await waitFor(
      page,
      `(() => { const heads = [...document.querySelectorAll(".code-head")]; const h = heads.at(-1).getBoundingClientRect(); const s = document.querySelector(".scroller").getBoundingClientRect(); return Math.abs(h.top - s.top) < 3; })()`,
    );
    await page.context().close();
  });

  test("tables copy as tab-separated text, and on a phone nothing makes the page wider than the screen", async () => {
    const { page } = await stage.open(PHONE);
    const columns = Array.from({ length: 40 }, (_, i) => `列${i}`);
    await say(
      page,
      `|${columns.join("|")}|\n|${columns.map(() => "-").join("|")}|\n|${columns.map((_, i) => i).join("|")}|\n\n\`${"y".repeat(500)}\`\n\n${"z".repeat(800)}\n\nhttps://a.example/${"p".repeat(600)}\n\n![x](http://evil.example/${"q".repeat(200)})\n\n$$${"a+".repeat(300)}$$\n\n\`\`\`\n${"w".repeat(5000)}\n\`\`\`\n\n> ${"> ".repeat(30)}deep\n\n${"- ".repeat(20)}x`,
    );
    expect(await page.evaluate<number>("document.documentElement.scrollWidth")).toBe(390);
    const tooWide = `(() => {
      const limit = document.querySelector(".scroller").clientWidth;
      const scrolls = (e) => e && !e.classList.contains("scroller") && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
      return [...document.querySelectorAll(".scroller *")].filter((e) => e.getBoundingClientRect().right > limit + 1 && !scrolls(e.parentElement)).map((e) => e.tagName + "." + e.className);
    })()`;
    expect(await page.evaluate<string[]>(tooWide)).toEqual([]);
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.tap('[data-act="copy-table"]');
    await page.waitForSelector(".toast");
    expect((await page.evaluate<string>("navigator.clipboard.readText()")).split("\n")[0]).toBe(columns.join("\t"));
    await page.context().close();
  });
});

describe("huge and hostile texts", () => {
  const PATHOLOGICAL: Record<string, string> = {
    underscores: "_a".repeat(10_000),
    spaces: `a${" ".repeat(20_000)}b`,
    "dotted address": `${"a.".repeat(10_000)}@`,
    "nested list": Array.from({ length: 150 }, (_, i) => `${"  ".repeat(i)}- x`).join("\n"),
    "1 MB of paragraphs": `${"这是一段正文，**重点：**在这里。".repeat(12)}\n\n`.repeat(4500).slice(0, 1_000_000),
    "10,000 lines of code": `\`\`\`py\n${"x = call(1, 'two')  # three\n".repeat(10_000)}\`\`\``,
    "a table of 300 columns": `${"|a".repeat(300)}|\n${"|-".repeat(300)}|\n${`${"|x".repeat(300)}|\n`.repeat(20)}`,
    "one line of 300 kB": "长".repeat(300_000),
  };
  for (const [name, text] of Object.entries(PATHOLOGICAL))
    test(`${name}: the page stalls at most 200 ms`, async () => {
      const { page, watch } = await stage.open();
      await page.evaluate(`(() => {
        window.__t = [];
        new PerformanceObserver((list) => { for (const e of list.getEntries()) window.__t.push(e.duration); }).observe({ entryTypes: ["longtask"] });
      })()`);
      await say(page, text, 31_000);
      await waitFor(page, `document.querySelector(".md").textContent.length > 100`, 31_000);
      await page.reload(); // and from history
      await page.waitForSelector(".md *");
      await page.evaluate(`(() => {
        window.__t = window.__t ?? [];
        new PerformanceObserver((list) => { for (const e of list.getEntries()) window.__t.push(e.duration); }).observe({ type: "longtask", buffered: true });
      })()`);
      const signs = text.replace(/[\s|-]/g, "").length; // what is shown whatever the markup eats
      await waitFor(page, `document.querySelector(".md").textContent.length >= ${signs / 2}`, 31_000);
      const longest = Math.max(0, ...(await page.evaluate<number[]>("window.__t")));
      console.log(`${name}: longest task ${longest.toFixed(0)} ms`);
      expect(longest).toBeLessThanOrEqual(200);
      expect(watch.errors).toEqual([]);
      await page.context().close();
    }, 90_000);
});
