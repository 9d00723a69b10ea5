/** deploy/Dockerfile as far as it goes without a container engine: its health check, as printed, against the program. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { ROOT, type RunningProcess, startProcess } from "../harness/process.ts";
import { find, notRun, own, unpack } from "./kit.ts";
import { tempDir } from "../harness/wait.ts";

const FILE = "container.test.ts";
let folder: Awaited<ReturnType<typeof tempDir>>;
let running: RunningProcess;
beforeAll(async () => {
  folder = await tempDir("container");
  const run = own ? [join(await unpack(own, folder.path), own.executable)] : "source";
  running = await startProcess({ run });
}, 240_000);
afterAll(async () => {
  await running?.stop();
  await folder?.remove();
});

/** A command of the Dockerfile in its list form. */
const command = async (word: string): Promise<string[]> => {
  const text = (await Bun.file(join(ROOT, "deploy/Dockerfile")).text()).replaceAll("\\\n", " ");
  const list = new RegExp(`^${word}\\b[^[]*(\\[.*\\])$`, "m").exec(text)?.[1];
  if (!list) throw new Error(`the Dockerfile has no ${word} in list form`);
  return JSON.parse(list);
};

test("the health check passes while the gateway answers and fails when nobody does", async () => {
  const [program, ...args] = await command("HEALTHCHECK");
  const check = (port: number): number =>
    Bun.spawnSync([program!, ...args.map((arg) => arg.replaceAll("17392", String(port)))], { env: {} }).exitCode;
  expect(check(running.port)).toBe(0);
  await running.stop();
  expect(check(running.port)).toBe(1);
});

const docker = find("docker") && Bun.spawnSync(["docker", "info"], { stdout: "ignore", stderr: "ignore" }).success;
notRun(
  FILE,
  "docker build and run",
  docker ? "the base image comes from a registry that tests do not reach" : "needs a container engine",
);
