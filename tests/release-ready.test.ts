/** What a release refuses to be built with, once its commit is tagged. */
import { expect, test } from "bun:test";
import { readiness } from "../deploy/ready.ts";

const fine = {
  version: "1.2.3",
  commit: "0123456789",
  tags: ["v1.2.3"],
  changelog: "# Changelog\n\n## 1.2.3\n\nNew.\n",
  api: "1.2.3",
  schema: 4,
  golden: true,
};

test("a tagged commit in order is published, an untagged one is not", () => {
  expect(readiness(fine)).toEqual({ publish: true, faults: [] });
  expect(readiness({ ...fine, tags: ["nightly"] })).toEqual({ publish: false, faults: [] });
});

test("each thing that must not be published is named: tag, open files, changelog, API, golden file", () => {
  const cases: [Partial<typeof fine>, string][] = [
    [{ tags: ["v1.2.4"] }, "the tag is v1.2.4, package.json says 1.2.3"],
    [{ commit: "0123456789+" }, "files differ from the commit"],
    [{ changelog: "## 1.2.30\n" }, 'CHANGELOG.md has no "## 1.2.3"'],
    [{ api: "1.2.2" }, "docs/openapi.json says 1.2.2, package.json says 1.2.3"],
    [{ golden: false }, "tests/golden has no file of schema 4: bun tests/golden/make.ts 4"],
  ];
  for (const [wrong, said] of cases)
    expect(readiness({ ...fine, ...wrong })).toEqual({ publish: true, faults: [said] });
});
