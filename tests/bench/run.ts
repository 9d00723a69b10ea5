/**
 * `bun run bench`: ours beside the bare relay and the v1 package, in one run, as ratios.
 *
 * Rounds are interleaved (A/B/A/B), each peer a fresh process pinned to one core with the load on the other. CPU is user +
 * system time of the peer per unit of work, as the operating system counts it. Writes docs/benchmarks.md. `--quick` runs two rounds of the
 * rows that are budgets of CPU; `--only chat,burst` those rows.
 */
import { cpus, release } from "node:os";
import { join } from "node:path";
import type { Job, Result } from "./load.ts";
import { cpuOf, memoryOf, pinned, startBare, startOurs, startV1, type Peer } from "./peers.ts";

const ROOT = join(import.meta.dir, "../..");
const LOAD = join(import.meta.dir, "load.ts");
const args = process.argv.slice(2);
const quick = args.includes("--quick");
const only = args[args.indexOf("--only") + 1]?.split(",");
const rounds = quick ? 2 : 5;
/** A row whose rounds differ by more than this factor says so. */
const NOISY = 1.4;

type Work = Omit<Job, "port" | "token" | "botToken" | "v2">;
type Row = {
  name: string;
  unit: string;
  budget: number | undefined;
  work: Work;
  /** Units before measuring, where a quarter of them is not enough: our code is longer than bare's, and compiled later. */
  warm?: number;
  /** What is compared, from one run of a peer. */
  value: (run: Run) => number;
  v1: boolean;
};
type Run = { us: number; result: Result; heldKb: number; peakKb: number };

const MB4 = 4 * 1024 * 1024;
const us = ({ us }: Run): number => us;
const ROWS: Row[] = [
  {
    name: "chat",
    unit: "µs CPU per round trip, 64 in flight",
    budget: 1.7,
    work: { kind: "chat", wide: 64, count: 20_000 },
    warm: 40_000,
    value: us,
    v1: true,
  },
  {
    name: "burst",
    unit: "µs CPU per chunk, 64 streams at once",
    budget: 0.95,
    work: { kind: "burst", wide: 64, count: 400 },
    value: us,
    v1: true,
  },
  {
    name: "paced",
    unit: "µs CPU per chunk, 300 streams × 20/s",
    budget: 1.15,
    work: { kind: "paced", wide: 300, count: 5, rate: 20 },
    value: us,
    v1: true,
  },
  {
    name: "image",
    unit: "µs CPU per 4 MB image",
    budget: 1.5,
    work: { kind: "image", wide: 2, count: 24, bytes: MB4 },
    value: us,
    v1: true,
  },
  {
    name: "held",
    unit: "kB per held stream",
    budget: 1.2,
    work: { kind: "held", wide: 5_000, count: 0 },
    value: (run) => run.heldKb,
    v1: false,
  },
  {
    name: "peak",
    unit: "MB at the peak, 8 × 4 MB images at once",
    budget: 1.3,
    work: { kind: "image", wide: 8, count: 8, bytes: MB4 },
    value: (run) => run.peakKb / 1024,
    v1: true,
  },
];

const load = async (peer: Peer, work: Work): Promise<Run> => {
  const job: Job = { ...work, port: peer.port, token: peer.token, botToken: peer.botToken, v2: peer.v2 };
  const cpuBefore = cpuOf(peer.pid);
  const child = Bun.spawn(pinned(1, [process.execPath, LOAD, JSON.stringify(job)]), {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  /** Resident kB by streams held. */
  const held: [number, number][] = [];
  let text = "";
  for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
    text += part;
    const said = [...text.matchAll(/"held":(\d+)/g)];
    if (said.length === held.length) continue;
    await Bun.sleep(Number(process.env.HELD ?? 2000)); // until what the opening left behind is collected
    held.push([Number(said.at(-1)![1]), memoryOf(peer.pid).rss]);
    child.stdin.write("done\n");
    child.stdin.flush();
  }
  const [few, many] = held;
  const heldKb = few && many ? (many[1] - few[1]) / (many[0] - few[0]) : 0;
  const result = JSON.parse(text.trim().split("\n").at(-1)!) as Result;
  if (result.errors > 0) throw new Error(`${peer.name}: ${result.errors} errors in ${work.kind}`);
  return { us: ((cpuOf(peer.pid) - cpuBefore) * 1000) / result.units, result, heldKb, peakKb: memoryOf(peer.pid).peak };
};

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

const measure = async (row: Row, starts: (() => Promise<Peer | undefined>)[]): Promise<Map<string, Run[]>> => {
  const runs = new Map<string, Run[]>();
  for (let round = 0; round < rounds; round++)
    for (const start of starts) {
      const peer = await start();
      if (!peer) continue;
      try {
        // A warm-up of the same kind, so that compiling is not what is measured; not for peaks.
        if (row.name !== "peak")
          await load(peer, {
            ...row.work,
            ...(row.work.kind === "held" ? { wide: 1_000 } : { count: row.warm ?? Math.max(1, row.work.count >> 2) }),
          });
        const run = await load(peer, row.work);
        runs.set(peer.name, [...(runs.get(peer.name) ?? []), run]);
      } finally {
        await peer.stop();
      }
      process.stderr.write(`\r${row.name}: round ${round + 1} of ${rounds}, ${peer.name}      `);
    }
  process.stderr.write("\r\x1b[K");
  return runs;
};

const startTime = async (): Promise<number[]> => {
  const times: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const at = performance.now();
    const peer = await startOurs("binary", { login: false });
    times.push(performance.now() - at);
    await peer.stop();
  }
  return times;
};

const hasBinary = await Bun.file(join(ROOT, "dist/nexus")).exists();
const lines: string[] = [];
const say = (line: string): void => {
  lines.push(line);
  console.log(line);
};
const failed: string[] = [];

say("| row | unit | bare | ours | ratio | budget | v1 ratio | spread |");
say("|---|---|---|---|---|---|---|---|");
for (const row of ROWS) {
  if (only ? !only.includes(row.name) : quick && !["chat", "burst"].includes(row.name)) continue;
  const starts = [startBare, () => startOurs(hasBinary ? "binary" : "source"), ...(row.v1 && !quick ? [startV1] : [])];
  const runs = await measure(row, starts);
  const of = (name: string): number[] => (runs.get(name) ?? []).map(row.value);
  const bare = median(of("bare"));
  const ours = of(hasBinary ? "ours" : "ours (source)");
  const ratio = median(ours) / bare;
  const spread = Math.max(...ours) / Math.min(...ours);
  const v1 = of("v1");
  if (row.budget !== undefined && ratio > row.budget) failed.push(`${row.name} ${ratio.toFixed(2)} > ${row.budget}`);
  say(
    `| ${row.name} | ${row.unit} | ${bare.toFixed(1)} | ${median(ours).toFixed(1)} | ${ratio.toFixed(2)} | ${row.budget ?? ""} | ${v1.length ? (median(v1) / bare).toFixed(1) : ""} | ${spread.toFixed(2)}${spread > NOISY ? " noisy" : ""} |`,
  );
  const delays = runs.get(hasBinary ? "ours" : "ours (source)")?.at(-1)?.result.delays;
  const bareDelays = runs.get("bare")?.at(-1)?.result.delays;
  if (delays && bareDelays)
    say(
      `| delay | ms p50 / p99 / max at that pace | ${bareDelays.map((ms) => ms.toFixed(2)).join(" / ")} | ${delays.map((ms) => ms.toFixed(2)).join(" / ")} | | | | |`,
    );
}
if (!quick && hasBinary && (!only || only.includes("start"))) {
  const times = await startTime();
  say(
    `| start | ms to the first 200 on /health, binary | | ${median(times).toFixed(0)} | | 100 | | ${(Math.max(...times) / Math.min(...times)).toFixed(2)} |`,
  );
}

if (!quick && !only) {
  const head = [
    "# Benchmarks",
    "",
    `Printed by \`bun run bench\` on ${new Date().toISOString().slice(0, 10)}: ${cpus().length} × ${cpus()[0]?.model ?? "?"}, Linux ${release()}, Bun ${Bun.version}; ${rounds} interleaved rounds, medians.`,
    "`bare` is the least Bun program that relays a chat (tests/bench/bare.ts); `v1` the npm package 1.0.6 on Node. Ours has login, limits and storage on.",
    "Repeat it with `bun run build && bun run bench`; compare ratios, not times.",
    "",
  ];
  await Bun.write(join(ROOT, "docs/benchmarks.md"), [...head, ...lines, ""].join("\n"));
}
console.log(failed.length === 0 ? "all budgets met" : `over budget: ${failed.join("; ")}`);
process.exit(failed.length === 0 ? 0 : 1);
