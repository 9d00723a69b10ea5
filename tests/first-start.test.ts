/** S12: no default password. The first start, with a terminal and without one. */
import { afterEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { chmod, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { firstStart, removeFirstPassword } from "../lib/config/first.ts";
import { loadConfig } from "../lib/config/file.ts";
import { api, login, ROOT, startProcess, tempDir, until, v1Bot, within } from "./harness.ts";

const folders: { remove: () => Promise<void> }[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) await folder.remove();
});
const newFolder = async (): Promise<string> => {
  const folder = await tempDir("first");
  folders.push(folder);
  return folder.path;
};
const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;
const ENV = { PATH: process.env.PATH ?? "", PORT: "0" };

/** Starts it on a terminal; `shown` is what the terminal shows. */
const onTerminal = async (cwd: string, args: string[] = [], env: Record<string, string> = { NO_COLOR: "1" }) => {
  let text = "";
  const child = Bun.spawn([process.execPath, join(ROOT, "server.ts"), ...args], {
    cwd,
    env: { ...ENV, TERM: "xterm", ...env },
    terminal: {
      cols: 200,
      rows: 50,
      data: (_, bytes) => {
        text += new TextDecoder().decode(bytes);
      },
    },
  });
  const stop = async (): Promise<number> => {
    child.kill("SIGTERM");
    const code = await within(child.exited, 10_000, "the exit");
    child.terminal!.close();
    return code;
  };
  return { shown: () => text, stop, exited: child.exited };
};

test("on a terminal the password and the bot token are shown once, and config.json holds a hash (S12)", async () => {
  const cwd = await newFolder();
  const first = await onTerminal(cwd);
  try {
    await until(() => first.shown().includes("Ctrl-C"), 10_000, "the banner");
    const shown = first.shown();
    const url = /http:\/\/localhost:\d+/.exec(shown)![0].replace("localhost", "127.0.0.1");
    const password = /密码\s+(\S+)/.exec(shown)![1]!;
    const token = /nxb_[\w-]{43}/.exec(shown)![0];
    expect(password).toMatch(/^[a-z2-9]{5}(-[a-z2-9]{5}){3}$/);

    const file = await readFile(join(cwd, "config.json"), "utf8");
    expect(await modeOf(join(cwd, "config.json"))).toBe(0o600);
    expect(file).not.toContain(password);
    const { users, botToken } = JSON.parse(file);
    expect(users.admin).toMatchObject({
      password: expect.stringMatching(/^\$argon2id\$v=19\$m=19456,t=2,/),
      role: "admin",
    });
    expect(botToken).toBe(token);
    expect(await readdir(cwd)).not.toContain("first-password.txt");
    expect(existsSync(join(cwd, "data", "first-password.txt"))).toBe(false);

    expect(await login(url, "admin", password)).toStartWith("nxs_");
    expect((await api(url)("POST", "/api/login", { username: "admin", password: "admin123" })).status).toBe(401);
    const ws = `${url.replace("http", "ws")}/bot-ws`;
    const bot = await v1Bot(ws, { token });
    expect(bot.registered.success).toBe(true);
    await bot.close();
    expect((await v1Bot(ws, { token: "" })).registered.success).toBe(false);
  } finally {
    expect(await first.stop()).toBe(0);
  }

  const second = await onTerminal(cwd);
  await until(() => second.shown().includes("Ctrl-C"), 10_000, "the second banner");
  expect(second.shown()).not.toMatch(/nxb_[\w-]{43}|密码 +[a-z2-9]{5}-/);
  await second.stop();
}, 30_000);

test("an English terminal reads English: banner, warnings and the admin's name; only there are colours", async () => {
  const cwd = await newFolder();
  const first = await onTerminal(cwd, [], { LANG: "en_US.UTF-8" });
  await until(() => first.shown().includes("Ctrl-C stops it"), 10_000, "the banner");
  await first.stop();
  expect(first.shown()).not.toMatch(/[\u4e00-\u9fff]/);
  expect(first.shown()).toContain("\x1b[1;36m");
  const config = JSON.parse(await readFile(join(cwd, "config.json"), "utf8"));
  expect(config.users.admin.displayName).toBe("Admin");

  config.botToken = "";
  await writeFile(join(cwd, "config.json"), JSON.stringify(config));
  const dumb = await onTerminal(cwd, [], { LANG: "en_US.UTF-8", TERM: "dumb" });
  await until(() => dumb.shown().includes("Ctrl-C stops it"), 10_000, "the second banner");
  await dumb.stop();
  expect(dumb.shown()).toContain("botToken is empty");
  expect(dumb.shown()).not.toMatch(/[\u4e00-\u9fff]/);
  expect(dumb.shown()).not.toContain("\x1b");
}, 40_000);

test("a demo on an English terminal is English, lets another bot in by its token, and ends without a warning", async () => {
  const cwd = await newFolder();
  const demo = await onTerminal(cwd, ["demo"], { NO_COLOR: "1", LANG: "en_US.UTF-8" });
  try {
    await until(() => demo.shown().includes("Ctrl-C stops it"), 15_000, "the banner");
    const shown = demo.shown();
    const url = /http:\/\/localhost:\d+/.exec(shown)![0].replace("localhost", "127.0.0.1");
    const password = /Password\s+(\S+)/.exec(shown)![1]!;
    const bot = await v1Bot(`${url.replace("http", "ws")}/bot-ws`, { token: /nxb_[\w-]{43}/.exec(shown)![0] });
    expect(bot.registered.success).toBe(true);
    await bot.close();
    const listed = await api(url, await login(url, "admin", password))("GET", "/api/bots");
    expect(JSON.stringify(listed.body)).toContain("Demo bot");
    expect(shown + listed.text).not.toMatch(/[\u4e00-\u9fff]/);
  } finally {
    expect(await demo.stop()).toBe(0);
  }
  expect(demo.shown()).not.toContain("WARN");
}, 40_000);

test("Ctrl-C at a demo that was started by a script of package.json is one signal, however often it is passed on", async () => {
  const cwd = await newFolder();
  const script = `${process.execPath} ${join(ROOT, "server.ts")} demo`;
  await writeFile(join(cwd, "package.json"), JSON.stringify({ scripts: { inner: script, demo: "bun run inner" } }));
  let text = "";
  const child = Bun.spawn([process.execPath, "run", "demo"], {
    cwd,
    env: { ...ENV, PATH: `${dirname(process.execPath)}:${ENV.PATH}`, TERM: "dumb" },
    terminal: {
      cols: 200,
      rows: 50,
      data: (_, bytes) => {
        text += new TextDecoder().decode(bytes);
      },
    },
  });
  await until(() => text.includes("按 Ctrl-C 停止"), 15_000, "the banner");
  const url = /http:\/\/localhost:\d+/.exec(text)![0].replace("localhost", "127.0.0.1");
  const answer = api(url, await login(url, "admin", /密码\s+(\S+)/.exec(text)![1]!)).stream("/api/chat/stream", {
    message: "慢一点",
  });
  await answer;
  child.terminal!.write("\x03");
  // The open answer has its time; a second signal would have ended it at once.
  await until(async () => (await fetch(`${url}/health`).catch(() => undefined)) === undefined, 15_000, "the end");
  await within(child.exited, 10_000, "the exit");
  child.terminal!.close();
  expect(text).toContain("drain_cut");
  expect(text).not.toContain("stopped_at_once");
}, 60_000);

test("without a terminal nothing secret is printed, and one line names the file that holds the password (S12)", async () => {
  const run = await startProcess({ config: null, env: ENV });
  try {
    const printed = run.stdout() + run.stderr();
    const path = join(run.cwd, "data", "first-password.txt");
    expect(printed.split("\n").filter((line) => line.includes("first-password.txt")).length).toBe(1);
    expect(printed).toContain(path);
    expect([
      await modeOf(path),
      await modeOf(join(run.cwd, "config.json")),
      await modeOf(join(run.cwd, "data")),
    ]).toEqual([0o600, 0o600, 0o700]);

    const password = /^password: (\S+)$/m.exec(await readFile(path, "utf8"))![1]!;
    const { botToken } = JSON.parse(await readFile(join(run.cwd, "config.json"), "utf8"));
    for (const secret of [password, botToken, "argon2id$"]) expect(printed).not.toContain(secret);

    expect((await api(run.url)("POST", "/api/login", { username: "admin", password: "wrong" })).status).toBe(401);
    expect(existsSync(path)).toBe(true);
    await login(run.url, "admin", password);
    await until(() => !existsSync(path), 2000, "the file to be removed at the first sign-in");
    expect(run.stdout() + run.stderr()).not.toContain(password);
  } finally {
    await run.stop();
  }
}, 30_000);

test("a first start that fails leaves no config, so that the next one is the first again", async () => {
  const taken = Bun.listen({ hostname: "0.0.0.0", port: 0, socket: { data() {} } });
  const cwd = await newFolder();
  const run = await startProcess({ cwd, config: null, env: { ...ENV, PORT: String(taken.port) }, wait: false });
  try {
    expect(await within(run.exited, 10_000, "the exit")).toBe(1);
    expect(run.stderr()).toContain(String(taken.port));
    expect(existsSync(join(cwd, "config.json"))).toBe(false);
    expect(existsSync(join(cwd, "data", "first-password.txt"))).toBe(false);
  } finally {
    taken.stop(true);
    await run.stop();
  }
});

test("a folder that does not exist is one sentence and exit code 1", async () => {
  const run = await startProcess({ args: ["--config", "no/such/config.json"], config: null, env: ENV, wait: false });
  expect(await within(run.exited, 10_000, "the exit")).toBe(1);
  expect(run.stderr()).toMatch(/^nexus: 无法在 .*no\/such 创建 config\.json（ENOENT）.*\n$/);
  await run.stop();
});

test("a data folder that cannot be written is named as what is at fault, and nothing is left behind", async () => {
  const spoil: ((data: string) => Promise<unknown>)[] = [
    (data) => writeFile(data, "a file has its name"),
    // Root may write everywhere, but not where a folder is.
    async (data) => {
      await mkdir(join(data, "first-password.txt"), { recursive: true });
      await chmod(data, 0o500);
    },
  ];
  for (const how of spoil) {
    const cwd = await newFolder();
    const data = join(cwd, "data");
    await how(data);
    const run = await startProcess({ cwd, config: null, env: { ...ENV, LANG: "en_US" }, wait: false });
    expect(await within(run.exited, 10_000, "the exit")).toBe(1);
    expect(run.stderr()).toMatch(
      /^nexus: cannot write to \S+\/data \(\w+\); it should be a folder that the user who runs nexus may write to\n$/,
    );
    expect(await readdir(cwd)).toEqual(["data"]);
    await run.stop();
    await chmod(data, 0o700);
  }
});

describe("the first config", () => {
  test("of two first starts at once, one writes it and the other leaves it alone", async () => {
    const cwd = await newFolder();
    const path = join(cwd, "config.json");
    const both = await Promise.all([firstStart(path, { terminal: true }), firstStart(path, { terminal: true })]);
    const winner = both.filter((first) => first !== undefined);
    expect(winner.length).toBe(1);
    const { users } = JSON.parse(await readFile(path, "utf8"));
    expect(await Bun.password.verify(winner[0]!.shown!.password, users.admin.password)).toBe(true);
    expect(await readdir(cwd)).toEqual(["config.json"]);
  });

  test("an existing config is never touched, and a loose umask loosens nothing", async () => {
    const cwd = await newFolder();
    const path = join(cwd, "config.json");
    await writeFile(path, "mine");
    expect(await firstStart(path, { terminal: false })).toBeUndefined();
    expect(await readFile(path, "utf8")).toBe("mine");
    expect(existsSync(join(cwd, "data", "first-password.txt"))).toBe(false);

    await rm(path);
    const before = process.umask(0);
    try {
      await firstStart(path, { terminal: false });
    } finally {
      process.umask(before);
    }
    expect([await modeOf(path), await modeOf(join(cwd, "data", "first-password.txt"))]).toEqual([0o600, 0o600]);
  });

  test("it is accepted without a warning, and every one differs", async () => {
    const seen = new Set<string>();
    for (let i = 0; i < 3; i++) {
      const path = join(await newFolder(), "config.json");
      const first = await firstStart(path, { terminal: true });
      const loaded = loadConfig(path, {});
      if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
      expect(loaded.warnings).toEqual([]);
      seen.add(first!.shown!.password).add(first!.shown!.botToken);
    }
    expect(seen.size).toBe(6);
  });

  test("removing the password file twice, or where there is no folder, is no fault", async () => {
    const cwd = await newFolder();
    await mkdir(join(cwd, "data"));
    await writeFile(join(cwd, "data", "first-password.txt"), "x");
    await chmod(join(cwd, "data"), 0o700);
    removeFirstPassword(join(cwd, "data"));
    removeFirstPassword(join(cwd, "data"));
    removeFirstPassword(join(cwd, "nowhere"));
    expect(await readdir(join(cwd, "data"))).toEqual([]);
  });
});
