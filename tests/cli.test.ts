/** The command line: help, arguments, `check`, `backup`, and the banner. */
import { afterEach, describe, expect, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { banner, lanAddresses } from "../lib/banner.ts";
import { openStore } from "../lib/store.ts";
import { freePort, ROOT } from "./harness.ts";
import { configFolder, nexus } from "./harness/cli.ts";

const folders: { remove: () => Promise<void> }[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) await folder.remove();
});
const withConfig = async (text: string) => {
  const folder = await configFolder(text);
  folders.push(folder);
  return folder;
};

const CHINESE = /[\u4e00-\u9fff]/;

describe("the command line", () => {
  test("help lists every command, in both languages, and every command explains itself", async () => {
    const en = await nexus(["--help"]);
    const zh = await nexus(["--help"], { env: { LC_ALL: "zh_CN.UTF-8" } });
    expect([en.code, zh.code, en.err + zh.err]).toEqual([0, 0, ""]);
    for (const name of ["serve", "demo", "user add", "user passwd", "user remove", "user list", "check", "backup"]) {
      expect(en.out).toContain(name);
      expect(zh.out).toContain(name);
      for (const [LANG, isChinese] of [
        ["en_US", false],
        ["zh_CN", true],
      ] as const) {
        const page = await nexus([...name.split(" "), "--help"], { env: { LANG } });
        expect([page.code, page.err, CHINESE.test(page.out)]).toEqual([0, "", isChinese]);
        expect(page.out).toContain("--help");
        expect((await nexus(["help", ...name.split(" ")], { env: { LANG } })).out).toBe(page.out);
      }
    }
    expect(CHINESE.test(en.out)).toBe(false);
    expect(CHINESE.test(zh.out)).toBe(true);
    expect((await nexus(["user", "--help"])).out).toContain("user passwd");
  });

  test("the language is the config's, else the locale's, else Chinese", async () => {
    const { cwd } = await withConfig('{"language": "en"}');
    expect(CHINESE.test((await nexus(["--help"], { cwd, env: { LANG: "zh_CN" } })).out)).toBe(false);
    for (const LANG of ["", "C", "C.UTF-8", "POSIX"])
      expect(CHINESE.test((await nexus(["--help"], { env: { LANG } })).out)).toBe(true);
    const marked = await withConfig('\ufeff{"language": "en"}');
    expect(CHINESE.test((await nexus(["--help"], { cwd: marked.cwd, env: { LANG: "zh_CN" } })).out)).toBe(false);
  });

  test("a pipe given as the config is refused in a sentence and waits for nobody", async () => {
    const { cwd } = await withConfig("{}");
    expect(Bun.spawnSync(["mkfifo", join(cwd, "pipe")]).success).toBe(true);
    for (const args of [["check"], ["user", "add", "a"]]) {
      const child = Bun.spawn([process.execPath, join(ROOT, "server.ts"), ...args, "--config", "pipe"], {
        cwd,
        env: { PATH: process.env.PATH ?? "", LANG: "en_US.UTF-8" },
        stderr: "pipe",
        timeout: 5000,
        killSignal: "SIGKILL",
      });
      expect([await child.exited, await child.stderr.text()]).toEqual([
        2,
        expect.stringContaining(`${join(cwd, "pipe")} cannot be read (not a regular file)`),
      ]);
    }
  }, 20_000);

  test("the version is that of package.json", async () => {
    const { version } = await Bun.file(join(ROOT, "package.json")).json();
    expect((await nexus(["--version"])).out).toBe(`nexus ${version}\n`);
  });

  test("what is misspelt is refused with exit code 2 and the near one is named", async () => {
    const cases: [string[], string][] = [
      [["sevre"], "no command sevre; did you mean serve?"],
      [["chekc"], "did you mean check?"],
      [["user", "ad", "x"], "no command user ad; did you mean user add?"],
      [["usr", "add", "x"], "no command usr"],
      [["zzzzzzzz"], "nexus --help lists what there is"],
      [["help", "chekc"], "no command chekc; did you mean check?"],
      [["check", "--confg", "x"], "no option --confg; did you mean --config?"],
      [["check", "-c"], "no option -c"],
      [["check", "--config"], "--config needs FILE"],
      [["check", "--config", "a", "--config", "b"], "--config is given twice"],
      [["check", "--config", ""], "--config is empty (a variable that is not set?)"],
      [["--config="], "--config is empty"],
      [["user", "list", "--config", ""], "leave --config out for ./config.json"],
      [["user", "add"], "an argument is missing: nexus user add NAME"],
      [["user", "add", "a", "b"], "one argument too many: b"],
      [["user", "add", "a:b"], "a username has no colon"],
      [["user", "add", "x", "--admin=yes"], "--admin takes no value"],
      [["--port", "http"], "--port should be a port number (0–65535), not http"],
      [["serve", "--port", "70000"], "not 70000"],
    ];
    for (const [args, sentence] of cases) {
      const { code, out, err, served } = await nexus(args);
      expect({ args, code, out, served }).toEqual({ args, code: 2, out: "", served: undefined });
      expect(err).toContain(sentence);
      expect(err.trim().split("\n").length).toBe(1);
    }
    expect((await nexus(["user"])).code).toBe(2);
  });

  test("no command, options alone and serve all run the gateway", async () => {
    const configPath = join(tmpdir(), "config.json");
    expect((await nexus([])).served).toEqual({ configPath });
    expect((await nexus(["serve", "--port=8080"])).served).toEqual({ configPath, port: 8080 });
    expect((await nexus(["--config", "x/y.json"])).served).toEqual({ configPath: join(tmpdir(), "x/y.json") });
  });
});

describe("nexus check", () => {
  test("it prints the effective config as JSON, secrets masked, warnings apart", async () => {
    const { cwd } = await withConfig('{"botToken": "CANARY-token", "users": {"a": {"password": "CANARY-word"}}}');
    const { code, out, err } = await nexus(["check"], { cwd, env: { PORT: "99" } });
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ port: 99, host: "0.0.0.0", botToken: ["***"], dataDir: join(cwd, "data") });
    expect(err).toContain("warning: these users have a plain password: a");
    expect(out + err).not.toContain("CANARY");
  });

  test("faults are all told, one a line, with exit code 2", async () => {
    const { cwd } = await withConfig('{"port": "x", "users": {"a": {"pasword": 1}}}');
    const { code, out, err } = await nexus(["check"], { cwd });
    expect([code, out]).toEqual([2, ""]);
    expect(err).toBe(
      "nexus: port: a whole number (0–65535)\nnexus: users.a.pasword: unknown field; did you mean password?\n",
    );
    expect((await nexus(["check", "--config", "nope.json"], { cwd })).code).toBe(2);
    await writeFile(join(cwd, "other.json"), "42");
    expect((await nexus(["check", "--config", "other.json"], { cwd })).err).toBe("nexus: other.json: a JSON object\n");
  });
});

test("nexus backup copies a store that is in use, and says in a sentence why not", async () => {
  const { cwd } = await withConfig("{}");
  expect((await nexus(["backup", "copy.db"], { cwd })).err).toContain("does not exist; check dataDir");
  const store = openStore({ dir: join(cwd, "data"), synchronous: "normal", now: Date.now, log: () => {} });
  try {
    const { code, out } = await nexus(["backup", "copy.db"], { cwd });
    expect([code, out]).toEqual([0, expect.stringContaining(join(cwd, "copy.db"))]);
    expect((await readFile(join(cwd, "copy.db"))).subarray(0, 15).toString()).toBe("SQLite format 3");
    const again = await nexus(["backup", "copy.db"], { cwd });
    expect([again.code, again.err]).toEqual([1, expect.stringContaining("exists; choose another name")]);
    expect((await nexus(["backup", "no/such/folder.db"], { cwd })).code).toBe(1);
  } finally {
    store.close();
  }
});

test("commands that need no secret work where those of the config cannot be had; check, as serve, says which are missing", async () => {
  const { cwd } = await withConfig(
    JSON.stringify({
      botToken: { env: "NEXUS_BOT_TOKEN" },
      users: { admin: { password: { env: "ADMIN_PASSWORD" } }, zoe: { password: { file: "zoe.txt" } }, tom: {} },
    }),
  );
  const ok = async (...args: string[]): Promise<string> => {
    const { code, out, err } = await nexus(args, { cwd });
    expect({ args, code, err: err.replace(/^made the key .*\n$/, "") }).toEqual({ args, code: 0, err: "" });
    return out;
  };
  expect(await ok("user", "list")).toBe(
    "admin\tadmin\tuser\telsewhere\nzoe\tzoe\tuser\telsewhere\ntom\ttom\tuser\tno password\n",
  );
  expect(await ok("key", "add", "admin")).toStartWith("nxk_");
  expect(await ok("key", "list")).toContain("\tadmin\tnexus key add\t");
  expect(await ok("backup", "copy.db")).toContain("backed up to");
  const status = await nexus(["status", "--once", "--port", String(freePort())], { cwd });
  expect([status.code, status.err]).toEqual([1, expect.stringContaining("does not answer")]);

  const check = await nexus(["check"], { cwd });
  expect([check.code, check.out]).toEqual([2, ""]);
  expect(check.err.trim().split("\n")).toEqual([
    "nexus: botToken: the environment variable NEXUS_BOT_TOKEN is not set or empty",
    "nexus: users.admin.password: the environment variable ADMIN_PASSWORD is not set or empty",
    "nexus: users.zoe.password: the file zoe.txt cannot be read",
  ]);
});

describe("the banner", () => {
  const look = { version: "1.2.3", port: 17392, addresses: ["192.168.1.5"], language: "zh" as const, colour: false };
  const config = { host: "0.0.0.0", botTokens: ["nxb_SECRET"] };
  test("it says where to go from this machine, from a phone, and for a bot, and shows no stored secret", () => {
    const text = banner({ ...look, config });
    for (const part of [
      "http://localhost:17392",
      "http://192.168.1.5:17392",
      "ws://192.168.1.5:17392/bot-ws",
      'openclaw channels add --channel nexus --server-url "ws://192.168.1.5:17392/bot-ws" --bot-id my-bot --token "<',
      "openclaw gateway restart",
    ])
      expect(text).toContain(part);
    expect(text).not.toContain("SECRET");
    expect(text).not.toContain("\x1b");
    expect(CHINESE.test(banner({ ...look, config, language: "en" }))).toBe(false);
  });
  test("a demo shows the token for bots of one's own, and sets up nothing by what is gone at its end", () => {
    const shown = { username: "admin", password: "pass-word", botToken: "nxb_FRESH" };
    const text = banner({ ...look, config, shown, demo: true });
    for (const part of ["pass-word", "nxb_FRESH"]) expect(text.split(part).length).toBe(2);
    expect(text).not.toContain("openclaw");
    expect(text).not.toContain("config.json");
  });
  test("a public URL stands for all addresses, and a loopback host offers none to phones", () => {
    const text = banner({ ...look, config: { ...config, publicUrl: "https://nexus.example.com" } });
    expect(text).toContain("wss://nexus.example.com/bot-ws");
    expect(text).not.toContain("192.168.1.5");
    expect(banner({ ...look, config: { ...config, host: "127.0.0.1" } })).not.toContain("192.168.1.5");
  });
  test("phones get private IPv4 addresses of real networks first", () => {
    const v4 = (address: string, internal = false) =>
      [{ address, internal, family: "IPv4", netmask: "", mac: "", cidr: null }] as NonNullable<
        ReturnType<typeof import("node:os").networkInterfaces>[string]
      >;
    expect(
      lanAddresses({
        lo: v4("127.0.0.1", true),
        docker0: v4("172.17.0.1"),
        tun: v4("203.0.113.4"),
        eth0: v4("169.254.1.1"),
        wlan0: v4("192.168.1.5"),
      }),
    ).toEqual(["192.168.1.5", "203.0.113.4"]);
  });
});
