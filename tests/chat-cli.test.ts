/**
 * `nexus chat`: from a pipe as a process, and on a (made-up) terminal inside this process, against a real gateway.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { PassThrough } from "node:stream";
import { run } from "../lib/cli.ts";
import { createClient } from "../lib/cli/client.ts";
import type { Io } from "../lib/cli/command.ts";
import type { ChatFrame } from "../lib/protocol.ts";
import { api, BOT_TOKEN, login, PASSWORD, ROOT, startGateway, until, v2Bot, within, type V2Bot } from "./harness.ts";

let gateway: Awaited<ReturnType<typeof startGateway>>;
let key: string;
/** With --scope all: it may make conversations and list them. */
let wide: string;
let call: ReturnType<typeof api>;
let bot: V2Bot;
let act: (chat: ChatFrame) => void;
const closing: (() => unknown)[] = [];

beforeAll(async () => {
  gateway = await startGateway({ limits: { sendsPerMinute: 0 } });
  call = api(gateway.url, await login(gateway.url));
  key = (await call<{ key: string }>("POST", "/api/keys", { name: "chat" })).body.key;
  wide = (await call<{ key: string }>("POST", "/api/keys", { name: "all", scope: "all" })).body.key;
  bot = await v2Bot(gateway.wsUrl, { register: { token: BOT_TOKEN }, onChat: (chat) => act(chat) });
});
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});
afterAll(async () => {
  await bot.close();
  await gateway.stop();
});

const start = (args: string[], env: Record<string, string> = { NEXUS_KEY: key }) => {
  const child = Bun.spawn([process.execPath, `${ROOT}/server.ts`, "chat", "--server", gateway.url, ...args], {
    env: { PATH: process.env.PATH ?? "", LANG: "en_US.UTF-8", ...env },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
  });
  closing.push(async () => {
    child.kill("SIGKILL");
    await child.exited;
  });
  return child;
};

describe("from a pipe", () => {
  test("the words and what was piped are one message, and only the answer is on standard output", async () => {
    act = (chat) => {
      bot.write(chat, "It was ");
      setTimeout(() => bot.end(chat, "the \u001b[31mdisk"), 30);
    };
    const child = start(["--bot", "bot", "what", "failed?"]);
    child.stdin.write("line 1\nline 2 不够空间\n");
    child.stdin.end();
    expect(await within(child.exited, 10_000, "the answer")).toBe(0);
    // Into a pipe everything goes as it is.
    expect(await new Response(child.stdout).text()).toBe("It was the \u001b[31mdisk\n");
    expect(await new Response(child.stderr).text()).toBe("");
    expect(bot.chats.at(-1)!.content).toBe("what failed?\n\nline 1\nline 2 不够空间");
  });

  test("a failure is a sentence on standard error, and the text before it stays", async () => {
    act = (chat) => {
      bot.write(chat, "half");
      bot.end(chat, "", { error: { code: "x", message: "The bot fell over", retryable: false } });
    };
    const child = start(["hello"]);
    child.stdin.end();
    expect(await within(child.exited, 10_000, "the end")).toBe(1);
    expect(await new Response(child.stdout).text()).toBe("half\n");
    expect(await new Response(child.stderr).text()).toBe("nexus: The bot fell over\n");
  });

  test("--new asks in a conversation of its own, and asks nothing where the key may not make one", async () => {
    act = (chat) => void bot.end(chat, "yes");
    const ask = async (NEXUS_KEY: string, ...args: string[]) => {
      const child = start(args, { NEXUS_KEY });
      child.stdin.end();
      const code = await within(child.exited, 10_000, "the end");
      return { code, err: await new Response(child.stderr).text(), where: bot.chats.at(-1)!.conversationId };
    };
    const usual = await ask(wide, "one");
    const fresh = await ask(wide, "--new", "two");
    const after = await ask(wide, "three");
    expect([usual.code, fresh.code, after.where]).toEqual([0, 0, usual.where]);
    expect(fresh.where).not.toBe(usual.where);
    const asked = bot.chats.length;
    expect(await ask(key, "--new", "four")).toMatchObject({
      code: 1,
      err: "nexus: no conversation was begun: --new needs a key with --scope all (nexus key add USER --scope all)\n",
    });
    expect(bot.chats.length).toBe(asked);
  });

  test("Ctrl-C stops the answer at the bot", async () => {
    act = (chat) => void bot.write(chat, "on and on ");
    const child = start(["talk"]);
    child.stdin.end();
    await within(child.stdout.getReader().read(), 10_000, "the first words");
    child.kill("SIGINT");
    await bot.waitFor("cancel", ({ id }) => id === bot.chats.at(-1)!.id);
    expect(await within(child.exited, 5000, "the end")).toBe(130);
  });

  test("says what is missing: a key, a message, a bot, a gateway", async () => {
    const fault = async (args: string[], env?: Record<string, string>) => {
      const child = start(args, env);
      child.stdin.end();
      return { code: await within(child.exited, 10_000, "the end"), err: await new Response(child.stderr).text() };
    };
    expect(await fault(["x"], {})).toEqual({ code: 2, err: expect.stringContaining("an API key is needed") });
    expect(await fault([])).toEqual({ code: 2, err: expect.stringContaining("nothing to say") });
    expect(await fault(["--bot", "nobody", "x"])).toEqual({
      code: 1,
      err: "nexus: The bot does not exist or is offline\n",
    });
    expect(await fault(["x"], { NEXUS_KEY: "bad" })).toEqual({
      code: 1,
      err: "nexus: the key in NEXUS_KEY is wrong, was removed or has expired; nexus key add makes another\n",
    });
    expect(await fault(["--key-env", "MINE", "x"], { MINE: "nxk_bad" })).toEqual({
      code: 1,
      err: expect.stringContaining("the key in MINE is wrong"),
    });
    const nowhere = await fault(["--server", "http://127.0.0.1:1", "x"]).catch(() => undefined);
    expect(nowhere).toEqual({ code: 2, err: expect.stringContaining("--server is given twice") });
  });
});

test("an answer whose line breaks is followed from where it stopped, once and in order", async () => {
  const pieces = Array.from({ length: 40 }, (_, i) => `${i} `);
  act = (chat) => {
    void (async () => {
      for (const piece of pieces) {
        bot.write(chat, piece);
        await Bun.sleep(15);
      }
      bot.end(chat);
    })();
  };
  let text = "";
  let broken = 0;
  const client = createClient(gateway.url, key, "en");
  const cutting = setInterval(() => {
    // As a proxy that ends every connection: the gateway closes the stream under the reader.
    if (broken >= 2) return;
    broken++;
    gateway.gateway.gate.streams.endWhere(() => true);
  }, 120);
  await client.ask({ message: "count" }, new AbortController().signal, { text: (more) => (text += more) });
  clearInterval(cutting);
  expect(broken).toBe(2);
  expect(text).toBe(pieces.join(""));
});

describe("on a terminal", () => {
  const terminal = async (args: string[], env: Record<string, string> = {}) => {
    const input = new PassThrough();
    let shown = "";
    const output = Object.assign(new PassThrough(), { isTTY: true, columns: 200, rows: 50 });
    output.on("data", (piece) => {
      shown += String(piece);
    });
    const io: Io = {
      stdin: Object.assign(input, { isTTY: true, setRawMode: () => {} }),
      stdout: output,
      stderr: output,
      env: { LANG: "en_US.UTF-8", ...env },
      cwd: "/",
      serve: async () => 0,
    };
    const code = run(["chat", "--server", gateway.url, ...args], io);
    return {
      code,
      shown: () => shown,
      type: (text: string) => void input.write(text),
      sees: (text: string) =>
        until(() => shown.includes(text), 5000, `"${text}" on the terminal, which shows: ${shown}`),
    };
  };

  test("chats in one conversation, stops an answer with Ctrl-C, shows what was said before, hides control codes", async () => {
    act = (chat) => void bot.end(chat, `so \u001b[2J${chat.content}`);
    const one = await terminal(["--user", "user1"]);
    await one.sees("Password of user1");
    one.type(`${PASSWORD}\r`);
    await one.sees("› ");
    one.type("first\r");
    await one.sees("so [2Jfirst");
    const { conversationId } = bot.chats.at(-1)!;
    act = (chat) => void bot.write(chat, "endless");
    one.type("second\r");
    await one.sees("endless");
    one.type("\u0003");
    await one.sees("(stopped)");
    await bot.waitFor("cancel", ({ id }) => id === bot.chats.at(-1)!.id);
    act = (chat) => void bot.end(chat, "fresh");
    one.type("/new\r");
    one.type("third\r");
    await one.sees("fresh");
    one.type("\u0003");
    expect(await within(one.code, 5000, "the end")).toBe(0);
    expect(one.shown()).not.toContain(PASSWORD);
    expect(one.shown()).not.toContain("\u001b[2Jfirst");
    const [third, second, first] = bot.chats.slice(-3).reverse();
    expect([first!.conversationId, second!.conversationId]).toEqual([conversationId, conversationId]);
    expect(third!.conversationId).not.toBe(conversationId);

    const two = await terminal(["--user", "user1", "--bot", "bot"]);
    await two.sees("Password of user1");
    two.type(`${PASSWORD}\r`);
    await two.sees("› ");
    expect(two.shown()).toContain("third");
    expect(two.shown()).toContain("fresh");
    two.type("\u0004");
    expect(await within(two.code, 5000, "the end")).toBe(0);
  });

  test("goes on in the conversation it shows, and with the bot of that one", async () => {
    const other = await v2Bot(gateway.wsUrl, {
      register: { token: BOT_TOKEN, botId: "other" },
      onChat: (chat) => void other.end(chat, "other speaks"),
    });
    closing.push(other.close);
    const { id } = (await call<{ id: string }>("POST", "/api/conversations", { botId: "other" })).body;
    const clientId = crypto.randomUUID();
    await call("POST", `/api/conversations/${id}/messages`, { clientId, content: "earlier words" });
    await other.waitFor("chat", () => true);
    act = (chat) => void bot.end(chat, "the wrong bot");
    const chat = await terminal([], { NEXUS_KEY: wide });
    await chat.sees("earlier words");
    chat.type("more\r");
    await until(() => other.chats.length === 2, 5000, "the other bot to be asked again");
    expect(other.chats.at(-1)!.conversationId).toBe(id);
    chat.type("\u0004");
    expect(await within(chat.code, 5000, "the end")).toBe(0);
  });

  test("with a key for chatting only, --new and /new say what they need, and the chat goes on", async () => {
    act = (chat) => void bot.end(chat, `so ${chat.content}`);
    const chat = await terminal(["--bot", "bot", "--new"], { NEXUS_KEY: key });
    await chat.sees("no conversation was begun: --new needs a key with --scope all");
    chat.type("first\r");
    await chat.sees("so first");
    chat.type("/new\r");
    await chat.sees("no conversation was begun: /new needs a key with --scope all");
    chat.type("second\r");
    await chat.sees("so second");
    expect(bot.chats.at(-1)!.conversationId).toBe(bot.chats.at(-2)!.conversationId);
    chat.type("\u0004");
    expect(await within(chat.code, 5000, "the end")).toBe(0);
  });

  test("a wrong password is told, and nothing else happens", async () => {
    const chat = await terminal(["--user", "user1"]);
    await chat.sees("Password of user1");
    chat.type("wrong\r");
    expect(await within(chat.code, 5000, "the end")).toBe(1);
    expect(chat.shown()).toContain("Wrong username or password");
  });
});
