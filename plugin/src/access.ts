/**
 * Who gets in: asks the host's access check for one sender, and answers those who stay outside.
 *
 * The host owns the policy (open, pairing, allowlist), the pairing store and command rights; this file gives it the
 * stable user id and nothing else to decide by. A v1 gateway sends only a display name, which never matches an entry of
 * a list: there, only `open` lets people in.
 */
import { createChannelPairingController } from "openclaw/plugin-sdk/channel-pairing";
import type { OpenClawConfig, PluginRuntime } from "openclaw/plugin-sdk/channel-core";
import type { Turn } from "../client.ts";
import { CHANNEL, allowEntry, allowFrom, dmPolicy, type NexusAccount } from "./config.ts";
import type { Person } from "./identity.ts";

/** The host reads these as it reads a name that was typed by hand: not enough for a list. */
const V1_PREFIX = "v1-display-name ";

export const refusal = {
  not_allowed: "你不在这个机器人的使用名单里。 You are not on this bot's list.",
  v1: "这个网关版本太旧，无法确认你的身份，机器人设置为只接待名单内的人。 This gateway is too old to say who you are, and this bot serves listed people only.",
  pending: "配对请求正在等待批准。 Your pairing request is waiting for approval.",
};

export type AccessRequest = {
  cfg: OpenClawConfig;
  account: NexusAccount;
  runtime: PluginRuntime;
  turn: Turn;
  who: Person;
  agentId: string;
  sessionKey: string;
  isCommand: boolean;
};

/**
 * Asks the host. Returns its result for the message's context when the sender may go on; otherwise the turn has been
 * answered (pairing text, or a named error) and the result is undefined.
 */
export const admit = async (request: AccessRequest) => {
  const { account, cfg, runtime, turn, who } = request;
  const { userId } = who;
  const pairing = createChannelPairingController({ core: runtime, channel: CHANNEL, accountId: account.accountId });
  const policy = dmPolicy(account.config);
  const ingress = await runtime.channel.inbound.ingress.resolveStable({
    channelId: CHANNEL,
    accountId: account.accountId,
    cfg,
    identity: {
      key: "nexus-user",
      entryIdPrefix: "nexus-entry",
      normalizeEntry: allowEntry,
      // The gateway signed the person in and says who it was; a v1 display name can be anybody's.
      authentication: userId === undefined ? "mutable" : "verified",
    },
    subject: { stableId: userId ?? V1_PREFIX + who.name },
    conversation: { kind: "direct", id: who.peerId, ...(who.threadId === undefined ? {} : { threadId: who.threadId }) },
    contextBinding: {
      agentId: request.agentId,
      sessionKey: request.sessionKey,
      messageId: turn.id,
      inboundEventKind: "user_request",
    },
    event: { kind: "message", authMode: "inbound", mayPair: userId !== undefined },
    dmPolicy: policy,
    allowFrom: allowFrom(account.config),
    readStoreAllowFrom: pairing.readAllowFromStore,
    command: { allowTextCommands: true, hasControlCommand: request.isCommand },
  });
  const { admission } = ingress.ingress;
  if (admission === "dispatch") return ingress;
  if (admission === "pairing-required" && userId !== undefined) {
    let told = false;
    await pairing.issueChallenge({
      senderId: userId,
      senderIdLine: `Your Nexus user: ${userId}`,
      meta: { name: who.name },
      sendPairingReply: async (text: string) => {
        told = true;
        turn.write(text);
      },
    });
    if (!told) turn.write(refusal.pending);
    await turn.end();
    return undefined;
  }
  const message = userId === undefined ? refusal.v1 : refusal.not_allowed;
  await turn.fail({ code: "forbidden", message, retryable: false });
  return undefined;
};
