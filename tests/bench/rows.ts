/** What is compared, and the budgets of DESIGN.md. Pure data. */
import type { Job } from "./load.ts";
import type { Run } from "./measure.ts";

export type Work = Omit<Job, "port" | "token" | "botToken" | "v2">;
export type Row = {
  name: string;
  unit: string;
  /** At most this ratio to bare; absent: told, not judged. */
  budget?: number;
  /** Still over its budget (docs/benchmarks.md says why): the ratio that tests/bench/regress.test.ts guards until it is met. */
  today?: number;
  work: Work;
  /** Units before measuring, where a quarter of them is not enough: our code is longer than bare's, and compiled later. */
  warm?: number;
  /** Done before that: at six thousand chunks a second compiling would go on for 40 s of the row's own work. */
  first?: Work[];
  /** What is compared, from one run of a peer. */
  value: (run: Run) => number;
  v1?: true;
  /** Ours from source is measured too, where the binary is what is compared. */
  source?: true;
  /** Bare with the least store is measured too. */
  stored?: true;
  /** A fresh process is measured, without any warm-up. */
  cold?: true;
  /** Conversations in our store before it starts, and then ours with an empty one stands in for bare. */
  conversations?: number;
  /** Bare cannot do it. */
  oursOnly?: true;
};

const MB = 1024 * 1024;
const us = ({ us }: Run): number => us;
const kb = ({ heldKb }: Run): number => heldKb;
const CHUNKS: Work = { kind: "burst", wide: 64, count: 2_000 };
const STREAMS: Work = { kind: "burst", wide: 500, count: 2 };
const CHATS: Work = { kind: "chat", wide: 64, count: 30_000 };

export const ROWS: readonly Row[] = [
  {
    name: "chat",
    unit: "µs CPU per round trip, 64 in flight",
    budget: 1.7,
    today: 2.8,
    work: { kind: "chat", wide: 64, count: 20_000 },
    warm: 120_000,
    value: us,
    v1: true,
    source: true,
    stored: true,
  },
  {
    name: "burst",
    unit: "µs CPU per chunk, 64 streams × 400 at once",
    budget: 0.95,
    work: { kind: "burst", wide: 64, count: 400 },
    warm: 2_000,
    value: us,
    v1: true,
    source: true,
  },
  {
    name: "paced",
    unit: "µs CPU per chunk, 300 streams × 20/s",
    budget: 1.15,
    first: [CHATS, CHUNKS],
    work: { kind: "paced", wide: 300, count: 10, rate: 20 },
    warm: 20,
    value: us,
    v1: true,
  },
  {
    name: "paced wide",
    unit: "µs CPU per chunk, 1,000 streams × 6/s",
    first: [CHATS, CHUNKS],
    work: { kind: "paced", wide: 1000, count: 10, rate: 6 },
    warm: 20,
    value: us,
  },
  {
    name: "image",
    unit: "ms CPU per 4 MB image to a v1 form bot",
    budget: 1.5,
    work: { kind: "image", wide: 2, count: 24, bytes: 4 * MB },
    value: ({ us }) => us / 1000,
    v1: true,
  },
  {
    name: "held stream",
    unit: "kB resident, slope from 1,000 to 5,000",
    budget: 1.2,
    // As many as the chat row, and as many streams as are held then: compiled code and the store's cache grow with the first
    // ones, whatever is held.
    first: [{ ...CHATS, count: 120_000 }, ...Array.from({ length: 10 }, () => STREAMS)],
    work: { kind: "held", wide: 5_000, count: 0 },
    warm: 1_000,
    value: kb,
  },
  {
    name: "idle bot",
    unit: "kB resident, slope from 400 to 2,000",
    work: { kind: "idle", wide: 2_000, count: 0 },
    warm: 400,
    value: kb,
  },
  {
    name: "peak",
    unit: "MB at the peak, 8 × 4 MB images at once",
    budget: 1.3,
    work: { kind: "image", wide: 8, count: 8, bytes: 4 * MB },
    value: (run) => run.peakKb / 1024,
    v1: true,
    cold: true,
  },
  {
    name: "full store",
    unit: "µs CPU per round trip with 10,000 conversations stored, against an empty store",
    work: { kind: "chat", wide: 64, count: 20_000 },
    warm: 40_000,
    value: us,
    conversations: 10_000,
  },
  {
    name: "stalled reader",
    unit: "p99 ms of 199 readers beside one that takes nothing, 20/s",
    first: [CHATS, CHUNKS],
    work: { kind: "paced", wide: 200, count: 5, rate: 20, stalled: 1 },
    value: ({ result }) => result.delays![1]!,
  },
  {
    name: "20 MiB body",
    unit: "p99 ms of 100 streams × 20/s in the 20 s in which one comes",
    work: { kind: "paced", wide: 100, count: 40, rate: 20, bytes: 14 * MB },
    warm: 4,
    value: ({ result }) => result.delays![1]!,
    oursOnly: true,
  },
  {
    name: "catch up",
    unit: "ms until a reader that returns holds 10,000 chunks",
    work: { kind: "catchup", wide: 1, count: 10_000 },
    value: ({ result }) => result.delays![0]!,
    oursOnly: true,
  },
];
