/**
 * `nexus bot`, `nexus bots` and `nexus key` as processes and commands, and the small bots of docs/bots.md as printed: each
 * against a real gateway.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { parseConfig } from "../lib/config.ts";
import { modelShape, modelsShape } from "../lib/config/models.ts";
import type { Fault } from "../lib/shape.ts";
import {
  api,
  BOT_TOKEN,
  login,
  rawSocket,
  ROOT,
  startGateway,
  startProcess,
  tempDir,
  testConfig,
  until,
  within,
} from "./harness.ts";
import { nexus } from "./harness/cli.ts";
import { blocksOf, rowsOf } from "./harness/markdown.ts";
import { findPython } from "./harness/needs.ts";
import { openAi, pieces, startFake } from "./models/fake.ts";

let gateway: Awaited<ReturnType<typeof startGateway>>;
let call: ReturnType<typeof api>;
const closing: (() => unknown)[] = [];

beforeAll(async () => {
  gateway = await startGateway();
  call = api(gateway.url, await login(gateway.url));
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
afterAll(() => gateway.stop());

const online = async (): Promise<string[]> => (await call<{ botIds: string[] }>("GET", "/health")).body.botIds;
const say = async (target: string, message: string): Promise<unknown> =>
  (await call("POST", "/api/chat", { target, message })).body.content;
const run = async (args: string[], env: Record<string, string> = {}) => {
  const process_ = await startProcess({
    args,
    config: null,
    wait: false,
    env: { PATH: process.env.PATH ?? "", LANG: "en_US.UTF-8", BOT_TOKEN, ...env },
  });
  closing.push(process_.stop);
  return process_;
};

describe("nexus bot", () => {
  test("connects a service in OpenAI's format; the key comes from the environment; SIGTERM ends it with 0", async () => {
    const fake = startFake(() => pieces([openAi.text("from the model"), openAi.finish()]));
    closing.push(fake.stop);
    const bot = await run(
      [
        "bot",
        "--gateway",
        gateway.url,
        "--id",
        "gpt",
        "--openai",
        `${fake.url}/v1`,
        "--model",
        "m",
        "--key-env",
        "KEY",
      ],
      { KEY: "sk-canary-canary" },
    );
    await until(async () => (await online()).includes("gpt"), 5000, "the bot to be online");
    expect(await say("gpt", "hello")).toBe("from the model");
    expect(fake.asked[0]!.headers.get("authorization")).toBe("Bearer sk-canary-canary");
    bot.kill("SIGTERM");
    expect(await within(bot.exited, 5000, "the bot to end")).toBe(0);
    expect(bot.stdout()).toBe(`gpt is connected to ${gateway.url}\n`);
    expect(bot.stdout() + bot.stderr()).not.toContain("canary");
    expect(bot.stdout() + bot.stderr()).not.toContain(BOT_TOKEN);
  });

  test("that is killed half way and started again asks once more, and the person gets one whole answer", async () => {
    const fake = startFake(
      () => pieces([openAi.text("lost "), 30_000]),
      () => pieces([openAi.text("whole answer"), openAi.finish()]),
    );
    closing.push(fake.stop);
    const args = ["bot", "--gateway", gateway.url, "--id", "phoenix", "--openai", `${fake.url}/v1`, "--model", "m"];
    const first = await run(args);
    await until(async () => (await online()).includes("phoenix"), 5000, "the bot to be online");
    const answer = say("phoenix", "hello");
    await until(() => fake.asked.length === 1, 5000, "the model to be asked");
    first.kill("SIGKILL");
    await within(first.exited, 5000, "the bot to be gone");
    await run(args);
    expect(await within(answer, 10_000, "the answer")).toBe("whole answer");
    expect(fake.asked).toHaveLength(2);
  }, 20_000);

  test("that the gateway refuses ends with 1 and says why", async () => {
    const bot = await run(["bot", "--gateway", gateway.url, "--id", "x", "--echo", "--token", "wrong"]);
    expect(await within(bot.exited, 5000, "the bot to end")).toBe(1);
    expect(bot.stderr()).toContain("nexus: x was sent away by the gateway: Invalid token\n");
    const bare = await run(["bot", "--gateway", gateway.url, "--id", "x", "--echo"], { BOT_TOKEN: "" });
    expect(await within(bare.exited, 5000, "the bot to end")).toBe(1);
    expect(bare.stderr()).toContain("Invalid token; no token was given: set BOT_TOKEN, or use --token-env\n");
  });

  test("says what is wrong with its options, and ends with 2", async () => {
    const fault = async (...args: string[]) => {
      const { code, err } = await nexus(["bot", ...args]);
      expect(code).toBe(2);
      return err;
    };
    expect(await fault("--echo")).toContain("--id: text, 1 to 64 characters");
    expect(await fault("--id", "a")).toContain("exactly one of openai, anthropic, command, echo");
    expect(await fault("--id", "a", "--openai", "nonsense")).toContain("--openai: an http(s) URL");
    expect(await fault("--id", "a", "--openai", "http://x/v1")).toContain("--model: the name of the model is missing");
    expect(await fault("--id", "a", "--echo", "--key-env", "NOT_SET")).toContain("NOT_SET is not set");
    expect(await fault("--id", "a", "--echo", "--gateway", "ftp://x")).toContain("--gateway should be a ws");
  });
});

test("nexus bots runs every bot of a file", async () => {
  const folder = await tempDir("bots");
  closing.push(folder.remove);
  const file = join(folder.path, "bots.json");
  const bots = [
    { id: "loud", command: "tr a-z A-Z" },
    { id: "same", echo: true, name: "Echo" },
  ];
  await Bun.write(file, JSON.stringify({ gateway: gateway.url, token: { env: "BOT_TOKEN" }, bots }));
  await run(["bots", "--file", file]);
  await until(async () => (await online()).length === 2, 5000, "both bots to be online");
  expect(await say("loud", "hello")).toBe("HELLO");
  expect(await say("same", "hello")).toBe("hello");
  await Bun.write(
    file,
    JSON.stringify([
      { id: "a", echo: true },
      { id: "a", command: 1 },
    ]),
  );
  const { code, err } = await nexus(["bots", "--file", file]);
  expect(code).toBe(2);
  expect(err).toStartWith(`nexus: ${file}: [1].command: text`);
});

test("nexus bots says which file is at fault, in both languages, and takes no field that stands there twice", async () => {
  const folder = await tempDir("bots");
  closing.push(folder.remove);
  const file = join(folder.path, "bots.json");
  const faults = async (text: string, LANG = "en_US.UTF-8"): Promise<string> => {
    await Bun.write(file, text);
    const { code, err } = await nexus(["bots"], { cwd: folder.path, env: { LANG } });
    expect(code).toBe(2);
    return err;
  };
  expect(await faults("42")).toBe(`nexus: ${file}: a JSON object\n`);
  expect(await faults("42", "zh_CN.UTF-8")).toBe(`nexus: ${file}：应为 JSON 对象\n`);
  expect(await faults('[{"id": "a", "echo": true,\n "id": "b"}]')).toBe(
    `nexus: ${file}: [0].id: stands there twice (line 2)\n`,
  );
});

describe("nexus key", () => {
  const folderOf = async (dataDir: string) => {
    const folder = await tempDir("key");
    closing.push(folder.remove);
    await Bun.write(join(folder.path, "config.json"), JSON.stringify(testConfig({ dataDir })));
    return (...args: string[]) => nexus(["key", ...args], { cwd: folder.path });
  };

  test("add works at once in a running gateway, remove ends it and its streams within a second", async () => {
    const key = await folderOf(gateway.dataDir);
    const made = await key("add", "admin", "--name", "for the test", "--scope", "all");
    expect([made.code, made.err]).toEqual([
      0,
      expect.stringMatching(/^made the key \w+ for admin; it is shown only now\n$/),
    ]);
    const secret = made.out.trim();
    expect(secret).toMatch(/^nxk_[\w-]{43}$/);
    const me = api(gateway.url, secret);
    expect((await me("GET", "/v1/models")).status).toBe(200);
    const events = await me.stream("/api/events");
    expect(events.status).toBe(200);
    const ended = events.text();
    const listed = await key("list", "admin");
    const id = /^(\w+)\tadmin\tfor the test\tall\t\*\t-\t/.exec(listed.out)![1]!;
    expect(listed.out).not.toContain(secret);
    expect((await key("remove", id)).code).toBe(0);
    await within(ended, 2500, "the stream of the removed key to end");
    expect((await me("GET", "/v1/models")).status).toBe(401);
    expect((await key("remove", id)).code).toBe(1);
  });

  test("works without a gateway, and its limits hold when one starts", async () => {
    const data = await tempDir("keys");
    closing.push(data.remove);
    const key = await folderOf(data.path);
    const made = await key("add", "user1", "--bots", "one,two", "--days", "1");
    expect(made.code).toBe(0);
    const later = await startGateway({}, { dataDir: data.path });
    closing.push(later.stop);
    const me = api(later.url, made.out.trim());
    expect((await me("GET", "/api/bots")).status).toBe(200);
    expect((await me("GET", "/api/conversations")).status).toBe(403);
    expect((await key("list")).out).toMatch(/\tuser1\tnexus key add\tchat\tone,two\t\d{4}-\d\d-\d\d\t/);
  });

  test("refuses unknown people and nonsense", async () => {
    const key = await folderOf(gateway.dataDir);
    for (const command of ["add", "list"])
      expect(await key(command, "amdin")).toMatchObject({
        code: 1,
        out: "",
        err: "nexus: there is no user amdin; did you mean admin?\n",
      });
    expect((await key("add", "admin", "--scope", "some")).code).toBe(2);
    expect((await key("add", "admin", "--days", "0")).code).toBe(2);
    expect((await key("add", "admin", "--bots", "a b")).code).toBe(2);
  });
});

/** A Go that finds gorilla/websocket as Debian installs it, or where `go get` once put it for programs without modules. */
const findGo = (): { path: string; env: Record<string, string> } | undefined => {
  const path = Bun.which("go");
  if (!path) return undefined;
  const own = Bun.spawnSync([path, "env", "GOPATH"]).stdout.toString().trim();
  const env = { GO111MODULE: "off", GOPATH: `${own}:/usr/share/gocode` };
  const found = Bun.spawnSync([path, "list", "github.com/gorilla/websocket"], {
    env: { ...process.env, ...env },
    stderr: "ignore",
  });
  return found.success ? { path, env } : undefined;
};

describe.each(["docs/bots.md", "docs/bots.en.md"])("the bots of %s", (file) => {
  const source = async (lang: string): Promise<string> => {
    const block = blocksOf(await Bun.file(join(ROOT, file)).text()).find(
      (one) => one.lang === lang && /register|bot-ws/.test(one.text),
    );
    return block!.text.replace("127.0.0.1:17392", `127.0.0.1:${gateway.port}`);
  };
  const answersAs = async (id: string): Promise<void> => {
    await until(async () => (await online()).includes(id), 10_000, `${id} to be online`);
    expect(await say(id, 'one "two" 三')).toMatch(/^(?:你说：|You said: )one "two" 三$/);
  };
  const start = async (command: string[], name: string, text: string) => {
    const folder = await tempDir("docs-bot");
    await Bun.write(join(folder.path, name), text);
    const env = { PATH: process.env.PATH ?? "", BOT_TOKEN };
    const bot = Bun.spawn([...command, name], {
      cwd: folder.path,
      env,
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    closing.push(async () => {
      bot.kill("SIGKILL");
      await bot.exited;
      await folder.remove();
    });
    return bot;
  };

  test("its files are accepted, and its table names every field of an entry", async () => {
    const text = await Bun.file(join(ROOT, file)).text();
    const json = (lang: string): Record<string, unknown> =>
      JSON.parse(blocksOf(text).find((block) => block.lang === lang)!.text);
    const env = Object.fromEntries([...text.matchAll(/"env": "(\w+)"/g)].map(([, name]) => [name!, "a long secret"]));
    const parsed = parseConfig(json("json config"), env);
    expect(parsed.ok ? [] : parsed.faults).toEqual([]);
    const faults: Fault[] = [];
    expect(modelsShape(env, () => "")(json("json").bots, "bots", faults)).toHaveLength(3);
    modelShape({}, () => "")({ "no such field at all": 1 }, "", faults);
    const known = /known: (.*)$/.exec(faults.map(({ say }) => say.en).join("\n"))![1]!.split(", ");
    const named = rowsOf(text).flatMap(([cell = ""]) => [...cell.matchAll(/`(\w+)`/g)].map(([, name]) => name!));
    expect(named.sort()).toEqual(known.sort());
  });

  test("JavaScript, with Bun and with Node where it is there", async () => {
    const node = Bun.which("node");
    const version = node ? Number(/\d+/.exec(Bun.spawnSync([node, "--version"]).stdout.toString())) : 0;
    const runtimes = [process.execPath, ...(version >= 22 ? [node!] : [])];
    for (const runtime of runtimes) {
      const bot = await start([runtime], "bot.mjs", await source("js"));
      await answersAs("echo-js");
      bot.kill("SIGKILL");
      await until(async () => !(await online()).includes("echo-js"));
    }
  });

  test("Python", async () => {
    const python = findPython();
    if (!python) throw new Error("no Python 3 with the websockets package; `bun run test` says how to get it");
    await start([python], "bot.py", await source("python"));
    await answersAs("echo-py");
  });

  test("Go, where it and gorilla/websocket are there", async () => {
    const go = findGo();
    if (!go) return;
    const folder = await tempDir("docs-go");
    closing.push(folder.remove);
    await Bun.write(join(folder.path, "bot.go"), await source("go"));
    // Built first: `go run` would leave its child behind when it is killed.
    const env = { ...process.env, ...go.env };
    const built = Bun.spawnSync([go.path, "build", "-o", "bot", "bot.go"], { cwd: folder.path, env });
    expect(built.stderr.toString()).toBe("");
    await start([join(folder.path, "bot")], "bot.go", "");
    await answersAs("echo-go");
  }, 60_000);

  test("the shell script, where jq is there, by websocat or wired to the socket as websocat would", async () => {
    const text = await source("sh");
    expect(Bun.spawnSync(["sh", "-n", "-c", text]).stderr.toString()).toBe("");
    if (!Bun.which("jq")) return;
    if (Bun.which("websocat")) {
      await start(["sh", "-c", `exec ${await source("text")}`], "bot.sh", text);
      return answersAs("echo-sh");
    }
    const bot = await start(["sh"], "bot.sh", text);
    const socket = await rawSocket(gateway.wsUrl, (frame) => {
      bot.stdin.write(`${JSON.stringify(frame)}\n`);
      bot.stdin.flush();
    });
    closing.push(socket.close);
    const decoder = new TextDecoder();
    let rest = "";
    void (async () => {
      for await (const piece of bot.stdout) {
        const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
        rest = lines.pop()!;
        for (const line of lines) socket.send(line);
      }
    })();
    await answersAs("echo-sh");
  });
});
