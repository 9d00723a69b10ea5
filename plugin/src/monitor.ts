/**
 * The life of one account: connect, publish its state, stop cleanly; and the probe that tries a connection for real.
 *
 * What must stay true: while an account runs, exactly one bot of it is in `bots`; its status says why it is not
 * connected; a gateway that says "do not come back" is obeyed until the config changes.
 */
import type { ChannelPlugin, PluginRuntime } from "openclaw/plugin-sdk/channel-core";
import { channelReadyPatch, channelStoppedPatch } from "openclaw/plugin-sdk/gateway-runtime";
import { connectBot, type Bot, type BotState } from "../client.ts";
import { reconnectRange, tokenStatus, tokenText, type NexusAccount } from "./config.ts";
import { createInbound, type InboundLog } from "./inbound.ts";

/** Running turns get this long to end when the account stops: the host itself waits 5 s for all of it. */
const STOP_MS = 3000;

/** What the host gives to an account that starts. */
export type StartContext = Parameters<
  NonNullable<NonNullable<ChannelPlugin<NexusAccount, NexusProbe>["gateway"]>["startAccount"]>
>[0];

const RESTARTED =
  "机器人所在的主机在回答途中重启了：能继续时，答案会作为新消息送来；否则请再问一次。 " +
  "The agent's host restarted while it was answering: if it can go on, the answer comes as a new message; otherwise please ask again.";

/** One line per account, so that several bots of one host can be told apart in its log. */
const accountLog = (accountId: string, log: StartContext["log"]): InboundLog => ({
  info: (text) => log?.info(`[${accountId}] ${text}`),
  warn: (text) => log?.warn(`[${accountId}] ${text}`),
  error: (text) => log?.error(`[${accountId}] ${text}`),
});

const missing = (account: NexusAccount): string | undefined => {
  const { serverUrl, botId } = account.config;
  if (!serverUrl || !botId) return `channels.nexus needs serverUrl and botId (account ${account.accountId})`;
  if (tokenStatus(account.config) === "configured_unavailable")
    return `the token of account ${account.accountId} is a secret reference that could not be resolved`;
  return undefined;
};

const connection = (account: NexusAccount) => {
  const { config } = account;
  const token = tokenText(config);
  return {
    url: config.serverUrl ?? "",
    botId: config.botId ?? "",
    ...(config.botName === undefined ? {} : { botName: config.botName }),
    ...(token === undefined ? {} : { token }),
  };
};

export type SessionStore = { load(): Promise<string | undefined>; save(session: string): Promise<void> };

/** Runs an account until the host aborts it. Throws when it is not configured. */
export const runAccount = async (options: {
  context: StartContext;
  bots: Map<string, Bot>;
  runtime: PluginRuntime;
  session: SessionStore | undefined;
}): Promise<void> => {
  const { context, bots, runtime } = options;
  const { account, abortSignal } = context;
  const { accountId } = account;
  const log = accountLog(accountId, context.log);
  const fault = missing(account);
  if (fault !== undefined) throw new Error(`nexus: ${fault}`);
  const base = { accountId, enabled: account.enabled, configured: account.configured, running: true };

  let outage: string | undefined;
  const publish = (state: BotState) => {
    const at = Date.now();
    if (state.state === "online") {
      outage = undefined;
      log.info(`connected to ${account.config.serverUrl} as ${account.config.botId} (protocol v${state.proto})`);
      if (state.proto === 1)
        log.warn(
          "this gateway speaks protocol v1: it does not say who writes, and cannot take messages that answer nothing",
        );
      context.setStatus({
        ...base,
        ...channelReadyPatch(),
        terminalDisconnect: false,
        accountId,
        connected: true,
        lastConnectedAt: at,
        lastError: null,
      });
    } else if (state.state === "waiting") {
      const line = `not connected: ${state.reason}; next try in ${Math.ceil((state.retryAt - at) / 1000)} s`;
      // One line per outage and reason: a gateway that is away for a night must not fill the log.
      if (state.reason !== outage) log.warn(line);
      else context.log?.debug?.(`[${accountId}] ${line}`);
      outage = state.reason;
      context.setStatus({
        ...base,
        connected: false,
        lifecycle: "recovering",
        lastError: state.reason,
        lastDisconnect: { at, error: state.reason, ...(state.code === undefined ? {} : { status: state.code }) },
      });
    } else if (state.state === "stopped" && state.code !== undefined) {
      const why = `the gateway closed with ${state.code} (${state.reason}): fix the config, then restart the channel`;
      log.error(why);
      context.setStatus({
        ...base,
        connected: false,
        lifecycle: "blocked",
        terminalDisconnect: true,
        stateReason: why,
        lastError: why,
        lastDisconnect: { at, status: state.code, error: state.reason },
      });
    }
  };

  context.setStatus({ ...base, lifecycle: "starting", connected: false });
  const onTurn = createInbound({ account, runtime, cfg: () => context.cfg, log });
  const bot = connectBot({
    ...connection(account),
    reconnect: reconnectRange(account.config),
    ...(options.session ? { session: options.session } : {}),
    onTurn,
    // The host goes on with interrupted runs by itself and delivers what comes of them as messages of their own.
    onLost: (turn) => turn.fail({ code: "bot_restarted", message: RESTARTED, retryable: false }),
    onState: publish,
    log: (level, event, fields) => {
      const line = `${event} ${JSON.stringify(fields)}`;
      // Its state changes are published above, in words.
      const told = /^bot\.(online|offline|stopped|refused)$/.test(event);
      if ((level === "error" || level === "warn") && !told) log.warn(line);
      else context.log?.debug?.(`[${accountId}] ${line}`);
    },
  });
  bots.set(accountId, bot);
  try {
    if (!abortSignal.aborted)
      await new Promise<void>((resolve) => abortSignal.addEventListener("abort", () => resolve(), { once: true }));
    // Answers that are nearly there may finish; then what is open fails by name instead of hanging.
    if (bot.state.state === "online") {
      let limit: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((resolve) => {
        limit = setTimeout(resolve, STOP_MS);
      });
      await Promise.race([bot.drain(), late]);
      clearTimeout(limit);
    }
  } finally {
    await bot.close();
    if (bots.get(accountId) === bot) bots.delete(accountId);
    context.setStatus({ ...base, ...channelStoppedPatch(), accountId, running: false, connected: false });
    log.info("stopped");
  }
};

export type NexusProbe = {
  ok: boolean;
  /** A sentence when not ok. */
  error?: string;
  proto?: 1 | 2;
  elapsedMs: number;
};

/**
 * Tries the connection for real. An account that runs in this process is asked how it is, because a second registration
 * of its bot id would throw it out; any other registers, and leaves again.
 */
export const probeAccount = async (options: {
  account: NexusAccount;
  bots: ReadonlyMap<string, Bot>;
  timeoutMs: number;
}): Promise<NexusProbe> => {
  const startedAt = Date.now();
  const result = (rest: Omit<NexusProbe, "elapsedMs">): NexusProbe => ({ ...rest, elapsedMs: Date.now() - startedAt });
  const fault = missing(options.account);
  if (fault !== undefined) return result({ ok: false, error: fault });
  const wait = async (bot: Bot): Promise<NexusProbe> => {
    const limit = startedAt + options.timeoutMs;
    let reason = "the gateway did not answer in time";
    while (Date.now() < limit) {
      const { state } = bot;
      if (state.state === "online") return result({ ok: true, proto: state.proto });
      if ("reason" in state) reason = state.reason;
      if (state.state === "stopped" || state.state === "waiting") break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return result({ ok: false, error: reason });
  };
  const running = options.bots.get(options.account.accountId);
  if (running) return wait(running);
  let bot: Bot | undefined;
  try {
    bot = connectBot({
      ...connection(options.account),
      onTurn: (turn) => turn.fail({ code: "probing", message: "The bot is not up yet", retryable: true }),
    });
    return await wait(bot);
  } catch (error) {
    return result({ ok: false, error: error instanceof Error ? error.message : String(error) });
  } finally {
    await bot?.close();
  }
};
