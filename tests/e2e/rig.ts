/**
 * The rig of the browser tests: a real gateway in this process, scripted bots through the bot client, and a real Chromium.
 *
 * Owns one browser per test file. Functions that run in the page are given as text, because this program's types know no
 * DOM. Must stay true: a missing browser is a failure, never a skip.
 */
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { type Bot, type BotOptions, connectBot, type Turn } from "../../plugin/client.ts";
import { BOT_TOKEN, type ConfigJson, PASSWORD, startGateway, until } from "../harness.ts";
import { findChromium } from "../harness/needs.ts";

export { until, PASSWORD };
export type { Browser, BrowserContext, BrowserContextOptions, Page, Turn };

/** D and M of facts/chat-page.md. */
export const DESK: BrowserContextOptions = { viewport: { width: 1280, height: 800 }, locale: "zh-CN" };
export const PHONE: BrowserContextOptions = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  isMobile: true,
  hasTouch: true,
  locale: "zh-CN",
};

export const launch = async (): Promise<Browser> => {
  const executablePath = process.env.CHROMIUM ?? findChromium();
  if (!executablePath) throw new Error("no Chromium found: install one, or name it in CHROMIUM_PATH");
  return await chromium.launch({
    executablePath,
    // Without a UTF-8 locale Chromium cannot name a download in Chinese and calls it "download".
    env: { ...process.env, LANG: "C.UTF-8" },
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // The last of these switches counts, so it names again what the driver turns off and matters here; and the pages of
      // the browser's own address bar, which a headless one loads beside ours.
      "--disable-features=HttpsUpgrades,PaintHolding,ThirdPartyStoragePartitioning,DestroyProfileOnBrowserClose," +
        "OptimizationHints,WebUIOmniboxPopup,WebUIOmniboxAimPopup",
    ],
  });
};

export type Gateway = Awaited<ReturnType<typeof startGateway>>;

/** A gateway whose limits do not get in the way of many fast tests. */
export const gateway = (over: ConfigJson = {}, dataDir?: string): Promise<Gateway> =>
  startGateway(
    { limits: { sendsPerMinute: 0, streamsPerUser: 0, turnsPerUser: 0, connectionsPerAddress: 0 }, ...over },
    dataDir ? { dataDir } : {},
  );

export type Script = (turn: Turn) => void | Promise<void>;

/** A bot that is online when this resolves. */
export const bot = async (
  gate: { wsUrl: string; url: string },
  botId: string,
  onTurn: Script,
  more: Partial<BotOptions> = {},
): Promise<Bot> => {
  let online = false;
  const made = connectBot({
    url: gate.wsUrl,
    botId,
    token: BOT_TOKEN,
    onTurn,
    reconnect: { minMs: 50, maxMs: 200 },
    ...more,
    onState: (state) => {
      if (state.state === "online") online = true;
    },
  });
  await until(() => online || undefined, 5000, `bot ${botId} online`);
  return made;
};

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** What a page did that it should not: failed requests to others, script errors, policy violations. */
export type Watch = { foreign: string[]; errors: string[]; violations: string[] };

const VIOLATIONS = `document.addEventListener("securitypolicyviolation", (e) =>
  (window.__violations ??= []).push(e.violatedDirective + " " + e.blockedURI + " " + e.sample));`;

/** A page with its watch; `origin` is the only place it may ask. */
export const openPage = async (context: BrowserContext, origin: string): Promise<{ page: Page; watch: Watch }> => {
  const watch: Watch = { foreign: [], errors: [], violations: [] };
  const page = await context.newPage();
  await page.addInitScript(VIOLATIONS);
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !/^(data|blob|about):/.test(url)) watch.foreign.push(url);
  });
  page.on("pageerror", (error) => watch.errors.push(String(error)));
  page.on("console", (message) => {
    const text = message.text();
    if (message.type() === "error" && /Content Security Policy|TrustedHTML|TrustedScript/.test(text))
      watch.violations.push(text);
  });
  return { page, watch };
};

/** Violations the page itself saw, with those of the console. */
export const violations = async (page: Page, watch: Watch): Promise<string[]> => [
  ...watch.violations,
  ...(await page.evaluate<string[]>("window.__violations ?? []")),
];

/** Signs in through the form. */
export const signIn = async (page: Page, url: string, user = "admin"): Promise<void> => {
  await page.goto(url);
  await page.fill("#username", user);
  await page.fill("#password", PASSWORD);
  await page.click("#login-submit");
  await page.waitForSelector("#composer");
  await page.waitForSelector('.status[data-link="online"], .status[data-link="empty"]');
};

/** Types into the composer and presses the button. */
export const send = async (page: Page, text: string): Promise<void> => {
  await page.fill("#composer", text);
  await page.click(".send[data-mode=send]");
};

/** Waits until an expression in the page is true. (waitForFunction would evaluate in the page, which its policy refuses.) */
export const waitFor = async (page: Page, expression: string, ms = 10_000): Promise<void> => {
  const deadline = performance.now() + ms;
  while (!(await page.evaluate<boolean>(`Boolean(${expression})`))) {
    if (performance.now() > deadline) throw new Error(`waited ${ms} ms for ${expression}`);
    await sleep(ms > 30_000 ? 250 : 20); // a long wait is a measurement: leave the page alone
  }
};

/** Waits until this many answers stand there and none is being written. */
export const finished = async (page: Page, count = 1, ms = 10_000): Promise<void> => {
  await waitFor(
    page,
    `document.querySelectorAll(".msg.bot:not([data-state=streaming])").length >= ${count} && !document.querySelector(".msg.bot[data-state=streaming]")`,
    ms,
  );
  await drawn(page);
};

/** Waits until what the page changed so far is drawn: its text comes with the next frame, and where it scrolls to after that. */
export const drawn = async (page: Page): Promise<void> => {
  await sleep(50);
  // A page that is not in front draws no frames.
  const frames = `new Promise((done) => { requestAnimationFrame(() => requestAnimationFrame(() => done())); setTimeout(done, 1000); })`;
  await page.evaluate(frames);
};

/** Text of an element. */
export const textOf = (page: Page, selector: string): Promise<string> =>
  page.evaluate<string>(`document.querySelector(${JSON.stringify(selector)})?.textContent ?? ""`);

/**
 * Records the tasks of the page's main thread; the returned function ends it and gives how much CPU each took, in ms. CPU and
 * not the clock, because what else runs on this machine is not the page's doing.
 */
export const mainThreadTasks = async (page: Page): Promise<() => Promise<number[]>> => {
  type Trace = {
    ph: string;
    name: string;
    pid: number;
    tid: number;
    dur?: number;
    tdur?: number;
  };
  const cdp = await page.context().newCDPSession(page);
  const events: Trace[] = [];
  cdp.on("Tracing.dataCollected", (part) => events.push(...(part.value as unknown as Trace[])));
  await cdp.send("Tracing.start", {
    transferMode: "ReportEvents",
    traceConfig: { includedCategories: ["toplevel", "blink.user_timing"] },
  });
  await page.evaluate(`performance.mark("rig:here")`);
  return async () => {
    const complete = new Promise<void>((done) => cdp.once("Tracing.tracingComplete", () => done()));
    await cdp.send("Tracing.end");
    await complete;
    // The browser has other renderers: pages of its own, and those of tests before.
    const ours = events.find((e) => e.name === "rig:here");
    if (!ours) throw new Error("the trace does not say which thread is the page's");
    const tasks = events.filter(
      (e) => e.ph === "X" && e.name.endsWith("RunTask") && e.pid === ours.pid && e.tid === ours.tid,
    );
    if (tasks.length === 0) throw new Error("the trace has no tasks: what this measures is gone");
    return tasks.map((e) => (e.tdur ?? e.dur ?? 0) / 1000);
  };
};
