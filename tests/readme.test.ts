/**
 * Runs the READMEs: the bots and every `bash` block, as printed, against a real gateway, and compares what comes back
 * with what stands below. Only the address is put in, because tests use free ports, and `npx -y bun@…` is this Bun.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { api, login } from "./harness/client.ts";
import { type Block, blocksOf } from "./harness/markdown.ts";
import { findPython } from "./harness/needs.ts";
import { ROOT, type RunningProcess, startProcess } from "./harness/process.ts";
import { sseParser } from "./harness/sse.ts";
import { tempDir, until, within } from "./harness/wait.ts";

const TOKEN = "the-token-of-the-readme-test";
const isApi = (block: Block): boolean => /^HTTP API$/.test(block.heading);

/** Whether `shown`, an example of the README, describes `real`: the same fields and kinds, the same text where it is fixed. */
const describes = (shown: unknown, real: unknown, path = "answer"): void => {
  if (Array.isArray(shown)) {
    expect(`${path} is a list: ${Array.isArray(real)}`).toBe(`${path} is a list: true`);
    if (shown.length) describes(shown[0], (real as unknown[])[0], `${path}[0]`);
  } else if (typeof shown === "object" && shown !== null) {
    for (const [key, value] of Object.entries(shown))
      describes(value, (real as Record<string, unknown> | undefined)?.[key], `${path}.${key}`);
  } else if (typeof shown === "string" && !shown.includes("…") && !/^\d{4}-\d\d-\d\dT/.test(shown))
    expect(`${path}: ${real}`).toBe(`${path}: ${shown}`);
  else expect(`${path} is a ${typeof real}`).toBe(`${path} is a ${typeof shown}`);
};

const eventsOf = (text: string): { type: string; content?: string }[] => {
  const events: { type: string; content?: string }[] = [];
  sseParser({ event: (item) => events.push(JSON.parse(item.text)) }).push(`${text}\n`);
  return events;
};

/** Kinds of events in order, repeated chunks as one, and the text they make. */
const outline = (events: { type: string; content?: string }[]) => ({
  types: events.map((event) => event.type).filter((type, i, all) => type !== all[i - 1]),
  text: events.map((event) => event.content ?? "").join(""),
});

describe.each(["README.md", "README.en.md"])("%s", (file) => {
  let blocks: Block[];
  let folder: Awaited<ReturnType<typeof tempDir>>;
  let gateway: RunningProcess;
  const bots: Bun.Subprocess[] = [];

  const startBot = async (lang: "js" | "python", program: string, id: string) => {
    const source = blocks
      .find((block) => block.lang === lang)!
      .text.replace("127.0.0.1:17392", `127.0.0.1:${gateway.port}`);
    expect(source.trim().split("\n").length).toBeLessThanOrEqual(lang === "js" ? 10 : 11);
    const path = join(folder.path, `bot.${lang}`);
    await Bun.write(path, source);
    const env = { PATH: process.env.PATH ?? "", BOT_TOKEN: TOKEN };
    const bot = Bun.spawn([program, path], { env, cwd: folder.path, stdout: "pipe", stderr: "inherit" });
    bots.push(bot);
    const there = async () => {
      if (bot.exitCode !== null) throw new Error(`the ${lang} bot ended with ${bot.exitCode}`);
      return ((await api(gateway.url)("GET", "/health")).body.botIds as string[]).includes(id);
    };
    await until(there, 10_000, `the ${lang} bot to be online`);
  };

  beforeAll(async () => {
    blocks = blocksOf(await Bun.file(join(ROOT, file)).text());
    folder = await tempDir("readme");
    const displayName = file === "README.md" ? "管理员" : "Admin";
    gateway = await startProcess({
      config: {
        botToken: TOKEN,
        users: { admin: { password: "your-password", displayName }, reader: { password: "your-password" } },
      },
    });
  });
  afterAll(async () => {
    for (const bot of bots) {
      bot.kill("SIGKILL");
      await bot.exited;
    }
    await gateway.stop();
    await folder.remove();
  });

  test("the JavaScript bot connects and answers", async () => {
    await startBot("js", process.execPath, "echo-js");
    const token = await login(gateway.url, "reader", "your-password");
    const answer = await api(gateway.url, token)("POST", "/api/chat", { message: "@echo-js 1+1" });
    expect(answer.body.content).toMatch(/: ?1\+1$|：1\+1$/);
  });

  test("the Python bot connects and answers", async () => {
    const python = findPython();
    if (!python) throw new Error("no Python 3 with the websockets package; `bun run test` says how to get it");
    await startBot("python", python, "echo-py");
    const token = await login(gateway.url, "reader", "your-password");
    const answer = await api(gateway.url, token)("POST", "/api/chat", { message: "@echo-py 1+1" });
    expect(answer.body.content).toMatch(/: ?1\+1$|：1\+1$/);
    bots.pop()?.kill("SIGKILL");
    const gone = async () => (await api(gateway.url)("GET", "/health")).body.bots === 1;
    await until(gone, 5000, "the Python bot to be gone");
  });

  test("the API examples run from top to bottom and answer what stands below them", async () => {
    const section = blocks.filter(isApi);
    const commands = section.filter((block) => block.lang === "bash");
    expect(commands.length).toBeGreaterThan(7);
    // One shell for all of them, as for a reader: variables stay. Each block's output goes to a file of its own.
    const script = commands.map((block, i) => `{\n${block.text}} > ${i}.out`).join("\n");
    const path = join(folder.path, "api.sh");
    await Bun.write(path, `set -euo pipefail\n${script.replaceAll("127.0.0.1:17392", `127.0.0.1:${gateway.port}`)}\n`);
    const shell = Bun.spawn(["bash", path], { cwd: folder.path, stdout: "pipe", stderr: "pipe" });
    const code = await within(shell.exited, 20_000, "the API examples");
    expect(`${code} ${await new Response(shell.stderr).text()}`).toBe("0 ");

    let compared = 0;
    for (const [i, block] of section.entries()) {
      const below = section[i + 1];
      if (block.lang !== "bash" || !below || below.lang === "bash") continue;
      const output = await Bun.file(join(folder.path, `${commands.indexOf(block)}.out`)).text();
      if (below.lang === "sse") expect(outline(eventsOf(output))).toEqual(outline(eventsOf(below.text)));
      else describes(JSON.parse(below.text), JSON.parse(output), `line ${block.line}`);
      compared++;
    }
    expect(compared).toBe(commands.length - 1);
  });

  test("every command of the first sections is one that the tests run", () => {
    const known = [
      "npx -y bun@1.4.5 run demo", // demo, below
      "npx -y bun@1.4.5 run test", // this run; docs.test.ts holds it to .ci/run
      "npx -y bun@1.4.5 install --frozen-lockfile", // tests/run.ts
      "npx -y bun@1.4.5 run build", // binary.test.ts
      "./dist/nexus --version", // binary.test.ts
      "npx -y bun@1.4.5 plugin/build.ts", // openclaw/host.test.ts
    ];
    const shown = blocks
      .filter((block) => block.lang === "bash" && !isApi(block))
      .flatMap((block) => block.text.trim().split("\n"));
    expect(shown).toEqual(known);
  });
});

test("`run demo` prints an address and a password with which one can chat with the demo bot", async () => {
  const demo = Bun.spawn([process.execPath, "run", "demo"], {
    cwd: ROOT,
    env: { PATH: `${join(ROOT, "node_modules/.bin")}:${process.env.PATH}`, HOME: process.env.HOME ?? "", PORT: "0" },
    // Its own group: the runner of the script and the gateway end together.
    detached: true,
    stdout: "pipe",
    stderr: "pipe",
  });
  let output = "";
  const reading = (async () => {
    for await (const piece of demo.stdout) output += new TextDecoder().decode(piece);
  })();
  try {
    const url = await until(() => /http:\/\/localhost:\d+/.exec(output)?.[0], 20_000, "the address of the demo");
    const password = await until(() => /\b[a-z2-9]{5}(?:-[a-z2-9]{5}){3}\b/.exec(output)?.[0], 5000, "its password");
    const call = api(url, await login(url, "admin", password));
    const { bots } = (await call<{ bots: { id: string }[] }>("GET", "/api/bots")).body;
    expect(bots.length).toBe(1);
    const answer = await call("POST", "/api/chat", { message: "你好" });
    expect(answer.status).toBe(200);
    expect(String(answer.body.content).length).toBeGreaterThan(0);
    expect((await fetch(url)).status).toBe(200);
  } finally {
    process.kill(-demo.pid, "SIGTERM");
    await within(demo.exited, 10_000, "the demo to end");
    await within(reading, 5000, "its output to end");
  }
}, 40_000);
