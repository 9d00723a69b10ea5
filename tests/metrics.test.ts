/** `/metrics`: what a Prometheus reads, from whom it may be read, and that the numbers are those of what happened. */
import { afterEach, describe, expect, test } from "bun:test";
import parsePrometheus from "parse-prometheus-text-format";
import { createMetrics } from "../lib/metrics.ts";
import type { Overview } from "../lib/protocol/admin.ts";
import { join } from "node:path";
import { statusLines } from "../lib/cli/status.ts";
import { configFolder, nexus } from "./harness/cli.ts";
import { api, BOT_TOKEN, freePort, login, ROOT, startGateway, tempDir, until, v2Bot, within } from "./harness.ts";

type Sample = { value?: string; labels?: Record<string, string>; buckets?: Record<string, string>; count?: string };
type Family = { name: string; help: string; type: string; metrics: Sample[] };

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const open = async (config: Record<string, unknown> = {}) => {
  const gate = await startGateway(config);
  undo.push(gate.stop);
  return { ...gate, read: (init: RequestInit = {}) => fetch(`${gate.url}/metrics`, init) };
};
const scrape = async (url: string): Promise<Map<string, Family>> =>
  new Map(
    (parsePrometheus(await (await fetch(`${url}/metrics`)).text()) as Family[]).map((family) => [family.name, family]),
  );
/** The value of a series; labels must be exactly these. */
const value = (
  families: Map<string, Family>,
  name: string,
  labels: Record<string, string> = {},
): number | undefined => {
  const sample = families.get(name)?.metrics.find((one) => JSON.stringify(one.labels ?? {}) === JSON.stringify(labels));
  return sample?.value === undefined ? undefined : Number(sample.value);
};

describe("the numbers", () => {
  test("a Prometheus parser reads them, and they are those of the turns, bots, streams and commits there were", async () => {
    const { url, wsUrl } = await open();
    const before = await scrape(url);
    for (const outcome of ["done", "failed", "cancelled"])
      expect(value(before, "nexus_turns_total", { outcome })).toBe(0);
    const bot = await v2Bot(wsUrl, {
      register: { botId: "b", token: BOT_TOKEN },
      onChat: (chat, self) => {
        if (chat.content === "fail")
          return self.end(chat, "", { error: { code: "x", message: "no", retryable: false } });
        self.write(chat, "你好");
        if (chat.content !== "stay") self.end(chat);
      },
    });
    undo.push(() => bot.ws.close());
    const me = api(url, await login(url));
    await me("POST", "/api/chat", { message: "hi" });
    await me("POST", "/api/chat", { message: "hi" });
    await me("POST", "/api/chat", { message: "fail" });
    const stay = await me.stream("/api/chat/stream", { message: "stay" });
    const reader = stay.body!.getReader();
    undo.push(() => reader.cancel());
    let sent = "";
    while (!sent.includes("你好")) sent += new TextDecoder().decode((await reader.read()).value);

    const now = await scrape(url);
    for (const [name, family] of now) {
      expect(name).toMatch(/^(nexus|process)_[a-z_]+$/);
      expect(family.help.length).toBeGreaterThan(10);
      expect(["COUNTER", "GAUGE", "HISTOGRAM"]).toContain(family.type);
      if (family.type === "COUNTER") expect(name).toEndWith("_total");
    }
    expect(value(now, "nexus_turns_total", { outcome: "done" })).toBe(2);
    expect(value(now, "nexus_turns_total", { outcome: "failed" })).toBe(1);
    expect(value(now, "nexus_turns_open", { state: "streaming" })).toBe(1);
    expect(value(now, "nexus_turns_queued")).toBe(0);
    expect(value(now, "nexus_bots_online")).toBe(1);
    expect(value(now, "nexus_bot_connections")).toBe(1);
    expect(value(now, "nexus_bot_turns", { bot: "b" })).toBe(1);
    expect(value(now, "nexus_streams_open")).toBe(1);
    expect(value(now, "nexus_stream_bytes_total")).toBeGreaterThanOrEqual(Buffer.byteLength(sent));
    expect(value(now, "nexus_reply_bytes_total")).toBe(2 * Buffer.byteLength("你好"));
    expect(value(now, "nexus_messages_today")).toBe(4);
    expect(value(now, "nexus_sessions")).toBe(1);
    expect(value(now, "nexus_people")).toBe(2);
    expect(value(now, "nexus_store_writes_total")).toBeGreaterThanOrEqual(value(now, "nexus_store_commits_total")!);
    expect(value(now, "nexus_store_commits_total")).toBeGreaterThanOrEqual(4);
    expect(value(now, "nexus_store_bytes")).toBeGreaterThan(4096);
    expect(value(now, "process_resident_memory_bytes")).toBeGreaterThan(10_000_000);
    expect(value(now, "nexus_audit_entries_total", { action: "sign_in" })).toBe(1);
    expect(value(now, "nexus_log_lines_total", { level: "info", event: "bot_joined" })).toBe(1);
    expect(value(now, "nexus_http_requests_total", { code: "5xx" })).toBe(1); // the failed one: 502
    const first = now.get("nexus_turn_first_chunk_seconds")!.metrics[0]!;
    expect(first.count).toBe("3");
    expect(first.buckets!["+Inf"]).toBe("3");
    expect(now.get("nexus_turn_seconds")!.metrics[0]!.count).toBe("3");
    const looked = async () => Number((await scrape(url)).get("nexus_event_loop_delay_seconds")!.metrics[0]!.count) > 0;
    await until(looked, 5000, "the event loop to be looked at"); // every 50 ms
  });

  test("the first text of a turn is one, also when its bot begins anew or another one does", async () => {
    const { url, wsUrl } = await open();
    let attempts = 0;
    for (const botId of ["a", "b"]) {
      const bot = await v2Bot(wsUrl, {
        register: { botId, token: BOT_TOKEN },
        onChat: (chat, self) => {
          if (++attempts === 2) return self.end(chat, "at last");
          for (const word of ["one", "two"]) {
            self.write(chat, word);
            self.write(chat, "", { mode: "replace" });
          }
          return self.end(chat, "", { error: { code: "x", message: "not now", retryable: true } });
        },
      });
      undo.push(() => bot.ws.close());
    }
    const me = api(url, await login(url));
    expect((await me<{ content: string }>("POST", "/api/chat", { message: "hi" })).body.content).toBe("at last");
    expect(attempts).toBe(2);
    const first = (await scrape(url)).get("nexus_turn_first_chunk_seconds")!.metrics[0]!;
    expect(first.count).toBe("1");
  });

  test("the admin page, nexus status and /metrics say the same", async () => {
    const { url, read } = await open();
    const admin = api(url, await login(url));
    const page = (await admin<Overview>("GET", "/api/admin/overview")).body;
    const status = (await (await read({ headers: { Accept: "application/json" } })).json()) as Overview;
    const steady = ({ version, turns, today, bots, people, sessions, timeZone, startedAt }: Overview) => ({
      version,
      turns,
      today,
      bots,
      people,
      sessions,
      timeZone,
      startedAt,
    });
    expect(steady(status)).toEqual(steady(page));
    expect(page.sessions).toBe(1);
  });
});

describe("who may read them", () => {
  test("this machine, but nobody a proxy on it passed on, no page by another name, and no session", async () => {
    const { read, url } = await open();
    expect((await read()).status).toBe(200);
    expect((await read()).headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    for (const headers of [
      { "X-Forwarded-For": "203.0.113.9" },
      { "X-Real-IP": "203.0.113.9" },
      { "X-Forwarded-For": "127.0.0.1" },
      { Forwarded: "for=203.0.113.9" },
      { Via: "1.1 proxy" },
      { Host: "nexus.example.com" },
      { Authorization: "Bearer wrong" },
      { Authorization: `Bearer ${await login(url)}` },
    ])
      expect([headers, (await read({ headers: headers as Record<string, string> })).status]).toEqual([headers, 403]);
  });

  test("with a trusted proxy the client's address decides; with metricsToken anybody who brings one of them", async () => {
    const { read } = await open({
      trustedProxies: ["127.0.0.1"],
      metricsToken: ["first-metrics-token", "second-metrics-token"],
    });
    const proxied = { "X-Forwarded-For": "203.0.113.9" };
    expect((await read({ headers: proxied })).status).toBe(403);
    for (const token of ["first-metrics-token", "second-metrics-token"])
      expect((await read({ headers: { ...proxied, Authorization: `Bearer ${token}` } })).status).toBe(200);
    expect((await read({ headers: { Authorization: "Bearer third-metrics-token" } })).status).toBe(403);
  });

  test("people are not named in it, however a bot, a person or an event is called", async () => {
    const { url, wsUrl, read } = await open({
      users: { 'a"b\\c': { password: "x y z long" }, admin: { password: "correct horse", role: "admin" } },
    });
    const bot = await v2Bot(wsUrl, { register: { botId: 'we"ird\\id', token: BOT_TOKEN } });
    undo.push(() => bot.ws.close());
    await api(url, await login(url, 'a"b\\c', "x y z long"))("POST", "/api/chat", { message: "hi" });
    const text = await (await read()).text();
    expect(text).not.toContain('a"b');
    expect(text).toContain('nexus_bot_turns{bot="we\\"ird\\\\id"} 0');
    expect((await scrape(url)).get("nexus_bot_turns")!.metrics).toHaveLength(1);
  });
});

test("the delay of the event loop is what a blocked loop costs", async () => {
  const metrics = createMetrics({ now: Date.now });
  const stop = metrics.probe();
  undo.push(stop);
  await Bun.sleep(60);
  const blockedUntil = performance.now() + 150;
  while (performance.now() < blockedUntil);
  await Bun.sleep(60);
  const { max } = metrics.summary().loopDelayMs;
  expect(max).toBeGreaterThan(90);
  expect(max).toBeLessThan(1500);
});

test("a request id goes into the log and to a v2 bot: the sender's where it is a plain one, else a new one", async () => {
  const { url, wsUrl, logs } = await open();
  const bot = await v2Bot(wsUrl, { register: { botId: "b", token: BOT_TOKEN } });
  undo.push(() => bot.ws.close());
  const me = api(url, await login(url));
  for (const id of ["7f3a-proxy", undefined, "two words", "x".repeat(200)])
    await me("POST", "/api/chat", { message: "hi" }, id === undefined ? {} : { headers: { "X-Request-Id": id } });
  const ids = bot.chats.map(({ requestId }) => requestId);
  expect(ids[0]).toBe("7f3a-proxy");
  for (const id of ids.slice(1)) expect(id).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  expect(logs.filter(({ event }) => event === "turn_ended").map(({ fields }) => fields.request)).toEqual(ids);
});

test("nexus status prints the numbers of the running gateway, in both languages and as JSON, and says when none answers", async () => {
  const { url, port } = await open();
  await api(url, await login(url))("GET", "/api/me");
  const folder = await tempDir("status");
  undo.push(folder.remove);
  await Bun.write(join(folder.path, "config.json"), JSON.stringify({ host: "127.0.0.1", port }));
  const run = async (...args: string[]) => {
    const child = Bun.spawn([process.execPath, join(ROOT, "server.ts"), "status", ...args], {
      cwd: folder.path,
      env: { PATH: process.env.PATH ?? "", LANG: "en_US.UTF-8" },
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, err, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    return { out, err, code };
  };
  const [plain, json, nobody] = await Promise.all([run(), run("--json"), run("--port", String(freePort()))]);
  expect(plain.code).toBe(0);
  expect(plain.out).toMatch(/^nexus \S+ · (up|已运行) /);
  expect(plain.out).toMatch(/(people|用户) +2(, 1 signed in| 人，1 个登录)/);
  expect(plain.out).not.toContain("\x1b");
  expect((JSON.parse(json.out) as Overview).sessions).toBe(1);
  expect(nobody.code).toBe(1);
  expect(nobody.err).toMatch(/does not answer|没有回答/);
  const sample = JSON.parse(json.out) as Overview;
  expect(statusLines(sample, "zh").join("\n")).toContain("2 人，1 个登录，0 条流");
  expect(statusLines(sample, "en").join("\n")).toContain("2, 1 signed in, 0 streams");
});

test("nexus status says what a 403 is and how to mend it: metricsToken, unset, not to be had here, or another's", async () => {
  const { url } = await open({ metricsToken: "right-right" });
  // As from an address of the machine that is not 127.0.0.1: the gateway takes it for somebody elsewhere.
  const aside = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: ({ headers }) => {
      const passed = new Headers(headers);
      passed.set("Via", "1.1 aside");
      return fetch(`${url}/metrics`, { headers: passed });
    },
  });
  undo.push(() => aside.stop(true));
  const status = async (metricsToken: unknown) => {
    const folder = await configFolder(JSON.stringify({ host: "127.0.0.1", port: aside.port, metricsToken }));
    undo.push(folder.remove);
    const { code, out, err } = await nexus(["status", "--once"], { cwd: folder.cwd });
    return { code, said: out + err };
  };
  const at = `nexus: http://127.0.0.1:${aside.port}`;
  expect(await status("")).toEqual({
    code: 1,
    said: `${at} may be read over 127.0.0.1 only (403); set metricsToken in config.json, and nexus status brings it\n`,
  });
  expect(await status({ env: "METRICS" })).toEqual({
    code: 1,
    said: `${at} is read with metricsToken only (403), which cannot be had here: the environment variable METRICS is not set or empty\n`,
  });
  expect(await status("wrong-wrong")).toEqual({
    code: 1,
    said: expect.stringContaining("does not take the metricsToken of"),
  });
  const rotating = await status([{ env: "METRICS" }, "right-right"]);
  expect(rotating).toEqual({ code: 0, said: expect.stringMatching(/^nexus \S+ · up /) });
});

test("nexus status on a terminal paints over itself, also where lines do not fit, until Ctrl+C", async () => {
  const { port } = await open();
  const folder = await tempDir("status");
  undo.push(folder.remove);
  await Bun.write(join(folder.path, "config.json"), JSON.stringify({ host: "127.0.0.1", port }));
  const cols = 36;
  let shown = "";
  const child = Bun.spawn([process.execPath, join(ROOT, "server.ts"), "status"], {
    cwd: folder.path,
    env: { PATH: process.env.PATH ?? "", LANG: "en_US.UTF-8", TERM: "xterm" },
    terminal: {
      cols,
      rows: 40,
      data: (_, bytes) => {
        shown += new TextDecoder().decode(bytes);
      },
    },
  });
  const painted = () => shown.replaceAll("\x1b", "ESC").split(/ESC\[(\d+)AESC\[J/);
  await until(() => painted()[2]?.includes("dead letters"), 15_000, "two pictures");
  child.terminal!.write("\x03");
  await within(child.exited, 5_000, "the command to end");
  child.terminal!.close();
  const [first = "", up] = painted();
  const rows = (picture: string): number =>
    picture
      .split("\r\n")
      .slice(0, -1)
      .reduce((sum, line) => sum + Math.max(1, Math.ceil(Bun.stringWidth(line) / cols)), 0);
  expect(rows(first)).toBeGreaterThan(10); // broken: there are ten lines
  expect(Number(up)).toBe(rows(first));
});
