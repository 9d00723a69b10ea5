/** The built page without a browser: what is shipped, in which syntax, how it is served, and the rules of its pure parts. */
import { beforeAll, describe, expect, test } from "bun:test";
import { type Node, parse } from "acorn";
import { assetResponse, createAssets, packPage, type PageFile, unpackPage } from "../lib/assets.ts";
import type { Message } from "../lib/protocol.ts";
import { buildPage } from "../ui/build.ts";
import { createI18n } from "../ui/i18n.ts";
import { createSseParser } from "../ui/sse.ts";
import { EN } from "../ui/texts-en.ts";
import { ZH } from "../ui/texts-zh.ts";
import { ageGroup, shownMessages } from "../ui/thread.ts";
import { firstLoad } from "./harness/first-load.ts";

let files: PageFile[] = [];
let standalone: PageFile[] = [];
beforeAll(async () => {
  files = await buildPage();
  standalone = await buildPage({ standalone: true });
});

const textOf = (file: PageFile): string => new TextDecoder().decode(file.bytes);
const scripts = (of: PageFile[]): PageFile[] => of.filter((file) => file.type.startsWith("text/javascript"));
const find = (path: string): PageFile => files.find((file) => file.path === path)!;

describe("what is shipped", () => {
  test("every script is ES2021, without a look-behind that Safari 15 cannot read", () => {
    expect(scripts(files).length).toBeGreaterThanOrEqual(3);
    for (const file of [...scripts(files), ...scripts(standalone)]) {
      const source = textOf(file);
      const literals: string[] = [];
      parse(source, {
        ecmaVersion: 2021,
        sourceType: "module",
        onToken: (token) => {
          if (token.type.label === "regexp") literals.push(source.slice(token.start, token.end));
        },
      }) satisfies Node;
      expect(literals.filter((literal) => /\(\?<[=!]/.test(literal))).toEqual([]);
    }
  });

  test("no HTML from strings, no eval, no worker, no address of anybody else", () => {
    for (const file of scripts(files)) {
      const source = textOf(file);
      const forbidden =
        /\.(innerHTML|outerHTML|insertAdjacentHTML)\b|document\.write|\beval\(|new Function\(|new Worker\(/;
      expect({ path: file.path, forbidden: forbidden.exec(source)?.[0] }).toEqual({
        path: file.path,
        forbidden: undefined,
      });
      // Names of XML, and where two libraries say bugs should be reported.
      const known = /https?:\/\/(www\.w3\.org|github\.com\/(highlightjs|markedjs))\b/g;
      const hosts = [...source.replace(known, "").matchAll(/https?:\/\/([\w-]+\.[\w.-]+)/g)].map((hit) => hit[1]);
      expect(hosts).toEqual([]);
    }
  });

  test("the first load is at most 90 kB compressed, its scripts 60, the colours of code 50 more", () => {
    const { all, scripts: js } = firstLoad(files);
    const colours = scripts(files).find((file) => textOf(file).includes("registerLanguage"))!.gzip!.length;
    console.log(
      `first load ${(all / 1000).toFixed(1)} kB gzip (scripts ${(js / 1000).toFixed(1)}), colours ${(colours / 1000).toFixed(1)}`,
    );
    expect(js).toBeLessThanOrEqual(60_000);
    expect(all).toBeLessThanOrEqual(90_000);
    expect(colours).toBeLessThanOrEqual(50_000);
  });

  test("the same source builds the same bytes", async () => {
    expect(Buffer.compare(packPage(await buildPage()), packPage(files))).toBe(0);
  });

  test("the page has no inline script, style or handler; the standalone one names its own policy and only relative files", () => {
    for (const file of [find("/"), standalone.find((one) => one.path === "/")!]) {
      expect(textOf(file)).not.toMatch(/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/);
    }
    const alone = textOf(standalone.find((one) => one.path === "/")!);
    expect(alone).toContain('http-equiv="Content-Security-Policy"');
    expect(alone).toContain('name="nexus-gateway"');
    expect([...alone.matchAll(/(?:src|href)="(?!\.\/)([^"]*)"/g)].map((hit) => hit[1])).toEqual([]);
  });

  test("both languages have every text, with the same blanks", () => {
    const blanks = (text: string): string[] => [...text.matchAll(/\{\w+\}/g)].map((hit) => hit[0]).sort();
    expect(Object.keys(EN).sort()).toEqual(Object.keys(ZH).sort());
    for (const key of Object.keys(ZH) as (keyof typeof ZH)[]) {
      expect({ key, blanks: blanks(EN[key]) }).toEqual({ key, blanks: blanks(ZH[key]) });
      expect(EN[key]).not.toBe("");
    }
  });
});

describe("how it is served", () => {
  const options = { frameAncestors: ["'self'"], language: "zh" as const };
  const get = (path: string, headers: Record<string, string> = {}, method = "GET"): Response | undefined =>
    assetResponse(createAssets(files), new Request(`http://x${path}`, { headers, method }), path, options);

  test("a pack gives back the same files", () => {
    expect(unpackPage(packPage(files))).toEqual(files);
  });

  test("language, theme and whether somebody is signed in are in the page as it leaves", async () => {
    expect(await get("/")!.text()).toContain('<html lang="zh" data-theme="system" data-view="login">');
    expect(await get("/c/abc", { "accept-language": "en-GB,en;q=0.9,zh;q=0.5" })!.text()).toContain('<html lang="en"');
    const cookie = "nexus_theme=dark; nexus_lang=en; nexus=nxs_x";
    expect(await get("/", { cookie, "accept-language": "zh" })!.text()).toContain(
      '<html lang="en" data-theme="dark" data-view="chat">',
    );
    expect(await get("/", { cookie: `nexus_theme="><script>` })!.text()).toContain('data-theme="system"');
  });

  test("hashed files are kept for ever, the page is asked for again; ETag, HEAD, gzip and its absence", async () => {
    const script = scripts(files)[0]!;
    const plain = get(script.path)!;
    expect(plain.headers.get("cache-control")).toContain("immutable");
    expect(plain.headers.get("content-encoding")).toBeNull();
    expect(new Uint8Array(await plain.arrayBuffer())).toEqual(script.bytes);
    const zipped = get(script.path, { "accept-encoding": "gzip, br" })!;
    expect(zipped.headers.get("content-encoding")).toBe("gzip");
    expect(Bun.gunzipSync(new Uint8Array(await zipped.arrayBuffer()))).toEqual(script.bytes);
    expect(get(script.path, { "accept-encoding": "gzip;q=0" })!.headers.get("content-encoding")).toBeNull();
    const page = get("/")!;
    expect(page.headers.get("cache-control")).toBe("no-cache");
    expect(page.headers.get("vary")).toContain("Cookie");
    const again = get("/", { "if-none-match": page.headers.get("etag")! })!;
    expect([again.status, (await again.arrayBuffer()).byteLength]).toEqual([304, 0]);
    expect(get("/", { "if-none-match": page.headers.get("etag")!, "accept-language": "en" })!.status).toBe(200);
    expect((await get("/", {}, "HEAD")!.arrayBuffer()).byteLength).toBe(0);
  });

  test("every answer carries the policy, and unknown addresses are not ours", () => {
    for (const path of ["/", "/manifest.webmanifest", "/icon.svg", "/icon-192.png", scripts(files)[0]!.path]) {
      const { headers } = get(path)!;
      expect(headers.get("content-security-policy")).toBe(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types 'none'",
      );
      expect(headers.get("x-content-type-options")).toBe("nosniff");
    }
    for (const path of ["/c/", "/c/../x", "/c/a/b", "/index.html", "/%2e%2e/config.json"])
      expect(get(path)).toBeUndefined();
  });
});

describe("pure parts", () => {
  const message = (id: string, role: "user" | "bot", parentId?: string): Message => ({
    id,
    conversationId: "c",
    role,
    content: id,
    attachments: [],
    state: "done",
    createdAt: 0,
    updatedAt: 0,
    ...(parentId ? { parentId } : {}),
  });
  const ids = (messages: Message[], choice: [string, string][] = []): string[] =>
    shownMessages(messages, new Map(choice)).map((shown) => shown.message.id);

  test("the newest version is shown with what follows it; another can be chosen; several answers are all shown", () => {
    const all = [
      message("q1", "user"),
      message("a1", "bot", "q1"),
      message("q2", "user", "a1"),
      message("a2", "bot", "q2"),
      message("q1b", "user"),
      message("a1b", "bot", "q1b"),
      message("more", "bot", "q1b"),
      message("q3", "user", "more"),
    ];
    expect(ids(all)).toEqual(["q1b", "a1b", "more", "q3"]);
    expect(ids(all, [["", "q1"]])).toEqual(["q1", "a1", "q2", "a2"]);
    expect(shownMessages(all, new Map())[0]!.versions).toEqual({ ids: ["q1", "q1b"], index: 1, same: false });
    expect(ids(all.slice(2, 4))).toEqual(["q2", "a2"]); // a page whose beginning is not loaded
  });

  test("conversations are grouped by the calendar, not by 24 hours", () => {
    const now = new Date(2026, 10, 22, 0, 30).getTime();
    const hour = 3_600_000;
    expect(ageGroup(now - hour / 4, now)).toBe("today");
    expect(ageGroup(now - hour, now)).toBe("yesterday");
    expect(ageGroup(now - 48 * hour, now)).toBe("week");
    expect(ageGroup(now - 10 * 24 * hour, now)).toBe("month");
    expect(ageGroup(now - 90 * 24 * hour, now)).toBe("earlier");
  });

  test("a span is rounded before it is split into minutes and seconds", () => {
    const { span } = createI18n("en");
    const said = [40, 9949, 9960, 59_400, 59_700, 119_700, 125_000].map(span);
    expect(said).toEqual(["0.1 s", "9.9 s", "10 s", "59 s", "1 min 0 s", "2 min 0 s", "2 min 5 s"]);
  });

  test("what a full storage refuses is remembered instead of the old value, and leaves when there is room again", async () => {
    // By a path the type checker does not follow: it needs the DOM in its types.
    const { createKeep } = await import(new URL("../ui/keep.ts", import.meta.url).href);
    const stored: Record<string, string> = {};
    let full = false;
    const localStorage = {
      getItem: (key: string) => stored[key] ?? null,
      setItem: (key: string, value: string) => {
        if (full) throw new Error("QuotaExceededError");
        stored[key] = value;
      },
      removeItem: (key: string) => delete stored[key],
    };
    Object.assign(globalThis, { window: { localStorage } });
    const keep = createKeep();
    Reflect.deleteProperty(globalThis, "window");
    keep.set("draft.a", "old");
    full = true;
    keep.set("draft.a", "new");
    expect([keep.get("draft.a"), stored["nexus.draft.a"]]).toEqual(["new", "old"]);
    full = false;
    keep.set("draft.a", "newer");
    stored["nexus.draft.a"] = "of another tab";
    expect(keep.get("draft.a")).toBe("of another tab");
    full = true;
    keep.set("draft.a", "again");
    keep.set("draft.a", undefined);
    expect([keep.get("draft.a"), stored]).toEqual([undefined, {}]);
  });

  test("events are read whole whatever the line ends and cuts", () => {
    const stream =
      'retry: 5\r\n\r\n: comment\n\nid: e:1\ndata: {"a":1}\n\ndata: x\r\ndata:y\r\n\r\nid: e:2\rdata: z\r\rdata: cut';
    for (let size = 1; size <= stream.length; size++) {
      const got: string[] = [];
      const feed = createSseParser(({ id, data }) => got.push(`${id ?? "-"}|${data}`));
      for (let at = 0; at < stream.length; at += size) feed(stream.slice(at, at + size));
      expect(got).toEqual(['e:1|{"a":1}', "-|x\ny", "e:2|z"]);
    }
  });
});
