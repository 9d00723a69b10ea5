/**
 * The channel as the host sees it: composes setup, security, pairing, outbound, status and the running accounts.
 *
 * State (the connected bots) lives in what the factory returns, so that a reload of the plugin starts with none.
 */
import {
  buildChannelOutboundSessionRoute,
  buildThreadAwareOutboundSessionRoute,
  createChatChannelPlugin,
  type PluginRuntime,
} from "openclaw/plugin-sdk/channel-core";
import {
  createComputedAccountStatusAdapter,
  createDefaultChannelRuntimeState,
} from "openclaw/plugin-sdk/status-helpers";
import type { Bot } from "../client.ts";
import { CHANNEL, allowEntry, allowFrom, dmPolicy, type NexusAccount } from "./config.ts";
import { address, keyPart, parseTarget, peerOf } from "./identity.ts";
import { probeAccount, runAccount, type NexusProbe } from "./monitor.ts";
import { createOutbound } from "./outbound.ts";
import { sessionStore } from "./session.ts";
import { createBase } from "./setup.ts";

export const createNexusPlugin = (options: { runtime(): PluginRuntime }) => {
  const bots = new Map<string, Bot>();
  const outbound = createOutbound(bots);
  return createChatChannelPlugin<NexusAccount, NexusProbe>({
    base: {
      ...createBase(),
      messaging: {
        targetPrefixes: [CHANNEL],
        targetIdComparison: "case-sensitive",
        normalizeTarget: parseTarget,
        inferTargetChatType: () => "direct",
        targetResolver: { looksLikeId: (raw) => parseTarget(raw) !== undefined, hint: "<gateway username>" },
        resolveOutboundSessionRoute: ({ cfg, agentId, accountId, target, threadId }) => {
          const userId = parseTarget(target);
          if (userId === undefined) return null;
          const route = buildChannelOutboundSessionRoute({
            cfg,
            agentId,
            channel: CHANNEL,
            ...(accountId === undefined ? {} : { accountId }),
            recipientSessionExact: true,
            peer: { kind: "direct", id: peerOf(userId) },
            chatType: "direct",
            from: `${CHANNEL}:${accountId ?? "default"}`,
            to: address(userId),
          });
          // A conversation of the person, as inbound.ts keys it; without one, the person's own session.
          return buildThreadAwareOutboundSessionRoute({
            route,
            ...(threadId == null ? {} : { threadId }),
            normalizeThreadId: keyPart,
          });
        },
      },
      status: createComputedAccountStatusAdapter<NexusAccount, NexusProbe>({
        defaultRuntime: createDefaultChannelRuntimeState("default"),
        probeAccount: ({ account, timeoutMs }) => probeAccount({ account, bots, timeoutMs }),
        buildChannelSummary: ({ snapshot }) => ({
          configured: snapshot.configured ?? false,
          running: snapshot.running ?? false,
          connected: snapshot.connected ?? false,
        }),
        resolveAccountSnapshot: ({ account, runtime }) => ({
          accountId: account.accountId,
          ...(account.name === undefined ? {} : { name: account.name }),
          enabled: account.enabled,
          configured: account.configured,
          extra: {
            ...(account.config.serverUrl === undefined ? {} : { baseUrl: account.config.serverUrl }),
            dmPolicy: dmPolicy(account.config),
            connected: runtime?.connected ?? false,
          },
        }),
      }),
      gateway: {
        startAccount: (context) => {
          const runtime = options.runtime();
          const session = sessionStore(runtime, context.account);
          return runAccount({ context, bots, runtime, session });
        },
      },
      message: outbound.message,
    },
    security: {
      dm: {
        channelKey: CHANNEL,
        resolvePolicy: (account) => dmPolicy(account.config),
        resolveAllowFrom: (account) => allowFrom(account.config),
        defaultPolicy: "open",
        approveHint: "openclaw pairing approve nexus <code>",
        normalizeEntry: allowEntry,
      },
      dmRouting: { resolveDmScope: () => "per-account-channel-peer" },
    },
    pairing: {
      idLabel: "nexusUser",
      normalizeAllowEntry: allowEntry,
      notifyApproval: async ({ cfg, id, accountId }) => {
        const text = "配对已通过，可以开始聊天了。 Your access to this bot was approved.";
        await outbound.send({ cfg, to: id, text, ...(accountId === undefined ? {} : { accountId }) });
      },
    },
    threading: { topLevelReplyToMode: "off" },
    outbound: {
      // "gateway": the CLI's sends go through the process that holds the connection.
      base: { deliveryMode: "gateway", textChunkLimit: 100_000, chunker: null },
      attachedResults: { channel: CHANNEL, sendText: outbound.send, sendMedia: outbound.send },
    },
  });
};
