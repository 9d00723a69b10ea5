/**
 * The documents and the files of deploy/ say what is so: tables against the code, blocks parsed, links followed.
 * What can be run is run by readme.test.ts.
 */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { Glob } from "bun";
import { banner } from "../lib/banner.ts";
import { parseConfig } from "../lib/config.ts";
import { describeConfig } from "../lib/config/describe.ts";
import { CLOSE, ERRORS } from "../lib/protocol.ts";
import { blocksOf, headingsOf, localLinksOf, rowsOf } from "./harness/markdown.ts";
import { ROOT } from "./harness/process.ts";

const read = (file: string): Promise<string> => Bun.file(join(ROOT, file)).text();
const READMES = ["README.md", "README.en.md"];
const DOCS = [
  ...READMES,
  "CHANGELOG.md",
  "CONTRIBUTING.md",
  ...[...new Glob("docs/*.md").scanSync({ cwd: ROOT })].sort(),
];

/** Every field that config.json knows, asked of the parser itself. */
const knownFields = (inside?: string): string[] => {
  const wrong = { "no such field at all": 1 };
  const parsed = parseConfig(inside ? { [inside]: wrong } : wrong);
  const said = parsed.ok ? "" : (parsed.faults[0]?.say.en ?? "");
  return /known: (.*)$/.exec(said)?.[1]?.split(", ") ?? [];
};

const effective = (): Record<string, unknown> => {
  const parsed = parseConfig({});
  if (!parsed.ok) throw new Error("an empty config is not accepted");
  return describeConfig(parsed.config);
};

/** Directives and blocks of an nginx file; throws on what nginx would not read. */
type Directive = { words: string[]; inside?: Directive[] };
const parseNginx = (text: string): Directive[] => {
  const tokens = text.replace(/(^|\s)#.*$/gm, "").match(/"[^"]*"|[{};]|[^\s{};]+/g) ?? [];
  let at = 0;
  const list = (nested: boolean): Directive[] => {
    const out: Directive[] = [];
    let words: string[] = [];
    for (; at < tokens.length; at++) {
      const token = tokens[at]!;
      if (token === ";" || token === "{") {
        if (!words.length) throw new Error(`nginx: an empty directive at token ${at}`);
        if (token === ";") out.push({ words });
        else {
          at++;
          out.push({ words, inside: list(true) });
        }
        words = [];
      } else if (token === "}") {
        if (!nested || words.length) throw new Error(`nginx: "}" after "${words.join(" ")}"`);
        return out;
      } else words.push(token);
    }
    if (nested || words.length) throw new Error("nginx: unexpected end");
    return out;
  };
  return list(false);
};

const find = (tree: Directive[], name: string): Directive[] =>
  tree.flatMap((one) => [...(one.words[0] === name ? [one] : []), ...find(one.inside ?? [], name)]);

describe.each(READMES)("%s", (file) => {
  test("its config table names every field once, with the default that the code has", async () => {
    const rows = new Map<string, string>();
    for (const [field = "", , value = ""] of rowsOf(await read(file))) {
      const name = /^`((?:limits\.)?\w+)`$/.exec(field)?.[1];
      if (!name) continue;
      expect(rows.has(name)).toBe(false);
      rows.set(name, value);
    }
    const names = [...knownFields(), ...knownFields("limits").map((name) => `limits.${name}`)];
    expect(names.length).toBeGreaterThan(25);
    expect([...rows.keys()].sort()).toEqual(names.filter((name) => name !== "limits").sort());
    const config = effective();
    for (const [name, shown] of rows) {
      const real = name.split(".").reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], config);
      expect(`${name}: ${shown}`).toBe(`${name}: ${real === undefined ? "—" : `\`${JSON.stringify(real)}\``}`);
    }
  });

  test("its config example is accepted, and every JSON block is JSON", async () => {
    const blocks = blocksOf(await read(file));
    const configs = blocks.filter((block) => block.lang === "json config");
    expect(configs.length).toBeGreaterThan(0);
    for (const block of configs) {
      const names = [...block.text.matchAll(/"env": "(\w+)"/g)].map((match) => [match[1]!, "a long secret value"]);
      const parsed = parseConfig(JSON.parse(block.text), Object.fromEntries(names));
      expect(parsed.ok ? [] : parsed.faults).toEqual([]);
    }
    for (const block of blocks.filter((one) => one.lang === "json")) JSON.parse(block.text);
  });

  test("blocks marked sh are for other machines: bash can read them and the files they name are there", async () => {
    const elsewhere = /^(sudo|systemctl|pm2|openclaw|docker|nginx|npx|sha256sum|tar)\b/;
    for (const { text, line } of blocksOf(await read(file)).filter((block) => block.lang === "sh")) {
      const parsed = Bun.spawnSync(["bash", "-n", "-c", text]);
      expect(`line ${line}: ${parsed.stderr}`).toBe(`line ${line}: `);
      for (const command of text.trim().split("\n")) expect(command).toMatch(elsewhere);
      for (const [path] of text.matchAll(/\bdeploy\/[\w.]+/g)) expect(existsSync(join(ROOT, path))).toBe(true);
    }
  });

  test("its OpenClaw commands are those that the test of the real host runs, on the package that is built", async () => {
    const { version } = await Bun.file(join(ROOT, "plugin/package.json")).json();
    const files = [...new Glob("tests/openclaw/*.ts").scanSync({ cwd: ROOT })];
    const run = (await Promise.all(files.map(read))).join("\n").replace(/[",\s]+/g, " ");
    const shown = (await read(file)).match(/^openclaw .*$/gm) ?? [];
    expect(shown.length).toBe(4);
    expect(shown[0]).toEndWith(` dist/nexus-openclaw-${version}.tgz`);
    for (const command of shown) {
      // What is the reader's own (addresses, names) is left out; `gateway restart` is how a service takes it up.
      const words = command.replace("openclaw ", "").replace(/ (dist\/|"ws:|--bot-id).*$/, "");
      if (words !== "gateway restart") expect(run).toContain(words);
    }
    // What the terminal says at the start are two of them.
    const look = { version, port: 1, addresses: [], language: "zh" as const, colour: false };
    const said = banner({ ...look, config: { host: "0.0.0.0", botTokens: ["x"] } }).match(/openclaw .*$/gm) ?? [];
    const plain = (command: string) => command.replace(/ --bot-name "[^"]*"/, "").replace(/"[^"]*"/g, '"…"');
    expect(said.map(plain)).toEqual(shown.slice(1, 3).map(plain));
  });

  test("its nginx block is one that nginx reads and says what the whole file says", async () => {
    const whole = parseNginx(await read("deploy/nginx.conf"));
    const blocks = blocksOf(await read(file)).filter((block) => block.lang === "nginx");
    expect(blocks.length).toBe(1);
    const short = parseNginx(blocks[0]!.text);
    const lines = (tree: Directive[]) =>
      find(tree, "location")
        .flatMap((one) => one.inside ?? [])
        .map((one) => one.words.join(" "));
    expect(lines(short).length).toBeGreaterThan(6);
    for (const line of lines(short)) expect(lines(whole)).toContain(line);
    expect(find(short, "map")).toEqual(find(whole, "map"));
    expect(find(short, "client_max_body_size")).toEqual(find(whole, "client_max_body_size"));
  });

  test("its table of scripts is that of package.json", async () => {
    const { scripts } = await Bun.file(join(ROOT, "package.json")).json();
    const text = await read(file);
    const shown = [...new Set([...text.matchAll(/\bbun(?:@[\d.]+)? run ([\w:]+)/g)].map((match) => match[1]!))];
    for (const name of shown) expect(Object.keys(scripts)).toContain(name);
    for (const name of Object.keys(scripts).filter((one) => !["start", "fmt"].includes(one)))
      expect(shown).toContain(name);
  });
});

describe("documents", () => {
  test.each(["README", "docs/operations", "docs/upgrade"])(
    "%s has the same sections, blocks and links in both languages",
    async (name) => {
      const shape = async (file: string) => {
        const text = await read(file);
        return {
          levels: headingsOf(text).map((line) => line.indexOf(" ")),
          blocks: blocksOf(text).map((block) => block.lang),
          // Apart from where they name the other language, they lead to the same places.
          links: localLinksOf(text)
            .map((link) => link.replace(".en.md", ".md"))
            .filter((link) => !link.endsWith(`${name.split("/").at(-1)}.md`)),
        };
      };
      expect(await shape(`${name}.en.md`)).toEqual(await shape(`${name}.md`));
    },
  );

  test.each(DOCS)("the links of %s lead somewhere", async (file) => {
    const dead = localLinksOf(await read(file)).filter((link) => !existsSync(join(ROOT, dirname(file), link)));
    expect(dead).toEqual([]);
  });

  test.each(DOCS)("the blocks of %s are in languages that a test reads", async (file) => {
    const known = ["bash", "sh", "js", "ts", "python", "go", "json", "json config", "sse", "nginx", "text"];
    const unknown = blocksOf(await read(file)).filter((block) => !known.includes(block.lang));
    expect(unknown).toEqual([]);
  });

  test.each(DOCS)("the files that %s names are there", async (file) => {
    const named = [...(await read(file)).matchAll(/`((?:lib|ui|plugin|deploy|tests|docs)\/[\w./-]*)`/g)].map(
      (match) => match[1]!,
    );
    expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });

  test("docs/protocol.md has every error code with its status and every close code", async () => {
    const text = await read("docs/protocol.md");
    const rows = rowsOf(text).map((cells) => cells.slice(0, 2).join(" "));
    for (const [code, { status }] of Object.entries(ERRORS)) expect(rows).toContain(`\`${code}\` ${status}`);
    for (const [reason, code] of Object.entries(CLOSE)) expect(rows).toContain(`${code} \`${reason}\``);
  });

  test("the JSON examples of docs/protocol.md are JSON", async () => {
    const blocks = blocksOf(await read("docs/protocol.md")).filter((block) => block.lang === "json");
    expect(blocks.length).toBeGreaterThan(2);
    for (const { text, line } of blocks)
      for (const one of text.trim().split(/\n\n/)) expect(() => JSON.parse(one), `line ${line}: ${one}`).not.toThrow();
  });

  test(".ci/run is the command of the README", async () => {
    const command = (await read(".ci/run")).trim().split("\n").at(-1)?.replace("exec ", "") ?? "";
    expect(command).toBe("npx -y bun@1.4.5 run test");
    for (const file of READMES) expect(await read(file)).toContain(`\`\`\`bash\n${command}\n\`\`\``);
    expect((await Bun.file(join(ROOT, "package.json")).json()).packageManager).toBe("bun@1.4.5");
  });
});

test("the map of the code names every file and folder of lib/, and nothing that is not there", async () => {
  const map = await read("docs/architecture.md");
  const named = new Set([...map.matchAll(/`((?:lib|ui|plugin|deploy|tests)\/[\w./-]*)`/g)].map((match) => match[1]!));
  expect([...named].filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  const there = [...new Glob("lib/**/*.ts").scanSync({ cwd: ROOT })].map((path) => {
    const [, first, more] = path.split("/");
    return more === undefined ? path : `lib/${first}/`;
  });
  expect([...new Set(there)].filter((path) => !named.has(path)).sort()).toEqual([]);
});

describe("deploy/", () => {
  test("nexus.service starts the program, gives it time to drain, and shuts the rest of the machine off", async () => {
    const text = await read("deploy/nexus.service");
    const sections = text.match(/^\[\w+\]$/gm);
    expect(sections).toEqual(["[Unit]", "[Service]", "[Install]"]);
    const settings = new Map<string, string>();
    for (const line of text.split("\n")) {
      if (!line || /^[#[]/.test(line)) continue;
      const pair = /^(\w+)=(.*)$/.exec(line);
      expect(`${line}: ${Boolean(pair)}`).toBe(`${line}: true`);
      settings.set(pair![1]!, pair![2]!);
    }
    expect(settings.get("ExecStart")).toBe("/usr/local/bin/nexus serve");
    expect(settings.get("WorkingDirectory")).toBe("/var/lib/nexus");
    expect(Number(settings.get("TimeoutStopSec"))).toBeGreaterThan(30);
    expect(settings.get("ProtectSystem")).toBe("strict");
    // The runtime compiles while it runs; this one would end it at the first busy function.
    expect(settings.has("MemoryDenyWriteExecute")).toBe(false);
    // Nobody can guess where the variables of {"env": …} go: off until somebody has some.
    const [, variables] = /^#EnvironmentFile=(\/\S+)$/m.exec(text) ?? [];
    for (const file of ["docs/operations.md", "docs/operations.en.md"])
      for (const words of [`\`${variables}\``, "`EnvironmentFile=`"]) expect(await read(file)).toContain(words);
  });

  test("ecosystem.config.cjs loads and starts one process of the program", () => {
    const { apps } = createRequire(import.meta.url)("../deploy/ecosystem.config.cjs");
    expect(apps).toHaveLength(1);
    expect(apps[0]).toMatchObject({ script: "./nexus", interpreter: "none", exec_mode: "fork", instances: 1 });
    expect(apps[0].kill_timeout).toBeGreaterThan(25_000);
  });

  test("nginx.conf passes on what the gateway's rules of origin and address need", async () => {
    const tree = parseNginx(await read("deploy/nginx.conf"));
    const headers = find(tree, "proxy_set_header").map((one) => one.words[1]);
    expect(headers.sort()).toEqual(["Connection", "Host", "Upgrade", "X-Forwarded-For", "X-Forwarded-Proto"]);
    expect(find(tree, "proxy_buffering")[0]?.words[1]).toBe("off");
    const limits = effective().limits as { bodyBytes: number };
    const size = Number.parseInt(find(tree, "client_max_body_size")[0]?.words[1] ?? "", 10) * 1024 * 1024;
    expect(size).toBeGreaterThan(limits.bodyBytes);
  });

  test("Dockerfile copies the binary, runs it as somebody else and says that it is unrun", async () => {
    const text = await read("deploy/Dockerfile");
    for (const line of ["COPY dist/nexus ", "USER nexus", "ENTRYPOINT ["]) expect(text).toContain(line);
    expect(text).toContain("Never built by the project's tests");
  });
});
