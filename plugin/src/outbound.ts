/**
 * What the agent sends of its own accord: `openclaw message send`, the message tool, cron, heartbeat.
 *
 * Delivered means stored by the gateway: a send settles with the gateway's receipt or fails loudly. When nothing can
 * have been sent the host is told so, and may try again; when that is unknown, it is told that instead.
 */
import type { OpenClawConfig } from "openclaw/plugin-sdk/channel-core";
import {
  createMessageReceiptFromOutboundResults,
  defineChannelMessageAdapter,
} from "openclaw/plugin-sdk/channel-outbound";
import { PlatformMessageNotDispatchedError } from "openclaw/plugin-sdk/error-runtime";
import type { Bot, BotError, TurnFile } from "../client.ts";
import { CHANNEL, mediaMaxBytes, resolveAccount } from "./config.ts";
import { parseTarget } from "./identity.ts";
import { loadFile } from "./media.ts";

/** From the send to the gateway's receipt. */
const RECEIPT_MS = 30_000;

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

const notSent = (message: string, cause: unknown, retryable = false) =>
  new PlatformMessageNotDispatchedError(message, { cause, retryable });

/** `bots` holds the connected bots of this process by account id. */
export const createOutbound = (bots: ReadonlyMap<string, Bot>) => {
  const send = async (context: SendContext): Promise<{ messageId: string; to: string }> => {
    const account = resolveAccount(context.cfg, context.accountId);
    const userId = parseTarget(context.to);
    if (userId === undefined) throw notSent(`nexus: "${context.to}" names no gateway user`, undefined);
    const bot = bots.get(account.accountId);
    if (bot?.state.state !== "online") {
      const reason = bot && "reason" in bot.state ? bot.state.reason : "not started";
      throw notSent(`nexus: account ${account.accountId} is not connected to its gateway (${reason})`, reason, true);
    }
    const attachments: TurnFile[] = [];
    if (context.mediaUrl) {
      attachments.push(
        await loadFile(context.mediaUrl, {
          maxBytes: mediaMaxBytes(account.config),
          ...(context.mediaLocalRoots ? { localRoots: context.mediaLocalRoots } : {}),
          ...(context.mediaReadFile ? { readFile: context.mediaReadFile, sandboxValidated: true } : {}),
        }).catch((error) => {
          throw notSent(`nexus: the file could not be read: ${error instanceof Error ? error.message : error}`, error);
        }),
      );
    }
    context.signal?.throwIfAborted();
    await context.onPlatformSendDispatch?.();
    context.assertDirectAdapterHandoff?.();
    // The host's queue id makes a retry of the same delivery the same message.
    const id =
      context.deliveryQueueId === undefined
        ? undefined
        : `openclaw-${context.deliveryQueueId}-${context.deliveryPartIndex ?? 0}`;
    try {
      const to = context.threadId == null ? { userId } : { conversationId: String(context.threadId) };
      const stored = await bot.send(to, context.text, {
        timeoutMs: RECEIPT_MS,
        ...(id === undefined ? {} : { id }),
        ...(attachments.length > 0 ? { attachments } : {}),
      });
      return { messageId: stored.id, to: userId };
    } catch (error) {
      const { code, message } = error as BotError;
      // After a timeout the message may be stored: the host must not think that nothing was sent.
      if (code === "timeout") throw new Error(`nexus: no receipt for ${userId}: ${message}`, { cause: error });
      throw notSent(`nexus: not delivered to ${userId}: ${message} (${code})`, error);
    }
  };

  const withReceipt = async (context: SendContext, kind: "text" | "media") => {
    const { messageId, to } = await send(context);
    const results = [{ channel: CHANNEL, messageId, conversationId: to }];
    return { messageId, receipt: createMessageReceiptFromOutboundResults({ results, kind }) };
  };

  return {
    send,
    message: defineChannelMessageAdapter({
      id: CHANNEL,
      durableFinal: { capabilities: { text: true, media: true } },
      send: {
        text: (context) => withReceipt(context, "text"),
        media: (context) => withReceipt(context, "media"),
      },
    }),
  };
};
