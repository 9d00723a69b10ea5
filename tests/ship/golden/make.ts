/**
 * `bun tests/ship/golden/make.ts <source tree> <schema>`: makes schema-<n>.db.gz and .json beside this file, the store of that version
 * as a `kill -9` leaves it in the middle of an answer. Run once per schema, from the last tree that had it; the files stay.
 *
 * Done for 1: the tree before the table of people, with entry 0 of MIGRATIONS as it stands now; before 0.1.0 is released that
 * entry may change, and then this file is made again.
 */
import { Database } from "bun:sqlite";
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { v1Bot, v2Bot } from "../../harness/bots.ts";
import { api, login } from "../../harness/client.ts";
import { BOT_TOKEN, testConfig } from "../../harness/config.ts";
import { startProcess } from "../../harness/process.ts";
import { tempDir, until, within } from "../../harness/wait.ts";

const [tree = "", schema = ""] = process.argv.slice(2);
const folder = await tempDir("golden");
const run = [process.execPath, join(resolve(tree), "server.ts")];
const gateway = await startProcess({ run, cwd: folder.path, config: testConfig() });
const token = await login(gateway.url);
const call = api(gateway.url, token);

const plain = await v1Bot(gateway.wsUrl, { botId: "plain", token: BOT_TOKEN });
const answered = (await call("POST", "/api/chat", { message: "季度数字", target: "plain" })).body;
await plain.close();
const key = (await call("POST", "/api/keys", { name: "golden", scope: "all" })).body;
const bytes = new TextEncoder().encode("an attachment of the golden store\n");
const headers = { "content-type": "text/plain", "x-filename": "golden.txt" };
const attachment = (await call("POST", "/api/attachments", bytes, { headers })).body;

const bot = await v2Bot(gateway.wsUrl, {
  register: { botId: "resumes", token: BOT_TOKEN, instanceId: "one" },
  onChat: () => {},
});
const { conversationId } = answered;
const sent = await call("POST", `/api/conversations/${conversationId}/messages`, {
  clientId: "golden-1",
  content: "long question",
  target: "resumes",
  attachments: [attachment.id],
});
const turn = await until(() => bot.chats[0], 5000, "the chat");
bot.write(turn, "the first half, ");
await bot.waitFor("ack", (frame) => "replyTo" in frame && frame.seq === 1);
gateway.kill("SIGKILL");
await within(gateway.exited, 5000, "the end");

const data = join(folder.path, "data");
const db = new Database(join(data, "nexus.db"));
db.run("PRAGMA wal_checkpoint(TRUNCATE)");
db.run("PRAGMA journal_mode = DELETE");
const found = (db.query("PRAGMA user_version").get() as { user_version: number }).user_version;
db.close();
if (found !== Number(schema)) throw new Error(`the tree makes schema ${found}`);

const out = join(import.meta.dir, `schema-${schema}`);
await mkdir(import.meta.dir, { recursive: true });
await Bun.write(`${out}.db.gz`, Bun.gzipSync(await Bun.file(join(data, "nexus.db")).bytes()));
const files = Object.fromEntries(
  await Promise.all(
    [...new Bun.Glob("*/*").scanSync(join(data, "files"))].map(async (path): Promise<[string, string]> => [
      path,
      await Bun.file(join(data, "files", path)).text(),
    ]),
  ),
);
const facts = {
  schema: Number(schema),
  token,
  key: key.key,
  conversationId,
  answered: { turnId: answered.turnId, question: "季度数字", content: answered.content },
  attachment: { id: attachment.id, text: new TextDecoder().decode(bytes) },
  open: {
    turnId: sent.body.turnId,
    question: "long question",
    text: "the first half, ",
    seq: 1,
    bot: { botId: "resumes", instanceId: "one", session: bot.registered.session },
  },
  files,
};
await Bun.write(`${out}.json`, `${JSON.stringify(facts, null, 2)}\n`);
await folder.remove();
console.log(`${out}.db.gz, ${out}.json`);
process.exit(0);
