/** The defaults of config.json, each with its reason. Those of v1 are frozen by its published table. */

/** What 0 in config.json becomes: larger than any count, and still a whole number that JSON can carry. */
export const NO_LIMIT = Number.MAX_SAFE_INTEGER;

const KIB = 1024;
const MIB = 1024 * KIB;
const DAY_MS = 86_400_000;

export const DEFAULTS = {
  /** v1. */
  port: 17392,
  /** v1 listened everywhere, and bots and phones come from other machines. */
  host: "0.0.0.0",
  /** v1: a day, so that a working day needs one sign-in. */
  sessionTTL: DAY_MS,
  /** v1. Below the 60 s after which common proxies cut a silent connection. */
  pingInterval: 30_000,
  /** v1: three pings may be lost. */
  botTimeout: 90_000,
  /** v1 waited 5 min for a bot; agents that call tools are silent for minutes. */
  turnTimeout: 300_000,
  dataDir: "./data",
  /** Survives kill -9 at 12,000 commits a second; "full" survives power loss at 2,700. */
  synchronous: "normal",
  /** Keep: nobody expects a chat to forget by itself. */
  retentionDays: 0,
  language: "zh",
  /** Clickjacking: only our own pages may frame us until the operator names an IM's host. */
  frameAncestors: ["'self'"],
  limits: {
    /** A person with every tab open asks a few bots at once; a script that asks more is one. */
    turnsPerUser: 20,
    /** Tabs and devices of one person. */
    streamsPerUser: 10,
    /** One a second, far beyond typing. */
    sendsPerMinute: 60,
    /** About 5 kB each: 25 MB. */
    streams: 5_000,
    bots: 1_000,
    /** An office behind one address, six connections per browser. */
    connectionsPerAddress: 1_000,
    /** Longer than anybody waits for a full pool. */
    queuedTurns: 100,
    /** A phone's photo in base64, with room: 15 MB of picture. */
    bodyBytes: 20 * MIB,
    frameBytes: 20 * MIB,
    /** A long document pasted; more belongs in an attachment. */
    textChars: 100_000,
    /** The longest answers of today's models are some hundred kB. */
    replyBytes: 4 * MIB,
    attachmentBytes: 20 * MIB,
  },
} as const;
