/**
 * The plugin's sources against the real SDK's types. The everyday type check uses plugin/openclaw-sdk.d.ts, which could
 * flatter; here that file is left out and every import is the host's own.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { ROOT, tempDir } from "../harness.ts";
import { installHost } from "./host.ts";

/** Type-checks the plugin's entries with `openclaw/*` taken from the installed host. */
const check = async (entries: string[]): Promise<{ code: number; out: string }> => {
  const { modules } = await installHost();
  const { compilerOptions } = await Bun.file(join(ROOT, "tsconfig.json")).json();
  const folder = await tempDir("sdk-types");
  const config = {
    compilerOptions: {
      ...compilerOptions,
      lib: ["ESNext", "DOM"],
      types: [join(ROOT, "node_modules", "bun-types")],
      paths: { "openclaw/plugin-sdk/*": [join(modules, "openclaw", "dist", "plugin-sdk", "*.d.ts")] },
    },
    files: entries,
  };
  await Bun.write(join(folder.path, "tsconfig.json"), JSON.stringify(config));
  const child = Bun.spawn([process.execPath, "check", "--no-script", "-p", folder.path], {
    cwd: ROOT,
    stdout: "pipe",
    stderr: "pipe",
  });
  const [code, out, err] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
  await folder.remove();
  return { code, out: out + err };
};

test("the plugin type-checks against the SDK of the pinned host", async () => {
  const entries = ["index.ts", "setup-entry.ts", "secret-contract-api.ts"].map((name) => join(ROOT, "plugin", name));
  const { code, out } = await check(entries);
  expect(code, out).toBe(0);
}, 180_000);

test("that check sees the SDK: a wrong argument is found", async () => {
  const folder = await tempDir("sdk-wrong");
  const file = join(folder.path, "wrong.ts");
  await Bun.write(
    file,
    `import { normalizeAccountId } from "openclaw/plugin-sdk/account-id";\nexport const wrong: number = normalizeAccountId("a");\n`,
  );
  const { code, out } = await check([file]);
  await folder.remove();
  expect(code).not.toBe(0);
  expect(out).toContain("TS2322");
}, 180_000);
