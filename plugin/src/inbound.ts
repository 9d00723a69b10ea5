/**
 * One turn of the gateway as one run of the agent: access, files, session, dispatch, streaming, end.
 *
 * What must stay true: every turn ends exactly once, whatever the host does; messages of one session run one after the
 * other, because the host would steer a second one into the running answer; commands overtake the queue, so that /stop
 * can stop. Refuses to decide access (access.ts) and to shape text (transcript.ts).
 */
import type { OpenClawConfig, PluginRuntime } from "openclaw/plugin-sdk/channel-core";
import { resolveChannelInboundRouteEnvelope } from "openclaw/plugin-sdk/channel-inbound";
import { createMessageReceiptFromOutboundResults } from "openclaw/plugin-sdk/channel-outbound";
import { getAgentScopedMediaLocalRoots } from "openclaw/plugin-sdk/media-local-roots";
import { resolveThreadSessionKeys } from "openclaw/plugin-sdk/routing";
import type { Usage } from "../../lib/protocol.ts";
import type { Turn } from "../client.ts";
import { admit } from "./access.ts";
import { CHANNEL, mediaMaxBytes, type NexusAccount } from "./config.ts";
import { address, person, type Person } from "./identity.ts";
import { loadFile, receiveFiles } from "./media.ts";
import { watchRun } from "./run-log.ts";
import { createTranscript } from "./transcript.ts";

/** A sign of life while a model thinks or a tool runs: well below the gateway's silence deadline (5 min). */
const ALIVE_MS = 20_000;

/** Pauses before a message is given to the host again. */
const AGAIN_MS = [1000, 2000, 4000];

/**
 * The host could not begin: its own lock was taken (a busy machine, right after its start), or its config changed under it.
 */
const isPassing = (error: unknown): boolean =>
  error instanceof Error &&
  (error.name === "StateDatabaseCoordinatorContentionError" ||
    /prepared model runtime .*(?:superseded|not published)/i.test(error.message));

export type InboundLog = { info(text: string): void; warn(text: string): void; error(text: string): void };

export type InboundOptions = {
  account: NexusAccount;
  runtime: PluginRuntime;
  /** The config as of now: a reload changes policies without a reconnect. */
  cfg(): OpenClawConfig;
  log: InboundLog;
};

const phases = ["start", "update", "end"] as const;

const sentence = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));

/** Returns the handler of turns for one account. */
export const createInbound = (options: InboundOptions) => {
  const { account, runtime, log } = options;
  /** The last message of each session: the next one waits for it. */
  const lanes = new Map<string, Promise<void>>();

  const inLane = async (key: string, turn: Turn, run: () => Promise<void>) => {
    const before = lanes.get(key);
    const mine = (async () => {
      await before?.catch(() => {});
      if (!turn.signal.aborted) await run();
    })();
    lanes.set(key, mine);
    try {
      await mine;
    } finally {
      if (lanes.get(key) === mine) lanes.delete(key);
    }
  };

  return async (turn: Turn): Promise<void> => {
    const cfg = options.cfg();
    const who = person(turn);
    const { route, buildEnvelope } = resolveChannelInboundRouteEnvelope({
      cfg,
      channel: CHANNEL,
      accountId: account.accountId,
      // The binding of an agent to a person is by user id; the session key takes the folded form.
      peer: { kind: "direct", id: who.peerId },
      dmScope: "per-account-channel-peer",
    });
    const { sessionKey } = resolveThreadSessionKeys({
      baseSessionKey: route.sessionKey,
      threadId: who.threadId ?? null,
    });
    const isCommand = runtime.channel.commands.isControlCommandMessage(turn.text, cfg);
    const alive = setInterval(() => turn.event({ kind: "typing" }), ALIVE_MS);
    try {
      const run = async () => {
        for (let tries = 0; ; tries++) {
          let began = false;
          const begin = () => {
            began = true;
          };
          try {
            return await runTurn({ cfg, turn, who, route, sessionKey, buildEnvelope, isCommand, begin });
          } catch (error) {
            const waitMs = AGAIN_MS[tries];
            if (began || turn.signal.aborted || waitMs === undefined || !isPassing(error)) throw error;
            log.warn(`turn ${turn.id}: the host is busy with itself, once more in ${waitMs} ms`);
            await new Promise((resolve) => setTimeout(resolve, waitMs));
          }
        }
      };
      if (isCommand) await run();
      else await inLane(sessionKey, turn, run);
    } finally {
      clearInterval(alive);
    }
  };

  async function runTurn(step: {
    cfg: OpenClawConfig;
    turn: Turn;
    who: Person;
    route: ReturnType<typeof resolveChannelInboundRouteEnvelope>["route"];
    sessionKey: string;
    buildEnvelope: ReturnType<typeof resolveChannelInboundRouteEnvelope>["buildEnvelope"];
    isCommand: boolean;
    /** Called when the host has begun: from then on the message must not be given to it again. */
    begin: () => void;
  }): Promise<void> {
    const { cfg, turn, who, route, sessionKey, isCommand } = step;
    const ingress = await admit({ cfg, account, runtime, turn, who, agentId: route.agentId, sessionKey, isCommand });
    if (!ingress) return;
    const { media, missing } = await receiveFiles({ turn, runtime, maxBytes: mediaMaxBytes(account.config) });
    for (const fault of missing) log.warn(`turn ${turn.id}: a file did not arrive: ${fault}`);
    const senderId = who.userId ?? who.peerId;
    const target = address(senderId);
    const quoted = turn.replyTo;
    const notes = missing.map((fault) => `\n[a file could not be read: ${fault.split(":")[0]}]`).join("");
    const rawBody = turn.text;
    const { authorized } = ingress.commandAccess;
    // Named as a command, /status and its like are answered beside a running answer instead of after it.
    const slash = isCommand ? /^\/(\w+)/.exec(rawBody.trim())?.[1]?.toLowerCase() : undefined;
    const ctxPayload = runtime.channel.inbound.buildContext({
      channel: CHANNEL,
      accountId: route.accountId,
      messageId: turn.id,
      messageIdFull: turn.id,
      timestamp: turn.timestamp,
      from: target,
      sender: { id: senderId, name: who.name },
      conversation: {
        kind: "direct",
        id: who.peerId,
        label: who.name,
        ...(who.threadId === undefined ? {} : { threadId: who.threadId }),
      },
      route: {
        agentId: route.agentId,
        ...(route.dmScope === undefined ? {} : { dmScope: route.dmScope }),
        accountId: route.accountId,
        routeSessionKey: route.sessionKey,
        dispatchSessionKey: sessionKey,
      },
      reply: {
        to: target,
        originatingTo: target,
        ...(turn.conversationId === undefined ? {} : { messageThreadId: turn.conversationId }),
      },
      message: {
        body: step.buildEnvelope({
          channel: "Nexus",
          from: who.name,
          timestamp: turn.timestamp,
          body: rawBody + notes,
        }),
        bodyForAgent: rawBody + notes,
        rawBody,
        commandBody: rawBody,
      },
      ...(quoted ? { supplemental: { quote: { id: quoted.id, body: quoted.content, sender: quoted.role } } } : {}),
      access: { commands: { authorized } },
      ...(slash ? { command: { kind: "text-slash", name: slash, body: rawBody, authorized } } : {}),
      media,
      channelIngress: ingress,
    });

    const transcript = createTranscript(turn);
    const errors: string[] = [];
    let files = 0;
    let answered = false;

    const attach = async (urls: readonly string[]) => {
      for (const url of urls) {
        const localRoots = getAgentScopedMediaLocalRoots(cfg, route.agentId);
        const file = await loadFile(url, { maxBytes: mediaMaxBytes(account.config), localRoots });
        await turn.attach(file);
        files++;
      }
    };

    // A command runs beside an answer of the same session: what is written there is not its own.
    const watch = isCommand ? undefined : watchRun(runtime, sessionKey);
    let usage: Usage | undefined;
    const dispatched = runtime.channel.inbound.dispatch({
      cfg,
      channel: CHANNEL,
      accountId: account.accountId,
      route: {
        agentId: route.agentId,
        ...(route.dmScope === undefined ? {} : { dmScope: route.dmScope }),
        sessionKey,
      },
      ctxPayload,
      delivery: {
        observeMessageSent: true,
        deliver: async (payload, info) => {
          step.begin();
          const text = payload.text ?? "";
          const urls = payload.mediaUrls?.length ? payload.mediaUrls : payload.mediaUrl ? [payload.mediaUrl] : [];
          if (payload.isReasoning) turn.event({ kind: "reasoning", text });
          else if (payload.isError) errors.push(text);
          else if (
            info.kind === "tool" ||
            payload.isStatusNotice ||
            payload.isCompactionNotice ||
            payload.isFallbackNotice
          ) {
            turn.event({ kind: "status", text: text.slice(0, 500) });
            transcript.notice(text);
          } else {
            transcript.say(text);
            answered ||= text.trim() !== "";
          }
          await attach(urls);
          const results = [{ channel: CHANNEL, messageId: turn.id, conversationId: senderId }];
          return {
            visibleReplySent: true,
            content: text,
            receipt: createMessageReceiptFromOutboundResults({ results, kind: urls.length > 0 ? "media" : "text" }),
          };
        },
        onError: (error, info) => log.error(`turn ${turn.id}: delivery of ${info.kind} failed: ${sentence(error)}`),
      },
      replyPipeline: {
        typing: {
          start: async () => turn.event({ kind: "typing" }),
          onStartError: () => {},
        },
      },
      replyOptions: {
        sourceReplyDeliveryMode: "automatic",
        // The turn's own signal, never the account's: a reload of the channel must not cut a running answer.
        abortSignal: turn.signal,
        // Block streaming would repeat in lumps what the partial texts give token by token.
        disableBlockStreaming: true,
        // Tools are shown as events of our own, not as lines of text.
        suppressDefaultToolProgressMessages: true,
        onAgentRunStart: () => step.begin(),
        onPartialReply: (partial) => {
          step.begin();
          if (partial.text !== undefined) transcript.partial(partial.text);
          return true;
        },
        onAssistantMessageStart: () => {
          transcript.next();
          return true;
        },
        onReasoningStream: (reasoning) => {
          if (reasoning.text) turn.event({ kind: "reasoning", text: reasoning.text });
          return true;
        },
        onItemEvent: (item) => {
          const { name, progressText } = item;
          // Words before a tool. Where they come in one piece with it, the host gives no partial text of them.
          if (item.kind === "preamble" && item.phase === "end" && progressText)
            return transcript.whole(watch?.written(progressText) ?? progressText);
          const id = item.toolCallId ?? item.itemId;
          const phase = phases.find((known) => known === item.phase);
          // The name alone: titles carry arguments, and who chats is not always who runs the host.
          if (item.kind === "preamble" || id === undefined || name === undefined || phase === undefined) return false;
          const ok = phase === "end" ? { ok: item.status !== "failed" } : {};
          turn.event({ kind: "tool", tool: { id, name, phase, ...ok } });
          return true;
        },
        onCompactionStart: () => {
          turn.event({ kind: "status", text: "整理上下文… Compacting the context…" });
          return true;
        },
      },
    });
    const result = await dispatched.finally(() => {
      usage = watch?.stop();
    });

    if (turn.signal.aborted) return;
    const spoke = transcript.finish();
    const failure = errors.at(-1);
    if (failure !== undefined && !answered) {
      await turn.fail({ code: "agent_failed", message: failure.slice(0, 1000), retryable: false });
      return;
    }
    if (!result.dispatched) {
      log.warn(`turn ${turn.id}: the host did not take the message (${result.admission.kind})`);
      if (!spoke && files === 0) {
        await turn.fail({ code: "not_dispatched", message: "The agent did not take this message", retryable: false });
        return;
      }
    }
    await turn.end({ ...(usage ? { usage } : {}), ...(spoke || files > 0 ? {} : { finish: "silent" }) });
  }
};
