/**
 * Rounds of one row: each peer a fresh process pinned to one core with the load on the other, interleaved (A/B/A/B), what
 * it used as the operating system counts it.
 */
import { join } from "node:path";
import type { Job, Result } from "./load.ts";
import { cpuOf, memoryOf, pinned, type Peer } from "./peers.ts";
import type { Row, Work } from "./rows.ts";

const LOAD = join(import.meta.dir, "load.ts");
/**
 * What the opening left behind is collected by then: the runtime does that when it has been quiet for some 5 to 12 s, and until
 * then a held stream of ours takes 6 to 8 kB instead of 4.4, by chance.
 */
const SETTLE_MS = 20_000;
/** A process that uses less than this much of its core has nothing left to do, at the latest after so long. */
const QUIET = 0.04;
/** So many of them in a row: search is indexed up to two seconds after a rush (lib/indexing.ts). */
const QUIET_SECONDS = 3;
const QUIET_MS = 30_000;

/** `later`: µs of CPU per unit that came after the last answer, until the process was quiet (chats: they are indexed for search). */
export type Run = { us: number; later: number; result: Result; heldKb: number; peakKb: number };
export type Start = () => Promise<Peer | undefined>;

const load = async (peer: Peer, work: Work, settleMs = 0): Promise<Run> => {
  const job: Job = { ...work, port: peer.port, token: peer.token, botToken: peer.botToken, v2: peer.v2 };
  const cpuBefore = cpuOf(peer.pid);
  const child = Bun.spawn(pinned(1, [process.execPath, LOAD, JSON.stringify(job)]), {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  /** Resident kB by what is held. */
  const held: [number, number][] = [];
  let text = "";
  for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
    text += part;
    const said = [...text.matchAll(/"held":(\d+)/g)];
    if (said.length === held.length) continue;
    await Bun.sleep(settleMs);
    held.push([Number(said.at(-1)![1]), memoryOf(peer.pid).rss]);
    child.stdin.write("done\n");
    child.stdin.flush();
  }
  const [few, many] = held;
  const heldKb = few && many ? (many[1] - few[1]) / (many[0] - few[0]) : 0;
  const result = JSON.parse(text.trim().split("\n").at(-1)!) as Result;
  if (result.errors > 0) throw new Error(`${peer.name}: ${result.errors} errors in ${work.kind}`);
  return {
    us: ((cpuOf(peer.pid) - cpuBefore) * 1000) / result.units,
    later: 0,
    result,
    heldKb,
    peakKb: memoryOf(peer.pid).peak,
  };
};

/** Until what the warm-up said is indexed for search, so that it is not counted to what comes next. */
const quiet = async ({ pid }: Peer): Promise<void> => {
  const deadline = Date.now() + QUIET_MS;
  for (let still = 0; still < QUIET_SECONDS && Date.now() < deadline;) {
    const before = cpuOf(pid);
    await Bun.sleep(1_000);
    still = (cpuOf(pid) - before) / 1_000 < QUIET ? still + 1 : 0;
  }
};

/** A smaller one of the same kind, so that compiling is not what is measured. */
const warmUp = ({ work, warm }: Row): Work => {
  const wide = work.kind === "held" || work.kind === "idle";
  if (wide) return { ...work, wide: warm ?? work.wide };
  return { ...work, count: warm ?? Math.max(1, work.count >> 2) };
};

/** `rounds` runs of each peer, by its name. `told`: after each. Throws when a peer answered with an error. */
export const measure = async (
  row: Row,
  starts: readonly Start[],
  rounds: number,
  told: (round: number, peer: string) => void = () => {},
): Promise<Map<string, Run[]>> => {
  const runs = new Map<string, Run[]>();
  for (let round = 1; round <= rounds; round++)
    for (const start of starts) {
      const peer = await start();
      if (!peer) continue;
      try {
        for (const work of row.first ?? []) await load(peer, work);
        if (!row.cold && row.work.kind !== "catchup") await load(peer, warmUp(row));
        const { kind } = row.work;
        if (kind === "chat" || kind === "paced" || kind === "burst") await quiet(peer);
        const run = await load(peer, row.work, SETTLE_MS);
        if (kind === "chat") {
          const before = cpuOf(peer.pid);
          await quiet(peer);
          run.later = ((cpuOf(peer.pid) - before) * 1000) / run.result.units;
        }
        runs.set(peer.name, [...(runs.get(peer.name) ?? []), run]);
      } finally {
        await peer.stop();
      }
      told(round, peer.name);
    }
  return runs;
};

/**
 * The same by processes that live through all rounds, one after the other within each: nearer to each other than fresh ones,
 * and warm, so less of what is measured is chance. For rows of CPU.
 */
export const inTurns = async (row: Row, starts: readonly Start[], rounds: number): Promise<Map<string, Run[]>> => {
  const peers: Peer[] = [];
  const runs = new Map<string, Run[]>();
  try {
    for (const start of starts) {
      const peer = await start();
      if (!peer) continue;
      peers.push(peer);
      await load(peer, warmUp(row));
    }
    for (let round = 0; round < rounds; round++)
      for (const peer of peers) {
        await quiet(peer);
        runs.set(peer.name, [...(runs.get(peer.name) ?? []), await load(peer, row.work)]);
      }
  } finally {
    for (const peer of peers) await peer.stop();
  }
  return runs;
};

export const median = (values: number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;
