/** The shape of the source: who imports whom, what may be installed, which habits stay out. Reads files, runs nothing. */
import { describe, expect, test } from "bun:test";
import { dirname, join, normalize, relative, resolve } from "node:path";
import { $, Glob } from "bun";

const ROOT = resolve(import.meta.dir, "..");

/** What git has, plus what is new and not ignored, less what is deleted: the tree as it will be committed. */
const tracked = (await $`git ls-files --cached --others --exclude-standard`.cwd(ROOT).text())
  .trim()
  .split("\n")
  .filter((file) => Bun.file(join(ROOT, file)).size > 0);
const read = (file: string): Promise<string> => Bun.file(join(ROOT, file)).text();
const code = tracked.filter((file) => file.endsWith(".ts"));
const product = code.filter((file) => !file.startsWith("tests/"));

/** The floors of the house: a file imports from its own floor or a lower one. The first pattern that fits counts. */
const FLOORS: [name: string, pattern: RegExp][] = [
  ["protocol", /^lib\/(protocol|protocol\/\w+|shape|ids|days|json|metrics|roster)\.ts$/],
  ["store, limits, auth", /^lib\/(store|limits|auth|passwords|store\/.*|config\/first)(\.ts)?$/],
  ["config, log", /^lib\/(config|log|frames|bodies|config\/.*)(\.ts)?$/],
  [
    "bots, balance, streams, sessions",
    /^lib\/(bots|botlist|admit|balance|streams|sse|online|people|sessions|turn|quota|audit|botsettings|streams\/.*|bots\/.*|signin\/.*)(\.ts)?$/,
  ],
  ["turns", /^lib\/(turns|inbox|sync|turns\/.*)(\.ts)?$/],
  [
    "cli, routes",
    /^lib\/(routes\/.*|cli|cli\/.*|demo|demo\/.*|openai\/.*|models\/.*|gateway|gate|http|assets|banner|export|serve|clocks|hear|indexing|request|overview)(\.ts)?$/,
  ],
  ["server", /^server\.ts$/],
];
/** From the bottom up. The table above lists what is special before what is general. */
const ORDER = [
  "protocol",
  "config, log",
  "store, limits, auth",
  "bots, balance, streams, sessions",
  "turns",
  "cli, routes",
  "server",
];
const floorOf = (file: string): number => ORDER.indexOf(FLOORS.find(([, pattern]) => pattern.test(file))?.[0] ?? "");

type Import = { from: string; to: string; type: boolean };

/** Every import and re-export statement, static and dynamic, with relative paths made into tree paths. */
const importsOf = async (file: string): Promise<Import[]> => {
  const source = await read(file);
  const statements = [
    ...source.matchAll(/^(?:import|export)(\s+type)?\b[^"';]*?\bfrom\s+"([^"]+)"/gm),
    ...source.matchAll(/^import()\s+"([^"]+)"/gm),
    ...source.matchAll(/\bimport()\("([^"]+)"\)/g),
  ];
  return statements.map(([, type, path]) => ({
    from: file,
    to: path!.startsWith(".") ? normalize(join(dirname(file), path!)) : path!,
    type: Boolean(type),
  }));
};

const edges = (await Promise.all(code.map(importsOf))).flat();

describe("imports", () => {
  test("the reader of imports sees as many as the transpiler does", async () => {
    const transpiler = new Bun.Transpiler({ loader: "ts" });
    for (const file of product) {
      const real = transpiler.scanImports(await read(file)).map((found) => found.path);
      const ours = (await importsOf(file)).filter((found) => !found.type).length;
      expect(`${file}: ${ours >= new Set(real).size}`).toBe(`${file}: true`);
    }
  });

  test("every file of lib stands on a floor", () => {
    const homeless = product.filter((file) => file.startsWith("lib/") && floorOf(file) < 0);
    expect(homeless).toEqual([]);
  });

  test("inside lib they go one way: down", () => {
    const upward = edges
      .filter(({ from, to }) => from.startsWith("lib/") && (to.startsWith("lib/") || to === "server.ts"))
      .filter(({ from, to }) => floorOf(to) > floorOf(from))
      .map(({ from, to }) => `${from} → ${to}`);
    expect(upward).toEqual([]);
  });

  test("no two files import each other, not even in a circle", () => {
    const next = new Map<string, string[]>();
    for (const { from, to, type } of edges) if (!type) next.set(from, [...(next.get(from) ?? []), to]);
    const done = new Set<string>();
    const circles: string[] = [];
    const walk = (file: string, path: string[]) => {
      const at = path.indexOf(file);
      if (at >= 0) return void circles.push([...path.slice(at), file].join(" → "));
      if (done.has(file)) return;
      for (const to of next.get(file) ?? []) walk(to, [...path, file]);
      done.add(file);
    };
    for (const file of next.keys()) walk(file, []);
    expect(circles).toEqual([]);
  });

  test("the page and the plugin import nothing of the gateway but the protocol", () => {
    const foreign = edges
      .filter(({ from }) => /^(ui|plugin)\//.test(from) && from !== "ui/build.ts")
      .filter(({ from, to }) => to.includes("/") && !to.startsWith("node:") && !to.startsWith(`${from.split("/")[0]}/`))
      .filter(({ to }) => !/^lib\/protocol(\/\w+)?\.ts$/.test(to) && !/^(highlight\.js|marked|openclaw)\b/.test(to))
      .map(({ from, to }) => `${from} → ${to}`);
    expect(foreign).toEqual([]);
  });

  test("the gateway runs on Bun and its own files alone", () => {
    const foreign = edges
      .filter(({ from }) => from.startsWith("lib/") || from === "server.ts")
      .filter(({ to }) => !/^(lib|ui|plugin)\/|^(bun|bun:.*|node:.*|server\.ts|package\.json)$/.test(to))
      .map(({ from, to }) => `${from} → ${to}`);
    expect(foreign).toEqual([]);
  });

  test("the protocol imports nothing", () => {
    expect(edges.filter(({ from }) => from === "lib/protocol.ts")).toEqual([]);
  });
});

describe("the tree", () => {
  test("there are no runtime dependencies, and versions are exact", async () => {
    const manifest = await Bun.file(join(ROOT, "package.json")).json();
    expect(Object.keys(manifest.dependencies ?? {})).toEqual([]);
    for (const version of Object.values(manifest.devDependencies)) expect(version).toMatch(/^\d+\.\d+\.\d+$/);
  });

  test("the top level holds what it should and nothing else", () => {
    const top = [...new Set(tracked.map((file) => file.split("/")[0]))].sort();
    const allowed = new Set(
      ".ci .gitignore LICENSE README.en.md README.md bun.lock bunfig.toml deploy docs lib package.json plugin server.ts tests tsconfig.json ui"
        .split(" ")
        .concat([".dockerignore", ".gitattributes", "CHANGELOG.md", "CONTRIBUTING.md"]),
    );
    expect(top.filter((name) => !allowed.has(name!))).toEqual([]);
  });

  test("no folder or file is a manager, a helper, a util or a service", () => {
    const pattern = /(^|[/-])(managers?|helpers?|utils?|services?)([./-]|$)/i;
    expect(tracked.filter((file) => pattern.test(file))).toEqual([]);
  });

  test("no file is longer than 350 lines, but the bot library, which is copied around as one; tests may be longer", async () => {
    // A test file is a list that is read one entry at a time; what a reader must hold in mind at once is the product.
    const most = (file: string): number =>
      file === "plugin/client.ts" ? Infinity : file.startsWith("tests/") ? 1100 : 350;
    const long: string[] = [];
    for (const file of tracked.filter((name) => /(?<!\.d)\.(ts|css|html)$/.test(name))) {
      const lines = (await read(file)).split("\n").length - 1;
      if (lines > most(file)) long.push(`${file}: ${lines}`);
    }
    expect(long).toEqual([]);
  });

  test("every source file opens with a comment that says what it is", async () => {
    const bare: string[] = [];
    for (const file of code) if (!/^(#!.*\n)?\/(\*|\/)/.test(await read(file))) bare.push(file);
    expect(bare).toEqual([]);
  });

  test("no tracked file names a package registry's host", async () => {
    const host = /\b(registry\.|npm\.pkg\.|pypi\.org|registry-)[\w.-]*|\bnpmmirror\b|\/-\/[\w.-]+\.tgz/;
    const named: string[] = [];
    for (const file of tracked) {
      if (file === relative(ROOT, import.meta.path)) continue;
      const found = host.exec(await read(file));
      if (found) named.push(`${file}: ${found[0]}`);
    }
    expect(named).toEqual([]);
  });
});

describe("habits", () => {
  const forbid = async (files: string[], pattern: RegExp): Promise<string[]> => {
    const found: string[] = [];
    for (const file of files)
      for (const [i, line] of (await read(file)).split("\n").entries())
        if (pattern.test(line)) found.push(`${file}:${i + 1}: ${line.trim()}`);
    return found;
  };

  test("nothing is exported as default, except where a host asks for it", async () => {
    const own = product.filter((file) => !/^plugin\/(index|setup-entry)\.ts$/.test(file));
    expect(await forbid(own, /^export default\b/)).toEqual([]);
  });

  test("no type is any, and no check is switched off", async () => {
    expect(await forbid(product, /:\s*any\b|\bas any\b|<any>|@ts-(ignore|nocheck|expect-error)/)).toEqual([]);
  });

  test("the page never turns text into markup", async () => {
    // The builder names innerHTML to take it out of a library.
    const ui = product.filter((file) => file.startsWith("ui/") && file !== "ui/build.ts");
    expect(
      await forbid(ui, /\.(inner|outer)HTML\b|insertAdjacentHTML|document\.write|\beval\(|new Function\b/),
    ).toEqual([]);
  });

  test("modules hold no state: nothing at the top level can be reassigned", async () => {
    const files = product.filter((file) => file.startsWith("lib/") || file.startsWith("plugin/"));
    expect(await forbid(files, /^(export )?(let|var)\b/)).toEqual([]);
  });

  test("WebSocket handlers are synchronous and no request loses its time limit", async () => {
    const lib = product.filter((file) => file.startsWith("lib/"));
    expect(await forbid(lib, /\basync (message|open|close|drain)\(|\.timeout\([^,]+,\s*0\)/)).toEqual([]);
  });

  test("tests are neither skipped, nor left for later, nor alone", async () => {
    const tests = code.filter((file) => file.startsWith("tests/") && file !== relative(ROOT, import.meta.path));
    expect(await forbid(tests, /\b(test|it|describe)\.(skip|todo|only|skipIf|todoIf)\b/)).toEqual([]);
  });

  test("every folder of tests that bunfig.toml keeps out of the everyday run has its part in tests/run.ts", async () => {
    const { test: settings } = Bun.TOML.parse(await read("bunfig.toml")) as { test: { pathIgnorePatterns: string[] } };
    const run = await read("tests/run.ts");
    const kept = settings.pathIgnorePatterns.map((pattern) => /^tests\/(\w+)\//.exec(pattern)?.[1]);
    // The benchmark is run by `bun run bench`, not by the tests.
    for (const folder of kept) if (folder && folder !== "bench") expect(run).toContain(`"${folder}"`);
    const holding = [...new Glob("tests/*/**/*.test.ts").scanSync({ cwd: ROOT })].map((file) => file.split("/")[1]);
    for (const folder of holding) expect(kept).toContain(folder);
  });
});
