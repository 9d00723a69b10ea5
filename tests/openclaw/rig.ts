/**
 * What the host's tests stand on: a gateway process, the published v1 gateway, a fake model, and one host with the packed
 * plugin in it and six bots. Installed and configured with the commands a person types (README, "OpenClaw").
 */
import { expect } from "bun:test";
import { join } from "node:path";
import { buildPlugin } from "../../plugin/build.ts";
import { freePort, startProcess, tempDir, until, type RunningProcess } from "../harness.ts";
import { createHost, installHost, installV1Gateway } from "./host.ts";
import { createModel } from "./model.ts";
import { createPerson } from "./person.ts";

export const PNG = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64",
);

/** Bots by account of the host: open to all, by pairing, by list, wrong token, token from the environment. */
export const BOTS = {
  default: "my-bot",
  paired: "paired-bot",
  listed: "listed-bot",
  refused: "refused-bot",
  secret: "secret-bot",
};

/** What must never be printed. */
export const SECRETS = ["my-bot-token", "paired-token", "token-from-the-environment", "v1-token"];

/** For a step that takes a second on a quiet machine. */
export const SLOW_MS = 60_000;

/** PASSWORD of the harness, as a hash. */
const password =
  "$argon2id$v=19$m=19456,t=2,p=1$nfgIcoteY7ZDhDciPtv2PBOh0svMTS4Ey/cY1mkvgPA$sXB0LIMLdMIi3OdkrBzJAY0worD4L3Yb+cT7R2PvJhY";

const gatewayConfig = (port: number) => ({
  port,
  limits: { sendsPerMinute: 0, turnsPerUser: 100 },
  users: {
    alice: { password, displayName: "Alice" },
    bob: { password, displayName: "Bob" },
    // A display name that is somebody else's username must open nothing.
    carol: { password, displayName: "alice" },
  },
  bots: {
    [BOTS.default]: { token: "my-bot-token" },
    [BOTS.paired]: { token: "paired-token" },
    [BOTS.listed]: { token: "listed-token" },
    [BOTS.refused]: { token: "another-token" },
    [BOTS.secret]: { token: "token-from-the-environment" },
  },
});

/** Starts everything; `stop` ends every process and removes every folder. Takes a minute and a half on a quiet machine. */
export const startRig = async () => {
  const cleanups: (() => unknown)[] = [];
  /** Durations worth reporting. */
  const took: string[] = [];
  const model = createModel();
  cleanups.push(() => model.stop());

  /** The published v1 gateway with one user. */
  const startV1 = async (): Promise<RunningProcess> => {
    const [entry, { node }, folder] = await Promise.all([installV1Gateway(), installHost(), tempDir("v1")]);
    cleanups.push(folder.remove);
    const port = freePort();
    const users = { admin: { password: "pw", displayName: "管理员" } };
    const config = { port, botToken: "v1-token", pingInterval: 1000, users };
    await Bun.write(join(folder.path, "config.json"), JSON.stringify(config));
    return startProcess({ run: [node, entry], cwd: folder.path, port });
  };

  const out = await tempDir("plugin");
  cleanups.push(out.remove);
  await installHost();
  const [tarball, started, v1] = await Promise.all([
    buildPlugin(out.path),
    startProcess({ config: gatewayConfig(freePort()) }),
    startV1(),
  ]);
  let gateway = started;
  cleanups.push(
    () => gateway.stop(),
    () => v1.stop(),
  );
  const sign = (name: string) => createPerson(gateway.url, name, BOTS.default);
  const [alice, bob, carol] = await Promise.all([sign("alice"), sign("bob"), sign("carol")]);
  const host = await createHost({ modelUrl: model.url });
  cleanups.push(() => host.remove());

  const installed = await host.run("plugins", "install", "--force", "--accept-capabilities", tarball);
  expect(installed.code, installed.out).toBe(0);
  expect(installed.out).toContain("Installed plugin: nexus");
  const added = await host.run(
    ...["channels", "add", "--channel", "nexus", "--server-url", gateway.wsUrl],
    ...["--bot-id", BOTS.default, "--bot-name", "My Bot", "--token", "my-bot-token"],
  );
  expect(added.code, added.out).toBe(0);
  took.push(`install ${installed.ms} ms, channels add ${added.ms} ms`);

  // What `channels add` wrote is the published example; the rest is more bots in the same host.
  const config = (await host.readConfig()) as { channels?: { nexus?: object } };
  expect(config.channels?.nexus).toEqual({
    enabled: true,
    serverUrl: gateway.wsUrl,
    botId: BOTS.default,
    botName: "My Bot",
    token: "my-bot-token",
  });
  const token = { source: "env", provider: "default", id: "NEXUS_BOT_TOKEN" };
  const nexus = {
    ...config.channels?.nexus,
    reconnectInterval: 1000,
    dmPolicy: "open",
    allowFrom: [],
    accounts: {
      paired: { botId: BOTS.paired, botName: "Paired", token: "paired-token", dmPolicy: "pairing" },
      listed: { botId: BOTS.listed, token: "listed-token", dmPolicy: "allowlist", allowFrom: ["alice"] },
      refused: { botId: BOTS.refused, token: "wrong-token" },
      secret: { botId: BOTS.secret, token },
      old: { serverUrl: v1.wsUrl, botId: "old-bot", token: "v1-token" },
    },
  };
  // Heartbeats speak to bob, when somebody wakes the agent: by themselves none come (host.ts).
  const agents = (config as { agents: { defaults: object } }).agents;
  const defaults = { ...agents.defaults, heartbeat: { every: "0m", target: "nexus", to: "bob" } };
  await host.writeConfig({ ...config, agents: { ...agents, defaults }, channels: { nexus } });
  await Bun.write(join(host.workspace, "out.png"), PNG);
  const startedAt = performance.now();
  host.start();
  await host.ready();
  took.push(`host start ${Math.round(performance.now() - startedAt)} ms`);

  /** Ids of the bots the gateway has online; none while it is away. */
  const health = async (): Promise<string[]> => {
    const answer = await fetch(`${gateway.url}/health`).catch(() => undefined);
    return answer?.ok ? ((await answer.json()) as { botIds: string[] }).botIds : [];
  };
  const botOnline = (id: string) => until(async () => (await health()).includes(id), 120_000, `${id} to be online`);
  await botOnline(BOTS.default);
  /** The host has restarted its channel since it had printed `from` characters, and every bot that may is back. */
  const restarted = async (from: number) => {
    const back = ["default", "paired", "listed", "secret", "old"];
    const since = () => host.output.slice(from);
    const returned = (account: string) =>
      since().split(`[${account}] stopped`)[1]?.includes(`[${account}] connected to`);
    await until(() => back.every(returned), SLOW_MS, "the channel to be restarted");
  };

  return {
    model,
    host,
    v1,
    alice,
    bob,
    carol,
    took,
    health,
    botOnline,
    restarted,
    /** kill -9, half a second of nothing, and a new process with the same folder and port. */
    killGateway: async () => {
      const { cwd } = gateway;
      gateway.kill("SIGKILL");
      await gateway.exited;
      await Bun.sleep(500);
      gateway = await startProcess({ cwd });
    },
    stop: async () => {
      // What both ends printed, for whoever has to find out why a test failed.
      const keep = process.env.NEXUS_KEEP_LOGS;
      if (keep) await Bun.write(keep, `${gateway.stdout()}\n${gateway.stderr()}\n=== host\n${host.output}`);
      for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
    },
  };
};
export type Rig = Awaited<ReturnType<typeof startRig>>;
