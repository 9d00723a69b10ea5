/**
 * `bun run bench`: ours beside the bare relay and the v1 package, in one run, as ratios. Writes docs/benchmarks.md.
 *
 * `--quick`: two rounds of the budgets of CPU; `--only chat,burst`: those rows; with either nothing is written. `--rounds 3`.
 * What is measured of ours is dist/nexus where it is built, else the source.
 */
import { cpus, release } from "node:os";
import { join } from "node:path";
import { buildPage } from "../../ui/build.ts";
import { firstLoad } from "../harness/first-load.ts";
import { measure, median, type Run, type Start } from "./measure.ts";
import { startBare, startOurs, startStoring, startV1 } from "./peers.ts";
import { ROWS, type Row } from "./rows.ts";

const ROOT = join(import.meta.dir, "../..");
const BINARY = join(ROOT, "dist/nexus");
const DOC = join(ROOT, "docs/benchmarks.md");
const args = process.argv.slice(2);
const given = (name: string): string | undefined => {
  const at = args.indexOf(name);
  return at < 0 ? undefined : args[at + 1];
};
const quick = args.includes("--quick");
const only = given("--only")?.split(",");
const rounds = Number(given("--rounds") ?? (quick ? 2 : 5));
const whole = !quick && !only;
/** A row whose rounds differ by more than this factor says so. */
const NOISY = 1.4;
/** Milliseconds to the first 200 on /health. */
const START_BUDGET = 100;

const hasBinary = await Bun.file(BINARY).exists();
const from = hasBinary ? "binary" : "source";
const ours: Start = () => startOurs(from);

const lines: string[] = [];
const say = (line: string): void => {
  lines.push(line);
  console.log(line);
};
const over: string[] = [];

const cells = (...texts: string[]): string => `| ${texts.join(" | ")} |`;
const number = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2));
/** What the way through a peer adds: a connection of the load to itself, for a second before, has these delays too. */
const added = (run: Run | undefined, delays = run?.result.delays): string =>
  delays?.map((ms, i) => Math.max(0, ms - (run!.result.direct?.[i] ?? 0)).toFixed(2)).join(" / ") ?? "";

/** The peers of a row, the one that is measured last but v1. */
const peersOf = (row: Row): Start[] => {
  const { conversations } = row;
  if (row.oursOnly) return [ours];
  if (conversations !== undefined)
    return [ours, async () => ({ ...(await startOurs(from, { login: true, conversations })), name: "full" })];
  const source = row.source && hasBinary && !quick ? [() => startOurs("source")] : [];
  const stored = row.stored && !quick ? [startStoring] : [];
  return [startBare, ours, ...stored, ...source, ...(row.v1 && !quick ? [startV1] : [])];
};

const progress = (row: Row) => (round: number, peer: string) =>
  void (process.stderr.isTTY && process.stderr.write(`\r\x1b[K${row.name}: round ${round} of ${rounds}, ${peer}`));

const tell = (row: Row, runs: Map<string, Run[]>): void => {
  const values = (name: string): number[] => (runs.get(name) ?? []).map(row.value);
  const mine = row.conversations ? "full" : [...runs.keys()].find((name) => name.startsWith("ours"))!;
  const peer = row.conversations ? [...runs.keys()].find((name) => name.startsWith("ours"))! : "bare";
  const own = values(mine);
  const spread = Math.max(...own) / Math.min(...own);
  const base = values(peer).length > 0 ? median(values(peer)) : undefined;
  const ratio = base === undefined ? undefined : median(own) / base;
  // Peers take turns, so those of one round stand beside each other.
  const each = base === undefined ? own.map(number) : own.map((value, i) => (value / values(peer)[i]!).toFixed(2));
  if (row.budget !== undefined && ratio !== undefined && ratio > row.budget)
    over.push(`${row.name} ${ratio.toFixed(2)} > ${row.budget}`);
  const busy = Math.max(...runs.get(mine)!.map(({ result }) => (result.clientCpuMs / result.ms) * 100));
  say(
    cells(
      row.name,
      row.unit,
      base === undefined ? "" : number(base),
      number(median(own)),
      ratio === undefined ? "" : ratio.toFixed(2),
      row.budget === undefined ? "" : String(row.budget),
      each.join(" "),
      runs.has("v1") && base !== undefined ? (median(values("v1")) / base).toFixed(1) : "",
      `${spread.toFixed(2)}${spread > NOISY ? " noisy" : ""}`,
      `${busy.toFixed(0)} %`,
    ),
  );
  const aside = (name: string, unit: string, ...rest: string[]): void =>
    say(cells(name, unit, ...rest, "", "", "", "", ""));
  const storing = values("bare that stores");
  if (storing.length > 0 && base !== undefined)
    aside(
      `${row.name}, bare that stores`,
      "the least that has question and answer on disk before they are told",
      number(base),
      number(median(storing)),
      (median(storing) / base).toFixed(2),
    );
  const fromSource = values("ours (source)");
  if (fromSource.length > 0 && mine === "ours" && base !== undefined)
    aside(
      `${row.name}, from source`,
      "the same without compiling",
      number(base),
      number(median(fromSource)),
      (median(fromSource) / base).toFixed(2),
    );
  if (row.work.kind === "chat") {
    const whole = (name: string): number => median(runs.get(name)!.map(({ us, later }) => us + later));
    const cost = [whole(peer), whole(mine)] as const;
    aside(
      `${row.name}, indexed`,
      "the same with what follows: µs CPU until search has it",
      ...cost.map(number),
      (cost[1] / cost[0]).toFixed(2),
    );
  }
  if (row.work.kind === "paced") {
    const last = runs.get(mine)!.at(-1)!;
    const { before } = last.result;
    const beside = before ? `before it: ${added(last, before)}` : added(runs.get(peer)?.at(-1));
    aside(`${row.name}, delay`, "ms p50 / p99 / longest beyond a direct connection", beside, added(last), "");
  }
};

const startTimes = async (): Promise<number[]> => {
  const times: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const at = performance.now();
    const peer = await startOurs("binary", { login: false });
    times.push(performance.now() - at);
    await peer.stop();
  }
  return times;
};

say(cells("row", "unit", "bare", "ours", "ratio", "budget", "each round", "v1 ratio", "spread", "load"));
say("|---|---|---|---|---|---|---|---|---|---|");
for (const row of ROWS) {
  if (only ? !only.includes(row.name) : quick && row.budget === undefined) continue;
  const runs = await measure(row, peersOf(row), rounds, progress(row));
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  tell(row, runs);
}
if (hasBinary && !quick && (!only || only.includes("start"))) {
  const times = await startTimes();
  if (median(times) > START_BUDGET) over.push(`start ${median(times).toFixed(0)} ms > ${START_BUDGET}`);
  const spread = (Math.max(...times) / Math.min(...times)).toFixed(2);
  say(
    cells(
      "start",
      "ms to the first 200 on /health, binary",
      "",
      number(median(times)),
      "",
      `${START_BUDGET} ms`,
      times.map(number).join(" "),
      "",
      spread,
      "",
    ),
  );
}
if (whole) {
  const kb = firstLoad(await buildPage()).all / 1000;
  say(cells("page", "kB compressed, first load", "", number(kb), "", "", "", "", "", ""));
}

if (whole) {
  const text = await Bun.file(DOC).text();
  const table = [
    `Printed on ${new Date().toISOString().slice(0, 10)}: ${cpus().length} × ${cpus()[0]?.model ?? "?"}, Linux ${release()}, Bun ${Bun.version}, ours ${hasBinary ? "as the binary" : "from source"}; ${rounds} rounds, medians.`,
    "",
    ...lines,
  ].join("\n");
  const [head, rest = ""] = text.split("<!-- table -->\n");
  const tail = rest.slice(rest.indexOf("<!-- end of table -->"));
  await Bun.write(DOC, `${head}<!-- table -->\n${table}\n\n${tail}`);
  await Bun.spawn([process.execPath, "fmt", "--no-script", DOC], { stdout: "ignore" }).exited;
}
console.log(over.length === 0 ? "all budgets met" : `over budget: ${over.join("; ")}`);
process.exit(over.length === 0 ? 0 : 1);
