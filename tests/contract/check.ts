/**
 * What a check of the published contract is, and what it may use. Checks know URLs, sockets and config.json and
 * nothing of the gateway's code, so the same list runs against the source tree, the binary and the v1 package.
 * They assert with node:assert because the run against v1 is a script and not `bun test`.
 */
import { strict as assert } from "node:assert";
import { v1Bot, type V1Bot, type V1Options } from "../harness/bots.ts";
import { api, login } from "../harness/client.ts";
import type { ConfigJson } from "../harness/config.ts";
import type { ProcessOptions, RunningProcess } from "../harness/process.ts";
import { readSse } from "../harness/sse.ts";
import { until } from "../harness/wait.ts";

/** How a gateway is started: the only thing that differs between the three runs. */
export type Target = {
  name: string;
  start: (options: ProcessOptions) => Promise<RunningProcess>;
};

/** Passwords stand in plain text: that is how published config files have them. */
export const PLAIN = "a plain password";
export const TOKEN = "shared-bot-token";

/** A published config.json, and what this suite needs of ours so that its own volume is not throttled. */
export const publishedConfig = (over: ConfigJson = {}): ConfigJson => ({
  sessionTTL: 86_400_000,
  pingInterval: 30_000,
  botTimeout: 90_000,
  botToken: TOKEN,
  users: {
    admin: { password: PLAIN, displayName: "管理员" },
    user1: { password: PLAIN, displayName: "用户1" },
  },
  limits: { sendsPerMinute: 0 },
  ...over,
});

export type StreamEvent = {
  type: string;
  content?: string;
  done?: boolean;
  botId?: string;
  botName?: string;
  error?: string;
  attachment?: { url: string; mime: string };
};

/** What a check is handed. Everything it opens is closed after it. */
export type Use = {
  gateway: RunningProcess;
  /** Signed in as admin. */
  token: string;
  /** A published-form bot on `gateway` (or on `at`); its id is unique unless given. */
  bot: (options?: V1Options, at?: RunningProcess) => Promise<V1Bot>;
  /** Another gateway with its own config. */
  start: (config?: ConfigJson, options?: ProcessOptions) => Promise<RunningProcess>;
  /** POST /api/chat/stream as admin on `gateway`. */
  stream: (body: object) => Promise<ReturnType<typeof readSse<StreamEvent>>>;
};

export type Check = {
  name: string;
  /** Starts what it needs and does not touch the shared gateway, so it may run beside others: for checks that wait. */
  apart?: true;
  /** Why the v1 package 1.0.6 fails this check; absent: it passes. */
  v1Defect?: string;
  run: (use: Use) => Promise<void>;
};

/** Runs checks against one target, sharing one gateway among those that do not start their own. */
export const createRunner = (target: Target) => {
  let shared: { gateway: RunningProcess; token: string } | undefined;
  let bots = 0;

  const open = async () => {
    const gateway = await target.start({ config: publishedConfig() });
    const token = await login(gateway.url, "admin", PLAIN);
    return { gateway, token };
  };

  /** The next check finds no bots of this one: waits until they are gone, else starts over with another gateway. */
  const settle = async (gateway: RunningProcess) => {
    const empty = async () => (await api(gateway.url)("GET", "/health")).body.bots === 0;
    await until(empty, 3000, "the bots of the last check to leave").catch(async () => {
      await gateway.stop();
      shared = undefined;
    });
  };

  return {
    async run(check: Check) {
      if (!check.apart) shared ??= await open();
      const common = check.apart ? undefined : shared;
      const need = () => {
        if (!common) throw new Error("this check said that it runs apart");
        return common;
      };
      const opened: V1Bot[] = [];
      const started: RunningProcess[] = [];
      try {
        await check.run({
          get gateway() {
            return need().gateway;
          },
          get token() {
            return need().token;
          },
          async bot(options = {}, at) {
            const id = ++bots;
            const to = (at ?? need().gateway).wsUrl;
            const bot = await v1Bot(to, { botId: `bot-${id}`, botName: `Bot ${id}`, token: TOKEN, ...options });
            opened.push(bot);
            return bot;
          },
          async start(config = {}, options = {}) {
            const running = await target.start({ config: publishedConfig(config), ...options });
            started.push(running);
            return running;
          },
          stream: async (body) => {
            const { gateway, token } = need();
            return readSse<StreamEvent>(await api(gateway.url, token).stream("/api/chat/stream", body));
          },
        });
      } finally {
        for (const bot of opened) bot.cut();
        for (const running of started) await running.stop();
        if (opened.length && common) await settle(common.gateway);
      }
    },
    async stop() {
      await shared?.gateway.stop();
      shared = undefined;
    },
  };
};

/** An answer with a v1 error body: JSON, `error` a sentence, and nothing of the inside of the program. */
export const assertError = (answer: { status: number; headers: Headers; text: string }, ...statuses: number[]) => {
  assert.ok(
    statuses.includes(answer.status),
    `status ${answer.status}, expected ${statuses.join(" or ")}: ${answer.text}`,
  );
  assert.match(answer.headers.get("content-type") ?? "", /^application\/json/);
  const { error } = JSON.parse(answer.text);
  assert.equal(typeof error, "string");
  assert.ok(error.length > 0, "an empty error");
  assert.doesNotMatch(answer.text, /node_modules|\bat .*:\d+:\d+|\.[jt]s:\d+/);
};

/** The text of a finished stream, after checking the rules every stream keeps. */
export const assertStream = (events: { data: StreamEvent }[], botId: string): string => {
  const types = events.map((item) => item.data.type);
  assert.equal(types[0], "start");
  assert.equal(events[0]!.data.botId, botId);
  assert.equal(types.at(-1), "end");
  const chunks = events.filter((item) => item.data.type === "chunk").map((item) => item.data);
  assert.ok(chunks.length > 0, "no chunk");
  for (const [i, chunk] of chunks.entries()) assert.equal(chunk.done, i === chunks.length - 1, `done of chunk ${i}`);
  return chunks.map((chunk) => chunk.content).join("");
};
