/** The OpenClaw plugin between a scripted host and a scripted gateway: turns, access, proactive messages, connection. */
import { describe, expect, test } from "bun:test";
import { until } from "./harness.ts";
import { type Account, type Json, createPluginRig, loadPlugin } from "./openclaw/plugin-rig.ts";
import { NotDispatched, type Run } from "./openclaw/scripted-host.ts";

const plugin = await loadPlugin();
const { setup, online } = createPluginRig(plugin);

describe("a turn", () => {
  test("streams, shows typing and tools, and ends once", async () => {
    const { gateway, host } = await setup({ nexus: { botName: "Bot", token: "t" } });
    host.script(async (run) => {
      await run.typing();
      for (const text of ["Let", "Let me look."]) {
        run.partial(text);
        await Bun.sleep(2);
      }
      run.item({ toolCallId: "c1", kind: "tool", name: "ls", phase: "start", status: "running" });
      run.item({ toolCallId: "c1", kind: "tool", name: "ls", phase: "end", status: "failed" });
      run.item({ toolCallId: "p", kind: "preamble", name: "Preamble", phase: "end" });
      run.nextMessage();
      run.partial("Done.");
      await run.deliver({ text: "Done." });
    });
    await online(gateway);
    expect(gateway.registers[0]).toMatchObject({ botId: "bot", botName: "Bot", token: "t", proto: 2 });
    const turn = gateway.chat("go");
    await until(() => turn.done);
    expect(turn.text).toBe("Let me look.\n\nDone.");
    expect(turn.events.map((event) => event.tool ?? event.kind)).toEqual([
      "typing",
      { id: "c1", name: "ls", phase: "start" },
      { id: "c1", name: "ls", phase: "end", ok: false },
    ]);
    expect(turn.done?.error).toBeUndefined();
    expect(gateway.faults).toEqual([]);
  });

  test("a host that gives only an error fails the turn with its words; an answer after it wins", async () => {
    const { gateway, host } = await setup();
    host.script(async (run) => {
      await run.deliver({ text: "the tool broke", isError: true });
      if (run.text === "recovers") await run.deliver({ text: "but here is the answer" });
    });
    await online(gateway);
    const [failed, answered] = [
      gateway.chat("fails", { conversationId: "c1" }),
      gateway.chat("recovers", { conversationId: "c2" }),
    ];
    await until(() => failed.done && answered.done);
    expect(failed.done?.error).toEqual({ code: "agent_failed", message: "the tool broke", retryable: false });
    expect([answered.text, answered.done?.error]).toEqual(["but here is the answer", undefined]);
  });

  test("silence is silence, a host that takes nothing is an error, a host that throws is a plain one", async () => {
    const { gateway, host, logs } = await setup();
    host.script(async (run) => {
      if (run.text === "throw") throw new Error("secret detail");
    });
    await online(gateway);
    const silent = gateway.chat("nothing", { conversationId: "c1" });
    const thrown = gateway.chat("throw", { conversationId: "c2" });
    await until(() => silent.done && thrown.done);
    host.takes(false);
    const refused = gateway.chat("anything");
    await until(() => refused.done);
    expect([silent.done?.finish, silent.text]).toEqual(["silent", ""]);
    expect(thrown.done?.error?.code).toBe("bot_failed");
    expect(JSON.stringify(gateway.raw)).not.toContain("secret detail");
    expect(logs.join()).toContain("secret detail");
    expect(refused.done?.error?.code).toBe("not_dispatched");
  });

  test("has the words before a tool that came in one piece with it, as they were written", async () => {
    const { gateway, host } = await setup();
    host.script(async (run) => {
      const [first, second] = ["Let me look:\n\n- here", "And there."];
      run.nextMessage();
      run.item({ kind: "preamble", phase: "update", progressText: "Let me look: - here" });
      run.wrote({ role: "assistant", content: [{ type: "text", text: `${first} ` }, { type: "toolCall" }] });
      run.item({ kind: "preamble", phase: "end", progressText: "Let me look: - here" });
      run.nextMessage();
      run.item({ kind: "preamble", phase: "end", progressText: second });
      run.nextMessage();
      run.partial("Nothing.");
      await run.deliver({ text: "Nothing." });
    });
    await online(gateway);
    const turn = gateway.chat("go");
    await until(() => turn.done);
    expect(turn.text).toBe("Let me look:\n\n- here\n\nAnd there.\n\nNothing.");
    expect(turn.events).toEqual([]);
  });

  test("carries the tokens of its own model calls, and of nobody else's", async () => {
    const { gateway, host } = await setup();
    const spent = (input: number, output: number) => ({ role: "assistant", usage: { input, output, cacheRead: 100 } });
    host.script(async (run) => {
      run.wrote({ role: "user", content: "no usage" });
      run.wrote(spent(7, 3));
      run.wrote(spent(1000, 1000), "agent:main:nexus:default:direct:somebody:thread:else");
      run.wrote(spent(5, 2));
      run.wrote({ role: "assistant", usage: null });
      await run.deliver({ text: "done" });
      if (run.text === "throws") throw new Error("after all");
    });
    await online(gateway);
    const turns = ["answers", "/status", "throws"].map((text) => gateway.chat(text, { conversationId: text }));
    await until(() => turns.every((turn) => turn.done));
    expect(turns.map((turn) => turn.done?.usage)).toEqual([
      { prompt_tokens: 212, completion_tokens: 5, total_tokens: 217 },
      undefined,
      undefined,
    ]);
    expect(host.listening).toBe(0);
  });

  test("a host whose lock is taken or whose config changed gets the message once more, unless it had begun with it", async () => {
    const { gateway, host } = await setup();
    const runs: string[] = [];
    host.script(async (run) => {
      runs.push(run.text);
      const lock = Object.assign(new Error("busy"), { name: "StateDatabaseCoordinatorContentionError" });
      if (run.text === "begun") run.begin();
      if (run.text === "begun" || runs.filter((text) => text === "waits").length === 1) throw lock;
      if (run.text === "reloads" && runs.filter((text) => text === "reloads").length === 1)
        throw new Error("prepared model runtime plugin generation was superseded for /somewhere");
      await run.deliver({ text: "after all" });
    });
    await online(gateway);
    const [waits, begun, reloads] = [
      gateway.chat("waits", { conversationId: "c1" }),
      gateway.chat("begun", { conversationId: "c2" }),
      gateway.chat("reloads", { conversationId: "c3" }),
    ];
    await until(() => waits.done && begun.done && reloads.done);
    expect([waits.text, reloads.text, begun.done?.error?.code, runs.toSorted()]).toEqual([
      "after all",
      "after all",
      "bot_failed",
      ["begun", "reloads", "reloads", "waits", "waits"],
    ]);
  });

  test("files come in as media and go out as attachments; one that fails does not lose the answer", async () => {
    const { gateway, host, logs } = await setup({ nexus: { mediaMaxMb: 1 } });
    host.script(async (run) => {
      await run.deliver({ text: "Here.", mediaUrls: ["/allowed/a.png"] }, "block");
      await run.deliver({ text: "Here." });
      await run.deliver({ mediaUrl: "/etc/passwd" }, "tool");
    });
    await online(gateway);
    const file = { mime: "text/plain", url: "" };
    const turn = gateway.chat("look", {
      attachments: [
        { ...file, id: "f1", name: "a.txt", size: 5, data: btoa("hello") },
        { ...file, id: "f2", name: "huge.bin", size: 2_000_000 },
      ],
    });
    await until(() => turn.done);
    expect(host.saved).toEqual([{ name: "a.txt", bytes: "hello" }]);
    expect(host.contexts[0]?.media).toMatchObject([{ path: "/media/a.txt", contentType: "text/plain" }]);
    expect(host.contexts[0]?.message.bodyForAgent).toBe("look\n[a file could not be read: huge.bin]");
    expect([turn.text, turn.files]).toEqual([
      "Here.",
      [{ name: "a.png", mime: "image/png", data: btoa("bytes of /allowed/a.png") }],
    ]);
    expect(logs.join()).toContain("path not allowed");
  });

  test("messages of one conversation wait for each other, other conversations and commands do not", async () => {
    const { gateway, host } = await setup();
    const order: string[] = [];
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    host.script(async (run: Run) => {
      order.push(`${run.text} begins`);
      if (run.text === "slow") await held;
      await run.deliver({ text: `answer to ${run.text}` });
      order.push(`${run.text} ends`);
    });
    await online(gateway);
    const slow = gateway.chat("slow");
    await until(() => order.length === 1);
    const next = gateway.chat("next");
    const other = gateway.chat("other", { conversationId: "c2" });
    const command = gateway.chat("/status");
    const dropped = gateway.chat("dropped");
    await until(() => other.done && command.done);
    gateway.cancel(dropped);
    expect([next.done, slow.done]).toEqual([undefined, undefined]);
    release();
    await until(() => slow.done && next.done);
    expect(order.filter((entry) => /slow|next|dropped/.test(entry))).toEqual([
      "slow begins",
      "slow ends",
      "next begins",
      "next ends",
    ]);
    expect(next.text).toBe("answer to next");
    expect(host.contexts.find((context) => context.message.rawBody === "/status")?.command).toMatchObject({
      name: "status",
    });
  });

  test("cancel reaches the run as its own signal, and a stop of the channel does not", async () => {
    const { gateway, host, end } = await setup();
    const aborted: string[] = [];
    host.script(async (run) => {
      run.partial("working");
      await new Promise<void>((resolve) => {
        run.signal.addEventListener("abort", () => resolve());
        if (run.text === "short") setTimeout(resolve, 100);
      });
      if (run.signal.aborted) aborted.push(run.text);
      else await run.deliver({ text: "working, done" });
    });
    await online(gateway);
    const long = gateway.chat("long", { conversationId: "c1" });
    const short = gateway.chat("short", { conversationId: "c2" });
    await until(() => long.text === "working" && short.text === "working");
    gateway.cancel(long);
    await until(() => aborted.length === 1);
    await end();
    expect(aborted).toEqual(["long"]);
    expect([short.text, short.done?.error]).toEqual(["working, done", undefined]);
  });
});

describe("who may write", () => {
  const answer = async (run: Run) => void (await run.deliver({ text: "welcome" }));

  test("pairing: a code once, then waiting, then in by the approved user id and no other", async () => {
    const { gateway, host } = await setup({ nexus: { dmPolicy: "pairing" } });
    host.script(answer);
    await online(gateway);
    const ask = async (fields: Json) => {
      const turn = gateway.chat("hi", fields);
      await until(() => turn.done);
      return turn.text;
    };
    expect(await ask({ userId: "bob" })).toContain("pairing code for bob");
    expect(await ask({ userId: "bob" })).toContain("waiting for approval");
    host.pairing.approved.push("bob");
    expect(await ask({ userId: "bob" })).toBe("welcome");
    expect(await ask({ userId: "mallory", userName: "bob", from: "bob" })).toContain("pairing code for mallory");
  });

  test("allow list: by user id, case and all; a display name opens nothing", async () => {
    const { gateway, host } = await setup({ nexus: { dmPolicy: "allowlist", allowFrom: ["nexus:alice"] } });
    host.script(answer);
    await online(gateway);
    const turns = [{ userId: "alice" }, { userId: "Alice" }, { userId: "carol", userName: "alice", from: "alice" }].map(
      (fields) => gateway.chat("hi", fields),
    );
    await until(() => turns.every((turn) => turn.done));
    expect(turns.map((turn) => turn.done?.error?.code ?? turn.text)).toEqual(["welcome", "forbidden", "forbidden"]);
  });

  test("a v1 gateway: open lets people in, a list does not believe names, and says so", async () => {
    const open = await setup({ gateway: { proto: 1 } });
    open.host.script(answer);
    await online(open.gateway);
    const welcome = open.gateway.chat("hi");
    await until(() => welcome.done);
    expect(welcome.text).toBe("welcome");
    const listed = await setup({ gateway: { proto: 1 }, nexus: { dmPolicy: "allowlist", allowFrom: ["Alice"] } });
    listed.host.script(answer);
    await online(listed.gateway);
    const refused = listed.gateway.chat("hi");
    await until(() => refused.done);
    expect(refused.text).toContain("too old to say who you are");
    expect([open.gateway.faults, listed.gateway.faults]).toEqual([[], []]);
  });
});

describe("what the agent sends by itself", () => {
  test("is stored under the host's delivery id before it counts as sent", async () => {
    const { gateway, channel, cfg } = await setup();
    await online(gateway);
    const { sendText } = channel.outbound.attachedResults;
    const steps: string[] = [];
    const sent = await sendText({
      cfg,
      to: "nexus:alice",
      text: "news",
      mediaUrl: "/allowed/chart.png",
      deliveryQueueId: "q7",
      deliveryPartIndex: 1,
      onPlatformSendDispatch: async () => void steps.push("dispatch"),
      assertDirectAdapterHandoff: () => void steps.push("handoff"),
    });
    expect(sent).toEqual({ messageId: "openclaw-q7-1", to: "alice" });
    expect(steps).toEqual(["dispatch", "handoff"]);
    expect(gateway.messages.get("openclaw-q7-1")).toMatchObject({
      to: { userId: "alice" },
      content: "news",
      attachments: [{ name: "chart.png", mime: "image/png" }],
    });
    const threaded = await sendText({ cfg, to: "alice", text: "there", threadId: "c9" });
    expect(gateway.messages.get(threaded.messageId)?.to).toEqual({ conversationId: "c9" });
    await channel.pairing.notifyApproval({ cfg, id: "bob" });
    expect([...gateway.messages.values()].at(-1)?.to).toEqual({ userId: "bob" });
  });

  test("fails as not sent when the gateway refuses, is away, or nobody is named", async () => {
    const refuse = () => ({ code: "not_found", message: "no such user" });
    const { gateway, channel, cfg, end } = await setup({ gateway: { onMessage: refuse } });
    await online(gateway);
    const { sendText } = channel.outbound.attachedResults;
    const failure = (fields: Json) => sendText({ cfg, to: "alice", text: "x", ...fields }).catch((error) => error);
    // The gateway may see the connection a moment before the channel knows of it.
    let refused = await failure({});
    for (let i = 0; i < 100 && refused.message.includes("not started"); i++) {
      await Bun.sleep(10);
      refused = await failure({});
    }
    expect(refused).toBeInstanceOf(NotDispatched);
    expect([refused.message, refused.retryable]).toEqual([
      "nexus: not delivered to alice: no such user (not_found)",
      false,
    ]);
    expect((await failure({ to: "nexus:" })).message).toContain("names no gateway user");
    expect((await failure({ mediaUrl: "/etc/passwd" })).message).toContain("could not be read");
    await end();
    const away = await failure({});
    expect(away).toBeInstanceOf(NotDispatched);
    expect([away.message, away.retryable]).toEqual([
      "nexus: account default is not connected to its gateway (not started)",
      true,
    ]);
  });
});

describe("the connection", () => {
  test("its state is published, lost and found again, with one line per outage", async () => {
    const { gateway, statuses, logs, host } = await setup();
    host.script(async (run) => void (await run.deliver({ text: "ok" })));
    await until(() => statuses.at(-1)?.connected === true); // the gateway has it online a moment before it hears so
    expect(statuses.map((status) => status.lifecycle)).toEqual(["starting", "ready"]);
    await gateway.kill();
    await until(() => statuses.filter((status) => status.lifecycle === "recovering").length >= 3, 5000, "three tries");
    expect(logs.filter((line) => line.includes("not connected"))).toHaveLength(1);
    gateway.start();
    await online(gateway);
    await until(() => statuses.at(-1)?.connected === true);
    expect(statuses.at(-1)).toMatchObject({ lifecycle: "ready", lastError: null });
    expect(logs.every((line) => line.startsWith("[default] "))).toBe(true);
  });

  test("a refused token blocks the account with the reason, and is not tried again", async () => {
    const { gateway, statuses, end } = await setup({ gateway: { token: "right" }, nexus: { token: "wrong" } });
    await until(() => statuses.at(-1)?.lifecycle === "blocked");
    expect(statuses.at(-1)).toMatchObject({ connected: false, terminalDisconnect: true });
    expect(statuses.at(-1)?.lastError).toContain("4501 (Invalid token)");
    await Bun.sleep(400);
    expect(gateway.registers.length).toBe(1);
    await end();
    expect(statuses.at(-1)).toMatchObject({ lifecycle: "stopped", running: false });
  });

  test("a new process of the host ends what the old one had open", async () => {
    const { gateway, host, statuses, end, start } = await setup();
    host.script((run) => {
      run.partial("half");
      return new Promise(() => {});
    });
    await online(gateway);
    const turn = gateway.chat("go");
    await until(() => turn.stored.text === "half");
    // The line is cut first, so the gateway hears nothing of the end of the old one, as when a process dies.
    await gateway.kill();
    await until(() => statuses.at(-1)?.connected === false);
    await end();
    gateway.start();
    start();
    await until(() => turn.done);
    expect([turn.text, turn.done?.error?.code, gateway.faults]).toEqual(["half", "bot_restarted", []]);
  });

  test("the probe connects for real, and asks a running account instead of throwing it out", async () => {
    const { gateway, channel, account, end } = await setup({ gateway: { token: "right" }, nexus: { token: "right" } });
    await online(gateway);
    const probe = (over: Partial<Account> = {}) =>
      channel.status.probeAccount({ account: { ...account, ...over }, timeoutMs: 1000 });
    expect(await probe()).toMatchObject({ ok: true, proto: 2 });
    expect(gateway.registers.length).toBe(1);
    await end();
    expect(await probe()).toMatchObject({ ok: true, proto: 2 });
    expect(gateway.registers.length).toBe(2);
    await until(() => gateway.online === 0, 5000, "the probe to leave");
    const wrong = await probe({ config: { ...account.config, token: "wrong" } });
    expect([wrong.ok, wrong.error]).toEqual([false, "Invalid token"]);
    const nowhere = await probe({ config: { ...account.config, serverUrl: "ws://127.0.0.1:1/bot-ws" } });
    expect([nowhere.ok, nowhere.error]).toEqual([false, "no connection to ws://127.0.0.1:1/bot-ws"]);
    expect((await probe({ config: {} })).error).toContain("needs serverUrl and botId");
  });
});
