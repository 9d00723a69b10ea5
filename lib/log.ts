/**
 * The log: one call, one line. A readable (coloured) line on a terminal, one JSON object elsewhere.
 *
 * What must stay true: no field whose name is in HIDDEN and nothing that looks like a secret is ever written; no value
 * can begin a new line or move the cursor, so nobody can forge a line; a call never throws, whatever it is given.
 * Refuses to know about files, rotation or shipping: it writes text, the service manager keeps it.
 */

export type Level = "debug" | "info" | "warn" | "error";

/** `event` is a fixed snake_case word of the code; `fields` are ids and sizes, never what a person wrote. */
export type Log = (level: Level, event: string, fields?: Record<string, unknown>) => void;

const LEVELS: readonly Level[] = ["debug", "info", "warn", "error"];

/** Long enough for a stack, short enough that a hostile value cannot fill a disk with one line. In UTF-16 units. */
const VALUE_CHARS = 2_000;
/** Errors nest and objects may contain themselves; nothing worth reading is deeper. */
const DEPTH = 4;
/** Entries of a list or object that are shown: the rest is counted. */
const ENTRIES = 30;

/** Field names (lower case, without _ and -) that may never appear with their value: credentials and people's words. */
const HIDDEN = new Set(
  (
    "cookie setcookie authorization auth key apikey session hash passwordhash credentials " +
    "content text message messages body image data snippet title prompt history caption query input output"
  ).split(" "),
);
const HIDDEN_ENDINGS = /(?:tokens?|passwords?|passwd|secrets?|cookies?|authorization|apikeys?)$/;
const HIDDEN_VALUE = "[hidden]";

/** What a secret looks like inside a longer text: our tokens, hashes, Authorization values, user:password@ in URLs. */
const SECRETS: readonly [RegExp, string][] = [
  [/\bnx([sbk])_[\w-]{6,}/g, "nx$1_[hidden]"],
  [/\$argon2[\w-]*\$[\w+/=$,-]*/g, "$argon2[hidden]"],
  [/\b(bearer|basic)\s+[\w.~+/=-]{6,}/gi, "$1 [hidden]"],
  [/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@:]*:[^\s/@]*@/gi, "$1[hidden]@"],
  [/([?&][\w-]*(?:token|key|code|state|secret|password)=)[^\s&#"']+/gi, "$1[hidden]"],
  [/\bdata:[\w.+-]+\/[\w.+-]+;base64,[\w+/=]{16,}/g, "data:[hidden]"],
];

/** Everything a terminal or a log reader might act on: C0, DEL, C1, line and paragraph separators, bidi overrides. */
const UNSAFE = /[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;
const escaped = (text: string): string =>
  text.replace(UNSAFE, (c) =>
    c === "\n"
      ? "\\n"
      : c === "\r"
        ? "\\r"
        : c === "\t"
          ? "\\t"
          : `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

/** `text` with everything that looks like a secret masked. Also for text that is shown elsewhere than in the log. */
export const maskSecrets = (text: string): string =>
  SECRETS.reduce((masked, [pattern, by]) => masked.replace(pattern, by), text);

/** Masked, cut to VALUE_CHARS, free of control characters. Masked before the cut: half a secret has no shape left. */
const safe = (text: string): string => {
  // A megabyte is not worth six patterns; what is cut here was beyond VALUE_CHARS anyway.
  const near = maskSecrets(text.length > VALUE_CHARS * 4 ? text.slice(0, VALUE_CHARS * 4) : text);
  const cut = near.length > VALUE_CHARS ? near.slice(0, VALUE_CHARS) : near;
  return cut.length < text.length && near.length > VALUE_CHARS ? `${escaped(cut)}…` : escaped(cut);
};

const isHidden = (name: string): boolean => {
  const plain = name.toLowerCase().replace(/[_-]/g, "");
  return HIDDEN.has(plain) || HIDDEN_ENDINGS.test(plain);
};

/** Only the frames: the first lines of a stack repeat the message, which may hold anything. */
const frames = (error: Error): string[] =>
  (error.stack ?? "")
    .split("\n")
    .filter((line) => /^\s+at /.test(line))
    .slice(0, 12)
    .map((line) => safe(line.trim()));

type Plain = string | number | boolean | null | Plain[] | { [name: string]: Plain };

const plain = (value: unknown, depth: number): Plain => {
  if (value === null || value === undefined) return null;
  switch (typeof value) {
    case "string":
      return safe(value);
    case "number":
      return Number.isFinite(value) ? value : String(value);
    case "boolean":
      return value;
    case "bigint":
      return value.toString();
    case "object":
      break;
    default:
      return `[${typeof value}]`;
  }
  if (value instanceof Error) {
    // A parser's message quotes what it parsed, which may be what a person wrote.
    const said = value instanceof SyntaxError ? "" : safe(value.message);
    const code = "code" in value && typeof value.code === "string" ? { code: safe(value.code) } : {};
    const cause = value.cause !== undefined && depth > 0 ? { cause: plain(value.cause, depth - 1) } : {};
    return { name: safe(value.name), said, ...code, ...cause, at: frames(value) };
  }
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "[date]" : value.toISOString();
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `[${value.byteLength} bytes]`;
  if (value instanceof Map || value instanceof Set) return `[${value.size} entries]`;
  if (depth <= 0) return "[…]";
  if (Array.isArray(value)) {
    const shown = value.slice(0, ENTRIES).map((entry) => plain(entry, depth - 1));
    if (value.length > ENTRIES) shown.push(`… ${value.length - ENTRIES} more`);
    return shown;
  }
  return plainFields(value as Record<string, unknown>, depth - 1);
};

const plainFields = (fields: Record<string, unknown>, depth: number): { [name: string]: Plain } => {
  // Pairs, then fromEntries: a field may be called __proto__.
  const pairs: [string, Plain][] = [];
  for (const name of Object.keys(fields).slice(0, ENTRIES)) {
    const value = fields[name];
    if (value === undefined) continue;
    pairs.push([safe(name), isHidden(name) && value !== null ? HIDDEN_VALUE : plain(value, depth)]);
  }
  return Object.fromEntries(pairs);
};

const COLOURS: Record<Level, string> = { debug: "\x1b[2m", info: "\x1b[32m", warn: "\x1b[33m", error: "\x1b[31m" };

const jsonLine = (atMs: number, level: Level, event: string, fields: { [name: string]: Plain }): string => {
  const line: [string, Plain][] = [
    ["at", new Date(atMs).toISOString()],
    ["level", level],
    ["event", event],
  ];
  // A field may not pose as the line's own time, level or event.
  const own = new Set(line.map(([name]) => name));
  for (const name of Object.keys(fields)) line.push([own.has(name) ? `${name}_` : name, fields[name]!]);
  return `${JSON.stringify(Object.fromEntries(line))}\n`;
};

const readable = (value: Plain): string => {
  if (typeof value !== "string") return JSON.stringify(value);
  return /^[^\s"'=\\]+$/.test(value) ? value : JSON.stringify(value).replaceAll("\\\\u", "\\u");
};

const readableLine = (
  atMs: number,
  level: Level,
  event: string,
  fields: { [name: string]: Plain },
  colour: boolean,
): string => {
  const dim = (text: string): string => (colour ? `\x1b[2m${text}\x1b[0m` : text);
  const at = new Date(atMs);
  const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
  const word = level.toUpperCase().padEnd(5);
  const stack: string[] = [];
  const shown = Object.keys(fields).map((name) => {
    const value = fields[name]!;
    if (typeof value === "object" && value !== null && !Array.isArray(value) && Array.isArray(value.at)) {
      // An error: its sentence on the line, its frames below, indented so that they cannot pass for lines of their own.
      stack.push(...value.at.map((frame) => `    ${String(frame)}`));
      const { at: _, ...rest } = value;
      return `${dim(`${name}=`)}${readable(Object.values(rest).join(": "))}`;
    }
    return `${dim(`${name}=`)}${readable(value)}`;
  });
  const head = `${dim(clock)} ${colour ? `${COLOURS[level]}${word}\x1b[0m` : word} ${event}`;
  return `${[[head, ...shown].join(" "), ...stack.map(dim)].join("\n")}\n`;
};

/**
 * A log. `json` chooses the form, `colour` applies to the readable one only; `write` gets whole lines with their newline;
 * calls below `level` cost one comparison. Never throws: a log that cannot be written must not end a chat.
 */
export const createLog = ({
  level = "info",
  json = true,
  colour = false,
  write,
  now = Date.now,
}: {
  level?: Level;
  json?: boolean;
  colour?: boolean;
  write: (line: string) => void;
  now?: () => number;
}): Log => {
  const least = LEVELS.indexOf(level);
  return (at, event, fields = {}) => {
    if (LEVELS.indexOf(at) < least) return;
    try {
      const shown = plainFields(fields, DEPTH);
      const name = safe(event);
      write(json ? jsonLine(now(), at, name, shown) : readableLine(now(), at, name, shown, colour));
    } catch {
      // A getter that throws, a closed pipe: nothing sensible is left to do with this line.
    }
  };
};

/** How a log on this output should look: readable on a terminal, coloured unless NO_COLOR is set; JSON elsewhere. */
export const logStyle = (
  output: { isTTY?: boolean | undefined },
  env: Record<string, string | undefined>,
): { json: boolean; colour: boolean } => {
  const terminal = output.isTTY === true;
  return { json: !terminal, colour: terminal && !env.NO_COLOR && env.TERM !== "dumb" };
};
