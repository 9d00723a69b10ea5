/**
 * What the host needs before anything runs: names, config access, `openclaw channels add`, secret references.
 *
 * Must stay import-safe: no sockets, no timers, no running host. Shared by the full entry and the setup entry.
 */
import { DEFAULT_ACCOUNT_ID, normalizeAccountId } from "openclaw/plugin-sdk/account-id";
import { createScopedChannelConfigAdapter } from "openclaw/plugin-sdk/channel-config-helpers";
import { createSimpleChannelSecretContract } from "openclaw/plugin-sdk/channel-secret-basic-runtime";
import { defineChannelSetupContract } from "openclaw/plugin-sdk/channel-setup";
import {
  CHANNEL,
  allowEntry,
  allowFrom,
  defaultAccountId,
  listAccountIds,
  resolveAccount,
  section,
  tokenStatus,
  type NexusAccount,
} from "./config.ts";

const FIELDS = ["serverUrl", "botId", "botName", "token"] as const;

export const meta = {
  id: CHANNEL,
  label: "Nexus",
  selectionLabel: "Nexus gateway",
  docsPath: "/channels/nexus",
  docsLabel: "nexus",
  blurb: "People chat with the agent on a self-hosted Nexus gateway.",
  order: 80,
  markdownCapable: true,
};

const setupContract = defineChannelSetupContract({
  fields: {
    serverUrl: {
      kind: "string",
      cli: { flags: "--server-url <url>", description: "Bot address of the gateway: ws://host:17392/bot-ws" },
    },
    botId: { kind: "string", cli: { flags: "--bot-id <id>", description: "The bot's id on the gateway" } },
    botName: { kind: "string", cli: { flags: "--bot-name <name>", description: "The name people see" } },
    token: {
      kind: "string",
      sensitive: true,
      cli: { flags: "--token <token>", description: "The bot's token on the gateway" },
    },
  },
  adapter: {
    resolveAccountId: ({ accountId }) => normalizeAccountId(accountId),
    validateInput: ({ input }) => {
      if (input.serverUrl && !/^(wss?|https?):\/\//.test(input.serverUrl))
        return "serverUrl must begin with ws:// or wss://";
      if (input.botId && !/^[^\s@]{1,64}$/.test(input.botId))
        return "botId has 1 to 64 characters, without spaces or @";
      return null;
    },
    applyAccountConfig: ({ cfg, accountId, input }) => {
      const patch = Object.fromEntries(FIELDS.flatMap((key) => (input[key] ? [[key, input[key]]] : [])));
      const current = section(cfg);
      const accounts = {
        ...current.accounts,
        [accountId]: { ...current.accounts?.[accountId], enabled: true, ...patch },
      };
      const next =
        accountId === DEFAULT_ACCOUNT_ID && !current.accounts?.[DEFAULT_ACCOUNT_ID]
          ? { ...current, enabled: true, ...patch }
          : { ...current, enabled: true, accounts };
      return { ...cfg, channels: { ...cfg.channels, [CHANNEL]: next } };
    },
  },
});

/** `token` as a secret reference of the host, at the root and in accounts. */
export const secrets = createSimpleChannelSecretContract({
  channelKey: CHANNEL,
  label: "Nexus",
  accountFields: ["token"],
  channelFields: ["token"],
  mode: "account-inheritance",
});

export const createBase = () => ({
  id: CHANNEL,
  meta,
  capabilities: { chatTypes: ["direct" as const], media: true, threads: true },
  // Accounts share nothing, so a change of one leaves the others connected.
  reload: { configPrefixes: [`channels.${CHANNEL}`], accountScopedRestart: true },
  setupContract,
  secrets,
  config: {
    ...createScopedChannelConfigAdapter<NexusAccount>({
      sectionKey: CHANNEL,
      listAccountIds,
      resolveAccount,
      defaultAccountId,
      inspectAccount: (cfg, accountId) => {
        const account = resolveAccount(cfg, accountId);
        return {
          accountId: account.accountId,
          enabled: account.enabled,
          configured: account.configured,
          tokenStatus: tokenStatus(account.config),
        };
      },
      clearBaseFields: [...FIELDS, "name", "dmPolicy", "allowFrom", "reconnectInterval", "mediaMaxMb"],
      resolveAllowFrom: (account) => allowFrom(account.config),
      formatAllowFrom: (entries) => entries.map((entry) => allowEntry(String(entry))).filter((entry) => entry !== ""),
    }),
    isConfigured: (account: NexusAccount) => account.configured,
    isEnabled: (account: NexusAccount) => account.enabled,
    describeAccount: (account: NexusAccount) => ({
      accountId: account.accountId,
      ...(account.name === undefined ? {} : { name: account.name }),
      enabled: account.enabled,
      configured: account.configured,
      ...(account.config.serverUrl === undefined ? {} : { baseUrl: account.config.serverUrl }),
      tokenStatus: tokenStatus(account.config),
    }),
  },
});
