/**
 * What the host's transcript tells of one run: what it cost in tokens, and its words as they were written.
 *
 * What must stay true: only messages of this session while the run goes on are counted, and nothing is said when the host
 * says nothing. Refuses to estimate, and to know prices.
 */
import type { PluginRuntime } from "openclaw/plugin-sdk/channel-core";
import type { Usage } from "../../lib/protocol.ts";

const squash = (text: string): string => text.replace(/\s+/g, " ").trim();

const count = (value: unknown): number => (typeof value === "number" && value > 0 ? value : 0);

type Json = Record<string, unknown>;
const isRecord = (value: unknown): value is Json => typeof value === "object" && value !== null;

/** The text parts of a message; "" for any other shape. */
const textOf = (content: unknown): string =>
  Array.isArray(content)
    ? content.map((part) => (isRecord(part) && typeof part.text === "string" ? part.text : "")).join("")
    : "";

/** Listens from now on. */
export const watchRun = (runtime: PluginRuntime, sessionKey: string) => {
  let input = 0;
  let output = 0;
  let latest = "";
  const off = runtime.events.onSessionTranscriptUpdate(({ sessionKey: key, target, message }) => {
    if ((key ?? target.sessionKey) !== sessionKey || !isRecord(message) || message.role !== "assistant") return;
    latest = textOf(message.content);
    if (!isRecord(message.usage)) return;
    const { usage } = message;
    // The host counts what came from or went into the provider's cache apart; for a person all of it was read.
    input += count(usage.input) + count(usage.cacheRead) + count(usage.cacheWrite);
    output += count(usage.output);
  });
  return {
    /** `shown` has its line breaks taken out by the host; the same words with theirs, if the transcript has them. */
    written: (shown: string): string => (squash(latest) === squash(shown) ? latest.trim() : shown),
    /** The sum of all model calls, if the host told any. */
    stop: (): Usage | undefined => {
      off();
      if (input + output === 0) return undefined;
      return { prompt_tokens: input, completion_tokens: output, total_tokens: input + output };
    },
  };
};
