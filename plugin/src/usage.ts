/**
 * What a turn cost in tokens: the host's transcript carries the usage of every model call, this file adds them up.
 *
 * What must stay true: only calls of this session while the turn runs are counted, and nothing is said when the host says
 * nothing. Refuses to estimate, and to know prices.
 */
import type { PluginRuntime } from "openclaw/plugin-sdk/channel-core";
import type { Usage } from "../../lib/protocol.ts";

const count = (value: unknown): number => (typeof value === "number" && value > 0 ? value : 0);

/** Usage of one assistant message of the transcript; undefined for anything else. */
const usageOf = (message: unknown): { input: number; output: number } | undefined => {
  if (typeof message !== "object" || message === null) return undefined;
  const { role, usage } = message as { role?: unknown; usage?: Record<string, unknown> };
  if (role !== "assistant" || typeof usage !== "object" || usage === null) return undefined;
  // The host counts what came from or went into the provider's cache apart; for a person all of it was read.
  return { input: count(usage.input) + count(usage.cacheRead) + count(usage.cacheWrite), output: count(usage.output) };
};

/** Counts from now on. `stop` returns the sum of all model calls of the session since then, if the host told any. */
export const watchUsage = (runtime: PluginRuntime, sessionKey: string): { stop(): Usage | undefined } => {
  let input = 0;
  let output = 0;
  const off = runtime.events.onSessionTranscriptUpdate((update) => {
    if ((update.sessionKey ?? update.target.sessionKey) !== sessionKey) return;
    const usage = usageOf(update.message);
    if (!usage) return;
    input += usage.input;
    output += usage.output;
  });
  return {
    stop: () => {
      off();
      if (input + output === 0) return undefined;
      return { prompt_tokens: input, completion_tokens: output, total_tokens: input + output };
    },
  };
};
