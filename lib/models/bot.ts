/**
 * A model as a bot: connected over the real /bot-ws with the bot library everybody has, one kind of answer per entry.
 *
 * What must stay true: a turn ends in an answer or in a sentence that says what failed; what the model is told comes from
 * the gateway with each chat, so nothing is lost with this process. Refuses to log what people or models said.
 */
import { type Bot, type BotState, connectBot, type Turn, type TurnEnd } from "../../plugin/client.ts";
import { HISTORY_TOKENS, kindOf, MODEL_TIMEOUT_MS, type ModelEntry } from "../config/models.ts";
import type { Log } from "../log.ts";
import type { Say, Usage } from "../protocol.ts";
import { askAnthropic } from "./anthropic.ts";
import { runCommand } from "./command.ts";
import { type Asking, askOpenAi } from "./openai.ts";
import { promptOf, withoutEarlierPictures } from "./prompt.ts";
import { ModelError, persist, silenceGuard } from "./upstream.ts";

/** While nothing was said: the person sees that something happens, the gateway that the bot lives. */
const TYPING_MS = 15_000;
/** Thoughts come by the word; the page shows the newest ones, so often is enough. */
const THOUGHT_MS = 500;
const THOUGHT_CHARS = 300;

export type ModelBotOptions = {
  entry: ModelEntry;
  /** The gateway: ws(s):// or http(s)://. */
  url: string;
  /** Used where the entry has none. */
  token: string;
  log: Log;
  env: Record<string, string | undefined>;
  /** What a command writes to its standard error. */
  stderr?: (text: string) => void;
  onState?: (state: BotState) => void;
  /** Where one bot id has several connections for a while. */
  instanceId?: string;
  /** For tests: the first wait before another try. */
  firstWaitMs?: number;
};

/** In the language of the question: Chinese unless it has letters and no Chinese. */
const sentence = ({ zh, en }: Say, question: string): string =>
  /[a-z]/i.test(question) && !/\p{Script=Han}/u.test(question) ? en : zh;

const typing = (turn: Turn): (() => void) => {
  turn.event({ kind: "typing" });
  const timer = setInterval(() => turn.event({ kind: "typing" }), TYPING_MS);
  return () => clearInterval(timer);
};

const createThoughts = (turn: Turn) => {
  let thought = "";
  let toldAt = -Infinity;
  return (text: string): void => {
    thought = (thought + text).slice(-THOUGHT_CHARS);
    const at = performance.now();
    if (at - toldAt < THOUGHT_MS) return;
    toldAt = at;
    turn.event({ kind: "reasoning", text: thought });
  };
};

/** A refusal that may be about the pictures of the request: services say so in many ways, some of them with a 500. */
const mindsPictures = (error: unknown): boolean =>
  error instanceof ModelError &&
  (error.code === "model_refused" ||
    error.code === "model_not_found" ||
    (error.code === "model_failed" && /image|vision|multi-?modal|mmproj/i.test(error.message)));

const askService = async (turn: Turn, options: ModelBotOptions): Promise<Usage | undefined> => {
  const { entry, log, firstWaitMs } = options;
  const ask = entry.openai === undefined ? askAnthropic : askOpenAi;
  let prompt = await promptOf(turn, {
    system: entry.system,
    historyTokens: entry.historyTokens ?? HISTORY_TOKENS,
  });
  const stop = typing(turn);
  const think = createThoughts(turn);
  let spoke = false;
  const once = async (): Promise<Usage | undefined> => {
    const guard = silenceGuard(turn.signal, entry.timeout ?? MODEL_TIMEOUT_MS);
    const asking: Asking = {
      url: (entry.openai ?? entry.anthropic)!,
      model: entry.model!,
      key: entry.key,
      prompt,
      maxTokens: entry.maxTokens,
      options: entry.options ?? {},
      user: turn.conversationId && `nexus-${turn.conversationId}`,
      signal: guard.signal,
      touch: guard.touch,
      say: (text) => {
        if (!spoke) stop();
        spoke = true;
        turn.write(text);
      },
      think,
    };
    try {
      return await ask(asking);
    } catch (error) {
      throw guard.explain(error);
    } finally {
      guard.end();
    }
  };
  const attempt = async (): Promise<Usage | undefined> => {
    try {
      return await once();
    } catch (error) {
      const plain = spoke || !mindsPictures(error) ? undefined : withoutEarlierPictures(prompt);
      if (!plain) throw error;
      // A picture that was once sent to a model without eyes must not end the conversation for good.
      prompt = plain;
      return once();
    }
  };
  try {
    const usage = await persist(attempt, {
      signal: turn.signal,
      spoke: () => spoke,
      firstWaitMs,
      waiting: (ms, { code, say }) => {
        log("warn", "model_retry", { bot: entry.id, turn: turn.id, code, inMs: Math.round(ms) });
        turn.event({ kind: "status", text: sentence(say, turn.text) });
      },
    });
    if (!spoke)
      throw new ModelError("model_empty", {
        zh: "模型结束了，却什么也没有说；换个说法再试一次",
        en: "The model ended without a word; try asking in another way",
      });
    return usage;
  } finally {
    stop();
  }
};

const echo = (turn: Turn): void => {
  turn.write(turn.text);
  for (const { name, size } of turn.attachments) turn.write(`\n[${name}, ${size} bytes]`);
};

const answer = async (turn: Turn, options: ModelBotOptions): Promise<TurnEnd> => {
  const { entry, env, stderr = () => {} } = options;
  const kind = kindOf(entry);
  if (kind === "echo") echo(turn);
  else if (kind === "command") {
    const stop = typing(turn);
    const timeoutMs = entry.timeout ?? MODEL_TIMEOUT_MS;
    const command = { command: entry.command!, system: entry.system, timeoutMs, env, stderr };
    const spoke = await runCommand(turn, command).finally(stop);
    // A program that went well and had nothing to say.
    if (!spoke) return { finish: "silent" };
  } else {
    const usage = await askService(turn, options);
    if (usage) return { usage };
  }
  return {};
};

/** Connects one entry; the caller closes it. Throws on a bad URL. */
export const startModelBot = (options: ModelBotOptions): Bot => {
  const { entry, url, token, log, onState, instanceId } = options;
  const { id, name, pools, weight, maxConcurrency, description, suggestions } = entry;
  return connectBot({
    url,
    token: entry.token ?? token,
    botId: id,
    botName: name ?? id,
    // A question may be asked again after a crash; a program may have done something the first time.
    caps: kindOf(entry) === "command" ? ["history"] : ["history", "idempotent"],
    ...(instanceId !== undefined && { instanceId }),
    ...(pools && { pools }),
    ...(weight !== undefined && { weight }),
    ...(maxConcurrency !== undefined && { maxConcurrency }),
    ...(description !== undefined && { description }),
    ...(suggestions && { suggestions }),
    ...(onState && { onState }),
    log: (level, event, fields) => log(level, event.replace("bot.", "model_"), { bot: id, ...fields }),
    async onTurn(turn) {
      try {
        const end = await answer(turn, options);
        if (!turn.signal.aborted) await turn.end(end);
      } catch (error) {
        if (turn.signal.aborted) return;
        if (!(error instanceof ModelError)) throw error;
        const { code } = (error.cause ?? {}) as { code?: string };
        log("warn", "model_failed", { bot: id, turn: turn.id, code: error.code, cause: code });
        await turn.fail({ code: error.code, message: sentence(error.say, turn.text), retryable: false });
      }
    },
  });
};
