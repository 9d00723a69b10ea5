/**
 * JSON with positions: what JSON.parse cannot tell, namely where a mistake is, which name stands twice, and which
 * characters of the file a value occupies (so that a command can change one value and leave the rest as a person wrote it).
 *
 * What must stay true: it accepts exactly what JSON.parse accepts (plus a byte order mark), within DEPTH; offsets are
 * UTF-16 units into the text as given. Refuses to extend JSON: a comment or a trailing comma is a fault with a hint.
 */
import type { Say } from "../protocol.ts";

/** A value and its place: `start` is its first character, `end` the one after its last. */
export type Node =
  | { kind: "object"; start: number; end: number; members: Member[] }
  | { kind: "array"; start: number; end: number; items: Node[] }
  | { kind: "text" | "number" | "word"; start: number; end: number };
export type Member = { name: string; nameStart: number; value: Node };

/** Deeper than any config, far from the end of the stack. */
const DEPTH = 100;

export type JsonFault = { line: number; column: number; say: Say };
export type ReadJson =
  { ok: true; value: unknown; root: Node; twice: { path: string; line: number }[] } | ({ ok: false } & JsonFault);

class Broken extends Error {
  readonly at: number;
  readonly say: Say;
  constructor(at: number, zh: string, en: string) {
    super(en);
    this.at = at;
    this.say = { zh, en };
  }
}

const place = (text: string, at: number): { line: number; column: number } => {
  const before = text.slice(0, at);
  const line = before.split("\n").length;
  return { line, column: at - (before.lastIndexOf("\n") + 1) + 1 };
};

const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;
const ESCAPE = /\\(?:["\\/bfnrt]|u[\da-fA-F]{4})/y;

/** Parses `source`. On failure: the line and column (both from 1) and one sentence. */
export const readJson = (source: string): ReadJson => {
  // Windows editors write a byte order mark; blanking it keeps every offset.
  const text = source.startsWith("\ufeff") ? ` ${source.slice(1)}` : source;
  const twice: { path: string; line: number }[] = [];
  let at = 0;

  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    if (found !== undefined) at += found.length;
    return found;
  };
  const space = (): void => void match(SPACE);

  const unexpected = (zh: string, en: string): Broken => {
    const here = text[at];
    if (here === undefined) return new Broken(at, `文件到这里就结束了，${zh}`, `the file ends here, ${en}`);
    if (text.startsWith("//", at) || text.startsWith("/*", at) || here === "#")
      return new Broken(at, "JSON 不能有注释", "JSON has no comments");
    if (here === "'") return new Broken(at, "文字要用双引号", "text needs double quotes");
    if (here === "“" || here === "”")
      return new Broken(at, "这是中文引号，请改成英文双引号", 'a curly quote; use the plain one (")');
    if (here === "，") return new Broken(at, "这是中文逗号，请改成英文逗号", "a full-width comma; use the plain one");
    if (here === "：") return new Broken(at, "这是中文冒号，请改成英文冒号", "a full-width colon; use the plain one");
    return new Broken(at, zh, en);
  };

  const textNode = (): Node => {
    const start = at;
    for (let i = start + 1; i < text.length; i++) {
      const c = text[i]!;
      if (c === '"') {
        at = i + 1;
        return { kind: "text", start, end: at };
      }
      if (c === "\n" || c === "\r") break;
      if (c < " ") throw new Broken(i, "文字里有控制字符，请写成转义", "a control character in text; write it escaped");
      if (c !== "\\") continue;
      ESCAPE.lastIndex = i;
      if (!ESCAPE.test(text))
        throw new Broken(i, "无效的转义；反斜杠要写成 \\\\", "an invalid escape; a backslash is written \\\\");
      i++;
    }
    throw new Broken(start, "这段文字没有结束的双引号", "this text has no closing quote");
  };

  const value = (path: string, depth: number): Node => {
    space();
    const start = at;
    const here = text[at];
    if (depth > DEPTH) throw new Broken(at, "嵌套太深", "nested too deeply");
    if (here === "{") return object(path, start, depth);
    if (here === "[") return array(path, start, depth);
    if (here === '"') return textNode();
    if (match(NUMBER) !== undefined && !/[\w.+-]/.test(text[at] ?? " ")) return { kind: "number", start, end: at };
    at = start;
    if (match(WORD) !== undefined && !/\w/.test(text[at] ?? " ")) return { kind: "word", start, end: at };
    at = start;
    throw unexpected("这里应有一个值", "a value is expected");
  };

  /** After an entry: true when the next follows, false when `close` ended the list. */
  const more = (close: "}" | "]"): boolean => {
    space();
    if (text[at] === close) {
      at++;
      return false;
    }
    if (text[at] !== ",") throw unexpected(`这里应有逗号或 ${close}`, `a comma or ${close} is expected`);
    const comma = at++;
    space();
    if (text[at] === close) throw new Broken(comma, "最后一项后面不能有逗号", "no comma after the last entry");
    return true;
  };

  const object = (path: string, start: number, depth: number): Node => {
    const members: Member[] = [];
    const names = new Set<string>();
    at++;
    space();
    if (text[at] === "}") at++;
    else
      do {
        space();
        const nameStart = at;
        if (text[at] !== '"') throw unexpected("这里应有带双引号的名字", "a name in double quotes is expected");
        const { end } = textNode();
        const name = JSON.parse(text.slice(nameStart, end)) as string;
        const below = path ? `${path}.${name}` : name;
        if (names.has(name)) twice.push({ path: below, line: place(text, nameStart).line });
        names.add(name);
        space();
        if (text[at] !== ":") throw unexpected("名字后面应有冒号", "a colon is expected after the name");
        at++;
        members.push({ name, nameStart, value: value(below, depth + 1) });
      } while (more("}"));
    return { kind: "object", start, end: at, members };
  };

  const array = (path: string, start: number, depth: number): Node => {
    const items: Node[] = [];
    at++;
    space();
    if (text[at] === "]") at++;
    else
      do items.push(value(`${path}[${items.length}]`, depth + 1));
      while (more("]"));
    return { kind: "array", start, end: at, items };
  };

  try {
    const root = value("", 0);
    space();
    if (at < text.length) throw unexpected("JSON 到这里应该结束了", "the JSON should end here");
    return { ok: true, value: JSON.parse(text), root, twice };
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    return { ok: false, ...place(text, error.at), say: error.say };
  }
};
