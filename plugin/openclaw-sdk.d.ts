/**
 * The part of the OpenClaw plugin SDK that this plugin uses, so that it type-checks where the host is not installed.
 *
 * Owns no truth: tests/openclaw/sdk-types.test.ts checks the same sources against the real SDK's types, and fails first
 * when this file flatters. Only names the plugin imports, only fields it reads or gives.
 */

declare module "openclaw/plugin-sdk/channel-core" {
  export type OpenClawConfig = { channels?: Record<string, unknown>; [key: string]: unknown };

  export type SavedMedia = { path: string; contentType?: string };
  type SendPolicy = "open" | "pairing" | "allowlist" | "disabled";
  type Admission = "dispatch" | "observe" | "skip" | "drop" | "pairing-required";
  type Ingress = {
    ingress: { admission: Admission };
    commandAccess: { authorized: boolean };
  };
  type DmScope = "main" | "per-peer" | "per-channel-peer" | "per-account-channel-peer";
  type Payload = {
    text?: string;
    mediaUrl?: string;
    mediaUrls?: string[];
    isError?: boolean;
    isReasoning?: boolean;
    isStatusNotice?: boolean;
    isCompactionNotice?: boolean;
    isFallbackNotice?: boolean;
  };
  type Receipt = { readonly platform: "receipt" };
  type Context = { readonly inbound: "context" };
  type Progress = boolean | undefined;

  export type PluginRuntime = {
    version: string;
    channel: {
      commands: { isControlCommandMessage(text?: string, cfg?: OpenClawConfig): boolean };
      media: {
        saveMediaBuffer(
          buffer: Buffer,
          contentType?: string,
          subdir?: string,
          maxBytes?: number,
          originalFilename?: string,
        ): Promise<SavedMedia>;
      };
      inbound: {
        ingress: {
          resolveStable(params: {
            channelId: string;
            accountId: string;
            cfg: OpenClawConfig;
            identity: {
              key: string;
              entryIdPrefix: string;
              normalizeEntry(entry: string): string;
              authentication: "verified" | "asserted" | "unverified" | "mutable";
            };
            subject: { stableId: string };
            conversation: { kind: "direct"; id: string; threadId?: string };
            contextBinding: {
              agentId: string;
              sessionKey: string;
              messageId: string;
              inboundEventKind: "user_request";
            };
            event: { kind: "message"; authMode: "inbound"; mayPair: boolean };
            dmPolicy: SendPolicy;
            allowFrom: string[];
            readStoreAllowFrom(): Promise<string[]>;
            command: { allowTextCommands: boolean; hasControlCommand: boolean };
          }): Promise<Ingress>;
        };
        buildContext(params: {
          channel: string;
          accountId: string;
          messageId: string;
          messageIdFull: string;
          timestamp: number;
          from: string;
          sender: { id: string; name: string };
          conversation: { kind: "direct"; id: string; label: string; threadId?: string };
          route: {
            agentId: string;
            dmScope?: DmScope;
            accountId: string;
            routeSessionKey: string;
            dispatchSessionKey: string;
          };
          reply: { to: string; originatingTo: string; messageThreadId?: string };
          message: { body: string; bodyForAgent: string; rawBody: string; commandBody: string };
          supplemental?: { quote: { id: string; body: string; sender: string } };
          access: { commands: { authorized: boolean } };
          command?: { kind: "text-slash"; name: string; body: string; authorized: boolean };
          media: import("openclaw/plugin-sdk/channel-inbound").InboundMediaFact[];
          channelIngress: Ingress;
        }): Context;
        dispatch(params: {
          cfg: OpenClawConfig;
          channel: string;
          accountId: string;
          route: { agentId: string; dmScope?: DmScope; sessionKey: string };
          ctxPayload: Context;
          delivery: {
            observeMessageSent: true;
            deliver(
              payload: Payload,
              info: { kind: "tool" | "block" | "final" },
            ): Promise<{ visibleReplySent: boolean; content: string; receipt: Receipt }>;
            onError(error: unknown, info: { kind: string }): void;
          };
          replyPipeline: { typing: { start(): Promise<void>; onStartError(error: unknown): void } };
          replyOptions: {
            sourceReplyDeliveryMode: "automatic" | "message_tool_only";
            abortSignal: AbortSignal;
            disableBlockStreaming: boolean;
            suppressDefaultToolProgressMessages: boolean;
            onAgentRunStart(runId: string): unknown;
            onPartialReply(partial: { text?: string; delta?: string; replace?: true }): Progress;
            onAssistantMessageStart(): Progress;
            onReasoningStream(reasoning: { text?: string }): Progress;
            onItemEvent(item: {
              itemId?: string;
              toolCallId?: string;
              kind?: string;
              name?: string;
              phase?: string;
              status?: string;
              progressText?: string;
            }): Progress;
            onCompactionStart(): Progress;
          };
        }): Promise<{ dispatched: boolean; admission: { kind: string } }>;
      };
    };
    state: { resolveStateDir(): string };
    events: {
      onSessionTranscriptUpdate(
        listener: (update: { sessionKey?: string; target: { sessionKey: string }; message?: unknown }) => void,
      ): () => void;
    };
  };

  export type ChannelAccountSnapshot = {
    accountId: string;
    name?: string;
    enabled?: boolean;
    configured?: boolean;
    running?: boolean;
    connected?: boolean;
    lastConnectedAt?: number | null;
    lastDisconnect?: { at: number; status?: number; error?: string } | null;
    lastError?: string | null;
    lifecycle?: "starting" | "ready" | "recovering" | "blocked" | "stopped";
    terminalDisconnect?: boolean;
    stateReason?: string;
    baseUrl?: string;
    dmPolicy?: string;
    tokenStatus?: string;
  };
  type LogSink = {
    info(text: string): void;
    warn(text: string): void;
    error(text: string): void;
    debug?(text: string): void;
  };
  type GatewayContext<Account> = {
    cfg: OpenClawConfig;
    accountId: string;
    account: Account;
    abortSignal: AbortSignal;
    log?: LogSink;
    setStatus(next: ChannelAccountSnapshot): void;
  };
  type SendContext = {
    cfg: OpenClawConfig;
    to: string;
    text: string;
    accountId?: string | null;
    threadId?: string | number | null;
    mediaUrl?: string;
    mediaLocalRoots?: readonly string[];
    mediaReadFile?: (filePath: string) => Promise<Buffer>;
    signal?: AbortSignal;
    deliveryQueueId?: string;
    deliveryPartIndex?: number;
    onPlatformSendDispatch?: () => Promise<void>;
    assertDirectAdapterHandoff?: () => void;
  };
  export type SessionRoute = { readonly outbound: "route" };
  export type StatusAdapter<Account, Probe> = { readonly account?: Account; readonly probe?: Probe };
  export type MessageAdapter = { readonly id: string };

  type PluginBase<Account, Probe> = {
    id: string;
    meta: { id: string; label: string; selectionLabel: string; docsPath: string; blurb: string };
    capabilities: { chatTypes: ("direct" | "group" | "thread")[]; media?: boolean; threads?: boolean };
    reload?: { configPrefixes: string[]; accountScopedRestart?: boolean };
    setupContract?: unknown;
    secrets?: unknown;
    config: unknown;
    messaging?: {
      targetPrefixes?: readonly string[];
      targetIdComparison?: "case-sensitive" | "lowercase";
      normalizeTarget?(raw: string): string | undefined;
      inferTargetChatType?(params: { to: string }): "direct" | "group" | undefined;
      targetResolver?: { looksLikeId?(raw: string): boolean; hint?: string };
      resolveOutboundSessionRoute?(params: {
        cfg: OpenClawConfig;
        agentId: string;
        accountId?: string | null;
        target: string;
        threadId?: string | number | null;
        currentSessionKey?: string;
      }): SessionRoute | null;
    };
    status?: StatusAdapter<Account, Probe>;
    gateway?: { startAccount?(context: GatewayContext<Account>): Promise<void> };
    message?: MessageAdapter;
  };

  export type ChannelPlugin<Account = unknown, Probe = unknown> = PluginBase<Account, Probe>;

  export const createChatChannelPlugin: <Account, Probe = unknown>(params: {
    base: PluginBase<Account, Probe>;
    security: {
      dm: {
        channelKey: string;
        resolvePolicy(account: Account): string;
        resolveAllowFrom(account: Account): (string | number)[];
        defaultPolicy?: string;
        approveHint?: string;
        normalizeEntry?(raw: string): string;
      };
      dmRouting?: { resolveDmScope?(): DmScope };
    };
    pairing: {
      idLabel: string;
      normalizeAllowEntry?(entry: string): string;
      notifyApproval?(params: { cfg: OpenClawConfig; id: string; accountId?: string }): Promise<void>;
    };
    threading: { topLevelReplyToMode: "off" };
    outbound: {
      base: { deliveryMode: "gateway" | "direct"; textChunkLimit?: number; chunker?: null };
      attachedResults: {
        channel: string;
        sendText(context: SendContext): Promise<{ messageId: string }>;
        sendMedia(context: SendContext): Promise<{ messageId: string }>;
      };
    };
  }) => ChannelPlugin<Account, Probe>;

  export const buildChannelOutboundSessionRoute: (params: {
    cfg: OpenClawConfig;
    agentId: string;
    channel: string;
    accountId?: string | null;
    recipientSessionExact: boolean;
    peer: { kind: "direct"; id: string };
    chatType: "direct";
    from: string;
    to: string;
    threadId?: string | number;
  }) => SessionRoute;

  export const buildThreadAwareOutboundSessionRoute: (params: {
    route: SessionRoute;
    threadId?: string | number | null;
    currentSessionKey?: string | null;
    normalizeThreadId?(threadId: string): string;
  }) => SessionRoute;

  export const defineChannelPluginEntry: (entry: {
    id: string;
    name: string;
    description: string;
    plugin: ChannelPlugin<never, never> | ChannelPlugin;
    setRuntime(runtime: PluginRuntime): void;
  }) => unknown;
  export const defineSetupPluginEntry: (plugin: unknown) => unknown;
}

declare module "openclaw/plugin-sdk/channel-inbound" {
  import type { OpenClawConfig } from "openclaw/plugin-sdk/channel-core";
  export type InboundMediaFact = { path?: string; contentType?: string };
  type Route = {
    agentId: string;
    accountId: string;
    dmScope?: "main" | "per-peer" | "per-channel-peer" | "per-account-channel-peer";
    sessionKey: string;
  };
  export const resolveChannelInboundRouteEnvelope: (params: {
    cfg: OpenClawConfig;
    channel: string;
    accountId: string;
    peer: { kind: "direct"; id: string };
    dmScope: "per-account-channel-peer";
  }) => {
    route: Route;
    buildEnvelope(input: { channel: string; from: string; timestamp: number; body: string }): string;
  };
  export const toInboundMediaFacts: (
    media: readonly { path: string; contentType: string | null; fileName: string; messageId: string }[],
  ) => InboundMediaFact[];
}

declare module "openclaw/plugin-sdk/channel-outbound" {
  import type { MessageAdapter, Receipt, SendContext } from "openclaw/plugin-sdk/channel-core";
  type Sent = { messageId: string; receipt: Receipt };
  export const createMessageReceiptFromOutboundResults: (params: {
    results: { channel: string; messageId: string; conversationId: string }[];
    kind: "text" | "media";
  }) => Receipt;
  export const defineChannelMessageAdapter: (adapter: {
    id: string;
    durableFinal: { capabilities: { text: boolean; media: boolean } };
    send: { text(context: SendContext): Promise<Sent>; media(context: SendContext): Promise<Sent> };
  }) => MessageAdapter;
}

declare module "openclaw/plugin-sdk/channel-pairing" {
  import type { PluginRuntime } from "openclaw/plugin-sdk/channel-core";
  export const createChannelPairingController: (params: {
    core: PluginRuntime;
    channel: string;
    accountId: string;
  }) => {
    readAllowFromStore(): Promise<string[]>;
    issueChallenge(params: {
      senderId: string;
      senderIdLine: string;
      meta: Record<string, string>;
      sendPairingReply(text: string): Promise<void>;
    }): Promise<unknown>;
  };
}

declare module "openclaw/plugin-sdk/channel-setup" {
  import type { OpenClawConfig } from "openclaw/plugin-sdk/channel-core";
  type Field = { kind: "string"; sensitive?: boolean; cli: { flags: string; description: string } };
  export const defineChannelSetupContract: <const Fields extends Record<string, Field>>(params: {
    fields: Fields;
    adapter: {
      resolveAccountId(params: { accountId?: string }): string;
      validateInput(params: { input: { [Key in keyof Fields]?: string } }): string | null;
      applyAccountConfig(params: {
        cfg: OpenClawConfig;
        accountId: string;
        input: { [Key in keyof Fields]?: string };
      }): OpenClawConfig;
    };
  }) => unknown;
}

declare module "openclaw/plugin-sdk/channel-config-helpers" {
  import type { OpenClawConfig } from "openclaw/plugin-sdk/channel-core";
  export const createScopedChannelConfigAdapter: <Account>(params: {
    sectionKey: string;
    listAccountIds(cfg: OpenClawConfig): string[];
    resolveAccount(cfg: OpenClawConfig, accountId?: string | null): Account;
    defaultAccountId(cfg: OpenClawConfig): string;
    inspectAccount(cfg: OpenClawConfig, accountId?: string | null): unknown;
    clearBaseFields: string[];
    resolveAllowFrom(account: Account): (string | number)[];
    formatAllowFrom(entries: (string | number)[]): string[];
  }) => object;
}

declare module "openclaw/plugin-sdk/channel-secret-basic-runtime" {
  export const createSimpleChannelSecretContract: (params: {
    channelKey: string;
    label: string;
    accountFields: readonly string[];
    channelFields: readonly string[];
    mode: "account-inheritance";
  }) => { secretTargetRegistryEntries: object[]; collectRuntimeConfigAssignments(params: never): void };
}

declare module "openclaw/plugin-sdk/account-helpers" {
  import type { OpenClawConfig } from "openclaw/plugin-sdk/channel-core";
  export const createAccountListHelpers: (
    channel: string,
    options: { normalizeAccountId(id: string): string; implicitDefaultAccount: { channelKeys: readonly string[] } },
  ) => { listAccountIds(cfg: OpenClawConfig): string[]; resolveDefaultAccountId(cfg: OpenClawConfig): string };
  export const resolveMergedAccountConfig: <Config extends Record<string, unknown>>(params: {
    channelConfig: Config | undefined;
    accounts: Record<string, Partial<Config>> | undefined;
    accountId: string;
    normalizeAccountId(id: string): string;
    omitKeys: string[];
  }) => Config;
}

declare module "openclaw/plugin-sdk/account-id" {
  export const DEFAULT_ACCOUNT_ID: "default";
  export const normalizeAccountId: (id: string | null | undefined) => string;
}

declare module "openclaw/plugin-sdk/routing" {
  export const resolveThreadSessionKeys: (params: { baseSessionKey: string; threadId?: string | null }) => {
    sessionKey: string;
  };
}

declare module "openclaw/plugin-sdk/status-helpers" {
  import type { ChannelAccountSnapshot, OpenClawConfig, StatusAdapter } from "openclaw/plugin-sdk/channel-core";
  export const createDefaultChannelRuntimeState: (accountId: string) => ChannelAccountSnapshot;
  export const createComputedAccountStatusAdapter: <Account, Probe>(options: {
    defaultRuntime: ChannelAccountSnapshot;
    probeAccount(params: { account: Account; timeoutMs: number; cfg: OpenClawConfig }): Promise<Probe>;
    buildChannelSummary(params: { snapshot: ChannelAccountSnapshot }): Record<string, unknown>;
    resolveAccountSnapshot(params: { account: Account; runtime?: ChannelAccountSnapshot }): {
      accountId: string;
      name?: string;
      enabled: boolean;
      configured: boolean;
      extra: Record<string, unknown>;
    };
  }) => StatusAdapter<Account, Probe>;
}

declare module "openclaw/plugin-sdk/gateway-runtime" {
  export const channelReadyPatch: () => { running: true; lifecycle: "ready" };
  export const channelStoppedPatch: () => { running: false; lifecycle: "stopped" };
}

declare module "openclaw/plugin-sdk/runtime-store" {
  export const createPluginRuntimeStore: <Runtime>(options: { pluginId: string; errorMessage: string }) => {
    setRuntime(runtime: Runtime): void;
    getRuntime(): Runtime;
  };
}

declare module "openclaw/plugin-sdk/media-local-roots" {
  import type { OpenClawConfig } from "openclaw/plugin-sdk/channel-core";
  export const getAgentScopedMediaLocalRoots: (cfg: OpenClawConfig, agentId?: string) => readonly string[];
}

declare module "openclaw/plugin-sdk/web-media" {
  export const loadWebMedia: (
    url: string,
    options?:
      | number
      | {
          maxBytes?: number;
          localRoots?: readonly string[] | "any";
          readFile?: (filePath: string) => Promise<Buffer>;
          sandboxValidated?: boolean;
        },
  ) => Promise<{ buffer: Buffer; contentType?: string; fileName?: string }>;
}

declare module "openclaw/plugin-sdk/error-runtime" {
  export class PlatformMessageNotDispatchedError extends Error {
    constructor(message: string, options: { cause: unknown; retryable?: boolean });
    readonly retryable: boolean;
  }
}
