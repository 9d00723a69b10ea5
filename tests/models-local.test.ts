/** A program per message as a bot, and the `models` of the config. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { parseConfig } from "../lib/config.ts";
import { api, login, readSse, startGateway, tempDir, until } from "./harness.ts";
import { PIXEL, startRig } from "./models/rig.ts";

let rig: Awaited<ReturnType<typeof startRig>>;
beforeAll(async () => {
  rig = await startRig();
});
afterEach(() => rig.close());
afterAll(() => rig.gateway.stop());

describe("a program per message", () => {
  const alive = (pid: number): boolean => {
    try {
      process.kill(pid, 0);
    } catch {
      return false;
    }
    // A zombie that its new parent has not looked at yet is dead.
    return !existsSync("/proc/self/stat") || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  };

  test("gets the text on its standard input, the rest in NEXUS_TURN, and streams its output", async () => {
    await rig.start({ command: 'printf "in: "; cat; printf " / "; printf %s "$NEXUS_TURN"', system: "S" });
    const conversationId = await rig.newConversation();
    const { content } = (await rig.ask("the text\nof two lines", { conversationId })).body;
    expect(content).toStartWith("in: the text\nof two lines / {");
    expect(JSON.parse(content.slice(content.indexOf("{")))).toMatchObject({
      conversationId,
      userId: "admin",
      userName: "管理员",
      system: "S",
      source: "api",
      history: [],
    });
  });

  test("gets the longest system prompt that the config allows, with all the history that has room beside it", async () => {
    const system = "系".repeat(33_332);
    await rig.start({ command: 'cat > /dev/null; printf %s "$NEXUS_TURN" | wc -c', system });
    const conversationId = await rig.newConversation();
    for (const question of ["一".repeat(30_000), "二".repeat(30_000), "three"])
      expect(Number((await rig.ask(question, { conversationId })).body.content)).toBeGreaterThan(99_996);
  });

  test("gets files by path, which are gone afterwards", async () => {
    await rig.start({ command: 'printf %s "$NEXUS_TURN"' });
    const { content } = (
      await rig.ask("look", { conversationId: await rig.newConversation(), image: `data:image/png;base64,${PIXEL}` })
    ).body;
    const { files } = JSON.parse(content) as { files: { path: string; mime: string }[] };
    expect(files[0]!.mime).toBe("image/png");
    await until(() => !existsSync(files[0]!.path), 2000, "the folder of the turn to be removed");
  });

  test("that fails says so, with what it wrote kept and its errors to the operator only", async () => {
    const errors: string[] = [];
    await rig.start({ command: "printf half; echo secret-path >&2; exit 3" }, (text) => errors.push(text));
    const answer = await rig.ask("go");
    expect(answer.body.error).toBe("The program did not end well (3)");
    expect(errors.join("")).toBe("secret-path\n");
  });

  test("that ends well without a word has chosen silence", async () => {
    await rig.start({ command: "cat > /dev/null" });
    const stream = await rig.call.stream("/api/chat/stream", { message: "write it down", target: "m" });
    const events = await readSse<{ type: string; finish?: string }>(stream).all(5000);
    expect(events.at(-1)!.data).toEqual({ type: "end", finish: "silent" });
  });

  test("that says nothing for too long is ended", async () => {
    await rig.start({ command: "sleep 60", timeout: 100 });
    expect((await rig.ask("go")).body.error).toBe("The program wrote nothing for 0 s and was stopped");
  });

  test("is killed with everything it started when the turn is cancelled", async () => {
    const folder = await tempDir("command");
    rig.closing.push(folder.remove);
    await rig.start({
      command: `sleep 60 & echo $! > ${folder.path}/child; echo $$ > ${folder.path}/self; echo go; wait`,
    });
    const stream = readSse<{ type: string; turnId: string }>(
      await rig.call.stream("/api/chat/stream", { message: "run", target: "m" }),
    );
    const { data } = await stream.find(({ type }) => type === "start");
    await stream.find(({ type }) => type === "chunk");
    const pids: number[] = [];
    for (const name of ["child", "self"]) pids.push(Number(await Bun.file(`${folder.path}/${name}`).text()));
    expect(pids.every(alive)).toBe(true);
    await rig.call("POST", `/api/turns/${data.turnId}/cancel`);
    await until(() => !pids.some(alive), 4000, "the program and its child to be gone");
  });
});

describe("`models` in the config", () => {
  test("starts them with the gateway, over their own tokens, and follows the config", async () => {
    const token = "nxb_token-of-its-own-1";
    const two = await startGateway({
      models: [{ id: "echo", name: "Echo", echo: true, suggestions: ["hi"] }],
      bots: { own: { token } },
    });
    rig.closing.push(two.stop);
    const admin = api(two.url, await login(two.url));
    const ids = async () => (await admin<{ bots: { id: string }[] }>("GET", "/api/bots")).body.bots.map(({ id }) => id);
    await until(async () => (await ids()).join() === "echo");
    expect((await admin("POST", "/api/chat", { message: "same" })).body.content).toBe("same");
    two.reload({ models: [{ id: "own", command: "tr a-z A-Z" }], bots: { own: { token } } });
    await until(async () => (await ids()).join() === "own");
    expect((await admin("POST", "/api/chat", { message: "loud" })).body.content).toBe("LOUD");
  });

  test("leave what a program complains of to the operator, and how it ended to the log", async () => {
    const words: string[] = [];
    const gateway = await startGateway(
      { models: [{ id: "m", command: "echo oops >&2; exit 3" }] },
      { stderr: (text) => void words.push(text) },
    );
    rig.closing.push(gateway.stop);
    const admin = api(gateway.url, await login(gateway.url));
    await until(async () => (await admin<{ bots: object[] }>("GET", "/api/bots")).body.bots.length === 1);
    expect((await admin("POST", "/api/chat", { message: "go" })).body.code).toBe("bot_failed");
    expect(words.join("")).toBe("oops\n");
    const said = gateway.logs.find(({ event }) => event === "model_failed");
    expect(said?.fields).toMatchObject({ bot: "m", code: "command_failed", cause: "3" });
  });

  test("a key that no header can carry is refused, wherever it comes from, and not repeated", () => {
    const entry = { id: "a", openai: "https://example.com/v1", model: "m" };
    const faultsOf = (key: unknown): string[] => {
      const parsed = parseConfig({ models: [{ ...entry, key }] }, { KEY: "sk-CANARY\nx" }, () => "sk-CANARY中文\n");
      return parsed.ok ? [] : parsed.faults.map(({ path, say }) => `${path}: ${say.en}`);
    };
    for (const key of ["sk-CANARY\u00a0", { env: "KEY" }, { file: "key.txt" }])
      expect(faultsOf(key)).toEqual([
        "models[0].key: printable ASCII characters only; copy the key again, without other words or line breaks",
      ]);
    expect(faultsOf("sk-proj_~!@ +/=")).toEqual([]);
    expect(faultsOf({ env: "NOT_SET" })).toEqual([
      "models[0].key: the environment variable NOT_SET is not set or empty",
    ]);
  });

  test("a program's system prompt that NEXUS_TURN cannot hold is refused, and a service's is not", () => {
    const faultsOf = (entry: object): string[] => {
      const parsed = parseConfig({ models: [{ id: "a", ...entry }] }, {}, () => "");
      return parsed.ok ? [] : parsed.faults.map(({ path, say }) => `${path}: ${say.en}`);
    };
    const system = "系".repeat(50_000);
    expect(faultsOf({ command: "cat", system })).toEqual([
      expect.stringMatching(/^models\[0\]\.system: .* NEXUS_TURN, which cannot hold it: at most 100000 bytes/),
    ]);
    expect(faultsOf({ command: "cat", system: "\n".repeat(50_000) })).toHaveLength(1);
    expect(faultsOf({ command: "cat", system: "系".repeat(33_332) })).toEqual([]);
    expect(faultsOf({ openai: "https://example.com/v1", model: "m", system })).toEqual([]);
  });

  test("names every fault of an entry", async () => {
    const faulty = startGateway({
      models: [{ id: "a" }, { id: "b", openai: "ftp://x" }, { id: "c", openai: "https://example.com/v1" }],
    });
    const said = await faulty.catch((error: Error) => error.message);
    expect(said).toContain("models[0]: exactly one of openai, anthropic, command, echo");
    expect(said).toContain("models[1].openai: an http(s) URL");
    expect(said).toContain("models[2].model: the name of the model is missing");
    const twice = startGateway({
      models: [
        { id: "a", echo: true },
        { id: "a", echo: true },
      ],
    });
    expect(await twice.catch((error: Error) => error.message)).toContain("models[1].id: a stands there twice");
  });
});
