/**
 * The OpenClaw plugin on the real, pinned host, against our real gateway and a fake model: the whole way from a person's
 * message to the agent and back. One host serves all tests; they run in order, and those that kill things come last.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { api, until } from "../harness.ts";
import type { Person } from "./person.ts";
import { BOTS, PNG, type Rig, SECRETS, SLOW_MS, startRig } from "./rig.ts";

let rig: Rig;

beforeAll(async () => {
  rig = await startRig();
}, 480_000);

afterAll(async () => {
  console.log(rig?.took.join("; "));
  await rig?.stop();
}, 120_000);

/** The newest message of a conversation contains `text`. */
const said = (who: Person, conversationId: string, text: string) =>
  until(
    async () => (await who.messages(conversationId)).at(-1)?.content.includes(text),
    SLOW_MS,
    `"${text}" in the answer`,
  );

test("an answer streams in many chunks and is stored as it was streamed", async () => {
  const { alice } = rig;
  const first = await alice.chat("SAY:warm up"); // the host's first run loads its model code
  expect(first.content, JSON.stringify(first)).toBe("You said: warm up");
  const events = await alice.stream("STREAM:40 PACE:30");
  const chunks = events.flatMap((event) => (event.type === "chunk" && event.content ? [event.content] : []));
  expect(chunks.length).toBeGreaterThanOrEqual(5);
  const text = Array.from({ length: 40 }, (_, i) => `word${i}`).join(" ");
  expect(chunks.join("")).toBe(text);
  expect(events.at(-1)).toEqual({ type: "end", finish: "stop" });
  const start = events.find((event) => event.type === "start");
  const stored = await alice.messages(start?.conversationId ?? "");
  const usage = { prompt_tokens: 10, completion_tokens: 10, total_tokens: 20 }; // what the model says of every call
  expect(stored.at(-1)).toMatchObject({ role: "bot", content: text, state: "done", botName: "My Bot", usage });
}, 240_000);

test("every bot of the host is online, the one with the wrong token is not, and the status says why", async () => {
  const { host, took, health, botOnline } = rig;
  for (const id of [BOTS.paired, BOTS.listed, BOTS.secret]) await botOnline(id);
  expect(await health()).not.toContain(BOTS.refused);
  const status = await host.run("channels", "status", "--probe");
  took.push(`channels status --probe ${status.ms} ms`);
  expect(status.code, status.out).toBe(0);
  const line = (account: string) => status.out.split("\n").find((text) => text.includes(`Nexus ${account}`)) ?? "";
  expect(line("default")).toContain("connected");
  expect(line("default")).toContain("works");
  expect(line("secret")).toContain("works");
  expect(line("refused")).not.toContain("works");
  expect(line("refused")).toContain("4501");
  expect(status.out).not.toContain("will be dropped");
}, 240_000);

test("an image reaches the agent as an image, and any file as a file", async () => {
  const { alice } = rig;
  const one = await alice.chat("LOOK", {
    image: `data:image/png;base64,${PNG.toString("base64")}`,
    conversationId: await alice.newConversation(),
  });
  expect(one.content).toContain("image_url");
  const upload = await alice.call<{ id: string }>("POST", "/api/attachments", new TextEncoder().encode("some notes"), {
    headers: { "content-type": "text/plain", "x-filename": "notes.txt" },
  });
  const conversationId = await alice.newConversation();
  const two = await alice.chat("LOOK", { attachments: [upload.body.id], conversationId });
  expect(two.content).not.toContain("files: 0");
}, 240_000);

test("a file of the agent arrives whole, with its text once", async () => {
  const { alice, host } = rig;
  const answer = await alice.chat(`MEDIA:${join(host.workspace, "out.png")}`, {
    conversationId: await alice.newConversation(),
  });
  expect(answer.content).toBe("Here is the file.");
  expect(answer.attachments?.map((file) => file.mime)).toEqual(["image/png"]);
  const [file] = answer.attachments ?? [];
  expect(file && Buffer.from(await alice.download(file)).equals(PNG)).toBe(true);
}, 240_000);

test("text before and after a tool is one answer, and the tool is shown while it runs", async () => {
  const { alice } = rig;
  const events = await alice.stream("TOOL", { conversationId: await alice.newConversation() });
  const text = events.map((event) => (event.type === "chunk" ? event.content : "")).join("");
  expect(text).toBe("Let me look.\n\nThe tool is done. All good.");
  const tools = events.flatMap((event) => (event.type === "activity" && event.tool ? [event.tool] : []));
  expect(tools.map((tool) => [tool.name, tool.phase, tool.ok])).toEqual([
    ["ls", "start", undefined],
    ["ls", "end", true],
  ]);
  // The host tells of such words in another way when they come in one piece with the tool.
  const atOnce = await alice.chat("TOOL PACE:0", { conversationId: await alice.newConversation() });
  expect(atOnce.content).toBe(text);
}, 240_000);

test("two people and two conversations never share a memory", async () => {
  const { alice, bob, carol } = rig;
  const [one, two] = [await alice.newConversation(), await alice.newConversation()];
  await alice.chat("SAY:ok MARK-alpha", { conversationId: one });
  await alice.chat("SAY:ok MARK-beta", { conversationId: two });
  const theirs = await bob.newConversation();
  await bob.chat("SAY:ok MARK-gamma", { conversationId: theirs });
  const recall = async (who: Person, conversationId: string) => (await who.chat("RECALL", { conversationId })).content;
  expect(await recall(alice, one)).toBe("I remember: MARK-alpha.");
  expect(await recall(alice, two)).toBe("I remember: MARK-beta.");
  expect(await recall(bob, theirs)).toBe("I remember: MARK-gamma.");
  expect(await recall(carol, await carol.newConversation())).toBe("I remember: nothing.");
}, 240_000);

test("messages sent while one is being answered get answers of their own, in order", async () => {
  const { alice } = rig;
  const conversationId = await alice.newConversation();
  const first = await alice.post(conversationId, "STREAM:20 PACE:40");
  const second = await alice.post(conversationId, "SAY:second");
  const third = await alice.post(conversationId, "SAY:third");
  const answers = await Promise.all([first, second, third].map((turn) => alice.settled(conversationId, turn)));
  expect(answers.map((answer) => answer.state)).toEqual(["done", "done", "done"]);
  expect(answers[0]?.content).toContain("word19");
  expect(answers.slice(1).map((answer) => answer.content)).toEqual(["You said: second", "You said: third"]);
}, 240_000);

test("cancel stops the run at the model, and the next message is answered", async () => {
  const { alice, model } = rig;
  const conversationId = await alice.newConversation();
  const cut = model.cut;
  const turn = await alice.post(conversationId, "FOREVER");
  await said(alice, conversationId, "on and on");
  const cancelled = await alice.call("POST", `/api/turns/${turn}/cancel`);
  expect(cancelled.status).toBeLessThan(300);
  const message = await alice.settled(conversationId, turn);
  expect(message.state).toBe("cancelled");
  expect(message.content).toContain("on and on");
  await until(() => model.cut > cut, SLOW_MS, "the host to leave the model");
  expect((await alice.chat("SAY:after", { conversationId })).content).toBe("You said: after");
}, 240_000);

test("/status is answered at once and /stop ends a running answer", async () => {
  const { alice, model } = rig;
  const conversationId = await alice.newConversation();
  const cut = model.cut;
  const turn = await alice.post(conversationId, "FOREVER");
  await said(alice, conversationId, "on and on");
  const status = await alice.chat("/status", { conversationId });
  expect(status.content).toContain("OpenClaw");
  const stop = await alice.chat("/stop", { conversationId });
  expect(stop.status).toBe(200);
  expect(stop.content).not.toBe("");
  const message = await alice.settled(conversationId, turn);
  expect(["done", "cancelled", "failed"]).toContain(message.state);
  await until(() => model.cut > cut, SLOW_MS, "the host to leave the model");
}, 240_000);

test("a model that fails ends the turn with a named error", async () => {
  const { alice } = rig;
  const answer = await alice.chat("FAIL", { conversationId: await alice.newConversation() });
  expect(answer.status).toBe(502);
  expect(answer.error).toContain("LLM request failed");
}, 240_000);

test("an agent that will not say a word ends the turn by the host's rule, and its token is never shown", async () => {
  const { alice } = rig;
  const ask = async (words: string) => {
    const conversationId = await alice.newConversation();
    return { answer: await alice.chat(words, { conversationId }), stored: await alice.messages(conversationId) };
  };
  // In a direct chat this host wants an answer: it asks the model again, then says itself that there is none.
  const silent = await ask("SILENT");
  expect([silent.answer.status, silent.answer.error]).toEqual([502, expect.stringContaining("couldn't generate")]);
  expect(silent.stored.at(-1)).toMatchObject({ role: "bot", state: "failed", content: "" });
  const acted = await ask("SEND:carol QUIET");
  expect(acted.answer.content).toContain("no final summary");
  expect(JSON.stringify([silent, acted])).not.toContain("NO_REPLY");
}, 240_000);

test("pairing: a stranger gets a code, and is let in by the approval", async () => {
  const { alice, bob, host, took, restarted } = rig;
  const refused = await bob.chat("SAY:let me in", { target: BOTS.paired });
  const code = /openclaw pairing approve nexus (?:--account \S+ )?(\S+)/.exec(refused.content ?? "")?.[1] ?? "";
  expect(code, refused.content).toMatch(/^[A-Z0-9]{6,}$/);
  const again = await bob.chat("SAY:and now?", { target: BOTS.paired });
  expect(again.content).not.toContain("You said");
  const printed = host.output.length;
  const approved = await host.run("pairing", "approve", "nexus", code, "--account", "paired");
  took.push(`pairing approve ${approved.ms} ms`);
  expect(approved.code, approved.out).toBe(0);
  // The first approval makes its sender the owner, and the host restarts its channels for that: every bot goes and returns.
  await restarted(printed);
  expect((await bob.chat("SAY:thanks", { target: BOTS.paired })).content).toBe("You said: thanks");
  const stranger = await alice.chat("SAY:me too", { target: BOTS.paired });
  expect(stranger.content).toContain("openclaw pairing approve nexus");
}, 240_000);

test("allow list: usernames decide, display names do not", async () => {
  const { alice, bob, carol, botOnline } = rig;
  await botOnline(BOTS.listed);
  expect((await alice.chat("SAY:hello", { target: BOTS.listed })).content).toBe("You said: hello");
  for (const stranger of [bob, carol]) {
    const answer = await stranger.chat("SAY:hello", { target: BOTS.listed });
    expect(answer.status).toBe(502);
    expect(answer.error).toContain("not on this bot's list");
  }
}, 240_000);

test("the command line and the message tool reach a person's inbox with a receipt; nobody is a loud failure", async () => {
  const { alice, bob, host, took, botOnline } = rig;
  await botOnline(BOTS.default);
  const send = (to: string, ...more: string[]) =>
    host.run("message", "send", "--channel", "nexus", "--target", to, ...more);
  // One after the other: the host lets one command at a time write its state.
  const sent = await send("bob", "--message", "news from the command line", "--media", join(host.workspace, "out.png"));
  took.push(`message send ${sent.ms} ms`);
  expect(sent.code, sent.out).toBe(0);
  expect(sent.out).toMatch(/Message ID: \S+/);
  const nobody = await send("nobody-here", "--message", "lost");
  expect(nobody.code, nobody.out).not.toBe(0);
  expect(nobody.out).toContain("not delivered to nobody-here");
  expect(nobody.out).not.toContain("✅");
  const tool = await alice.chat("SEND:bob", { conversationId: await alice.newConversation() });
  expect(tool.status).toBe(200);
  const news = await bob.received("news from the command line");
  expect(news.attachments.map((file) => file.mime)).toEqual(["image/png"]);
  await bob.received("hello from the message tool");
}, 480_000);

test("what a scheduled job says reaches the person it is for", async () => {
  const { host, bob, took } = rig;
  // Due when the command line is surely gone: the host's delivery needs the lock that it holds.
  const at = new Date(Date.now() + Math.max(15_000, 3 * host.lastRunMs)).toISOString();
  const added = await host.run(
    ...["cron", "add", "--name", "remind", "--at", at, "--session", "isolated", "--message", "SAY:cron time"],
    ...["--announce", "--channel", "nexus", "--to", "bob"],
  );
  expect(added.code, added.out).toBe(0);
  took.push(`cron add ${added.ms} ms`);
  await bob.received("You said: cron time", 240_000);
}, 480_000);

test("what a heartbeat says reaches the person it is for", async () => {
  const { host, bob, took } = rig;
  const woken = await host.run("system", "event", "--text", "SAY:the heart beats", "--mode", "now");
  expect(woken.code, woken.out).toBe(0);
  took.push(`system event ${woken.ms} ms`);
  await bob.received("You said: the heart beats", 120_000);
}, 240_000);

test("a v1 gateway gets the same bot for plain chat", async () => {
  const { v1 } = rig;
  const { body } = await api(v1.url)<{ token: string }>("POST", "/api/login", { username: "admin", password: "pw" });
  await until(
    async () => ((await (await fetch(`${v1.url}/health`)).json()) as { bots: number }).bots === 1,
    60_000,
    "the bot at the v1 gateway",
  );
  const call = api(v1.url, body.token);
  const answer = await call<{ content: string }>("POST", "/api/chat", { message: "SAY:old times" });
  expect(answer.body.content).toBe("You said: old times");
  const stream = await (await call.stream("/api/chat/stream", { message: "STREAM:20 PACE:30" })).text();
  expect(stream.match(/"type":"chunk"/g)?.length).toBeGreaterThanOrEqual(5);
  expect(stream).toContain('"type":"end"');
}, 240_000);

test("a gateway killed in the middle of an answer has the whole answer after it is back", async () => {
  const { alice } = rig;
  const conversationId = await alice.newConversation();
  const turn = await alice.post(conversationId, "STREAM:150 PACE:20");
  await said(alice, conversationId, "word20");
  await rig.killGateway();
  const message = await alice.settled(conversationId, turn, 60_000);
  expect(message.state).toBe("done");
  expect(message.content).toBe(Array.from({ length: 150 }, (_, i) => `word${i}`).join(" "));
}, 240_000);

test("a changed allow list counts at once, without a restart of the host", async () => {
  const { bob, host, botOnline } = rig;
  await botOnline(BOTS.listed);
  expect((await bob.chat("SAY:now?", { target: BOTS.listed })).status).toBe(502);
  const set = await host.run("config", "set", "channels.nexus.accounts.listed.allowFrom", '["alice","bob"]');
  expect(set.code, set.out).toBe(0);
  await until(
    async () => (await bob.chat("SAY:now?", { target: BOTS.listed })).content === "You said: now?",
    60_000,
    "bob to be let in",
  );
}, 240_000);

test("a host killed in the middle of an answer ends it by name on its return, and remembers the conversation", async () => {
  const { alice, host, took, botOnline } = rig;
  await botOnline(BOTS.default);
  const conversationId = await alice.newConversation();
  await alice.chat("SAY:ok MARK-delta", { conversationId });
  const turn = await alice.post(conversationId, "STREAM:100 PACE:50");
  await said(alice, conversationId, "word10");
  await host.stop("SIGKILL");
  const restartedAt = performance.now();
  host.start();
  const message = await alice.settled(conversationId, turn, 90_000);
  took.push(`host back after ${Math.round(performance.now() - restartedAt)} ms`);
  expect(message.state).toBe("failed");
  expect(message.content).toContain("word10");
  await botOnline(BOTS.default);
  // The host itself goes on with the run it was torn from; the plugin brings the result to the same conversation.
  const whole = await until(
    async () => (await alice.messages(conversationId)).find((entry) => entry.content.endsWith("word99")),
    120_000,
    "the answer of the run that the host took up again",
  );
  expect(whole.content).toStartWith("word0 word1 word2");
  const recall = await alice.chat("RECALL", { conversationId });
  expect(recall.content).toContain("MARK-delta");
}, 400_000);

test("a host that is asked to stop finishes what it is saying, then leaves", async () => {
  const { alice, host, health } = rig;
  const conversationId = await alice.newConversation();
  const turn = await alice.post(conversationId, "STREAM:60 PACE:50");
  await said(alice, conversationId, "word5");
  await host.stop("SIGTERM");
  const message = await alice.settled(conversationId, turn, 5_000);
  expect(message.state).toBe("done");
  expect(message.content).toEndWith("word59");
  expect(await health()).toEqual([]);
  expect(host.output).toContain("[default] stopped");
  for (const secret of SECRETS) expect(host.output).not.toContain(secret);
}, 240_000);
