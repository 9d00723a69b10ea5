/** Objects of config.json: a field nobody knows is refused, with the name that was probably meant. */
import { fields, type Shape, type Struct } from "../shape.ts";
import { nearest } from "./near.ts";

/** `fields` that refuses what it does not know: a misspelt limit must not be a limit that silently does not exist. */
export const strict =
  <F extends Record<string, Shape<unknown>>>(shape: F): Shape<Struct<F>> =>
  (value, path, faults) => {
    const out = fields(shape)(value, path, faults);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return out;
    const known = Object.keys(shape);
    for (const key of Object.keys(value)) {
      if (known.includes(key)) continue;
      const near = nearest(key, known);
      faults.push({
        path: path ? `${path}.${key}` : key,
        say: {
          zh: `没有这个字段${near ? `；是不是 ${near}？` : `；可用：${known.join("、")}`}`,
          en: `unknown field${near ? `; did you mean ${near}?` : `; known: ${known.join(", ")}`}`,
        },
      });
    }
    return out;
  };
