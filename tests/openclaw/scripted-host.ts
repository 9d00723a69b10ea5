/**
 * The OpenClaw host as far as the plugin touches it, scripted, so that everyday tests need no host: access policy, the
 * pairing store, one run per message, media, status. `tests/openclaw/host.test.ts` holds the same plugin to the real one.
 *
 * `install()` puts it in place of `openclaw/plugin-sdk/*`; the plugin must be imported after that.
 */
import { mock } from "bun:test";

type Payload = { text?: string; mediaUrl?: string; mediaUrls?: string[]; isError?: boolean; isStatusNotice?: boolean };
type Item = {
  toolCallId?: string;
  kind?: string;
  name?: string;
  phase?: string;
  status?: string;
  progressText?: string;
};

/** What a run may do: the plugin's own callbacks, as the host would call them. */
export type Run = {
  text: string;
  sessionKey: string;
  context: Context;
  signal: AbortSignal;
  deliver(payload: Payload, kind?: "tool" | "block" | "final"): Promise<unknown>;
  /** The agent's run starts. */
  begin(): unknown;
  partial(text: string): unknown;
  nextMessage(): unknown;
  item(item: Item): unknown;
  /** A message was added to the session's transcript, or to another's. */
  wrote(message: object, sessionKey?: string): void;
  typing(): Promise<void>;
};
export type Context = {
  sender: { id: string; name: string };
  message: { rawBody: string; bodyForAgent: string };
  route: { dispatchSessionKey: string };
  reply: { messageThreadId?: string };
  access: { commands: { authorized: boolean } };
  command?: { name: string };
  media: { path: string; contentType: string }[];
};

/** The class of the real SDK that the plugin throws when nothing was sent. */
export class NotDispatched extends Error {
  readonly retryable: boolean;
  constructor(message: string, options: { cause: unknown; retryable?: boolean }) {
    super(message, { cause: options.cause });
    this.retryable = options.retryable ?? false;
  }
}

type Section = { accounts?: Record<string, object>; [key: string]: unknown };
const sectionOf = (cfg: { channels?: Record<string, unknown> }) => (cfg.channels?.nexus ?? {}) as Section;
const normalizeAccountId = (id?: string | null) => (id ?? "").trim().toLowerCase() || "default";

/** Replaces the SDK's modules for this process. */
export const install = () => {
  const modules: Record<string, object> = {
    "account-id": { DEFAULT_ACCOUNT_ID: "default", normalizeAccountId },
    "account-helpers": {
      createAccountListHelpers: () => ({
        listAccountIds: (cfg: object) => {
          const { accounts, serverUrl, botId } = sectionOf(cfg);
          return [...new Set([...(serverUrl && botId ? ["default"] : []), ...Object.keys(accounts ?? {})])];
        },
        resolveDefaultAccountId: () => "default",
      }),
      resolveMergedAccountConfig: (params: {
        channelConfig: object;
        accounts?: Record<string, object>;
        accountId: string;
      }) => ({
        ...params.channelConfig,
        ...params.accounts?.[params.accountId],
      }),
    },
    "channel-core": {
      // The real one composes adapters; here its parts stay as they were given.
      createChatChannelPlugin: (params: { base: object }) => ({ ...params.base, ...params, base: undefined }),
      buildChannelOutboundSessionRoute: (params: { peer: { id: string }; to: string }) => ({
        key: params.peer.id,
        to: params.to,
      }),
      buildThreadAwareOutboundSessionRoute: (params: {
        route: { key: string };
        threadId?: string;
        normalizeThreadId(id: string): string;
      }) => ({
        ...params.route,
        key: params.threadId
          ? `${params.route.key}:thread:${params.normalizeThreadId(params.threadId)}`
          : params.route.key,
      }),
      defineChannelPluginEntry: (entry: object) => entry,
      defineSetupPluginEntry: (plugin: object) => ({ plugin }),
    },
    "channel-inbound": {
      resolveChannelInboundRouteEnvelope: (params: { accountId: string; peer: { id: string } }) => ({
        route: {
          agentId: "main",
          accountId: params.accountId,
          dmScope: "per-account-channel-peer",
          sessionKey: `agent:main:nexus:${params.accountId}:direct:${params.peer.id.toLowerCase()}`,
        },
        buildEnvelope: (input: { from: string; body: string }) => `[${input.from}] ${input.body}`,
      }),
      toInboundMediaFacts: (media: object[]) => media,
    },
    "channel-outbound": {
      createMessageReceiptFromOutboundResults: (params: object) => params,
      defineChannelMessageAdapter: (adapter: object) => adapter,
    },
    "channel-pairing": {
      createChannelPairingController: (params: { core: { pairing: Pairing } }) => ({
        readAllowFromStore: async () => params.core.pairing.approved,
        issueChallenge: async (challenge: { senderId: string; sendPairingReply(text: string): Promise<void> }) => {
          if (params.core.pairing.asked.includes(challenge.senderId)) return;
          params.core.pairing.asked.push(challenge.senderId);
          await challenge.sendPairingReply(`pairing code for ${challenge.senderId}: ABCD2345`);
        },
      }),
    },
    "channel-setup": { defineChannelSetupContract: (contract: object) => contract },
    "channel-config-helpers": { createScopedChannelConfigAdapter: (params: object) => params },
    "channel-secret-basic-runtime": {
      createSimpleChannelSecretContract: (params: object) => ({
        secretTargetRegistryEntries: [params],
        collectRuntimeConfigAssignments: () => {},
      }),
    },
    routing: {
      resolveThreadSessionKeys: (params: { baseSessionKey: string; threadId?: string | null }) => ({
        sessionKey: params.threadId ? `${params.baseSessionKey}:thread:${params.threadId}` : params.baseSessionKey,
      }),
    },
    "status-helpers": {
      createDefaultChannelRuntimeState: (accountId: string) => ({ accountId }),
      createComputedAccountStatusAdapter: (options: object) => options,
    },
    "gateway-runtime": {
      channelReadyPatch: () => ({ running: true, lifecycle: "ready" }),
      channelStoppedPatch: () => ({ running: false, lifecycle: "stopped" }),
    },
    "runtime-store": {
      createPluginRuntimeStore: () => {
        let held: unknown;
        return {
          setRuntime: (runtime: unknown) => {
            held = runtime;
          },
          getRuntime: () => held,
        };
      },
    },
    "media-local-roots": { getAgentScopedMediaLocalRoots: () => ["/allowed"] },
    "web-media": {
      loadWebMedia: async (url: string, options: { maxBytes: number; localRoots?: string[] }) => {
        if (!url.startsWith("/allowed/")) throw new Error(`path not allowed: ${url}`);
        return {
          buffer: Buffer.from(`bytes of ${url}`),
          contentType: "image/png",
          fileName: url.split("/").at(-1),
          options,
        };
      },
    },
    "error-runtime": { PlatformMessageNotDispatchedError: NotDispatched },
  };
  for (const [name, exports] of Object.entries(modules)) mock.module(`openclaw/plugin-sdk/${name}`, () => exports);
};

type TranscriptListener = (update: { target: { sessionKey: string }; message: object }) => void;

type Pairing = { approved: string[]; asked: string[] };

/** One host: its runtime for the plugin, and the script of what a run does. */
export const createScriptedHost = (stateDir: string) => {
  const pairing: Pairing = { approved: [], asked: [] };
  const contexts: Context[] = [];
  const saved: { name: string; bytes: string }[] = [];
  let script: (run: Run) => Promise<void> = async () => {};
  let dispatched = true;
  const listeners = new Set<TranscriptListener>();

  const runtime = {
    version: "2026.9.6",
    pairing,
    state: { resolveStateDir: () => stateDir },
    events: {
      onSessionTranscriptUpdate: (listener: TranscriptListener) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    channel: {
      commands: { isControlCommandMessage: (text = "") => /^\/(status|stop|help)\b/.test(text) },
      media: {
        saveMediaBuffer: async (buffer: Buffer, contentType: string, _sub: string, max: number, name: string) => {
          if (buffer.length > max) throw new Error("too large");
          saved.push({ name, bytes: buffer.toString() });
          return { path: `/media/${name}`, contentType };
        },
      },
      inbound: {
        ingress: {
          resolveStable: async (params: {
            identity: { authentication: string; normalizeEntry(entry: string): string };
            subject: { stableId: string };
            dmPolicy: string;
            allowFrom: string[];
            event: { mayPair: boolean };
            readStoreAllowFrom(): Promise<string[]>;
          }) => {
            const entries = [...params.allowFrom.map(params.identity.normalizeEntry)];
            if (params.dmPolicy === "pairing") entries.push(...(await params.readStoreAllowFrom()));
            // A name that anybody may carry matches no entry, as in the real host.
            const listed = params.identity.authentication !== "mutable" && entries.includes(params.subject.stableId);
            const inside = params.dmPolicy !== "disabled" && (listed || entries.includes("*"));
            const outside = params.dmPolicy === "pairing" && params.event.mayPair ? "pairing-required" : "drop";
            return { ingress: { admission: inside ? "dispatch" : outside }, commandAccess: { authorized: inside } };
          },
        },
        buildContext: (context: Context) => {
          contexts.push(context);
          return context;
        },
        dispatch: async (params: {
          route: { sessionKey: string };
          ctxPayload: Context;
          delivery: {
            deliver(payload: Payload, info: { kind: string }): Promise<unknown>;
            onError(error: unknown, info: object): void;
          };
          replyPipeline: { typing: { start(): Promise<void> } };
          replyOptions: {
            abortSignal: AbortSignal;
            onAgentRunStart(runId: string): unknown;
            onPartialReply(partial: { text: string }): unknown;
            onAssistantMessageStart(): unknown;
            onItemEvent(item: Item): unknown;
          };
        }) => {
          if (!dispatched) return { dispatched: false, admission: { kind: "drop" } };
          await script({
            text: params.ctxPayload.message.bodyForAgent,
            sessionKey: params.route.sessionKey,
            context: params.ctxPayload,
            signal: params.replyOptions.abortSignal,
            deliver: async (payload, kind = "final") => {
              try {
                return await params.delivery.deliver(payload, { kind });
              } catch (error) {
                return params.delivery.onError(error, { kind });
              }
            },
            begin: () => params.replyOptions.onAgentRunStart("run"),
            partial: (text) => params.replyOptions.onPartialReply({ text }),
            nextMessage: () => params.replyOptions.onAssistantMessageStart(),
            item: (item) => params.replyOptions.onItemEvent(item),
            wrote: (message, sessionKey = params.route.sessionKey) => {
              for (const listener of listeners) listener({ target: { sessionKey }, message });
            },
            typing: () => params.replyPipeline.typing.start(),
          });
          return { dispatched: true, admission: { kind: "dispatch" } };
        },
      },
    },
  };

  return {
    runtime,
    pairing,
    contexts,
    saved,
    /** How many listen to transcripts. */
    get listening() {
      return listeners.size;
    },
    /** What every run does from now on. */
    script: (next: (run: Run) => Promise<void>) => {
      script = next;
    },
    /** Whether the host takes messages at all. */
    takes: (next: boolean) => {
      dispatched = next;
    },
  };
};
