/**
 * The OpenClaw plugin in parts: reply text, identities, config, package. With a scripted host; its turns and its
 * connection: plugin-turns.test.ts; the same plugin on the real host: tests/openclaw/host.test.ts.
 */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { ROOT, tempDir, until } from "./harness.ts";
import { type Json, createPluginRig, loadPlugin } from "./openclaw/plugin-rig.ts";

const plugin = await loadPlugin();
const { setup, online, after } = createPluginRig(plugin);

describe("one reply out of what a run says", () => {
  /** Plays steps and gives what a reader holds, and how often it was replaced. */
  const play = (steps: (transcript: ReturnType<typeof plugin.createTranscript>) => void) => {
    let text = "";
    let replaced = 0;
    const transcript = plugin.createTranscript({
      write: (more) => {
        text += more;
      },
      replace: (whole) => {
        text = whole;
        replaced++;
      },
    });
    steps(transcript);
    const spoke = transcript.finish();
    return { text, replaced, spoke };
  };

  test("growing text is written piece by piece and the final adds nothing", () => {
    expect(play((t) => ["He", "Hello", "Hello, you"].map(t.partial) && t.say("Hello, you"))).toEqual({
      text: "Hello, you",
      replaced: 0,
      spoke: true,
    });
  });

  test("a revision replaces, and only the message that was revised", () => {
    const { text, replaced } = play((t) => {
      t.partial("First part.");
      t.next();
      t.partial("Secnd");
      t.partial("Second part");
      t.say("Second part.");
    });
    expect([text, replaced]).toEqual(["First part.\n\nSecond part.", 1]);
  });

  test("text before a tool stays, and a message that was streamed is not said again", () => {
    const { text } = play((t) => {
      t.partial("Let me look.");
      t.next();
      t.say("Let me look.");
      t.partial("Found it.");
      t.say("Found it.");
    });
    expect(text).toBe("Let me look.\n\nFound it.");
  });

  test("words before a tool are in the reply once, streamed whole, in part or not at all, and however late their pieces", () => {
    const words = "Let me look.\n\n- here";
    const reply = `${words}\n\nFound it.`;
    const rest = (t: ReturnType<typeof plugin.createTranscript>) => {
      t.next();
      t.partial("Found");
      t.say("Found it.");
    };
    for (const partials of [[], ["Let"], ["Let", words]])
      for (const late of [[], ["Let"], ["Let me look.", words]])
        expect(
          play((t) => {
            for (const text of partials) t.partial(text);
            t.whole(words);
            for (const text of late) t.partial(text);
            rest(t);
          }),
        ).toEqual({ text: reply, replaced: 0, spoke: true });
    const streamed = play((t) => {
      t.partial(words);
      t.next();
      t.whole(words); // told late
      rest(t);
    });
    expect(streamed.text).toBe(reply);
    expect(play((t) => void t.whole("NO_REPLY")).text).toBe("");
  });

  test("without streaming, finished messages are joined", () => {
    expect(play((t) => ["One", "Two", "One"].map(t.say)).text).toBe("One\n\nTwo");
  });

  test("the token for no answer is never shown, whole or in part", () => {
    expect(play((t) => ["N", "NO_", "NO_REPLY"].map(t.partial))).toEqual({ text: "", replaced: 0, spoke: false });
    expect(play((t) => ["N", "No", "No problem"].map(t.partial)).text).toBe("No problem");
  });

  test("notices of the host are shown when nothing else was said, and only then", () => {
    expect(play((t) => t.notice("session reset")).text).toBe("session reset");
    expect(
      play((t) => {
        t.notice("compacting");
        t.say("The answer");
      }).text,
    ).toBe("The answer");
  });
});

describe("who is who", () => {
  test("session keys of different people and conversations never meet, whatever their names", () => {
    const names = [
      "alice",
      "Alice",
      "ALICE",
      "al:ice",
      "al-ice",
      "wecom:corp:zhang",
      "wecom:CORP:zhang",
      "张三",
      "李四",
      "a b",
      "a~b",
    ];
    const keys = names.map((userId) => plugin.person({ userId, userName: "x" }).peerId);
    // As the host folds them.
    expect(new Set(keys.map((key) => key.toLowerCase())).size).toBe(names.length);
    for (const key of keys) expect(key).toMatch(/^[a-z0-9._~-]+$/);
    expect(plugin.person({ userId: "alice", userName: "x" }).peerId).toBe("alice");
    // A v1 display name opens nobody's session.
    expect(plugin.person({ userName: "alice" }).peerId).not.toBe("alice");
    const threads = ["c1", "C1", "c:1"].map(
      (id) => plugin.person({ userId: "a", userName: "x", conversationId: id }).threadId,
    );
    expect(new Set(threads).size).toBe(3);
  });

  test("targets are read as people write them", () => {
    const targets = ["alice", " nexus:alice", "user:alice", "nexus:user:wecom:CORP:zhang", "nexus:", "a\nb"];
    expect(targets.map(plugin.parseTarget)).toEqual([
      "alice",
      "alice",
      "alice",
      "wecom:CORP:zhang",
      undefined,
      undefined,
    ]);
  });

  test("a delivery to a person and to a conversation leads to the session that messages from there lead to", async () => {
    const { channel, gateway, host } = await setup();
    host.script(async (run) => void (await run.deliver({ text: "hi" })));
    await online(gateway);
    const turn = gateway.chat("hello", { userId: "Zhang:San", conversationId: "c5" });
    await until(() => turn.done);
    const context = host.contexts[0];
    const route = channel.messaging.resolveOutboundSessionRoute({
      cfg: {},
      agentId: "main",
      target: `nexus:${context?.sender.id}`,
      threadId: context?.reply.messageThreadId,
    });
    expect(context?.route.dispatchSessionKey).toEndWith(`:direct:${route?.key}`);
    expect(route?.to).toBe("nexus:Zhang:San");
  });
});

describe("the config", () => {
  const read = (nexus: Json, accountId?: string) => plugin.resolveAccount({ channels: { nexus } }, accountId);

  test("the published example lets everybody in; a list narrows it; accounts inherit and overrule", () => {
    const example = { enabled: true, serverUrl: "ws://h/bot-ws", botId: "my-bot", dmPolicy: "open", allowFrom: [] };
    expect(plugin.allowFrom(read(example).config)).toEqual(["*"]);
    expect(plugin.allowFrom(read({ ...example, allowFrom: ["nexus:alice", 7] }).config)).toEqual(["alice", "7"]);
    expect(plugin.allowFrom(read({ ...example, dmPolicy: "allowlist" }).config)).toEqual([]);
    const two = { ...example, accounts: { second: { botId: "other", dmPolicy: "pairing" }, off: { enabled: false } } };
    expect(read(two, "second").config).toMatchObject({
      serverUrl: "ws://h/bot-ws",
      botId: "other",
      dmPolicy: "pairing",
    });
    expect([read(two).enabled, read(two, "second").enabled, read(two, "off").enabled]).toEqual([true, true, false]);
    expect(plugin.listAccountIds({ channels: { nexus: two } }).toSorted()).toEqual(["default", "off", "second"]);
    expect([read({}).configured, read(example).configured]).toEqual([false, true]);
  });

  test("a token that is still a reference is named as such and never sent", async () => {
    const token = { source: "env", provider: "default", id: "MISSING" };
    const { running, account } = await setup({ nexus: { token } });
    await expect(running).rejects.toThrow("could not be resolved");
    expect([plugin.tokenStatus(account.config), plugin.tokenText(account.config)]).toEqual([
      "configured_unavailable",
      undefined,
    ]);
    expect([plugin.tokenStatus({}), plugin.tokenStatus({ token: " t " }), plugin.tokenText({ token: " t " })]).toEqual([
      "missing",
      "available",
      "t",
    ]);
  });

  test("the manifest takes every key of the published example, and refuses what the code does not know", async () => {
    const manifest = await Bun.file(join(ROOT, "plugin/openclaw.plugin.json")).json();
    const { schema } = manifest.channelConfigs.nexus;
    const published = [
      "enabled",
      "serverUrl",
      "botId",
      "botName",
      "token",
      "reconnectInterval",
      "dmPolicy",
      "allowFrom",
    ];
    const keys = [...published, "name", "mediaMaxMb"].toSorted();
    const account = schema.properties.accounts.additionalProperties;
    expect(Object.keys(account.properties).toSorted()).toEqual(keys);
    expect(Object.keys(schema.properties).toSorted()).toEqual([...keys, "accounts", "defaultAccount"].toSorted());
    expect([schema.additionalProperties, account.additionalProperties]).toEqual([false, false]);
    expect(new RegExp(schema.properties.serverUrl.pattern).test("ws://your-server:17392/bot-ws")).toBe(true);
  });

  test("package and manifest agree: one version, one id, the same setup fields, no dependencies", async () => {
    const [pkg, manifest] = await Promise.all(
      ["plugin/package.json", "plugin/openclaw.plugin.json"].map((path) => Bun.file(join(ROOT, path)).json()),
    );
    expect([manifest.version, manifest.id, manifest.channels]).toEqual([
      pkg.version,
      pkg.openclaw.channel.id,
      ["nexus"],
    ]);
    expect(pkg.dependencies).toBeUndefined();
    const { fields } = plugin.createBase().setupContract as unknown as { fields: Record<string, object> };
    expect(pkg.openclaw.channel.setup.fields).toEqual(
      Object.entries(fields).map(([key, field]) => ({ key, ...field })),
    );
  });

  test("channels add writes the root for the first bot and an entry for each further one", async () => {
    const { adapter } = plugin.createBase().setupContract as unknown as {
      adapter: {
        applyAccountConfig(params: object): { channels: { nexus: Json } };
        validateInput(params: object): string | null;
      };
    };
    const input = { serverUrl: "ws://h/bot-ws", botId: "one", token: "t" };
    const first = adapter.applyAccountConfig({ cfg: {}, accountId: "default", input });
    expect(first.channels.nexus).toEqual({ enabled: true, ...input });
    const second = adapter.applyAccountConfig({ cfg: first, accountId: "two", input: { botId: "two" } });
    expect(second.channels.nexus).toEqual({
      enabled: true,
      ...input,
      accounts: { two: { enabled: true, botId: "two" } },
    });
    expect(adapter.validateInput({ input: { serverUrl: "host:17392" } })).toContain("ws://");
    expect(adapter.validateInput({ input: { botId: "a b" } })).toContain("botId");
    expect(adapter.validateInput({ input })).toBeNull();
  });
});

describe("the package", () => {
  test("is compiled, complete, imports the host and Node alone, and is the same bytes each time", async () => {
    const { buildPlugin } = await import("../plugin/build.ts");
    const folder = await tempDir("plugin-build");
    after(folder.remove);
    const first = await Bun.file(await buildPlugin(join(folder.path, "a"))).bytes();
    const second = await Bun.file(await buildPlugin(join(folder.path, "b"))).bytes();
    expect(Bun.hash(first)).toBe(Bun.hash(second));
    const files = new Map<string, string>();
    const tar = Bun.gunzipSync(first);
    for (let at = 0; tar[at] !== 0 && at < tar.length;) {
      const text = (from: number, length: number) => Buffer.from(tar.slice(at + from, at + from + length)).toString();
      const size = Number.parseInt(text(124, 11), 8);
      files.set(text(0, 100).replace(/\0.*$/s, ""), text(512, size));
      at += 512 + Math.ceil(size / 512) * 512;
    }
    const pkg = JSON.parse(files.get("package/package.json") ?? "{}");
    for (const entry of [
      pkg.main,
      ...pkg.openclaw.extensions,
      pkg.openclaw.setupEntry,
      "./dist/secret-contract-api.js",
    ])
      expect([...files.keys()]).toContain(`package/${entry.replace("./", "")}`);
    expect([...files.keys()]).toContain("package/openclaw.plugin.json");
    for (const [name, text] of files)
      if (name.endsWith(".js"))
        for (const [, from] of text.matchAll(/^(?:import|export)[^"']*from ["']([^"']+)["'];?$/gm))
          expect(from).toMatch(/^(node:|openclaw\/plugin-sdk\/|\.\/[\w-]+\.js$)/);
  });
});
