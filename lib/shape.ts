/**
 * Six small parsers from which every shape that comes in is built: text, int, flag, oneOf, list, fields.
 *
 * A parser takes a value and the path it stands at and returns the typed value, or adds faults. Faults are collected, not
 * thrown one by one, so a config can name all of its mistakes at once; `parse` throws the first as a Reject for the wire.
 * Refuses to coerce: "5" is not 5.
 */
import { Reject, type Say } from "./protocol.ts";

export type Fault = {
  path: string;
  say: Say;
  /** A secret that is kept elsewhere and cannot be had here: who needs no secret may go on without (config.ts). */
  withheld?: true;
};
export type Shape<T> = {
  (value: unknown, path: string, faults: Fault[]): T;
  /** Absent is fine: `fields` need not ask. */
  optional?: true;
};
export type Of<S> = S extends Shape<infer T> ? T : never;

const refuse = <T>(faults: Fault[], path: string, zh: string, en: string): T => {
  faults.push({ path, say: { zh, en } });
  return undefined as T; // never read: a caller that finds faults drops the value
};

/** Text of `min` to `max` UTF-16 units. `pattern` with its own sentence refuses the rest. */
export const text =
  (min: number, max: number, pattern?: RegExp, rule?: Say): Shape<string> =>
  (value, path, faults) => {
    if (typeof value !== "string" || value.length < min || value.length > max)
      return refuse(faults, path, `应为 ${min} 到 ${max} 个字符的文字`, `text, ${min} to ${max} characters`);
    if (pattern && !pattern.test(value))
      return refuse(faults, path, rule?.zh ?? `应符合 ${pattern.source}`, rule?.en ?? `must match ${pattern.source}`);
    return value;
  };

/** A whole number from `min` to `max`. */
export const int =
  (min: number, max: number = Number.MAX_SAFE_INTEGER): Shape<number> =>
  (value, path, faults) => {
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max) {
      const range = max === Number.MAX_SAFE_INTEGER ? `≥ ${min}` : `${min}–${max}`;
      return refuse(faults, path, `应为整数（${range}）`, `a whole number (${range})`);
    }
    return value;
  };

/** A finite number greater than `above`. */
export const num =
  (above: number, max: number): Shape<number> =>
  (value, path, faults) =>
    typeof value === "number" && value > above && value <= max
      ? value
      : refuse(faults, path, `应为大于 ${above}、至多 ${max} 的数`, `a number above ${above}, at most ${max}`);

export const flag: Shape<boolean> = (value, path, faults) =>
  typeof value === "boolean" ? value : refuse(faults, path, "应为 true 或 false", "true or false");

export const oneOf =
  <const T extends string>(...choices: readonly T[]): Shape<T> =>
  (value, path, faults) =>
    choices.includes(value as T)
      ? (value as T)
      : refuse(faults, path, `应为 ${choices.join("、")} 之一`, `one of ${choices.join(", ")}`);

export const list =
  <T>(item: Shape<T>, max: number): Shape<T[]> =>
  (value, path, faults) => {
    if (!Array.isArray(value) || value.length > max)
      return refuse(faults, path, `应为至多 ${max} 项的列表`, `a list of at most ${max} items`);
    return value.map((entry, i) => item(entry, `${path}[${i}]`, faults));
  };

/** `undefined` and `null` are absent. */
export const maybe = <T>(shape: Shape<T>): Shape<T | undefined> =>
  Object.assign(
    ((value, path, faults) =>
      value === undefined || value === null ? undefined : shape(value, path, faults)) satisfies Shape<T | undefined>,
    { optional: true as const },
  );

type Fields = Record<string, Shape<unknown>>;
type Optional<F extends Fields> = {
  [K in keyof F as undefined extends Of<F[K]> ? K : never]?: Exclude<Of<F[K]>, undefined>;
};
type Required<F extends Fields> = { [K in keyof F as undefined extends Of<F[K]> ? never : K]: Of<F[K]> };
export type Struct<F extends Fields> = Optional<F> & Required<F>;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const join = (path: string, key: string): string => (path ? `${path}.${key}` : key);

/**
 * An object with these fields. Only own properties are read, so `__proto__` in JSON is a name like any other.
 * `unknown`: "ignore" for the wire, "refuse" for the config.
 */
export const fields =
  <F extends Fields>(shape: F, unknown: "ignore" | "refuse" = "ignore"): Shape<Struct<F>> =>
  (value, path, faults) => {
    if (!isRecord(value)) return refuse(faults, path, "应为 JSON 对象", "a JSON object");
    const out: Record<string, unknown> = {};
    for (const key in shape) {
      const got = Object.hasOwn(value, key) ? value[key] : undefined;
      if (got === undefined && shape[key]!.optional) continue;
      const parsed = shape[key]!(got, join(path, key), faults);
      if (parsed !== undefined) out[key] = parsed;
    }
    if (unknown === "refuse")
      for (const key of Object.keys(value))
        if (!Object.hasOwn(shape, key))
          refuse(
            faults,
            join(path, key),
            `没有这个字段；可用：${Object.keys(shape).join("、")}`,
            `unknown field; known: ${Object.keys(shape).join(", ")}`,
          );
    return out as Struct<F>;
  };

/** An object used as a map: every key must pass `key`, every value `item`. Returns a Map, so no name is magic. */
export const mapOf =
  <T>(key: Shape<string>, item: Shape<T>): Shape<Map<string, T>> =>
  (value, path, faults) => {
    if (!isRecord(value)) return refuse(faults, path, "应为 JSON 对象", "a JSON object");
    const out = new Map<string, T>();
    for (const name of Object.keys(value)) {
      key(name, join(path, name), faults);
      out.set(name, item(value[name], join(path, name), faults));
    }
    return out;
  };

/** Parses `value` or throws Reject("bad_request") whose sentence carries the path of the first fault. */
export const parse = <T>(shape: Shape<T>, value: unknown, root = ""): T => {
  const faults: Fault[] = [];
  const out = shape(value, root, faults);
  const first = faults[0];
  if (first) {
    const at = first.path || "body";
    throw new Reject("bad_request", { zh: `${at}：${first.say.zh}`, en: `${at}: ${first.say.en}` });
  }
  return out;
};
