/**
 * The npm packages, installed by npm itself from a registry that holds nothing else: `npx`, a global installation, a
 * machine that lacks the binary. Nothing but Node is on the PATH.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir, readdir, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Glob } from "bun";
import { NPM_NAME, npmPackageOf } from "../../deploy/targets.ts";
import { startProcess } from "../harness/process.ts";
import { tempDir, until, within } from "../harness/wait.ts";
import { find, firstSecrets, notRun, own, release, sh, useIt, version } from "./kit.ts";

const FILE = "npm.test.ts";

type Manifest = { name: string; version: string; optionalDependencies?: Record<string, string> };

/** The packages of the release, as a registry answers for them. `without`: names it does not have. */
const serveRegistry = async (folder: string, without: () => string[]) => {
  const packages = new Map<string, { file: string; manifest: Manifest; integrity: string }>();
  for await (const file of new Glob(`${NPM_NAME}*.tgz`).scan({ cwd: folder })) {
    const bytes = await Bun.file(join(folder, file)).bytes();
    const inside = await new Bun.Archive(bytes).files();
    const manifest: Manifest = JSON.parse(await inside.get("package/package.json")!.text());
    const integrity = `sha512-${new Bun.CryptoHasher("sha512").update(bytes).digest("base64")}`;
    packages.set(manifest.name, { file, manifest, integrity });
  }
  const fetched: string[] = [];
  const server: Bun.Server<undefined> = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request): Response => {
      const path = decodeURIComponent(new URL(request.url).pathname.slice(1));
      if (path.startsWith("tarballs/")) {
        fetched.push(path.slice(9));
        return new Response(Bun.file(join(folder, path.slice(9))));
      }
      const found = without().includes(path) ? undefined : packages.get(path);
      if (!found) return new Response("{}", { status: 404 });
      const { file, manifest, integrity } = found;
      const dist = { tarball: `${server.url}tarballs/${file}`, integrity };
      const versions = { [manifest.version]: { ...manifest, dist } };
      return Response.json({ name: path, "dist-tags": { latest: manifest.version }, versions });
    },
  });
  return { url: server.url.href, packages, fetched, stop: () => server.stop(true) };
};

const npm = find("npm");
const npx = find("npx");
const node = find("node");
const why =
  !npm || !npx || !node ? "needs Node with npm" : !own ? "the release has nothing for this machine" : undefined;

if (why) notRun(FILE, "npx nexus-gateway, and a global installation", why);
else
  describe("with Node only", () => {
    let folder: Awaited<ReturnType<typeof tempDir>>;
    let shelf: Awaited<ReturnType<typeof serveRegistry>>;
    let missing: string[] = [];
    let env: Record<string, string>;
    let made: string;

    beforeAll(async () => {
      folder = await tempDir("npm");
      shelf = await serveRegistry(await release(), () => missing);
      made = await version();
      // node, npm and npx, the shell that npm starts programs with, and what the launcher's first line needs.
      const bin = join(folder.path, "bin");
      await mkdir(bin);
      for (const path of [node!, npm!, npx!]) await symlink(path, join(bin, path.split("/").at(-1)!));
      for (const name of ["sh", "env"]) await symlink(find(name)!, join(bin, name));
      env = {
        PATH: bin,
        HOME: folder.path,
        npm_config_registry: shelf.url,
        npm_config_cache: join(folder.path, "cache"),
        npm_config_prefix: join(folder.path, "global"),
        npm_config_audit: "false",
        npm_config_fund: "false",
        npm_config_update_notifier: "false",
      };
    }, 240_000);
    afterAll(async () => {
      await shelf?.stop();
      await folder?.remove();
    });

    const emptyFolder = async (name: string): Promise<string> => {
      const path = join(folder.path, name);
      await mkdir(path);
      return path;
    };

    test("all packages have the same version, and the launcher names exactly those that are there", () => {
      const names = [...shelf.packages.keys()].filter((name) => name !== NPM_NAME);
      const wanted = shelf.packages.get(NPM_NAME)?.manifest.optionalDependencies;
      expect(wanted).toEqual(Object.fromEntries(names.map((name) => [name, made])));
      for (const { manifest } of shelf.packages.values()) expect(manifest.version).toBe(made);
    });

    test("npx nexus-gateway fetches this machine's binary only and starts it; Ctrl-C stops it in order", async () => {
      const cwd = await emptyFolder("npx");
      expect(await sh([npx!, "--yes", NPM_NAME, "--version"], { cwd, env })).toStartWith(`nexus ${made} (`);
      expect(shelf.fetched.sort()).toEqual([`${npmPackageOf(own!)}-${made}.tgz`, `${NPM_NAME}-${made}.tgz`].sort());
      expect(await sh([npx!, "--yes", NPM_NAME, "nonsense"], { cwd, env }).catch(String)).toContain("ended with 2");
      expect(await readdir(cwd)).toEqual([]);

      // A group of its own, and the signal to all of it: what a terminal does at Ctrl-C.
      const run = ["/usr/bin/setsid", npx!, "--yes", NPM_NAME];
      const running = await startProcess({ run, args: ["--port", "0"], cwd, env, config: null, readyMs: 30_000 });
      try {
        const { content } = await useIt(running.url, await firstSecrets(cwd));
        expect(content).toBe("echo: hello");
        process.kill(-running.pid, "SIGINT");
        await within(running.exited, 20_000, "npx to end");
        await until(() => running.stdout().includes('"event":"stopped","exit":0'), 5000, "an orderly stop");
      } finally {
        // Whatever of the group is left, when a step above failed.
        try {
          process.kill(-running.pid, "SIGKILL");
        } catch {
          // nothing is
        }
        await running.stop();
      }
    }, 120_000);

    test("npm install -g puts nexus-gateway on the PATH; SIGTERM to it is one to the gateway, and so is its exit code", async () => {
      await sh([npm!, "install", "-g", NPM_NAME], { cwd: folder.path, env });
      const path = join(folder.path, "global", "bin");
      const cwd = await emptyFolder("global-run");
      const running = await startProcess({
        run: [join(path, NPM_NAME)],
        args: ["--port", "0"],
        cwd,
        env: { ...env, PATH: `${env.PATH}:${path}` },
        config: null,
      });
      try {
        console.log(`from npm: ${running.startMs.toFixed(0)} ms to the first 200 on /health of a first start`);
        await useIt(running.url, await firstSecrets(cwd));
        running.kill("SIGTERM");
        expect(await within(running.exited, 20_000, "the exit")).toBe(0);
        expect(running.stdout()).toContain('"event":"stopped"');
      } finally {
        await running.stop();
      }
    }, 60_000);

    test("where the binary's package is not to be had, the launcher says which one is missing", async () => {
      missing = [npmPackageOf(own!)];
      const cwd = await emptyFolder("without");
      const cold = { ...env, npm_config_cache: join(folder.path, "cold") };
      await sh([npm!, "install", "--prefix", cwd, NPM_NAME], { cwd, env: cold });
      const said = await sh([join(cwd, "node_modules/.bin", NPM_NAME)], { cwd, env }).catch(String);
      expect(said).toContain("ended with 1");
      expect(said).toContain(npmPackageOf(own!));
      missing = [];
      await rm(dirname(join(cwd, "x")), { recursive: true });
    }, 60_000);
  });
