/** Files of people: up and down, by whom, what they are taken for, what they may be named. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { BOT_TOKEN, startGateway, v2Bot, type V2Bot } from "./harness.ts";
import { download, PNG, upload } from "./harness/files.ts";
import { person, type Person } from "./harness/person.ts";
import { rawHttp } from "./harness/raw.ts";

const MAX = 2_000_000;

let gateway: Awaited<ReturnType<typeof startGateway>>;
let admin: Person;
let other: Person;
let able: V2Bot;

beforeAll(async () => {
  gateway = await startGateway({ limits: { attachmentBytes: MAX } });
  able = await v2Bot(gateway.wsUrl, { register: { botId: "able", token: BOT_TOKEN, caps: ["attachments"] } });
  admin = await person(gateway.url);
  other = await person(gateway.url, "user1");
});
afterAll(async () => {
  await able.close();
  await gateway.stop();
});

describe("an upload", () => {
  test("comes back byte for byte, to its owner only, with headers that let nothing run", async () => {
    const made = await upload(admin, PNG, { "X-Filename": encodeURIComponent("图 片.png") });
    expect(made.status).toBe(201);
    const { id } = made.body;
    expect(made.body).toEqual({
      id,
      name: "图 片.png",
      mime: "image/png",
      size: PNG.length,
      url: `/api/attachments/${id}`,
      width: 2,
      height: 3,
    });
    const got = await download(gateway.url, id, admin);
    expect(Buffer.from(await got.arrayBuffer()).equals(PNG)).toBe(true);
    expect(got.headers.get("content-type")).toBe("image/png");
    expect(got.headers.get("x-content-type-options")).toBe("nosniff");
    expect(got.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(got.headers.get("cache-control")).toStartWith("private");
    expect(got.headers.get("content-disposition")).toStartWith("inline; ");
    for (const token of [other.token, "nxs_none", able.registered.session!])
      expect([401, 404]).toContain((await download(gateway.url, id, token)).status);
    expect((await fetch(`${gateway.url}/api/attachments/${id}`)).status).toBe(401);
    for (const wrong of ["0", "nosuch", "..%2f..%2fnexus.db"])
      expect((await download(gateway.url, wrong, admin)).status).toBe(404);
  });

  test("whose bytes are gone from the disk is 404, not a stack or a hang", async () => {
    const { id } = (await upload(admin, "bytes that will go")).body;
    const sha = new Bun.CryptoHasher("sha256").update("bytes that will go").digest("hex");
    unlinkSync(join(gateway.dataDir, "files", sha.slice(0, 2), sha));
    const answer = await admin.call("GET", `/api/attachments/${id}`);
    expect([answer.status, answer.body.code]).toEqual([404, "not_found"]);
  });

  const html = "<!doctype html><script>alert(1)</script>";
  const svg = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>';
  /** A phone's picture, film or sound. */
  const box = (brand: string): string => `\0\0\0\x18ftyp${brand}\0\0\0\0mif1heic\x01`;
  const kinds: [what: string, bytes: string | Uint8Array, claimed: string, mime: string, inline: boolean][] = [
    ["a picture that claims to be text", PNG, "text/plain", "image/png", true],
    ["a page that claims to be a picture", html, "image/png", "text/html", false],
    ["a page that says so", html, "text/html; charset=utf-8", "text/html", false],
    ["a page in a byte order mark", `\ufeff \n${html}`, "application/octet-stream", "text/html", false],
    ["an SVG that claims to be a picture", svg, "image/jpeg", "image/svg+xml", false],
    ["an SVG behind an XML head", `<?xml version="1.0"?>\n${svg}`, "image/svg+xml", "image/svg+xml", false],
    ["text that claims to be a picture", "hello", "image/png", "text/plain", false],
    ["Chinese text", "你好，世界", "", "text/plain", false],
    ["a script that says so", "alert(1)", "text/javascript", "text/javascript", false],
    ["bytes of no kind", new Uint8Array([0, 1, 2, 3, 255]), "image/gif", "application/octet-stream", false],
    ["a PDF", "%PDF-1.7\n", "text/html-like", "application/pdf", false],
    [
      "a zip that claims to be a document",
      "PK\x03\x04xxxx",
      "application/vnd.ms-excel",
      "application/vnd.ms-excel",
      false,
    ],
    ...["heic", "heix", "heim", "heis", "hevc"].map((brand): (typeof kinds)[number] => [
      `a picture of ${brand}`,
      box(brand),
      "video/mp4",
      "image/heic",
      false,
    ]),
    ["a picture of mif1", box("mif1"), "image/heif", "image/heif", false],
    ["pictures of msf1", box("msf1"), "", "image/heif", false],
    ["a picture of avif", box("avif"), "image/heic", "image/avif", true],
    ["sound in the box of a film", box("M4A "), "", "audio/mp4", false],
    ["a film", box("isom"), "", "video/mp4", false],
    ["JSON", "{}", "application/json", "application/json", false],
  ];
  test.each(kinds)("%s", async (_, bytes, claimed, mime, inline) => {
    const { body, status } = await upload(admin, bytes, { "Content-Type": claimed });
    expect([status, body.mime]).toEqual([201, mime]);
    const got = await download(gateway.url, body.id, admin);
    await got.arrayBuffer();
    expect(got.headers.get("content-type")!.split(";")[0]).toBe(mime);
    expect(got.headers.get("x-content-type-options")).toBe("nosniff");
    expect(got.headers.get("content-disposition")!.split(";")[0]).toBe(inline ? "inline" : "attachment");
  });

  const names: [sent: string, kept: string][] = [
    ["../../etc/passwd", "passwd"],
    ["C:\\Users\\me\\photo.jpg", "photo.jpg"],
    ["innocent\u202egpj.exe", "innocentgpj.exe"],
    ['a"b\u0000\r\nSet-Cookie: x=1', "abSet-Cookie: x=1"],
    ["", "file"],
    ["///", "file"],
    ["\u200e\u2066", "file"],
    ["x\n../../etc/passwd", "passwd"],
    ["a\r\\..\\b.exe", "b.exe"],
    ["x\u2028../../etc/passwd", "passwd"],
    ["..", "file"],
    ["a/.", "file"],
    [".\u200e.", "file"],
    ["  ", "file"],
    ["..htaccess", "..htaccess"],
    ["名字.txt", "名字.txt"],
    [`${"x".repeat(199)}😀.png`, `${"x".repeat(199)}\ufffd`],
  ];
  test.each(names)("named %j is kept as %j", async (sent, kept) => {
    const { body } = await upload(admin, "text", { "X-Filename": encodeURIComponent(sent) });
    expect(body.name).toBe(kept);
    const got = await download(gateway.url, body.id, admin);
    const disposition = got.headers.get("content-disposition")!;
    expect(decodeURIComponent(/filename\*=UTF-8''(\S+)$/.exec(disposition)![1]!)).toBe(kept);
    expect(disposition).toMatch(/^attachment; filename="[\x20\x21\x23-\x7e]+"; filename\*=UTF-8''[\w.%-]+$/);
    expect(got.headers.get("set-cookie")).toBeNull();
  });

  test("is refused when empty, badly named, or without a session", async () => {
    expect((await upload(admin, "")).status).toBe(400);
    expect((await upload(admin, "x", { "X-Filename": "%zz" })).status).toBe(400);
    expect((await fetch(`${gateway.url}/api/attachments`, { method: "POST", body: "x" })).status).toBe(401);
  });

  test("of n bytes passes and of n + 1 is 413, with Content-Length and in chunks; refused ones leave no bytes", async () => {
    const count = (): number =>
      readdirSync(join(gateway.dataDir, "files"), { recursive: true, withFileTypes: true }).filter((f) => f.isFile())
        .length;
    const before = count();
    for (const framing of ["length", "chunked"] as const)
      for (const over of [0, 1]) {
        const body = Buffer.alloc(MAX + over, framing);
        const headers = { "Content-Type": "application/octet-stream" };
        const answer = await rawHttp(gateway.port, "POST", "/api/attachments", {
          token: admin.token,
          headers,
          body,
          framing,
        });
        expect(`${framing} +${over}: ${answer.status}`).toBe(`${framing} +${over}: ${over ? 413 : 201}`);
        if (over) expect(JSON.parse(answer.body).code).toBe("too_large");
      }
    expect(count()).toBe(before + 2);
  });
});
