/** The Markdown of the page, without a browser: what text becomes, and that streaming ends where rendering at once does. */
import { describe, expect, test } from "bun:test";
import { installFakeDom, random, type FakeElement } from "./page-fake-dom.ts";

type Renderer = {
  set: (text: string, open: boolean) => void;
  render: (now: number) => boolean;
  lexed: () => number;
};
type Env = {
  label: (k: string) => string;
  image: (src: string, alt: string) => unknown;
  settled: (n: FakeElement) => void;
};

const dom = installFakeDom();
// By a path the type checker does not follow: the page is another program, with the DOM in its types.
const from = (path: string): Promise<Record<string, unknown>> => import(new URL(path, import.meta.url).href);
const { createRenderer } = (await from("../ui/markdown/stream.ts")) as {
  createRenderer: (host: FakeElement, env: Env) => Renderer;
};
const { h } = (await from("../ui/dom.ts")) as { h: (name: string, attributes?: object) => unknown };

const env = (settled: (n: FakeElement) => void = () => {}): Env => ({
  label: (key) => key,
  image: (src, alt) => h("img", { src, alt }),
  settled,
});

const finish = (renderer: Renderer): void => {
  for (let i = 0; renderer.render(1e9 + i * 5000); i++) if (i > 10_000) throw new Error("never finished");
};

const once = (text: string): FakeElement => {
  const host = dom.host();
  const renderer = createRenderer(host, env());
  renderer.set(text, false);
  finish(renderer);
  return host;
};

const names = (node: FakeElement): string[] => [
  ...node.attributes.map((a) => a.name),
  ...node.childNodes.flatMap(names),
];

const tags = (node: FakeElement): string[] => [
  ...(node.nodeType === 1 ? [node.nodeName] : []),
  ...node.childNodes.flatMap(tags),
];
const ALLOWED =
  "DIV P H4 H5 H6 BLOCKQUOTE UL OL LI PRE CODE TABLE THEAD TBODY TR TH TD STRONG EM DEL A BR HR IMG SPAN BUTTON".split(
    " ",
  );

/** The blocks, without the parts they stand in. */
const html = (text: string): string =>
  once(text)
    .childNodes.flatMap((part) => part.childNodes)
    .map((n) => n.outline())
    .join("");

describe("Chinese text", () => {
  test("bold closes after full-width punctuation", () => {
    expect(html("**重点：**这里")).toBe('<p><strong>"重点："</>"这里"</>');
    expect(html("**重点：**这里很**重要**！")).toBe('<p><strong>"重点："</>"这里很"<strong>"重要"</>"！"</>');
    expect(html("注意**（务必）**先备份，再*“重启”*。")).toBe(
      '<p>"注意"<strong>"（务必）"</>"先备份，再"<em>"“重启”"</>"。"</>',
    );
  });
  test("bold opens before a quotation mark", () => {
    expect(html("这是**“引号”**后")).toBe('<p>"这是"<strong>"“引号”"</>"后"</>');
    expect(html('这是**"引号"**后')).toBe('<p>"这是"<strong>"\\"引号\\""</>"后"</>');
    expect(html("**`code`**和**a**b")).toContain("<strong><code>");
  });
  test("a single tilde is a range, two strike", () => {
    expect(html("3~5元，2~3天")).toBe('<p>"3~5元，2~3天"</>');
    expect(html("~~删~~留")).toBe('<p><del>"删"</>"留"</>');
  });
  test("a link ends where Chinese text goes on", () => {
    expect(html("看https://a.com/x。谢谢")).toContain('<a href="https://a.com/x"');
    expect(html("看https://a.com/x。谢谢")).toContain('"https://a.com/x"</>"。谢谢"');
    expect(html("（https://a.com）")).toContain('"https://a.com"</>"）"');
    expect(html("发到a.b@c.com谢谢")).toContain('href="mailto:a.b@c.com"');
  });
  test("text without Chinese keeps the rules of CommonMark", () => {
    expect(html("a * b * c")).toBe('<p>"a * b * c"</>');
    expect(html("**bold** and *em*, snake_case_name")).toBe(
      '<p><strong>"bold"</>" and "<em>"em"</>", snake_case_name"</>',
    );
    expect(html('a**"x"**b')).toBe('<p>"a**\\"x\\"**b"</>');
  });
});

describe("formulas and money", () => {
  test("formulas keep every character", () => {
    expect(html("$$a_1*b*c\\\\$$")).toBe('<div class="math">"$$a_1*b*c\\\\\\\\$$"</>');
    expect(html("式\\(x_1*y*\\)与\\[a_b_c\\]")).toBe(
      '<p>"式"<span class="math">"\\\\(x_1*y*\\\\)"</>"与"<span class="math">"\\\\[a_b_c\\\\]"</></>',
    );
    expect(html("如下：\n$$\na\n- b\n$$\n完")).toBe('<p>"如下："</><div class="math">"$$\\na\\n- b\\n$$"</><p>"完"</>');
  });
  test("a dollar sign is money", () => {
    expect(html("$5 和 $10")).toBe('<p>"$5 和 $10"</>');
  });
});

describe("what a bot may not do", () => {
  const inert = (text: string): string => {
    const out = html(text);
    for (const tag of tags(once(text))) expect(ALLOWED).toContain(tag);
    expect(names(once(text))).toEqual(names(once(text)).filter((name) => !name.startsWith("on")));
    expect(out).not.toMatch(
      /<[^"<>]* (href|src)="(?!https?:\/\/|mailto:|tel:|\/api\/attachments\/|data:image\/(png|jpeg|gif|webp);base64,)/,
    );
    return out;
  };
  test("raw HTML is text", () => {
    for (const tag of ["pre", "script", "code", "kbd"]) inert(`a <${tag}> <img src=x onerror=alert(1) `);
    for (const text of [
      "<svg/onload=alert(1)>",
      "<details open ontoggle=alert(1)>",
      "<iframe src=x>",
      "a<b onclick=x>c</b>",
    ])
      expect(inert(text)).toContain(JSON.stringify(text).slice(1, 6));
    inert("|a|\n|-|\n|<img src=x onerror=alert(1)>|");
    inert('```a"><img src=x onerror=alert(1)>\nx\n```');
  });
  test("only http, https, mailto and tel become links, whatever the spelling", () => {
    const schemes = [
      "javascript:alert(1)",
      "JaVaScRiPt:alert(1)",
      "javascript&colon;alert(1)",
      "&#106;avascript:alert(1)",
      "&#x6A;avascript:alert(1)",
      "&#x6Aavascript:alert(1)",
      "java&Tab;script:alert(1)",
      "java&NewLine;script:alert(1)",
      "&#x1;javascript:alert(1)",
      "javascript\\:alert(1)",
      "vbscript:x",
      "data:text/html,x",
      "blob:x",
      "file:///etc/passwd",
      "//evil",
      "https:evil",
      "https:/evil",
      "\\\\\\\\evil",
      "/api/logout",
    ];
    for (const href of schemes) {
      expect(inert(`[x](${href})`)).not.toContain("<a");
      expect(inert(`[x](<${href}>)`)).not.toContain("<a");
      inert(`<${href}>`);
      expect(inert(`[x][r]\n\n[r]: ${href}`)).not.toContain("<a");
      inert(`![x](${href})`);
    }
    expect(inert("[x](https://a.com/?a=1&amp;b=2)")).toContain('href="https://a.com/?a=1&b=2"');
  });
  test("a picture on another host becomes a link that names the host", () => {
    const out = inert("![图](http://evil.example/b.png)");
    expect(out).not.toContain("<img");
    expect(out).toContain('"evil.example"');
    expect(inert("![x](/api/attachments/abc)")).toContain("<img");
  });
  test("a title or a name cannot leave its attribute", () => {
    expect(inert("[x](https://a.com 't\"&quot; onclick=x')")).toContain('title="t\\"\\" onclick=x"');
  });
});

describe("slow and hostile inputs end quickly and do not throw", () => {
  const cases: Record<string, string> = {
    underscores: "_a".repeat(10_000),
    stars: "*a ".repeat(7_000),
    "star pairs": "**a*".repeat(5_000),
    spaces: `a${" ".repeat(20_000)}b`,
    "dotted address": `${"a.".repeat(10_000)}@`,
    quotes: ">".repeat(2_000),
    "nested list": Array.from({ length: 150 }, (_, i) => `${"  ".repeat(i)}- x`).join("\n"),
    brackets: "[".repeat(20_000),
    links: "[a](b".repeat(4_000),
    images: "![".repeat(10_000),
    backticks: Array.from({ length: 190 }, (_, i) => "`".repeat(i + 1)).join(" "),
    angles: "<".repeat(20_000),
    tildes: "~~a".repeat(6_000),
    dollars: "$$".repeat(10_000),
    parens: "\\(".repeat(10_000),
    urls: "http://".repeat(2_800),
    pipes: `${"|a".repeat(300)}|\n${"|-".repeat(300)}|\n${`${"|x".repeat(300)}|\n`.repeat(10)}`,
    entities: "&#".repeat(10_000),
    "long line": "x".repeat(100_000),
    escapes: "\\[".repeat(10_000),
  };
  for (const [name, text] of Object.entries(cases))
    test(name, () => {
      const begin = performance.now();
      const host = once(text);
      const ms = performance.now() - begin;
      expect(host.childNodes.length).toBeGreaterThan(0);
      expect(ms).toBeLessThan(400);
    });
});

describe("code", () => {
  test("the source of a block is kept exactly", () => {
    expect(once("```js\n  a\n\n  b  \n```").querySelector("pre > code")!.textContent).toBe("  a\n\n  b  \n");
    expect(once("```\nnever closed\n").querySelector("pre > code")!.textContent).toBe("never closed\n");
    const long = `${"x = 1 # long\n".repeat(10_000)}`;
    expect(once(`~~~py\n${long}~~~`).querySelector("pre > code")!.textContent).toBe(long);
  });
});

const PIECES = [
  "正文一句。",
  "word ",
  "\n",
  "\n\n",
  "\n\n\n",
  "- item\n",
  "* x\n",
  "1. one\n",
  "1.5 倍",
  "  - nested\n",
  "> quote\n",
  "> ",
  ">\n",
  "# title\n",
  "## 二级 ##\n",
  "```js\nlet a = 1;\n```\n",
  "```\n",
  "~~~\ncode\n~~~\n",
  "    indented\n",
  "\tindented\n",
  "---\n",
  "===\n",
  "-",
  "=",
  "+",
  "***\n",
  "**粗**",
  "*em*",
  "_u_",
  "`code`",
  "``a`b``",
  "[x](https://a.com)",
  "[ref]",
  "[ref]: https://r.com\n",
  '[ref]: https://r.com "t\n',
  "[b][ref]",
  "![i](/api/attachments/1)",
  "|a|b|\n|-|-|\n|1|2|\n",
  "|c|d|\n",
  "a | b\n--|--\n",
  "https://a.com/x。",
  "<div>\n",
  "</div>\n",
  "<b>",
  "$$x_1$$",
  "$$\na\n\n",
  "$$\n",
  "\\(a\\)",
  "\\[\n",
  "\\",
  "  \n",
  " ",
  "\t",
  "- [ ] todo\n",
  "- [x] done\n",
  "\n  续\n",
  "\n    深\n",
  "0",
  "1)",
  "2) two\n",
  "&amp;",
  "&",
  "~~s~~",
  "~",
  "\r\n",
  "###",
  "· ",
  "：",
];

describe("streaming", () => {
  test("ends with the same nodes as rendering at once, for every cut and order (fuzz)", () => {
    for (let seed = 1; seed <= 1500; seed++) {
      const next = random(seed);
      let text = "";
      for (let n = 2 + Math.floor(next() * 24); n > 0; n--) text += PIECES[Math.floor(next() * PIECES.length)];
      const host = dom.host();
      const settled = new Map<FakeElement, number>();
      const renderer = createRenderer(
        host,
        env((n) => settled.set(n, n.touched)),
      );
      let now = 0;
      for (let at = 0; at < text.length;) {
        at = Math.min(text.length, at + 1 + Math.floor(next() * 12));
        renderer.set(text.slice(0, at), true);
        now += next() < 0.7 ? 20 : 1200;
        renderer.render(now);
      }
      // Frozen nodes are the same nodes, untouched, up to the end of the open text.
      for (const [node, touched] of settled)
        if (node.touched !== touched) throw new Error(`seed ${seed}: a frozen block changed\n${JSON.stringify(text)}`);
      renderer.set(text, false);
      finish(renderer);
      const streamed = host.outline();
      const atOnce = once(text).outline();
      if (streamed !== atOnce) throw new Error(`seed ${seed}\n${JSON.stringify(text)}\n${streamed}\n${atOnce}`);
    }
  }, 30_000);

  test("lexes at most five times the length of a 100 kB reply in 24-character deltas", () => {
    const block =
      "## 巡检结果\n\n已检查 4 台主机，**整体正常。**有一处需要留意：gw-02 磁盘 76%，约 2~3 天会到 85%。" +
      "The log rotation is not enabled on this host, see https://a.com/x for details.\n\n" +
      "- 第一项：看 `df -h` 的输出\n- 第二项：**重点**处理\n- third item with words\n\n" +
      "| 主机 | 负载 |\n|---|---:|\n| gw-01 | 0.04 |\n| gw-02 | 0.11 |\n\n" +
      "```bash\n# 查看日志\nfind /var/log -mtime +7 -name '*.gz' -print0 | du -ch --files0-from=-\n```\n\n";
    const text = block.repeat(Math.ceil(100_000 / block.length)).slice(0, 100_000);
    const host = dom.host();
    const renderer = createRenderer(host, env());
    let now = 0;
    let frame = 0;
    for (let at = 24; at < text.length; at += 24) {
      now += 5; // 200 deltas a second
      renderer.set(text.slice(0, at), true);
      if (now - frame >= 16) {
        frame = now;
        renderer.render(now);
      }
    }
    renderer.set(text, false);
    finish(renderer);
    const ratio = renderer.lexed() / text.length;
    console.log(`lexed ${ratio.toFixed(2)} characters per character`);
    expect(ratio).toBeLessThanOrEqual(5);
  });
});
