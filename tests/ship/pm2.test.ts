/**
 * Real PM2, installed into a scratch folder: deploy/ecosystem.config.cjs beside the program, and the older way of the first
 * README, `pm2 start $(which nexus-gateway)`. Its daemon has a home of its own and is ended with the test.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFile, mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { v1Bot } from "../harness/bots.ts";
import { api, PASSWORD } from "../harness/client.ts";
import { BOT_TOKEN, testConfig } from "../harness/config.ts";
import { readSse } from "../harness/sse.ts";
import { freePort, tempDir, until } from "../harness/wait.ts";
import { NPM_NAME, npmPackageOf } from "../../deploy/targets.ts";
import { find, notRun, own, release, sh, unpack, useIt, version } from "./kit.ts";

const FILE = "pm2.test.ts";
/** The version whose behaviour was looked at. */
const PM2 = "pm2@7.0.4";

type Listed = { name: string; pid: number; pm2_env: { status: string; restart_time: number; pm_out_log_path: string } };

const npm = find("npm");
if (!npm || !own || process.platform === "win32") notRun(FILE, "PM2", "needs npm and a Unix that the release is for");
else
  describe("PM2", () => {
    let folder: Awaited<ReturnType<typeof tempDir>>;
    let env: Record<string, string>;
    let pm2: (...args: string[]) => Promise<string>;
    let at: string;

    beforeAll(async () => {
      folder = await tempDir("pm2");
      at = join(folder.path, "nexus");
      await mkdir(at);
      const unpacked = await unpack(own!, folder.path);
      await copyFile(join(unpacked, own!.executable), join(at, "nexus"));
      await copyFile(join(unpacked, "deploy/ecosystem.config.cjs"), join(at, "ecosystem.config.cjs"));
      const home = join(folder.path, "home");
      await mkdir(home);
      env = { PATH: process.env.PATH ?? "", HOME: home, PM2_HOME: join(home, ".pm2") };
      await sh([npm, "install", "--no-audit", "--no-fund", "--prefix", join(folder.path, "tool"), PM2]);
      const program = join(folder.path, "tool/node_modules/.bin/pm2");
      pm2 = (...args) => sh([program, ...args], { cwd: at, env });
    }, 240_000);
    afterAll(async () => {
      await pm2?.("kill");
      await folder?.remove();
    });

    const listed = async (): Promise<Listed> => {
      const text = await pm2("jlist");
      return JSON.parse(text.slice(text.indexOf("[{")))[0];
    };
    const healthy = (url: string): Promise<unknown> =>
      until(async () => (await fetch(`${url}/health`).catch(() => undefined))?.status === 200, 15_000, "/health");
    const writeConfig = async (): Promise<string> => {
      const port = freePort();
      await Bun.write(join(at, "config.json"), JSON.stringify(testConfig({ port })));
      return `http://127.0.0.1:${port}`;
    };
    const secrets = { password: PASSWORD, botToken: BOT_TOKEN };

    test("starts the shipped file; a restart lets an open answer finish; a killed process comes back; so does what was saved; stop is orderly", async () => {
      const url = await writeConfig();
      await pm2("start", "ecosystem.config.cjs");
      await healthy(url);
      const first = await listed();
      expect(`${first.name} ${first.pm2_env.status}`).toBe("nexus online");
      const { token } = await useIt(url, secrets);

      const bot = await v1Bot(`${url.replace("http", "ws")}/bot-ws`, { token: BOT_TOKEN, onChat: () => {} });
      const reader = readSse(await api(url, token).stream("/api/chat/stream", { message: "slow" }));
      const chat = await until(() => bot.chats[0], 5000, "the chat");
      bot.reply(chat, "half ", false);
      const restarted = pm2("restart", "nexus");
      const draining = async () => (await fetch(`${url}/health`).catch(() => undefined))?.status === 503;
      await until(draining, 15_000, "the drain");
      // Longer than the 1.6 s after which PM2 kills by default: the shipped file gives more.
      await Bun.sleep(2_500);
      bot.reply(chat, "whole", true);
      const end = await reader.find(({ type }) => type === "end" || type === "error", 10_000);
      expect(end.data.type).toBe("end");
      expect(reader.events.map(({ data }) => data.content ?? "").join("")).toBe("half whole");
      await restarted;
      await healthy(url);
      const second = await listed();
      expect(second.pid).not.toBe(first.pid);
      // The session outlives the restart.
      expect((await api(url, token)("GET", "/api/me")).status).toBe(200);

      process.kill(second.pid, "SIGKILL");
      await until(async () => (await listed()).pid !== second.pid, 15_000, "another process");
      await healthy(url);
      expect((await api(url, token)("GET", "/api/me")).status).toBe(200);

      // What `pm2 startup` makes the machine do when it starts.
      await pm2("save");
      await pm2("kill");
      expect(await fetch(`${url}/health`).catch(() => "nobody")).toBe("nobody");
      await pm2("resurrect");
      await healthy(url);
      expect((await api(url, token)("GET", "/api/me")).status).toBe(200);

      await pm2("stop", "nexus");
      const { pm2_env } = await listed();
      expect(pm2_env.status).toBe("stopped");
      expect(await Bun.file(pm2_env.pm_out_log_path).text()).toContain('"event":"stopped","exit":0');
      await pm2("delete", "nexus");
    }, 120_000);

    test("pm2 start $(which nexus-gateway) in the folder of config.json works as it did", async () => {
      const url = await writeConfig();
      const prefix = join(folder.path, "global");
      const made = await version();
      const packages = [NPM_NAME, npmPackageOf(own!)].map((name) => `${name}-${made}.tgz`);
      // Unpacked as npm would place them; that npm does so is npm.test.ts's.
      for (const [i, name] of [NPM_NAME, npmPackageOf(own!)].entries()) {
        const into = join(prefix, "lib/node_modules", name);
        await mkdir(into, { recursive: true });
        await sh(["tar", "-xzf", join(await release(), packages[i]!), "-C", into, "--strip-components=1"]);
      }
      await mkdir(join(prefix, "bin"));
      const which = join(prefix, "bin", NPM_NAME);
      await symlink(join(prefix, "lib/node_modules", NPM_NAME, "nexus-gateway.cjs"), which);
      await pm2("start", which, "--name", "nexus");
      await healthy(url);
      expect((await useIt(url, secrets)).content).toBe("echo: hello");
      const { pm2_env } = await listed();
      await pm2("stop", "nexus");
      // PM2 signals the launcher and the gateway, and the launcher passes its own on: still one orderly stop.
      const log = await until(
        async () => {
          const text = await Bun.file(pm2_env.pm_out_log_path).text();
          return text.includes('"event":"stopped"') && text;
        },
        5000,
        "the stop",
      );
      expect(log).toContain('"event":"stopped","exit":0');
      expect(log).not.toContain("stopped_at_once");
    }, 60_000);
  });

// It would write a service into this machine.
notRun(FILE, "pm2 startup", "needs a machine that systemd has booted");
