#!/usr/bin/env node
// Starts the nexus binary that npm installed beside this package, and is otherwise not there: arguments, input, output,
// signals and the exit code pass through. Plain JavaScript for Node 18 and later; no dependency.
"use strict";

const { spawn } = require("node:child_process");

/** musl or glibc: Node names the glibc it runs on in its report, and none where there is none. */
const usesMusl = () => process.platform === "linux" && !process.report.getReport().header.glibcVersionRuntime;

const name = ["nexus-gateway", process.platform, process.arch].concat(usesMusl() ? ["musl"] : []).join("-");
const file = process.platform === "win32" ? "nexus.exe" : "nexus";

let binary;
try {
  binary = require.resolve(`${name}/${file}`);
} catch {
  console.error(
    `nexus-gateway: 没有安装 ${name}。可能是安装时用了 --omit=optional，或这种机器没有现成的程序。\n` +
      `nexus-gateway: the package ${name} is not installed: optional dependencies were left out (--omit=optional), or there is no binary for this machine.`,
  );
  process.exit(1);
}

// A second signal means "now" to the gateway. A terminal and PM2 signal both processes, so it is told that one may come twice.
const env = { ...process.env, NEXUS_LAUNCHED: "1" };
const child = spawn(binary, process.argv.slice(2), { stdio: "inherit", windowsHide: true, env });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
  console.error(`nexus-gateway: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => {
  if (!signal) process.exit(code);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
