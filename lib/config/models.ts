/**
 * One model as a bot: an entry of `models` in config.json, of a bots.json, or the options of `nexus bot`.
 *
 * Four kinds, told apart by which field is there: `openai` and `anthropic` (the address of a service), `command` (a program
 * per message), `echo`. Refuses to start anything: lib/models/ does.
 */
import { botIdShape } from "../frames.ts";
import { type Fault, flag, int, list, maybe, num, type Of, type Shape, text } from "../shape.ts";
import { type Env, type ReadFile, secret } from "./secrets.ts";
import { strict } from "./strict.ts";

/** A model with more context than this costs more than an operator expects of a default. */
export const HISTORY_TOKENS = 16_000;
/** Below the gateway's default turnTimeout of 300 s, so that the person is told what was silent. */
export const MODEL_TIMEOUT_MS = 240_000;

/** Of a program's system prompt, as JSON: it gets it in a variable of its environment, which holds 128 KiB with all the rest. */
const COMMAND_SYSTEM_BYTES = 100_000;

const KINDS = ["openai", "anthropic", "command", "echo"] as const;
export type ModelKind = (typeof KINDS)[number];

const serviceUrl: Shape<string> = (value, path, faults) => {
  const url = typeof value === "string" && value.length <= 2_000 && URL.canParse(value) ? new URL(value) : undefined;
  // A name and password would stand in the log of every proxy on the way; a key has its own field.
  if (url && /^https?:$/.test(url.protocol) && !url.username && !url.password) return value as string;
  faults.push({
    path,
    say: { zh: "应为 http(s) 地址，如 https://example.com/v1", en: "an http(s) URL such as https://example.com/v1" },
  });
  return "";
};

const plainObject: Shape<Record<string, unknown>> = (value, path, faults) => {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  faults.push({ path, say: { zh: "应为 JSON 对象", en: "a JSON object" } });
  return {};
};

const fault = (faults: Fault[], path: string, zh: string, en: string): void =>
  void faults.push({ path, say: { zh, en } });

/** A key goes into a header. What a header cannot carry would look like a service that cannot be reached. */
const keyShape =
  (hidden: Shape<string>): Shape<string> =>
  (value, path, faults) => {
    const before = faults.length;
    const key = hidden(value, path, faults);
    if (faults.length === before && !/^[\x20-\x7e]+$/.test(key))
      fault(
        faults,
        path,
        "只能有可打印的 ASCII 字符；请重新复制密钥，不要带上别的文字或换行",
        "printable ASCII characters only; copy the key again, without other words or line breaks",
      );
    return key;
  };

const fieldsOf = (env: Env, readFile: ReadFile) => {
  const hidden = secret(env, readFile);
  return strict({
    id: botIdShape,
    name: maybe(text(1, 64, /^[^\p{Cc}]+$/u, { zh: "不能含控制字符", en: "no control characters" })),
    openai: maybe(serviceUrl),
    anthropic: maybe(serviceUrl),
    command: maybe(text(1, 10_000)),
    echo: maybe(flag),
    model: maybe(text(1, 256)),
    key: maybe(keyShape(hidden)),
    system: maybe(text(0, 100_000)),
    historyTokens: maybe(int(0, 10_000_000)),
    maxTokens: maybe(int(1, 10_000_000)),
    /** Milliseconds of silence. */
    timeout: maybe(int(10, 3_600_000)),
    /** Further fields of the request: temperature and the like. */
    options: maybe(plainObject),
    /** The bot's own token, where the gateway wants one. */
    token: maybe(hidden),
    pools: maybe(list(botIdShape, 16)),
    weight: maybe(num(0, 1_000)),
    maxConcurrency: maybe(int(1, 100_000)),
    description: maybe(text(0, 500)),
    suggestions: maybe(list(text(1, 200), 8)),
  });
};

export type ModelEntry = Of<ReturnType<typeof fieldsOf>>;

/** Which of the four it is. */
export const kindOf = (entry: ModelEntry): ModelKind =>
  KINDS.find((kind) => entry[kind] !== undefined && entry[kind] !== false) ?? "echo";

/** One entry; exactly one kind, and a model's name where a service needs one. */
export const modelShape = (env: Env, readFile: ReadFile): Shape<ModelEntry> => {
  const shape = fieldsOf(env, readFile);
  return (value, path, faults) => {
    const before = faults.length;
    const entry = shape(value, path, faults);
    if (faults.length > before) return entry;
    const kinds = KINDS.filter((kind) => entry[kind] !== undefined && entry[kind] !== false);
    if (kinds.length !== 1)
      fault(faults, path, `应恰好有 ${KINDS.join("、")} 之一`, `exactly one of ${KINDS.join(", ")}`);
    if ((entry.openai !== undefined || entry.anthropic !== undefined) && entry.model === undefined)
      fault(faults, path ? `${path}.model` : "model", "缺少模型的名字", "the name of the model is missing");
    // Cut short it would say something else.
    if (entry.command !== undefined && Buffer.byteLength(JSON.stringify(entry.system ?? "")) > COMMAND_SYSTEM_BYTES)
      fault(
        faults,
        path ? `${path}.system` : "system",
        `程序从环境变量 NEXUS_TURN 得到它，那里放不下：至多 ${COMMAND_SYSTEM_BYTES} 字节（UTF-8，JSON）；请写进文件，让程序自己读`,
        `a program gets it in the environment variable NEXUS_TURN, which cannot hold it: at most ${COMMAND_SYSTEM_BYTES} bytes (UTF-8, as JSON); put it into a file that the program reads`,
      );
    return entry;
  };
};

/** A list of entries, each id once. */
export const modelsShape = (env: Env, readFile: ReadFile): Shape<ModelEntry[]> => {
  const entries = list(modelShape(env, readFile), 1_000);
  return (value, path, faults) => {
    const out = entries(value, path, faults);
    const seen = new Set<string>();
    for (const [i, entry] of (out ?? []).entries()) {
      if (entry?.id === undefined) continue;
      if (seen.has(entry.id))
        fault(faults, `${path}[${i}].id`, `${entry.id} 出现了两次`, `${entry.id} stands there twice`);
      seen.add(entry.id);
    }
    return out;
  };
};
