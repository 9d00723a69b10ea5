/** Long answers and following them. Behaviours 12, 14 and 15 of facts/chat-page.md. */
import { describe, expect, test } from "bun:test";
import { person } from "../harness/person.ts";
import { drawn, finished, mainThreadTasks, send, sleep, waitFor } from "./rig.ts";
import { drip, PARAGRAPH, scene, search, stored } from "./scene.ts";

const LONG = PARAGRAPH.repeat(400).slice(0, 100_000);
const stage = scene({ config: { turnTimeout: 120_000 } });

describe("a 100 kB answer at 200 pieces a second", () => {
  test("no long task, no touched frozen block, at most one drawing a frame, and it follows", async () => {
    const { page, context } = await stage.open();
    stage.script = (turn) => turn.write("```bash\necho 1\n```\n\n完"); // the colours are loaded before measuring
    await send(page, "热身");
    await finished(page);
    await page.waitForSelector(".h-built_in, .h-keyword");
    await page.evaluate(`(() => {
      const m = (window.__m = { touched: 0, gaps: [], frames: 0, drawings: 0 });
      let drawn = false;
      const watch = (md) => new MutationObserver((records) => {
        if (!drawn) { m.drawings++; drawn = true; }
        for (const r of records) {
          let block = r.target;
          if (block === md) {
            for (const n of r.removedNodes) if (n.__frozen) m.touched++;
            continue;
          }
          while (block && block.parentNode !== md) block = block.parentNode;
          const inCode = r.target.nodeName === "CODE" || r.target.parentNode?.nodeName === "CODE";
          if (block?.__frozen && !inCode) m.touched++;
        }
        const all = md.children;
        for (let i = all.length - 3; i >= 0 && !all[i].__frozen; i--) all[i].__frozen = true;
      }).observe(md, { childList: true, subtree: true, characterData: true });
      const scroller = document.querySelector(".scroller");
      let begun = false;
      const frame = () => {
        m.frames++; drawn = false;
        const md = document.querySelector(".md.streaming");
        if (md && !begun) { begun = true; watch(md); }
        if (begun) m.gaps.push(scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight);
        requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
    })()`);
    stage.script = (turn) => drip(turn, LONG);
    await send(page, "长文");
    await page.waitForSelector(".md.streaming p");
    const end = await mainThreadTasks(page);
    await finished(page, 2, 60_000);
    const longest = Math.max(...(await end()));
    const m = await page.evaluate<{
      touched: number;
      gaps: number[];
      frames: number;
      drawings: number;
    }>("window.__m");
    console.log(
      `100 kB stream: longest task ${longest.toFixed(0)} ms, ${m.drawings} drawings in ${m.frames} frames, largest gap ${Math.max(...m.gaps).toFixed(1)} px`,
    );
    expect(longest).toBeLessThanOrEqual(50);
    expect(m.touched).toBe(0);
    expect(m.drawings).toBeLessThanOrEqual(m.frames);
    // The last frames: what is pinned stays at the end in each.
    expect(m.gaps.filter((gap) => gap > 2)).toEqual([]);
    expect((await stored(page)).content).toBe(LONG);
    await context.close();
  }, 90_000);

  test("on a four times slower machine no task is longer than 200 ms", async () => {
    const { page, context } = await stage.open();
    stage.script = (turn) => turn.write("```bash\necho 1\n```\n\n完");
    await send(page, "热身");
    await finished(page);
    await page.waitForSelector(".h-built_in, .h-keyword");
    const cdp = await context.newCDPSession(page);
    await cdp.send("Emulation.setCPUThrottlingRate", { rate: 4 });
    stage.script = (turn) => drip(turn, LONG);
    let longest = Number.POSITIVE_INFINITY;
    // Twice at most: how a slower machine is played depends on how busy this one is.
    for (let round = 2; round <= 3 && longest > 200; round++) {
      await send(page, "长文");
      await page.waitForSelector(".md.streaming p");
      const end = await mainThreadTasks(page);
      await finished(page, round, 80_000);
      longest = Math.min(longest, Math.max(...(await end())));
    }
    console.log(`100 kB stream, 4x slower: longest task ${longest.toFixed(0)} ms`);
    expect(longest).toBeLessThanOrEqual(200);
    await context.close();
  }, 150_000);
});

describe("following", () => {
  test("a reader who scrolls up is left alone; the button and one's own message take hold again", async () => {
    const { page, context } = await stage.open();
    stage.script = (turn) => turn.write(PARAGRAPH.repeat(8));
    await send(page, "先来一篇");
    await finished(page);
    stage.script = (turn) => drip(turn, PARAGRAPH.repeat(200), 24, 150);
    await send(page, "再来");
    await waitFor(page, `document.querySelector(".md.streaming")?.textContent.length > 2500`);
    await page.mouse.move(700, 400);
    await page.mouse.wheel(0, -200);
    await page.waitForSelector(".latest:not([hidden])");
    await sleep(100);
    const top = `document.querySelector(".scroller").scrollTop`;
    const positions = await page.evaluate<number[]>(`new Promise((done) => {
      const out = []; const end = performance.now() + 1200;
      const frame = () => { out.push(${top}); performance.now() < end ? requestAnimationFrame(frame) : done(out); };
      frame();
    })`);
    expect(Math.max(...positions) - Math.min(...positions)).toBeLessThanOrEqual(1);
    await page.click(".latest");
    const gap = `(() => { const s = document.querySelector(".scroller"); return s.scrollHeight - s.scrollTop - s.clientHeight; })()`;
    expect(await page.evaluate<number>(gap)).toBeLessThanOrEqual(2);
    await page.locator(".scroller").focus();
    await page.keyboard.press("PageUp");
    await page.waitForSelector(".latest:not([hidden])");
    await page.click(".send[data-mode=stop]");
    await page.waitForSelector(".ended");
    stage.script = (turn) => turn.write("好");
    await send(page, "我说");
    await finished(page, 3);
    expect(await page.evaluate<number>(gap)).toBeLessThanOrEqual(2);
    expect(await page.isHidden(".latest")).toBe(true);
    // A key scrolls smoothly: what is left of that when one sends is no new gesture.
    await page.fill("#composer", "我又说");
    await page.locator(".scroller").focus();
    await page.keyboard.press("PageUp");
    await page.waitForSelector(".latest:not([hidden])");
    await page.evaluate(`document.querySelector(".send").click()`); // at once: the driver waits until a button stands still
    await finished(page, 4);
    await sleep(400);
    expect(await page.evaluate<number>(gap)).toBeLessThanOrEqual(2);
    expect(await page.isHidden(".latest")).toBe(true);
    await context.close();
  }, 30_000);

  test("the question just sent settles near the top and the answer fills the room below", async () => {
    const { page, context } = await stage.open();
    stage.script = (turn) => turn.write(PARAGRAPH.repeat(4));
    await send(page, "一");
    await finished(page);
    stage.script = async (turn) => {
      turn.write("短");
      await sleep(600);
      turn.write("答");
    };
    await send(page, "二");
    await waitFor(page, `document.querySelectorAll(".msg.bot").length === 2`);
    const y = `[...document.querySelectorAll(".msg.user")].at(-1).getBoundingClientRect().top`;
    const first = await page.evaluate<number>(y);
    expect(first).toBeLessThan(160);
    await finished(page, 2);
    expect(Math.abs((await page.evaluate<number>(y)) - first)).toBeLessThanOrEqual(2);
    await context.close();
  });
});

describe("a search hit among long answers", () => {
  test("is in the middle once they are drawn, however late that is, unless the reader has scrolled meanwhile", async () => {
    const { page, context } = await stage.open();
    stage.script = (turn) => turn.write(PARAGRAPH.repeat(6));
    const admin = await person(stage.gate.url);
    const id = await admin.conversation();
    for (let i = 0; i < 14; i++) await admin.exchange(id, i === 5 ? "独角鲸" : `第 ${i} 问`);
    const offCentre = async (meanwhile?: () => Promise<void>): Promise<number> => {
      await page.goto(stage.gate.url);
      await page.waitForSelector('.status[data-link="online"]');
      let go = (): void => {};
      const held = new Promise<void>((done) => (go = done));
      // What draws Markdown: until it comes, answers have no height.
      if (meanwhile)
        await page.route("**/part-*.js", async (route) => {
          await held;
          await route.continue();
        });
      await search(page, "独角鲸");
      await page.click(".hit");
      await page.waitForSelector(".flash");
      if (meanwhile) {
        expect(await page.locator(".md h4, .md h5").count()).toBe(0);
        await meanwhile();
        go();
      }
      await waitFor(page, `[...document.querySelectorAll(".md")].every((md) => md.textContent.length > 1000)`);
      await drawn(page);
      await sleep(300);
      await page.unroute("**/part-*.js");
      return await page.evaluate<number>(`(() => {
        const middle = (e) => { const box = e.getBoundingClientRect(); return (box.top + box.bottom) / 2; };
        return Math.abs(middle(document.querySelector(".flash")) - middle(document.querySelector(".scroller")));
      })()`);
    };
    for (let round = 0; round < 2; round++) expect(await offCentre()).toBeLessThanOrEqual(2);
    expect(await offCentre(() => sleep(200))).toBeLessThanOrEqual(2);
    const scrolled = await offCentre(async () => {
      await page.mouse.move(700, 400);
      await page.mouse.wheel(0, 300);
      await sleep(400);
    });
    expect(scrolled).toBeGreaterThan(200);
    await context.close();
  }, 40_000);
});
