/**
 * Seeded damage: valid texts changed by bytes, by pieces and by values, and a list of everything that parses what strangers
 * send. A failing input is found again by its seed and its number.
 */
import { checkOrigin, ownOrigin, preflightHeaders, readCookie } from "../../lib/auth.ts";
import {
  botBody,
  chatBody,
  disconnectBody,
  loginBody,
  newBotBody,
  newConversationBody,
  newKeyBody,
  newUserBody,
  passwordBody,
  patchConversationBody,
  sendBody,
  userBody,
} from "../../lib/bodies.ts";
import { parseConfig } from "../../lib/config.ts";
import { readJson } from "../../lib/config/json.ts";
import { messageIdOf, parseFrame } from "../../lib/frames.ts";
import { decodeId } from "../../lib/ids.ts";
import { addressKey, clientAddress, trustedBlocks } from "../../lib/limits.ts";
import { readJwt } from "../../lib/signin/jwt.ts";
import { matchQuery } from "../../lib/store/search.ts";
import { readCompletion } from "../../lib/openai/request.ts";
import { Reject } from "../../lib/protocol.ts";
import { parseAfter } from "../../lib/streams/reader.ts";
import { testConfig } from "./config.ts";
import { seeded } from "./proxy.ts";
import { sseParser } from "./sse.ts";

/** One valid frame of each type a bot sends, with every field it may have. */
export const FRAMES: Record<string, object> = {
  register: {
    type: "register",
    botId: "bot",
    botName: "机器人",
    token: "nxb_token",
    proto: 2,
    caps: ["ack", "seq", "replace"],
    instanceId: "one",
    pools: ["default"],
    weight: 2,
    maxConcurrency: 4,
    session: "nxb_session",
    description: "d",
    avatar: "data:image/png;base64,AAAA",
    suggestions: ["你好"],
  },
  reply: {
    type: "reply",
    id: "r1",
    replyTo: "abc",
    content: "你好 🙂",
    done: true,
    timestamp: 1,
    seq: 1,
    mode: "delta",
    finish: "stop",
    image: "AAAA",
    usage: { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 },
    attachments: [{ id: "f1" }, { name: "a.txt", mime: "text/plain", data: "QQ==" }],
    error: { code: "x", message: "y", retryable: true },
  },
  ack: { type: "ack", id: "abc" },
  pong: { type: "pong" },
  event: {
    type: "event",
    replyTo: "abc",
    kind: "tool",
    text: "t",
    tool: { id: "1", name: "ls", phase: "end", ok: true },
  },
  message: {
    type: "message",
    id: "m1",
    to: { userId: "admin" },
    content: "hi",
    title: "t",
    attachments: [{ name: "a", mime: "b/c", data: "QQ==" }],
  },
};

const BODIES = [
  { username: "admin", password: "secret" },
  { current: "a", password: "b" },
  {
    message: "hi",
    target: "bot",
    image: "data:image/png;base64,AAAA",
    conversationId: "abc",
    clientId: "c",
    attachments: ["a1"],
  },
  { clientId: "c", content: "hi", target: "bot", attachments: ["a1"], replyTo: "b2", replaces: "c3" },
  { title: "t", botId: "bot", pinned: true, read: "abc" },
  { name: "k", scope: "all", bots: ["bot"], expiresAt: 4_000_000_000_000 },
  {
    model: "bot",
    messages: [
      { role: "system", content: "s" },
      {
        role: "user",
        content: [
          { type: "text", text: "t" },
          { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } },
        ],
      },
    ],
    stream: true,
    stream_options: { include_usage: true },
    user: "u",
  },
];

const CONFIG = testConfig({
  publicUrl: "https://nexus.example.com",
  trustedProxies: ["127.0.0.1/8"],
  corsOrigins: ["https://other.example.com"],
  bots: { "my-bot": { token: "a token of its own", users: ["admin"], pools: ["default"], weight: 1 } },
  limits: { turnsPerUser: 20, bodyBytes: 1000 },
  retentionDays: 3,
  users: { admin: { password: "a-long-password", identities: ["wecom:CORP:zhang", "feishu:t:u1"] } },
  signIn: {
    create: "listed",
    block: ["feishu:t:u2"],
    feishu: { appId: "cli_a", appSecret: "app-secret", tenants: ["t"], tokenApi: "v3" },
    oidc: [{ id: "kc", name: "KC", issuer: "https://kc.example.com", clientId: "c", require: { groups: ["it"] } }],
  },
  models: [{ id: "gpt", openai: "https://api.example.com/v1", model: "m", key: "k" }],
});

const HEADERS = [
  "nexus=nxs_abc; __Host-nexus=nxs_def; other=1",
  "203.0.113.7, 10.0.0.1, [2001:db8::1]:443, ::ffff:127.0.0.1",
  "https://nexus.example.com",
  "12:34567",
  "id: 1:2\ndata: one\r\n\r\n: comment\rdata: two\n\nretry: 5\n",
];

const NASTY_TEXT = [
  "\u0000",
  "\ud800",
  "\u2028",
  "\ufeff",
  "🙂",
  "\r\n",
  '"',
  "\\",
  "__proto__",
  "%00",
  "\u202e",
  "a".repeat(300),
];
const NASTY_VALUES: unknown[] = [
  ...[null, true, false, 0, -1, 0.5, 1e308, -1e308, Number.MAX_SAFE_INTEGER + 2, "", " ", "\ud800"],
  ...[[], {}, [[]], { type: "reply" }, { __proto__: null, length: -1 }, "constructor", "toString"],
];

export type Fuzz = ReturnType<typeof createFuzz>;

/** Everything random about a run comes from `seed`. */
export const createFuzz = (seed: number) => {
  const random = seeded(seed);
  const below = (n: number): number => Math.floor(random() * n);
  const of = <T>(list: readonly T[]): T => list[below(list.length)]!;

  /** Cuts, doubles, swaps and replaces characters. */
  const damage = (text: string): string => {
    let out = text;
    for (let n = 1 + below(3); n > 0; n--) {
      const at = below(out.length + 1);
      const upto = Math.min(out.length, at + below(12));
      const how = below(6);
      if (how === 0) out = out.slice(0, at);
      else if (how === 1) out = out.slice(0, at) + out.slice(upto);
      else if (how === 2) out = out.slice(0, upto) + out.slice(at);
      else if (how === 3) out = out.slice(0, at) + of(NASTY_TEXT) + out.slice(at);
      else if (how === 4) out = out.slice(0, at) + String.fromCharCode(below(0x10000)) + out.slice(upto);
      else out = out.slice(0, at) + of(["{", "}", "[", "]", ":", ",", '"', "-", "e400", "null"]) + out.slice(upto);
    }
    return out;
  };

  /** Long ones are rare, or the run would be about copying them. */
  const nasty = (): unknown => (below(2_000) === 0 ? "x".repeat(150_000) : of(NASTY_VALUES));

  /** One value somewhere inside replaced, removed or doubled. */
  const warp = (value: unknown): unknown => {
    if (random() < 0.25 || typeof value !== "object" || value === null) return nasty();
    if (Array.isArray(value)) {
      const copy = [...value];
      if (copy.length === 0 || random() < 0.2) return [...copy, ...Array.from({ length: below(20) }, () => nasty())];
      copy[below(copy.length)] = warp(of(copy));
      return copy;
    }
    const copy = { ...value } as Record<string, unknown>;
    const key = of(Object.keys(copy));
    if (key === undefined || random() < 0.15) copy[of(["__proto__", "constructor", "", "type", "x"])] = nasty();
    else if (random() < 0.2) delete copy[key];
    else copy[key] = warp(copy[key]);
    return copy;
  };

  const json = (from: readonly object[]): string => {
    const value = of(from);
    const text = JSON.stringify(random() < 0.6 ? warp(value) : value) ?? "null";
    return random() < 0.6 ? damage(text) : text;
  };

  return {
    below,
    damage,
    frame: (): string => json(Object.values(FRAMES)),
    body: (): string => json(BODIES),
    config: (): string => json([CONFIG]),
    header: (): string => damage(of(HEADERS)),
  };
};

const asValue = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};

const LIMITS = { textChars: 100_000 };
const TRUSTED = trustedBlocks(["127.0.0.1/8", "10.0.0.0/8", "::1"]);

const headersOf = (pairs: Record<string, string>): Headers | undefined => {
  try {
    return new Headers(pairs);
  } catch {
    return undefined; // what no server would pass on
  }
};

/** Everything that reads what strangers send. Each may throw Reject and nothing else. */
export const READERS: Record<"frame" | "body" | "config" | "header", (text: string) => void> = {
  frame: (text) => {
    messageIdOf(text);
    parseFrame(text, LIMITS);
  },
  body: (text) => {
    const value = asValue(text);
    const people = [loginBody, passwordBody, newUserBody, userBody, newBotBody, botBody, disconnectBody];
    const readers = [...people, newConversationBody, patchConversationBody, newKeyBody];
    const long = [chatBody, sendBody, readCompletion];
    for (const read of [...readers, ...long.map((one) => (body: unknown) => one(body, LIMITS.textChars))])
      onlyReject(() => read(value));
  },
  config: (text) => {
    readJson(text);
    parseConfig(asValue(text), {}, () => {
      throw new Error("no such file");
    });
  },
  header: (text) => {
    decodeId(text);
    addressKey(text);
    readCookie(text, true);
    readCookie(text, false);
    onlyReject(() => parseAfter(text));
    readJwt(text);
    matchQuery("admin", text);
    sseParser({ event: () => {}, comment: () => {}, retry: () => {} }).push(text);
    const headers = headersOf({
      "x-forwarded-for": text,
      "x-real-ip": text,
      host: text,
      origin: text,
      "content-type": text,
    });
    if (!headers) return;
    clientAddress(headers, "127.0.0.1", TRUSTED);
    const own = ownOrigin(headers, undefined, "http", true);
    checkOrigin("POST", headers, own, ["https://other.example.com"]);
    preflightHeaders("OPTIONS", headers, []);
  },
};

/** Runs it; passes a Reject by, and throws anything else on. Returns whether it was refused. */
export const onlyReject = (run: () => void): boolean => {
  try {
    run();
    return false;
  } catch (error) {
    if (error instanceof Reject) return true;
    throw error;
  }
};

/** No parser may take longer for one input, however it is made. */
const HANGS_MS = 1_000;

/** `rounds` damaged inputs for each reader. Throws with the seed, the number and the input when one is taken badly. */
export const fuzzAll = (seed: number, rounds: Record<keyof typeof READERS, number>): Record<string, number> => {
  const refused: Record<string, number> = {};
  for (const kind of Object.keys(READERS) as (keyof typeof READERS)[]) {
    const fuzz = createFuzz(seed);
    refused[kind] = 0;
    for (let i = 0; i < rounds[kind]; i++) {
      const text = fuzz[kind]();
      const began = performance.now();
      try {
        if (onlyReject(() => READERS[kind](text))) refused[kind]++;
      } catch (error) {
        throw new Error(`seed ${seed}, ${kind} ${i}: ${String(error)}\n${JSON.stringify(text.slice(0, 2000))}`);
      }
      const ms = performance.now() - began;
      if (ms > HANGS_MS)
        throw new Error(`seed ${seed}, ${kind} ${i} took ${ms} ms\n${JSON.stringify(text.slice(0, 2000))}`);
    }
  }
  return refused;
};
