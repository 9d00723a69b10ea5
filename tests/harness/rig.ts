/**
 * What the tests of bots and turns share: a gateway with a clock that stands still, scripted bots and people on it, and
 * everything closed after each test.
 */
import { type ConfigJson, startGateway, type LogLine } from "../harness.ts";
import { v1Bot, v2Bot, type V1Options, type V2Options } from "./bots.ts";
import { api, login } from "./client.ts";
import { fakeClock } from "./clock.ts";
import { BOT_TOKEN } from "./config.ts";
import { readSse } from "./sse.ts";
import { until, within } from "./wait.ts";

/** An event of a turn's stream or of /api/events, as far as tests look into it. */
export type Said = {
  type: string;
  content?: string;
  done?: boolean;
  botId?: string;
  turnId?: string;
  conversationId?: string;
  finish?: string;
  code?: string;
  error?: string;
  kind?: string;
  position?: number;
  generation?: number;
  offset?: number;
  attachment?: { id: string; name: string; size: number };
  message?: { id: string; content: string; state: string; botId?: string; role: string; turnId?: string };
};

export type Stored = {
  id: string;
  role: "user" | "bot";
  content: string;
  state: string;
  botId?: string;
  turnId?: string;
  error?: { code: string; message: string };
  usage?: object;
  attachments: { id: string; name: string; size: number; mime: string }[];
};

/** What a v1 reader would show, and what a v2 reader would: chunks appended, replacements honoured. */
export const shown = (events: { data: Said }[]): string => {
  let text = "";
  for (const { data } of events) {
    if (data.type === "chunk") text += data.content ?? "";
    if (data.type === "replace") text = data.content ?? "";
  }
  return text;
};

export const createRigs = () => {
  const closers: (() => Promise<unknown>)[] = [];

  const open = async (
    config: ConfigJson = {},
    options: { dataDir?: string; clock?: ReturnType<typeof fakeClock> } = {},
  ) => {
    const clock = options.clock ?? fakeClock();
    const rig = await startGateway(config, {
      now: clock.now,
      ...(options.dataDir !== undefined && { dataDir: options.dataDir }),
    });
    let stopped: Promise<void> | undefined;
    const stop = (): Promise<void> => (stopped ??= rig.stop());
    closers.push(stop);
    const { bots, turns } = rig.gateway.gate;
    return {
      ...rig,
      ...clock,
      clock,
      stop,
      bots,
      turns,
      /** Time passes, and the sweeps see it. */
      later: (ms: number): void => {
        clock.pass(ms);
        rig.gateway.sweeps.second();
        rig.gateway.sweeps.fiveSeconds();
      },
      logged: (event: string): LogLine[] => rig.logs.filter((line) => line.event === event),
      v1: (botId: string, more: V1Options = {}) => v1Bot(rig.wsUrl, { botId, token: BOT_TOKEN, ...more }),
      v2: (botId: string, register: object = {}, more: V2Options = {}) =>
        v2Bot(rig.wsUrl, { ...more, register: { botId, token: BOT_TOKEN, ...register } }),
      person: async (user?: string) => {
        const token = await login(rig.url, user);
        const call = api(rig.url, token);
        const reader = async (path: string, body?: unknown, headers: Record<string, string> = {}) => {
          const response = await call.stream(path, body, { headers });
          if (response.status !== 200) throw new Error(`${path}: ${response.status} ${await response.text()}`);
          return readSse<Said>(response);
        };
        return Object.assign(call, {
          token,
          reader,
          /** Starts a streamed turn and waits for `start`. */
          ask: async (message: string, more: object = {}) => {
            const sse = await reader("/api/chat/stream", { message, ...more });
            const start = await sse.find(({ type }) => type === "start");
            return { ...sse, id: start.data.turnId!, conversation: start.data.conversationId! };
          },
          resume: (turn: string, after?: string) =>
            reader(`/api/turns/${turn}/stream`, undefined, after === undefined ? {} : { "last-event-id": after }),
          messages: async (conversation: string): Promise<Stored[]> =>
            (await call<{ messages: Stored[] }>("GET", `/api/conversations/${conversation}/messages`)).body.messages,
        });
      },
      /** Every turn has ended, and nothing of one is left. */
      quiet: async (): Promise<void> => {
        await until(() => turns.count() === 0, 2000, "the Map of turns to be empty");
        for (const one of bots.connections())
          if (one.inFlight !== 0) throw new Error(`${one.botId} still counts ${one.inFlight} turns`);
        if (turns.queued() !== 0) throw new Error("somebody still waits");
      },
    };
  };

  return {
    open,
    closeAll: async (): Promise<void> => {
      for (const close of closers.splice(0).reverse()) await within(close(), 10_000, "a gateway to stop");
    },
    onClose: (close: () => Promise<unknown>): void => {
      closers.push(close);
    },
  };
};

export type Rig = Awaited<ReturnType<ReturnType<typeof createRigs>["open"]>>;
