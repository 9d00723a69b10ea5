/**
 * Runs the contract against the npm package of the v1 gateway and says which checks it fails. That proves the suite
 * independently of our code: what v1 passes is the published contract, what it fails must be a defect named here.
 * Exit code 1 when the failures are not exactly the named ones. Needs node and npm; not part of `bun run test`.
 */
import { join } from "node:path";
import { type ProcessOptions, startProcess } from "../harness/process.ts";
import { freePort, tempDir, within } from "../harness/wait.ts";
import { createRunner } from "./check.ts";
import { CHECKS } from "./all.ts";

const PACKAGE = "@houchenyang/nexus-gateway@1.0.6";

const scratch = await tempDir("v1");
await Bun.write(join(scratch.path, "package.json"), '{"private": true}');
const install = Bun.spawn(["npm", "install", "--no-audit", "--no-fund", "--silent", PACKAGE], {
  cwd: scratch.path,
  stdout: "inherit",
  stderr: "inherit",
});
if ((await install.exited) !== 0) throw new Error(`npm could not install ${PACKAGE}`);

const start = (options: ProcessOptions) => {
  const port = options.port ?? freePort();
  const run = ["node", join(scratch.path, "node_modules/@houchenyang/nexus-gateway/dist/index.js")];
  const config = options.config === null ? null : { port, ...options.config };
  return startProcess({ ...options, run, port, config });
};

const runner = createRunner({ name: "v1", start });
let passed = 0;
let surprises = 0;
for (const check of CHECKS) {
  let fault: unknown;
  try {
    await within(runner.run(check), 20_000, "the check");
    passed++;
  } catch (error) {
    fault = error;
  }
  const expected = check.v1Defect !== undefined;
  if (expected !== (fault !== undefined)) surprises++;
  const mark = fault
    ? expected
      ? "fails, as known"
      : "FAILS, UNEXPECTED"
    : expected
      ? "PASSES, UNEXPECTED"
      : "passes";
  const why = fault ? `\n    ${check.v1Defect ?? ""} · ${String(fault).split("\n")[0]}` : "";
  console.log(`${mark}: ${check.name}${why}`);
}
await runner.stop();
await scratch.remove();
console.log(`v1 passes ${passed} of ${CHECKS.length} checks, ${surprises} surprises`);
process.exit(surprises ? 1 : 0);
