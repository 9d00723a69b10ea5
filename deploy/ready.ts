/**
 * What must be so before a release is published, read from the tree.
 *
 * A tag `v…` at the commit says that this is to be published: then release.ts refuses to build what has a fault here.
 * Without a tag the faults are only named, because releases are also built to be tested.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { MIGRATIONS } from "../lib/store/schema.ts";

export type Ready = {
  version: string;
  /** As compile.ts gives it: with + when files differ from it. */
  commit: string;
  /** Tags that point at the commit. */
  tags: readonly string[];
  changelog: string;
  /** The version that docs/openapi.json says. */
  api: string;
  schema: number;
  /** Whether tests/golden has a file of that schema: from its release on it is what people have on their disks. */
  golden: boolean;
};

/** Whether this is to be published, and what stands against it, a sentence each. */
export const readiness = ({ version, commit, tags, changelog, api, schema, golden }: Ready) => {
  const released = tags.filter((tag) => /^v\d/.test(tag));
  const faults: string[] = [];
  for (const tag of released) if (tag !== `v${version}`) faults.push(`the tag is ${tag}, package.json says ${version}`);
  if (commit.endsWith("+")) faults.push("files differ from the commit");
  if (!changelog.split("\n").includes(`## ${version}`)) faults.push(`CHANGELOG.md has no "## ${version}"`);
  if (api !== version) faults.push(`docs/openapi.json says ${api}, package.json says ${version}`);
  if (!golden) faults.push(`tests/golden has no file of schema ${schema}: bun tests/golden/make.ts ${schema}`);
  return { publish: released.length > 0, faults };
};

/** The same, of the tree in `root`. */
export const readTree = async (root: string, version: string, commit: string) => {
  const git = Bun.spawnSync(["git", "tag", "--points-at", "HEAD"], { cwd: root, stderr: "ignore" });
  const schema = MIGRATIONS.length;
  return readiness({
    version,
    commit,
    tags: git.stdout.toString().split("\n").filter(Boolean),
    changelog: await Bun.file(join(root, "CHANGELOG.md")).text(),
    api: (await Bun.file(join(root, "docs/openapi.json")).json()).info.version,
    schema,
    golden: existsSync(join(root, `tests/golden/v${schema}.db.gz`)),
  });
};
