/** Look, languages, access, phones, budgets. Behaviours 38 to 42 of facts/chat-page.md. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { DESK, finished, openPage, type Page, PHONE, send, signIn, sleep, textOf, waitFor } from "./rig.ts";
import { rich, scene } from "./scene.ts";

const axe = await Bun.file(join(import.meta.dir, "../../node_modules/axe-core/axe.min.js")).text();
const stage = scene({
  script: rich,
  bots: [{ botId: "helper", botName: "助手", description: "什么都会一点", suggestions: ["你好"] }],
});

describe("theme and language", () => {
  test("the chosen theme is in the page as the gateway sends it, and the colours of code follow", async () => {
    const { page } = await stage.open(DESK);
    await send(page, "问");
    await finished(page);
    await page.waitForSelector(".h-keyword");
    const colour = `getComputedStyle(document.querySelector(".h-keyword")).color`;
    const light = await page.evaluate<string>(colour);
    await page.emulateMedia({ colorScheme: "dark" });
    expect(await page.evaluate<string>(colour)).not.toBe(light);
    await page.emulateMedia({ colorScheme: "light" });
    await page.click(".gear");
    await page.check("#theme-dark");
    await page.keyboard.press("Escape");
    expect(await page.evaluate<string>(colour)).not.toBe(light);
    const html = await (await page.request.get(stage.gate.url)).text();
    expect(html).toContain('data-theme="dark"');
    await page.reload();
    expect(await page.evaluate<string>("document.documentElement.dataset.theme")).toBe("dark");
    await page.context().close();
  });

  test("the language follows the browser, can be chosen, and leaves no text behind", async () => {
    const { page } = await stage.open({ ...DESK, locale: "en-GB" });
    expect(await page.evaluate<string>("document.documentElement.lang")).toBe("en");
    await page.waitForSelector(".bot-row");
    await page.keyboard.press("Control+j");
    const han = `(() => {
      const own = ["什么都会一点", "助手", "你好", "管理员", "中文", "助"];
      const out = [];
      const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      while (walk.nextNode()) {
        const node = walk.currentNode;
        if (node.parentElement.closest(".md, .bubble, .row-title, .title, #login, noscript, [lang=zh]")) continue;
        let text = node.data;
        for (const word of own) text = text.replaceAll(word, "");
        if (/\\p{sc=Han}/u.test(text)) out.push(text);
      }
      for (const e of document.querySelectorAll("[aria-label],[placeholder],[title]"))
        if (!e.closest("#login, .row, .msg"))
          for (const a of ["aria-label", "placeholder", "title"]) {
            let text = e.getAttribute(a) ?? "";
            for (const word of own) text = text.replaceAll(word, "");
            if (/\\p{sc=Han}/u.test(text)) out.push(a + ": " + text);
          }
      return out;
    })()`;
    expect(await page.evaluate<string[]>(han)).toEqual([]);
    await page.click(".gear");
    expect(await page.evaluate<string[]>(han)).toEqual([]);
    await page.check("#lang-zh");
    await waitFor(page, `document.documentElement.lang === "zh"`);
    await page.keyboard.press("Escape");
    expect(await textOf(page, ".new-chat span")).toBe("新对话");
    const html = await (await page.request.get(stage.gate.url)).text();
    expect(html).toContain('<html lang="zh"');
    await page.context().close();
  });
});

type Violation = { id: string; impact: string; nodes: { html: string; any: { message: string }[] }[] };
const audit = async (page: Page, where: string): Promise<void> => {
  await page.evaluate(axe);
  const found = await page.evaluate<Violation[]>(
    `axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }).then((r) => r.violations)`,
  );
  const serious = found
    .filter((v) => v.impact === "serious" || v.impact === "critical")
    .map(
      (v) =>
        `${where}: ${v.id}: ${v.nodes
          .slice(0, 3)
          .map((n) => `${n.html.slice(0, 140)} ${n.any[0]?.message ?? ""}`)
          .join(" | ")}`,
    );
  expect(serious).toEqual([]);
};

describe("access", () => {
  for (const [name, device] of [
    ["desk", DESK],
    ["phone", PHONE],
  ] as const)
    for (const colorScheme of ["light", "dark"] as const)
      test(`axe finds nothing serious: ${name}, ${colorScheme}`, async () => {
        const context = await stage.browser.newContext({ ...device, colorScheme, reducedMotion: "reduce" });
        const { page } = await openPage(context, stage.gate.url);
        await page.goto(stage.gate.url);
        await page.waitForSelector("#login-submit");
        await audit(page, "login");
        await signIn(page, stage.gate.url);
        await page.waitForSelector(".bot-row");
        await audit(page, "empty");
        await send(page, "问");
        await finished(page);
        await page.waitForSelector(".h-keyword");
        await send(page, "坏");
        await page.waitForSelector(".ended.failed");
        await send(page, "等");
        await page.waitForSelector('.msg.bot[data-state="streaming"]');
        await audit(page, "chat");
        await page.fill("#composer", "");
        await page.focus("#composer");
        await page.keyboard.type("@");
        await page.waitForSelector(".mention-row");
        await audit(page, "mentions");
        await page.keyboard.press("Escape");
        await page.fill("#composer", "");
        if (name === "phone") {
          await page.tap(".menu-button");
          await sleep(50);
        }
        await page.click(".gear");
        await page.waitForSelector("#settings[open]");
        await audit(page, "settings");
        await page.keyboard.press("Escape");
        await page.click(".send[data-mode=stop]");
        await page.waitForSelector(".ended:not(.failed)");
        await context.close();
      }, 60_000);

  test("everything is reached by keyboard, with a focus that can be seen", async () => {
    const { page } = await stage.open(DESK);
    await send(page, "问");
    await finished(page);
    await page.evaluate("document.activeElement.blur()");
    const seen = new Set<string>();
    for (let i = 0; i < 45; i++) {
      await page.keyboard.press("Tab");
      const at = await page.evaluate<{ name: string; outline: boolean }>(`(() => {
        const e = document.activeElement;
        const s = getComputedStyle(e);
        const box = getComputedStyle(e.closest(".box") ?? e);
        return {
          name: e.dataset.act ?? [...e.classList, e.id || e.tagName].join(" "),
          outline: (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2) || (e.id === "composer" && box.boxShadow !== "none") || e.tagName === "BODY" || e.tagName === "HTML",
        };
      })()`);
      for (const part of at.name.split(" ")) seen.add(part);
      expect(at).toEqual({ ...at, outline: true });
    }
    for (const name of [
      "new-chat",
      "row-link",
      "icon",
      "gear",
      "status",
      "scroller",
      "copy",
      "regenerate",
      "quote",
      "edit",
      "wrap",
      "copy-code",
      "copy-table",
      "composer",
      "chip",
    ])
      expect([...seen]).toContain(name);
    await page.context().close();
  });

  test("the transcript is a silent log, one region announces who replies and then the whole answer", async () => {
    const { page } = await stage.open(DESK);
    expect(await page.getAttribute(".scroller", "role")).toBe("log");
    expect(await page.getAttribute(".scroller", "aria-live")).toBe("off");
    await page.evaluate(`(() => {
      window.__said = [];
      new MutationObserver(() => { const t = document.getElementById("announce").textContent; if (t) window.__said.push(t); })
        .observe(document.getElementById("announce"), { childList: true, characterData: true, subtree: true });
    })()`);
    await send(page, "问");
    await finished(page);
    await waitFor(page, "window.__said.length >= 1 && window.__said.at(-1).includes('一级标题')");
    const said = await page.evaluate<string[]>("window.__said");
    expect(said.at(-1)).toStartWith("助手：# 一级标题");
    expect(said.length).toBeLessThanOrEqual(3);
    expect(await page.evaluate<string>(`[...document.querySelectorAll(".md h1, .md h2, .md h3")].length + ""`)).toBe(
      "0",
    );
    await page.context().close();
  });

  test("targets are at least 44 px on a phone and 24 px on a desk, and fields there do not make iOS zoom", async () => {
    for (const [device, least] of [
      [PHONE, 44],
      [DESK, 24],
    ] as const) {
      const { page } = await stage.open(device);
      await send(page, "问");
      await finished(page);
      if (device === PHONE) await page.tap(".menu-button");
      await sleep(300);
      const small = await page.evaluate<
        string[]
      >(`[...document.querySelectorAll("button, a.row-link, input, textarea, summary, [role=option]")]
        .filter((e) => e.checkVisibility?.() !== false && e.offsetWidth > 1 && !e.closest(".md p, .md li") && !e.hidden && e.type !== "file")
        .map((e) => ({ e, r: e.getBoundingClientRect() }))
        .filter(({ r }) => r.width > 0 && (r.height < ${least - 0.5} || r.width < ${least - 0.5}))
        .map(({ e, r }) => (e.dataset.act ?? e.className) + " " + r.width.toFixed(0) + "x" + r.height.toFixed(0))`);
      expect(small).toEqual([]);
      if (device === PHONE)
        expect(
          await page.evaluate<string[]>(
            `[...document.querySelectorAll("input:not([type=file]), textarea")].filter((e) => parseFloat(getComputedStyle(e).fontSize) < 16).map((e) => e.id)`,
          ),
        ).toEqual([]);
      await page.context().close();
    }
  });

  test("with reduced motion nothing moves, at 200 % nothing is lost, pinching is allowed", async () => {
    const { page } = await stage.open({ ...DESK, reducedMotion: "reduce" });
    await send(page, "问");
    await finished(page);
    const moving = `[...document.querySelectorAll("*")].filter((e) => { const s = getComputedStyle(e); return parseFloat(s.animationDuration) > 0.01 || parseFloat(s.transitionDuration) > 0.01; }).length`;
    expect(await page.evaluate<number>(moving)).toBe(0);
    await page.setViewportSize({ width: 640, height: 400 }); // 1280×800 at 200 %
    expect(await page.evaluate<number>("document.documentElement.scrollWidth")).toBe(640);
    expect(await page.isVisible("#composer")).toBe(true);
    const viewport = await page.getAttribute('meta[name="viewport"]', "content");
    expect(viewport).not.toMatch(/user-scalable|maximum-scale/);
    expect(viewport).toContain("viewport-fit=cover");
    expect(viewport).toContain("interactive-widget=resizes-content");
    await page.context().close();
  });
});
