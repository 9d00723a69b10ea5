/** Reads what the tests of documents need out of a Markdown file: fenced blocks, tables, headings, links. */

export type Block = { lang: string; text: string; heading: string; line: number };

/** Fenced code blocks in order; `heading` is the last one above. */
export const blocksOf = (markdown: string): Block[] => {
  const blocks: Block[] = [];
  let heading = "";
  let open: { lang: string; lines: string[]; line: number } | undefined;
  for (const [i, line] of markdown.split("\n").entries()) {
    const fence = /^```(.*)$/.exec(line);
    if (fence && !open) open = { lang: fence[1]!.trim(), lines: [], line: i + 1 };
    else if (fence && open) {
      blocks.push({ lang: open.lang, text: `${open.lines.join("\n")}\n`, heading, line: open.line });
      open = undefined;
    } else if (open) open.lines.push(line);
    else heading = /^#+ (.*)$/.exec(line)?.[1] ?? heading;
  }
  if (open) throw new Error(`the block of line ${open.line} is not closed`);
  return blocks;
};

/** The rows of every table, cells trimmed, without heads and rules. `\|` inside a cell is a bar. */
export const rowsOf = (markdown: string): string[][] =>
  markdown
    .split("\n")
    .filter((line) => line.startsWith("|"))
    .map((line) =>
      line
        .slice(1, line.lastIndexOf("|"))
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim().replaceAll("\\|", "|")),
    )
    .filter((cells) => !cells.every((cell) => /^:?-+:?$/.test(cell)));

export const headingsOf = (markdown: string): string[] =>
  markdown.replace(/^```[\s\S]*?^```$/gm, "").match(/^#+ .*$/gm) ?? [];

/** Targets of links and images that are not on the web. */
export const localLinksOf = (markdown: string): string[] =>
  [...markdown.matchAll(/\]\(([^)#\s]+)/g)].map((match) => match[1]!).filter((target) => !/^[a-z]+:/.test(target));
