/**
 * The `channels.nexus` section of the host's config as typed accounts.
 *
 * Owns the meaning of every key: root values are inherited by `accounts.<id>`, account values win. Must stay pure and
 * import-safe, because setup and read-only commands use it without a running host. Refuses to read secrets: the host
 * resolves its own secret references, and a token that is still a reference counts as not available.
 */
import { createAccountListHelpers, resolveMergedAccountConfig } from "openclaw/plugin-sdk/account-helpers";
import { normalizeAccountId } from "openclaw/plugin-sdk/account-id";
import type { OpenClawConfig } from "openclaw/plugin-sdk/channel-core";

export const CHANNEL = "nexus";

export type DmPolicy = "open" | "pairing" | "allowlist" | "disabled";

export type NexusConfig = {
  enabled?: boolean;
  name?: string;
  serverUrl?: string;
  botId?: string;
  botName?: string;
  /** Text, or a reference that the host has not resolved (yet). */
  token?: unknown;
  reconnectInterval?: number;
  dmPolicy?: DmPolicy;
  allowFrom?: (string | number)[];
  mediaMaxMb?: number;
};

type NexusSection = NexusConfig & { defaultAccount?: string; accounts?: Record<string, NexusConfig | undefined> };

export type NexusAccount = {
  accountId: string;
  name?: string;
  enabled: boolean;
  configured: boolean;
  config: NexusConfig;
};

export const section = (cfg: OpenClawConfig): NexusSection =>
  ((cfg.channels as Record<string, unknown> | undefined)?.[CHANNEL] as NexusSection | undefined) ?? {};

const helpers = createAccountListHelpers(CHANNEL, {
  normalizeAccountId,
  implicitDefaultAccount: { channelKeys: ["serverUrl", "botId"] },
});
export const listAccountIds = (cfg: OpenClawConfig): string[] => helpers.listAccountIds(cfg);
export const defaultAccountId = (cfg: OpenClawConfig): string => helpers.resolveDefaultAccountId(cfg);

/** The account with its inherited values. Never throws: an unknown id gives an unconfigured account. */
export const resolveAccount = (cfg: OpenClawConfig, accountId?: string | null): NexusAccount => {
  const { accounts, ...root } = section(cfg);
  const id = normalizeAccountId(accountId ?? defaultAccountId(cfg));
  const config = resolveMergedAccountConfig<NexusConfig & Record<string, unknown>>({
    channelConfig: root as NexusConfig & Record<string, unknown>,
    accounts: accounts as Record<string, Partial<NexusConfig & Record<string, unknown>>> | undefined,
    accountId: id,
    normalizeAccountId,
    omitKeys: ["defaultAccount"],
  });
  return {
    accountId: id,
    ...(config.name === undefined ? {} : { name: config.name }),
    enabled: root.enabled !== false && config.enabled !== false,
    configured: Boolean(config.serverUrl && config.botId),
    config,
  };
};

/** The token as text, or undefined when there is none or the host could not resolve its reference. */
export const tokenText = (config: NexusConfig): string | undefined =>
  typeof config.token === "string" && config.token.trim() !== "" ? config.token.trim() : undefined;

export const tokenStatus = (config: NexusConfig): "available" | "configured_unavailable" | "missing" => {
  if (tokenText(config) !== undefined) return "available";
  return config.token && typeof config.token === "object" ? "configured_unavailable" : "missing";
};

/** `open` is the default: the gateway already signed the person in, and v1 let everybody in. */
export const dmPolicy = (config: NexusConfig): DmPolicy => config.dmPolicy ?? "open";

/**
 * Who may write, for the host's access check. The host reads an empty list under `open` as "nobody"; here it means
 * everybody the gateway lets in, as the published example says. A list under `open` narrows it, as in other channels.
 */
export const allowFrom = (config: NexusConfig): string[] => {
  const entries = (config.allowFrom ?? []).map((entry) => allowEntry(String(entry))).filter((entry) => entry !== "");
  return dmPolicy(config) === "open" && entries.length === 0 ? ["*"] : entries;
};

/** An entry may carry the channel as prefix. Case is kept: usernames that differ in case are different people. */
export const allowEntry = (entry: string): string =>
  entry
    .trim()
    .replace(/^nexus:/i, "")
    .trim();

/** Bytes. 20 MB is also the gateway's default bound. */
export const mediaMaxBytes = (config: NexusConfig): number => Math.floor((config.mediaMaxMb ?? 20) * 1024 * 1024);

/** Pauses between tries: v1's single interval becomes a range that grows around it. */
export const reconnectRange = (config: NexusConfig): { minMs: number; maxMs: number } => {
  const interval = config.reconnectInterval ?? 5000;
  return { minMs: Math.max(100, interval / 5), maxMs: interval * 3 };
};
