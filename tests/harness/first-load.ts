/** What a page needs before it can be used and draw an answer, of what ui/build.ts made; for tests and the bench. */
import type { PageFile } from "../../lib/assets.ts";

const sizeOf = (files: readonly PageFile[]): number =>
  files.reduce((sum, { gzip, bytes }) => sum + (gzip ?? bytes).length, 0);

/** Bytes as they are sent: `all`, and the two scripts of it. Throws when one of its four files is not there. */
export const firstLoad = (files: readonly PageFile[]): { all: number; scripts: number } => {
  const one = (what: string, match: (file: PageFile) => boolean): PageFile => {
    const found = files.find(match);
    if (!found) throw new Error(`the page has no ${what}`);
    return found;
  };
  const app = one("script of its own", ({ path }) => /^\/app-/.test(path));
  const markdown = one(
    "script that draws Markdown",
    (file) =>
      file !== app &&
      file.type.startsWith("text/javascript") &&
      new TextDecoder().decode(file.bytes).includes("inlineQueue"),
  );
  const scripts = sizeOf([app, markdown]);
  const rest = [one("style", ({ path }) => /^\/style-/.test(path)), one("page", ({ path }) => path === "/")];
  return { all: scripts + sizeOf(rest), scripts };
};
