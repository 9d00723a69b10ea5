/**
 * Asking for a password: without echo on a terminal, one line from a pipe elsewhere.
 *
 * What must stay true: what is typed is never shown, and the terminal is left as it was, also after Ctrl-C.
 */
import { StringDecoder } from "node:string_decoder";
import type { Input, Output } from "./command.ts";

/** A pipe that never ends its first line is no password. */
const LONGEST = 4_096;

const fromPipe = (stdin: Input): Promise<string | undefined> =>
  new Promise((resolve, reject) => {
    const decoder = new StringDecoder("utf8");
    let text = "";
    const done = (line: string | undefined): void => {
      stdin.off("data", take).off("end", end).off("error", reject).pause();
      resolve(line?.replace(/\r$/, ""));
    };
    const take = (piece: Uint8Array | string): void => {
      text += typeof piece === "string" ? piece : decoder.write(Buffer.from(piece));
      const newline = text.indexOf("\n");
      if (newline >= 0) done(text.slice(0, newline));
      else if (text.length > LONGEST) done(text);
    };
    const end = (): void => done(text === "" ? undefined : text);
    stdin.on("data", take).on("end", end).on("error", reject).resume();
  });

/** Arrow and function keys send these; a password has none of them. */
const SEQUENCES = new RegExp(`${String.fromCharCode(27)}(?:\\[[\\d;]*[A-Za-z~]|O[A-Za-z])`, "g");

/** What one piece of raw keyboard input does to the line: the new line, and whether it is finished or given up. */
const typed = (line: string, keys: string): { line: string; finished?: true; cancelled?: true } => {
  let text = line;
  for (const key of keys.replace(SEQUENCES, "")) {
    if (key === "\r" || key === "\n") return { line: text, finished: true };
    if (key === "\u0003" || (key === "\u0004" && text === "")) return { line: "", cancelled: true };
    if (key === "\u007f" || key === "\b") text = [...text].slice(0, -1).join("");
    else if (key === "\u0015") text = "";
    else if (key >= " ") text += key;
  }
  return { line: text };
};

const fromTerminal = (stdin: Input, stderr: Output, question: string): Promise<string | undefined> =>
  new Promise((resolve, reject) => {
    const decoder = new StringDecoder("utf8");
    let line = "";
    const done = (result: string | undefined): void => {
      stdin.off("data", take).off("end", end).off("error", fail).pause();
      stdin.setRawMode?.(false);
      stderr.write("\n");
      resolve(result);
    };
    const take = (piece: Uint8Array | string): void => {
      const now = typed(line, typeof piece === "string" ? piece : decoder.write(Buffer.from(piece)));
      line = now.line;
      if (now.cancelled) done(undefined);
      else if (now.finished) done(line);
    };
    const end = (): void => done(undefined);
    const fail = (error: unknown): void => {
      stdin.setRawMode?.(false);
      reject(error);
    };
    // Raw before the question: keys typed in between would be echoed.
    stdin.setRawMode?.(true);
    stderr.write(question);
    stdin.on("data", take).on("end", end).on("error", fail).resume();
  });

/** The line that was typed or piped; undefined when there was none or it was given up (Ctrl-C, end of input). */
export const askSecret = (stdin: Input, stderr: Output, question: string): Promise<string | undefined> =>
  stdin.isTTY === true ? fromTerminal(stdin, stderr, question) : fromPipe(stdin);
