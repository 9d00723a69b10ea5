/** What a patch is, and how one is found in a file. Shared by the run that applies them and the everyday test that counts them. */
import { join } from "node:path";
import { ROOT } from "../harness/process.ts";

export type Patch = {
  /** The promise it breaks, and a letter when there are several: `D1`, `B2b`. */
  id: string;
  /** What is broken, in a few words. */
  breaks: string;
  file: string;
  /** Stands in the file exactly once. */
  old: string;
  new: string;
  /** The test that must go red: its file and a part of its name (or of its describe block's) that is written there. */
  test: readonly [file: string, name: string];
};

/** How often `text` stands in `whole`. */
export const countOf = (whole: string, text: string): number => whole.split(text).length - 1;

/** Why a patch cannot be applied to a file with this content; undefined when it can. */
export const faultOf = (patch: Patch, content: string): string | undefined => {
  const count = countOf(content, patch.old);
  if (count !== 1)
    return `${patch.id}: "${patch.old.trim().split("\n")[0]}" stands ${count} times in ${patch.file}; a patch needs it once`;
  return patch.old === patch.new ? `${patch.id}: changes nothing` : undefined;
};

/** Whether a test (or describe) of this name is written in the file: names with `${}` count by the text that stands there. */
export const hasTest = (source: string, name: string): boolean =>
  source.split("\n").some((line) => line.includes(name) && /["'`]/.test(line));

export const read = (file: string): Promise<string> => Bun.file(join(ROOT, file)).text();
