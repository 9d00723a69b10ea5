/**
 * Counts what a test runner says it did. Nothing is taken on trust: a skipped or unwritten test counts as failed, and
 * so does a test file that the report does not mention (it could not be loaded).
 */

export type Tally = { passed: number; failed: number; faults: string[] };

const decode = (text: string): string =>
  text.replace(/&(lt|gt|quot|apos|amp|#10);/g, (_, name: string) => ENTITIES[name] ?? "");
const ENTITIES: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&", "#10": " " };

const attribute = (tag: string, name: string): string =>
  decode(new RegExp(`\\b${name}="([^"]*)"`).exec(tag)?.[1] ?? "");

/**
 * The tally of a JUnit report. `files` are the test files that should have run; each that the report does not name is a
 * failure, and so is a runner that exits with other than 0 while its report shows no failure.
 */
export const tally = (xml: string, files: string[], exitCode: number): Tally => {
  const faults: string[] = [];
  const seen = new Set<string>();
  let passed = 0;
  for (const match of xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
    const tag = match[1] ?? "";
    const inside = match[2] ?? "";
    const file = attribute(tag, "file");
    seen.add(file);
    if (!/<(failure|error|skipped)\b/.test(inside)) {
      passed++;
      continue;
    }
    const group = attribute(tag, "classname");
    const title = `${file}: ${group ? `${group} > ` : ""}${attribute(tag, "name")}`;
    faults.push(inside.includes("<skipped") ? `${title} (skipped)` : title);
  }
  for (const file of files) if (!seen.has(file)) faults.push(`${file}: ran no test`);
  if (!passed && !faults.length) faults.push("no test ran");
  if (exitCode !== 0 && !faults.length) faults.push(`the runner ended with ${exitCode}`);
  return { passed, failed: faults.length, faults };
};
