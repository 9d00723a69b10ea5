/** The process: faults at the start, reload, signals (F5), the last resort, and the demo. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  api,
  BOT_TOKEN,
  login,
  PASSWORD,
  readSse,
  ROOT,
  startProcess,
  tempDir,
  until,
  v1Bot,
  within,
} from "./harness.ts";

describe("the process", () => {
  // Each starts a process of its own; a loaded machine takes its time.
  setDefaultTimeout(20_000);

  test("a port in use is one sentence that names the port and how to change it, exit code 1", async () => {
    const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const run = await startProcess({
      config: { port: taken.port },
      env: { LANG: "en_US", PATH: process.env.PATH ?? "" },
      wait: false,
    });
    try {
      expect(await within(run.exited, 10_000, "the exit")).toBe(1);
      expect(run.stderr()).toBe(
        `nexus: port ${taken.port} is in use; choose another with --port, PORT or "port" in config.json\n`,
      );
    } finally {
      taken.stop(true);
      await run.stop();
    }
  });

  test("a host that is no address of this machine is one sentence that names it, exit code 1", async () => {
    for (const host of ["192.0.2.77", "no-such-host.invalid"]) {
      const run = await startProcess({ config: { host }, wait: false });
      expect(await within(run.exited, 15_000, "the exit")).toBe(1);
      expect(run.stderr()).toBe(`nexus: 这台机器没有地址 ${host}；请修改 config.json 的 host\n`);
      await run.stop();
    }
  });

  test("a broken config is refused at the start with every fault and exit code 2 (F8)", async () => {
    const run = await startProcess({ config: { port: -1, hots: "x" }, wait: false });
    expect(await within(run.exited, 10_000, "the exit")).toBe(2);
    expect(run.stderr()).toMatch(/^nexus: port：.*\nnexus: hots：.*是不是 host？\n$/);
    await run.stop();
  });

  test("an edit of the config counts at once, a broken one is told of and changes nothing (F8)", async () => {
    const run = await startProcess();
    try {
      const path = join(run.cwd, "config.json");
      const config = JSON.parse(await readFile(path, "utf8"));
      const hash = config.users.admin.password;
      await writeFile(
        path,
        JSON.stringify({ ...config, users: { admin: { password: hash }, eve: { password: hash } } }),
      );
      await until(() => run.stdout().includes('"event":"config_applied"'), 5000, "the new config");
      expect(await login(run.url, "eve")).toStartWith("nxs_");

      await writeFile(path, '{"port": "x", "nonsense": 1}');
      await until(() => run.stdout().includes('"event":"config_refused"'), 5000, "the refusal");
      expect(run.stdout()).toMatch(/config_refused.*port：.*nonsense：/);
      expect(await login(run.url, "eve")).toStartWith("nxs_");

      await writeFile(path, JSON.stringify(config));
      await until(() => run.stdout().split('"event":"config_applied"').length === 3, 5000, "the old config again");
      expect((await api(run.url)("POST", "/api/login", { username: "eve", password: PASSWORD })).status).toBe(401);
      run.kill("SIGHUP");
      await until(() => run.stdout().split('"event":"config_applied"').length === 4, 5000, "SIGHUP to be obeyed");
    } finally {
      await run.stop();
    }
  });

  test("SIGTERM lets an open answer finish, health says draining, and the exit code is 0 (F5)", async () => {
    const run = await startProcess();
    try {
      const bot = await v1Bot(run.wsUrl, { botId: "slow", token: BOT_TOKEN, onChat: () => {} });
      const token = await login(run.url);
      const response = await api(run.url, token).stream("/api/chat/stream", { message: "hi" });
      const sse = readSse(response);
      const chat = await until(() => bot.chats[0], 5000, "the chat");
      bot.reply(chat, "first ", false);
      run.kill("SIGTERM");
      await until(async () => (await fetch(`${run.url}/health`)).status === 503, 5000, "health to say draining");
      bot.reply(chat, "second", true);
      const events = await within(sse.all(), 5000, "the stream to end");
      expect(events.map(({ data }) => data.content).join("")).toContain("second");
      expect(await within(run.exited, 10_000, "the exit")).toBe(0);
    } finally {
      await run.stop();
    }
  });

  test("a second signal ends the process within a second (F5)", async () => {
    const run = await startProcess();
    try {
      const bot = await v1Bot(run.wsUrl, { botId: "silent", token: BOT_TOKEN, onChat: () => {} });
      const response = await api(run.url, await login(run.url)).stream("/api/chat/stream", { message: "hi" });
      await until(() => bot.chats[0], 5000, "the chat");
      run.kill("SIGTERM");
      await until(() => run.stdout().includes('"event":"draining"'), 5000, "the drain");
      const began = performance.now();
      run.kill("SIGTERM");
      expect(await within(run.exited, 5_000, "the exit")).toBe(1);
      expect(performance.now() - began).toBeLessThan(1_000);
      await response.body?.cancel().catch(() => {});
    } finally {
      await run.stop();
    }
  });

  test("an error nobody caught is logged without its words being lost, and ends the process in order with 1", async () => {
    const folder = await tempDir("preload");
    const preload = join(folder.path, "preload.ts");
    await writeFile(preload, 'process.on("SIGUSR2", () => { Promise.reject(new TypeError("boom")); });');
    const run = await startProcess({ run: [process.execPath, "--preload", preload, join(ROOT, "server.ts")] });
    run.kill("SIGUSR2");
    expect(await within(run.exited, 10_000, "the exit")).toBe(1);
    expect(run.stdout()).toMatch(/"event":"unhandled_rejection".*"said":"boom"/);
    expect(run.stdout()).toMatch(/"event":"stopped","exit":1/);
    await run.stop();
    await folder.remove();
  });
});

test("nexus demo prints a password that opens it, and its bot answers over the real socket", async () => {
  const run = await startProcess({ args: ["demo"], config: null, env: { PATH: process.env.PATH ?? "", PORT: "0" } });
  try {
    const password = /密码\s+(\S+)/.exec(run.stdout())![1]!;
    const call = api(run.url, await login(run.url, "admin", password));
    expect((await call<{ bots: { id: string }[] }>("GET", "/api/bots")).body.bots.map(({ id }) => id)).toEqual([
      "demo",
    ]);
    const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    const [echo, failed, table] = await Promise.all([
      call<{ content: string; attachments: { mime: string }[] }>("POST", "/api/chat", { message: "", image: pixel }),
      call<{ code: string }>("POST", "/api/chat", { message: "错误" }),
      call<{ content: string }>("POST", "/api/chat", { message: "天气" }),
    ]);
    expect(echo.body.attachments.map(({ mime }) => mime)).toEqual(["image/png"]);
    expect([failed.status, failed.body.code]).toEqual([502, "bot_failed"]);
    expect(table.body.content).toContain("|---|");
    run.kill("SIGTERM");
    expect(await within(run.exited, 10_000, "the exit")).toBe(0);
  } finally {
    await run.stop();
  }
}, 30_000);

test("a demo whose port is taken says so and takes the next", async () => {
  const taken = Bun.listen({ hostname: "0.0.0.0", port: 0, socket: { data() {} } });
  const run = await startProcess({ args: ["demo", "--port", String(taken.port)], config: null });
  try {
    expect(run.stdout()).toContain(`端口 ${taken.port} 已被占用，改用 ${run.port}`);
    expect(run.port).toBeGreaterThan(taken.port);
  } finally {
    taken.stop(true);
    await run.stop();
  }
}, 30_000);
