/**
 * Edits one member of a JSON text and leaves every other character as it is: order, spacing, line ends.
 *
 * What must stay true: the result is valid JSON, and with the edit undone it is the text that was given.
 */
import type { Node } from "../config/json.ts";

type ObjectNode = Extract<Node, { kind: "object" }>;

/** The member of an object, the last of that name as JSON.parse has it. */
export const memberOf = (node: Node | undefined, name: string): Node | undefined =>
  node?.kind === "object" ? node.members.findLast((member) => member.name === name)?.value : undefined;

const lineEnd = (text: string): string => (text.includes("\r\n") ? "\r\n" : "\n");

const indentAt = (text: string, at: number): string => {
  const start = text.lastIndexOf("\n", at - 1) + 1;
  return /^[ \t]*/.exec(text.slice(start, at))![0];
};

/** One step of indentation: that of the first indented line, else two spaces. */
const stepOf = (text: string): string => /\n([ \t]+)\S/.exec(text)?.[1] ?? "  ";

const render = (text: string, value: unknown, indent: string, oneLine: boolean): string =>
  oneLine ? JSON.stringify(value) : JSON.stringify(value, null, stepOf(text)).replaceAll("\n", lineEnd(text) + indent);

/** `text` with `value` in place of `node`. */
export const replaceNode = (text: string, node: Node, value: unknown): string =>
  text.slice(0, node.start) +
  render(text, value, indentAt(text, node.start), !text.includes("\n")) +
  text.slice(node.end);

/** `text` with the member added at the end of `object`, written like its neighbours. */
export const addMember = (text: string, object: ObjectNode, name: string, value: unknown): string => {
  const key = JSON.stringify(name);
  const last = object.members.at(-1);
  const first = object.members[0];
  if (first && last) {
    const gap = text.slice(object.start + 1, first.nameStart);
    const oneLine = !gap.includes("\n");
    const rendered = render(text, value, oneLine ? "" : indentAt(text, first.nameStart), oneLine);
    const before = oneLine ? " " : gap;
    return `${text.slice(0, last.value.end)},${before}${key}: ${rendered}${text.slice(last.value.end)}`;
  }
  if (!text.includes("\n"))
    return `${text.slice(0, object.start)}{${key}: ${JSON.stringify(value)}}${text.slice(object.end)}`;
  const outer = indentAt(text, object.start);
  const inner = outer + stepOf(text);
  const end = lineEnd(text);
  const rendered = render(text, value, inner, false);
  return `${text.slice(0, object.start)}{${end}${inner}${key}: ${rendered}${end}${outer}}${text.slice(object.end)}`;
};

/** `text` without the member `name` of `object`; unchanged when there is none. */
export const removeMember = (text: string, object: ObjectNode, name: string): string => {
  const at = object.members.findLastIndex((member) => member.name === name);
  const member = object.members[at];
  if (!member) return text;
  const next = object.members[at + 1];
  const before = object.members[at - 1];
  if (next) return text.slice(0, member.nameStart) + text.slice(next.nameStart);
  if (before) return text.slice(0, before.value.end) + text.slice(member.value.end);
  return `${text.slice(0, object.start)}{}${text.slice(object.end)}`;
};
