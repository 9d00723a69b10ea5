/**
 * The bot client on Node, which the host runs on: the same file, unchanged, with Node's own WebSocket and fetch.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { ROOT, tempDir, until } from "../harness.ts";
import { installHost } from "./host.ts";
import { createScriptedGateway } from "./scripted-gateway.ts";

const BOT = `
import { connectBot } from ${JSON.stringify(join(ROOT, "plugin", "client.ts"))};
const bot = connectBot({
  url: process.argv[2],
  botId: "node-bot",
  reconnect: { minMs: 20, maxMs: 100 },
  onTurn: async (turn) => {
    for (const file of turn.attachments) turn.write(new TextDecoder().decode(await turn.fetchAttachment(file)) + " ");
    await turn.attach({ name: "big.bin", mime: "application/x-b", data: new Uint8Array(1_200_000) });
    for (let i = 0; i < 60; i++) {
      turn.write("n" + i + " ");
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  },
});
const stored = await bot.send("alice", "from node");
console.log("stored", stored.id, process.versions.node);
process.on("SIGTERM", async () => {
  await bot.close();
  console.log("closed", bot.state.state);
});
`;

test("the client streams, uploads, resumes after a kill and closes under Node", async () => {
  const { node } = await installHost();
  const folder = await tempDir("node-bot");
  await Bun.write(join(folder.path, "bot.mjs"), BOT);
  const gateway = createScriptedGateway();
  gateway.downloads.set("f1", { mime: "text/plain", data: new TextEncoder().encode("downloaded") });
  const child = Bun.spawn([node, join(folder.path, "bot.mjs"), gateway.url], { stdout: "pipe", stderr: "pipe" });
  try {
    await until(() => gateway.messages.size === 1, 20_000, "the first message");
    const turn = gateway.chat("go", {
      attachments: [{ id: "f1", name: "a.txt", mime: "text/plain", size: 10, url: "" }],
    });
    await until(() => turn.stored.text.includes("n10"), 10_000, "some text");
    await gateway.kill();
    gateway.start();
    await until(() => turn.done, 20_000, "the end");
    expect(turn.text).toBe(`downloaded ${Array.from({ length: 60 }, (_, i) => `n${i} `).join("")}`);
    expect([turn.files.length, gateway.uploads.size, gateway.faults]).toEqual([1, 1, []]);
    child.kill("SIGTERM");
    const [code, out, err] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
    expect(code, err).toBe(0);
    expect(out).toMatch(/stored \w+ 24\./);
    expect(out).toContain("closed stopped");
  } finally {
    child.kill("SIGKILL");
    await gateway.stop();
    await folder.remove();
  }
}, 120_000);
