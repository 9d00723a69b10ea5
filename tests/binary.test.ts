/**
 * dist/nexus as `bun run build` makes it: whole, alone, and deaf to what lies around it (PROMISES S16, P7). The published
 * contract is run against it by contract.test.ts with NEXUS_RUN=binary.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFile, mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { startGateway } from "./harness.ts";
import { testConfig } from "./harness/config.ts";
import { BINARY, ROOT, type RunningProcess, startProcess } from "./harness/process.ts";
import { callRoute, named } from "./harness/routes.ts";
import { tempDir, until } from "./harness/wait.ts";

describe("dist/nexus", () => {
  let folder: Awaited<ReturnType<typeof tempDir>>;
  /** Away from the source, so that nothing can be read from there by its path. */
  let nexus: string;

  beforeAll(async () => {
    const build = Bun.spawn([process.execPath, "run", "build"], { cwd: ROOT, stdout: "pipe", stderr: "pipe" });
    const [out, err] = await Promise.all([new Response(build.stdout).text(), new Response(build.stderr).text()]);
    if ((await build.exited) !== 0) throw new Error(`bun run build failed:\n${out}${err}`);
    console.log(out.trim());
    folder = await tempDir("binary");
    nexus = join(folder.path, "nexus");
    await copyFile(BINARY, nexus);
  }, 120_000);
  afterAll(() => folder?.remove());

  const emptyFolder = async (name: string): Promise<string> => {
    const path = join(folder.path, name);
    await mkdir(path);
    return path;
  };

  const serve = (cwd: string, env: Record<string, string> = {}): Promise<RunningProcess> =>
    startProcess({ run: [nexus], args: ["--port", "0"], cwd, env, config: null });

  test("--version and --help work with nothing around", async () => {
    const { version } = await Bun.file(join(ROOT, "package.json")).json();
    const cwd = await emptyFolder("version");
    const ask = (...args: string[]) => Bun.spawnSync([nexus, ...args], { cwd, env: {} });
    expect(ask("--version").stdout.toString()).toContain(version);
    expect(ask("--version").exitCode).toBe(0);
    expect(ask("--help").exitCode).toBe(0);
    expect(ask("no-such-command").exitCode).toBe(2);
    expect(await readdir(cwd)).toEqual([]);
  });

  test("starts in an empty folder with an empty environment, with the page inside", async () => {
    const cwd = await emptyFolder("empty");
    const running = await serve(cwd);
    try {
      console.log(`first start in an empty folder: ${running.startMs.toFixed(0)} ms to the first 200 on /health`);
      const page = await fetch(running.url);
      expect(page.status).toBe(200);
      const html = await page.text();
      const scripts = [...html.matchAll(/(?:src|href)="(\/[^"]+\.(?:js|css))"/g)].map((match) => match[1]!);
      expect(scripts.length).toBeGreaterThan(1);
      for (const path of scripts) expect((await fetch(running.url + path)).status).toBe(200);
      expect((await readdir(cwd)).sort()).toEqual(["config.json", "data"]);
      expect((await stat(join(cwd, "config.json"))).mode & 0o777).toBe(0o600);
    } finally {
      await running.stop();
    }
  });

  test("a second start is quick", async () => {
    const cwd = join(folder.path, "empty");
    const times: number[] = [];
    for (let i = 0; i < 5; i++) {
      const running = await serve(cwd);
      times.push(running.startMs);
      await running.stop();
    }
    times.sort((a, b) => a - b);
    console.log(`starts: ${times.map((ms) => ms.toFixed(0)).join(", ")} ms to the first 200 on /health`);
    // The promise is 100 ms on an idle machine; here other tests may run, so only a blunder fails.
    expect(times[0]!).toBeLessThan(500);
  });

  test("ignores .env, bunfig.toml, package.json and tsconfig.json of its folder (S16)", async () => {
    const cwd = await emptyFolder("hostile");
    const trap = `require("node:fs").writeFileSync(${JSON.stringify(join(cwd, "sprung"))}, "yes");`;
    await Bun.write(join(cwd, "trap.js"), trap);
    await Bun.write(join(cwd, "bunfig.toml"), 'preload = ["./trap.js"]\n[run]\npreload = ["./trap.js"]\n');
    await Bun.write(
      join(cwd, "package.json"),
      '{"name": "trap", "main": "./trap.js", "scripts": {"serve": "touch sprung"}}',
    );
    await Bun.write(join(cwd, "tsconfig.json"), '{"compilerOptions": {"paths": {"*": ["./trap.js"]}}}');
    for (const name of [".env", ".env.local", ".env.production"])
      await Bun.write(join(cwd, name), "PORT=1\nNODE_ENV=development\nNO_COLOR=\nBUN_OPTIONS=--preload=./trap.js\n");
    // Without --port: PORT=1 of the .env file would be taken, or refused, if it were read.
    await Bun.write(
      join(cwd, "config.json"),
      JSON.stringify({ port: 0, host: "127.0.0.1", botToken: "a-token-for-hostile", users: {} }),
    );
    const running = await startProcess({ run: [nexus], cwd, env: {} });
    try {
      expect(running.port).toBeGreaterThan(1);
      expect((await fetch(running.url)).status).toBe(200);
      expect(await readdir(cwd)).not.toContain("sprung");
    } finally {
      await running.stop();
    }
  });

  test("runs no preload that the environment names, even if that means not running at all", async () => {
    const cwd = await emptyFolder("options");
    await Bun.write(join(cwd, "trap.js"), `require("node:fs").writeFileSync("sprung", "yes");`);
    const running = await startProcess({
      run: [nexus],
      args: ["--port", "0"],
      cwd,
      config: null,
      env: { BUN_OPTIONS: "--preload=./trap.js" },
      wait: false,
    });
    await Promise.race([
      running.exited,
      until(() => running.stdout().includes("listening"), 5000, "a start or an end"),
    ]);
    await running.stop();
    expect(await readdir(cwd)).not.toContain("sprung");
  });

  test("has the routes of the source: each closed to strangers, with the same headers, other methods 405 (S5, S15)", async () => {
    const cwd = await emptyFolder("routes");
    const publicUrl = "https://nexus.example.com";
    await Bun.write(join(cwd, "config.json"), JSON.stringify(testConfig({ publicUrl })));
    const binary = await startProcess({ run: [nexus], cwd });
    const source = await startGateway({ publicUrl });
    const headersOf = (headers: Headers) =>
      Object.fromEntries([...headers].filter(([name]) => !["date", "content-length"].includes(name)));
    try {
      const routes = source.gateway.routes;
      expect(routes.length).toBeGreaterThan(30);
      for (const route of routes) {
        const [here, there] = await Promise.all([callRoute(binary.url, route), callRoute(source.url, route)]);
        const name = `${named(route)} `;
        expect(name + here.status).toBe(name + there.status);
        if (route.auth !== "none") expect(name + here.status).toBe(`${name}401`);
        expect([name, headersOf(here.headers)]).toEqual([name, headersOf(there.headers)]);
        expect(name + here.headers.get("strict-transport-security")).toBe(`${name}max-age=31536000`);
        const wrong = await callRoute(binary.url, { ...route, method: "PUT" as never });
        expect(name + wrong.status).toBe(`${name}405`);
        expect(wrong.headers.get("allow")).toContain(route.method);
        expect(wrong.headers.get("content-security-policy")).toStartWith("default-src 'none'; ");
      }
    } finally {
      await source.stop();
      await binary.stop();
    }
  });

  test("answers with the same headers as the source, on every kind of response", async () => {
    const cwd = await emptyFolder("compared");
    await Bun.write(join(cwd, "config.json"), JSON.stringify(testConfig()));
    const binary = await startProcess({ run: [nexus], cwd });
    // From the root of the source, as people run it: names of the page's parts depend on the folder of the bundler.
    const file = join(await emptyFolder("source"), "config.json");
    await Bun.write(file, JSON.stringify(testConfig()));
    const source = await startProcess({ run: "source", cwd: ROOT, args: ["--config", file], config: null });
    try {
      const html = await (await fetch(source.url)).text();
      const files = [...html.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map((match) => match[1]!);
      expect(files.length).toBeGreaterThan(3);
      const requests: [string, string][] = [
        ...["/", "/health", "/api/me", "/api/events", "/nothing", "/bot-ws", "/v1/models"].map(
          (path): [string, string] => ["GET", path],
        ),
        ...files.map((path): [string, string] => ["GET", path]),
        ["HEAD", "/"],
        ["POST", "/api/login"],
        ["DELETE", "/api/login"],
        ["OPTIONS", "/api/chat"],
      ];
      const look = async (base: string, method: string, path: string) => {
        const response = await fetch(base + path, { method, headers: { "accept-encoding": "gzip" } });
        await response.arrayBuffer();
        const headers = [...response.headers].filter(([name]) => name !== "date");
        return { request: `${method} ${path}`, status: response.status, headers: Object.fromEntries(headers) };
      };
      for (const [method, path] of requests)
        expect(await look(binary.url, method, path)).toEqual(await look(source.url, method, path));
    } finally {
      await source.stop();
      await binary.stop();
    }
  });
});
