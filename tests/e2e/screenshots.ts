/**
 * `bun tests/e2e/screenshots.ts`: the pictures of the README, taken from the real page against a real gateway with scripted
 * bots, saved to docs/images/. Made by hand, looked at by a person, and committed.
 */
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import {
  bot,
  DESK,
  finished,
  gateway,
  launch,
  openPage,
  type Page,
  PHONE,
  send,
  signIn,
  sleep,
  type Turn,
  waitFor,
} from "./rig.ts";

const OUT = resolve(import.meta.dir, process.argv[2] ?? "../../docs/images");

const INSPECTION = `已检查 4 台主机，整体正常。**有一处需要留意：**gw-02 磁盘使用率 76%，主要是日志未轮转（约 2~3 天会到 85%）。

| 主机 | 运行 | 负载 | 内存 | 磁盘 |
|---|---:|---:|---:|---:|
| gw-01 | 52 天 | 0.04 | 3.2 / 7.5 GB | 41% |
| gw-02 | 52 天 | 0.11 | 5.9 / 7.5 GB | 76% |

\`\`\`bash
# 查看 7 天前的日志体积
find /var/log/nexus -mtime +7 -name '*.gz' -print0 | du -ch --files0-from=-
\`\`\`
`;
const ADVICE = "建议把 `logrotate` 改为按天轮转并保留 7 份，同时给 gw-02 加一条 80% 的预警";

const inspect = async (turn: Turn): Promise<void> => {
  turn.event({ kind: "tool", tool: { id: "1", name: "ssh gw-02", phase: "start" } });
  await sleep(700);
  turn.write(INSPECTION);
  await sleep(400);
};
const advise = async (turn: Turn): Promise<void> => {
  turn.write(ADVICE);
  await new Promise<void>((done) => turn.signal.addEventListener("abort", () => done()));
};

const shot = async (page: Page, name: string): Promise<void> => {
  await sleep(350);
  await page.screenshot({ path: join(OUT, `${name}.png`) });
  console.log(name);
};

const talk = async (page: Page, name: string): Promise<void> => {
  await send(page, "@火山巡检 看一下服务器情况，磁盘超过 70% 的列出来");
  await finished(page, 1);
  await page.waitForSelector(".h-comment");
  await shot(page, name);
  await send(page, "@Claude 有什么建议？");
  await waitFor(page, "document.querySelector('.streaming')?.textContent.length > 20");
};

const main = async (): Promise<void> => {
  await mkdir(OUT, { recursive: true });
  const gate = await gateway();
  const bots = [
    await bot(gate, "ops-3", inspect, {
      botName: "火山巡检",
      description: "巡检服务器，查日志和磁盘",
      suggestions: ["看一下服务器情况，磁盘超过 70% 的列出来", "今天有哪些告警？"],
    }),
    await bot(gate, "claude-8", advise, { botName: "Claude", description: "写作、代码、分析" }),
    await bot(gate, "weekly", (turn) => turn.write("好的。"), {
      botName: "周报助手",
      description: "把聊天记录整理成周报",
    }),
  ];
  const browser = await launch();
  try {
    for (const scheme of ["light", "dark"] as const) {
      const suffix = scheme === "light" ? "" : "-dark";
      const desk = await browser.newContext({ ...DESK, viewport: { width: 1360, height: 860 }, colorScheme: scheme });
      const { page } = await openPage(desk, gate.url);
      await page.goto(gate.url);
      await page.waitForSelector("#login-submit");
      await page.evaluate("document.activeElement.blur()");
      await shot(page, `login${suffix}`);
      await signIn(page, gate.url);
      if (scheme === "light")
        for (const title of ["周报：网关灰度结论", "把这段 SQL 改成窗口函数", "飞书机器人回调验签", "合同条款比对"])
          await page.evaluate(
            `fetch("/api/conversations", {method: "POST", headers: {"Content-Type": "application/json"}, body: ${JSON.stringify(JSON.stringify({ title }))}})`,
          );
      await page.waitForSelector(".bot-row");
      await shot(page, `empty${suffix}`);
      await talk(page, `code${suffix}`);
      await shot(page, `streaming${suffix}`);
      await page.click(".send[data-mode=stop]");
      await desk.close();

      const phone = await browser.newContext({ ...PHONE, colorScheme: scheme });
      const small = (await openPage(phone, gate.url)).page;
      await small.goto(gate.url);
      await small.waitForSelector("#login-submit");
      await shot(small, `phone-login${suffix}`);
      await signIn(small, gate.url);
      await small.waitForSelector(".bot-row");
      await shot(small, `phone-empty${suffix}`);
      await talk(small, `phone${suffix}`);
      await shot(small, `phone-streaming${suffix}`);
      await small.click(".menu-button");
      await shot(small, `phone-list${suffix}`);
      await small.keyboard.press("Escape");
      await small.click(".send[data-mode=stop]");
      await phone.close();
    }
  } finally {
    await browser.close();
    for (const one of bots) await one.close();
    await gate.stop();
  }
};

await main();
