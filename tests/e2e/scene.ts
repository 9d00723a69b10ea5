/**
 * What the files of browser tests have in common: one gateway, its bots and one Chromium for all tests of a file, ended after
 * them, and the texts and measures several of them use. Apart from rig.ts because it needs the test runner.
 */
import { afterAll, beforeAll } from "bun:test";
import type { Bot, BotOptions } from "../../plugin/client.ts";
import type { ConfigJson } from "../harness.ts";
import {
  bot,
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  DESK,
  type Gateway,
  gateway,
  launch,
  openPage,
  type Page,
  type Script,
  signIn,
  sleep,
  type Turn,
  until,
  type Watch,
} from "./rig.ts";

export type SceneOptions = {
  config?: ConfigJson;
  /** One bot, `helper`, if nothing else is said. */
  bots?: readonly ({ botId: string } & Partial<BotOptions>)[];
  /** What the bots do with a turn, until a test says otherwise. */
  script?: Script;
  /** Runs in every page before its own scripts. */
  init?: string;
};

export type Opened = { page: Page; context: BrowserContext; watch: Watch };

export type Scene = {
  readonly gate: Gateway;
  readonly browser: Browser;
  /** In the order of the options. */
  readonly bots: Bot[];
  /** What the bots do with the next turns; each `open` sets it back. */
  script: Script;
  /** The turns the bots were given since the last `open`. */
  asked: Turn[];
  /** A browser of its own with somebody signed in. */
  open: (options?: BrowserContextOptions, user?: string) => Promise<Opened>;
};

/** Sets up for all tests of the file that calls it. */
export const scene = (options: SceneOptions = {}): Scene => {
  const first: Script = options.script ?? ((turn) => turn.write(`回：${turn.text}`));
  let gate: Gateway | undefined;
  let browser: Browser | undefined;
  const there = <T>(value: T | undefined): T => {
    if (value === undefined) throw new Error("asked for before the tests began");
    return value;
  };
  const self: Scene = {
    get gate() {
      return there(gate);
    },
    get browser() {
      return there(browser);
    },
    bots: [],
    script: first,
    asked: [],
    open: async (device = DESK, user = "admin") => {
      self.script = first;
      self.asked = [];
      const context = await self.browser.newContext(device);
      const { page, watch } = await openPage(context, self.gate.url);
      if (options.init) await page.addInitScript(options.init);
      await signIn(page, self.gate.url, user);
      return { page, context, watch };
    },
  };
  beforeAll(async () => {
    gate = await gateway(options.config);
    for (const { botId, ...more } of options.bots ?? [{ botId: "helper", botName: "助手" }])
      self.bots.push(
        await bot(
          gate,
          botId,
          (turn) => {
            self.asked.push(turn);
            return self.script(turn);
          },
          more,
        ),
      );
    browser = await launch();
  });
  afterAll(async () => {
    await browser?.close();
    for (const one of self.bots) await one.close();
    await gate?.stop();
  });
  return self;
};

/** A page of an answer with everything in it; 300 characters. */
export const PARAGRAPH =
  "## 巡检结果\n\n已检查 4 台主机，**整体正常。**有一处需要留意：gw-02 磁盘 76%，约 2~3 天会到 85%。The log rotation is not enabled on this host.\n\n" +
  "- 第一项：看 `df -h` 的输出\n- 第二项：**重点**处理\n\n| 主机 | 负载 |\n|---|---:|\n| gw-01 | 0.04 |\n\n" +
  "```bash\n# 查看日志\nfind /var/log -mtime +7 -print0 | du -ch --files0-from=-\n```\n\n";

/** One of each kind of block. */
export const RICH = `# 一级标题

正文和 **重点**，[链接](https://a.example)，\`代码\`，~~删除~~。

> 引用

1. 一
2. 二

- [x] 完成

| 主机 | 负载 |
|---|---:|
| gw-01 | 0.04 |

\`\`\`ts
// 注释
const a: number = 1;
function f(x = "s") { return x; }
\`\`\`

---

$$a_1$$
`;

/** Searches until there is a hit: the gateway reads new messages into its index a little later. */
export const search = async (page: Page, words: string): Promise<void> => {
  await page.fill(".search input", words);
  const found = async (): Promise<boolean> => {
    await page.locator(".search input").dispatchEvent("input");
    await sleep(400);
    return (await page.locator(".hit").count()) > 0;
  };
  await until(found, 15_000, "a hit");
};

/** Edits the message of one's own at this place and sends it. */
export const edit = async (page: Page, nth: number, text: string): Promise<void> => {
  const own = page.locator(".msg.user").nth(nth);
  await own.hover();
  await own.locator('[data-act="edit"]').click();
  await page.fill("#composer", text);
  await page.keyboard.press("Enter");
};

/** Until the turn is stopped. */
export const held = (turn: Turn): Promise<void> =>
  new Promise((done) => turn.signal.addEventListener("abort", () => done()));

/** Answers with all of it at once; waits on "等" and fails on "坏". */
export const rich: Script = async (turn) => {
  if (turn.text === "等") await held(turn);
  if (turn.text === "坏") await turn.fail({ code: "x", message: "坏了" });
  else turn.write(RICH);
};

/** Writes text in pieces of `size`, `rate` of them a second, until the turn is over. */
export const drip = async (turn: Turn, text: string, size = 24, rate = 200): Promise<void> => {
  const begin = performance.now();
  for (let at = 0, n = 0; at < text.length && !turn.signal.aborted; at += size, n++) {
    turn.write(text.slice(at, at + size));
    const ahead = begin + (n * 1000) / rate - performance.now();
    if (ahead > 1) await sleep(ahead);
  }
};

/** The newest answer as the gateway has it. */
export const stored = (page: Page): Promise<{ content: string; state: string }> =>
  page.evaluate(`(async () => {
    const id = location.pathname.slice(3);
    const { messages } = await (await fetch("/api/conversations/" + id + "/messages?limit=50")).json();
    const last = messages.filter((m) => m.role === "bot").at(-1);
    return { content: last.content, state: last.state };
  })()`);

/** What the copy button of the newest answer gives: the text the page holds, byte for byte. */
export const heldText = async (page: Page): Promise<string> => {
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.locator(".msg.bot").last().hover();
  await page.locator('.msg.bot [data-act="copy"]').last().click();
  await page.waitForSelector(".toast");
  return await page.evaluate<string>("navigator.clipboard.readText()");
};

/** Three bots that answer at once. */
export const THREE = [
  { botId: "alpha", botName: "Alpha" },
  { botId: "gamma", botName: "伽马" },
  { botId: "two-words", botName: "Two Words" },
] as const;
