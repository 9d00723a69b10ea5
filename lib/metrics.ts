/**
 * What this process has done since it started, counted in memory, and the text form that Prometheus reads.
 *
 * What must stay true: counting is an addition and never throws; label values come from fixed lists of the code (states,
 * event names, status classes), so nobody outside can make the text grow. Refuses to ask anybody for numbers: what stands
 * elsewhere is handed in as gauges when somebody reads (routes/metrics.ts).
 */

type Labels = Record<string, string>;
/** One value, or one per set of labels. */
export type Reading = number | [Labels, number][];
export type Gauge = { name: string; help: string; type: "gauge" | "counter"; value: Reading };

/** Values by label values, joined with a line break: building label text at each count would cost more than the count. */
type Counter = { help: string; labels: readonly string[]; values: Map<string, number> };
type Histogram = { help: string; bounds: readonly number[]; counts: number[]; sum: number; count: number };

/** Seconds. From "at once" to the longest silence that is allowed. */
const FIRST_CHUNK = [0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300];
const TURN = [0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];
const DELAY = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1];

/** How often the event loop is looked at, and over what span its worst delay is told. */
const PROBE_MS = 50;
const WORST_MS = 60_000;

const CLASSES = ["", "1xx", "2xx", "3xx", "4xx", "5xx"];

const escaped = (text: string): string => text.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");
const labelText = (labels: Labels): string => {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
};

export const createMetrics = ({ now }: { now: () => number }) => {
  const startedAt = now();
  const counters = new Map<string, Counter>();
  const histograms = new Map<string, Histogram>();

  const counter = (name: string, help: string, labels: readonly string[], first: readonly string[] = []) => {
    // Known series begin at 0, so that a rate over the first increment is right.
    const values = new Map<string, number>(first.map((key) => [key, 0]));
    counters.set(name, { help, labels, values });
    return (key: string, by = 1): void => {
      values.set(key, (values.get(key) ?? 0) + by);
    };
  };
  const histogram = (name: string, help: string, bounds: readonly number[]) => {
    const made: Histogram = { help, bounds, counts: bounds.map(() => 0), sum: 0, count: 0 };
    histograms.set(name, made);
    return {
      observe: (value: number): void => {
        made.sum += value;
        made.count++;
        for (let i = 0; i < bounds.length; i++)
          if (value <= bounds[i]!) {
            made.counts[i]!++;
            break;
          }
      },
      /** About the value below which a part `q` lies, from the buckets; undefined when there is none. */
      quantile: (q: number): number | undefined => {
        if (made.count === 0) return undefined;
        let left = q * made.count;
        for (let i = 0; i < bounds.length; i++) {
          const here = made.counts[i]!;
          if (here > 0 && left <= here) {
            const low = i === 0 ? 0 : bounds[i - 1]!;
            return low + (bounds[i]! - low) * (left / here);
          }
          left -= here;
        }
        return bounds.at(-1)!;
      },
    };
  };

  const outcomes = ["done", "failed", "cancelled"] as const;
  const turns = counter("nexus_turns_total", "Turns that ended, by outcome.", ["outcome"], outcomes);
  const replyBytes = counter("nexus_reply_bytes_total", "Bytes of text that bots answered.", [], [""]);
  const answers = counter("nexus_http_requests_total", "HTTP requests answered, by class of status.", ["code"]);
  const lines = counter("nexus_log_lines_total", "Lines logged, by level and event.", ["level", "event"]);
  const refusals = counter(
    "nexus_quota_refusals_total",
    "Messages refused because a person's quota was used up.",
    ["quota"],
    ["day", "open"],
  );
  const actions = counter("nexus_audit_entries_total", "Entries of the audit log, by action.", ["action"]);
  const firstChunk = histogram(
    "nexus_turn_first_chunk_seconds",
    "From the message being stored to the first text of the answer.",
    FIRST_CHUNK,
  );
  const turnTime = histogram("nexus_turn_seconds", "From the message being stored to the end of the turn.", TURN);
  const delay = histogram("nexus_event_loop_delay_seconds", `How late a timer of ${PROBE_MS} ms came.`, DELAY);
  const ended = { done: 0, failed: 0, cancelled: 0 };
  let worst = { since: 0, now: 0, before: 0 };

  const late = (ms: number): void => {
    delay.observe(ms / 1000);
    const at = performance.now();
    if (at - worst.since > WORST_MS) worst = { since: at, now: ms, before: worst.now };
    else worst.now = Math.max(worst.now, ms);
  };

  const header = (name: string, help: string, type: string): string =>
    `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;

  return {
    startedAt,
    turnEnded: (outcome: "done" | "failed" | "cancelled", ms: number, bytes: number): void => {
      ended[outcome]++;
      turns(outcome);
      turnTime.observe(ms / 1000);
      replyBytes("", bytes);
    },
    firstChunk: (ms: number): void => firstChunk.observe(ms / 1000),
    answered: (status: number): void => answers(CLASSES[Math.floor(status / 100)] ?? "other"),
    logged: (level: string, event: string): void => lines(`${level}\n${event}`),
    quotaRefused: (quota: "day" | "open"): void => refusals(quota),
    audited: (action: string): void => actions(action),

    /** Looks at the event loop until the returned function is called. */
    probe: (): (() => void) => {
      let due = performance.now() + PROBE_MS;
      const timer = setInterval(() => {
        const at = performance.now();
        late(Math.max(0, at - due));
        due = at + PROBE_MS;
      }, PROBE_MS);
      timer.unref();
      return () => clearInterval(timer);
    },

    /** For people: seconds became milliseconds. */
    summary: () => ({
      turns: { ...ended },
      firstChunkMs: { p50: scaled(firstChunk.quantile(0.5)), p95: scaled(firstChunk.quantile(0.95)) },
      loopDelayMs: { p99: scaled(delay.quantile(0.99)), max: Math.round(Math.max(worst.now, worst.before) * 10) / 10 },
    }),

    /** The text exposition format 0.0.4, these gauges included. */
    text: (gauges: readonly Gauge[]): string => {
      let out = "";
      for (const [name, { help, labels, values }] of counters) {
        out += header(name, help, "counter");
        for (const [key, value] of values) {
          const parts = key.split("\n");
          out += `${name}${labelText(Object.fromEntries(labels.map((label, i) => [label, parts[i] ?? ""])))} ${value}\n`;
        }
      }
      for (const [name, { help, bounds, counts, sum, count }] of histograms) {
        out += header(name, help, "histogram");
        let below = 0;
        bounds.forEach((bound, i) => {
          below += counts[i]!;
          out += `${name}_bucket{le="${bound}"} ${below}\n`;
        });
        out += `${name}_bucket{le="+Inf"} ${count}\n${name}_sum ${sum}\n${name}_count ${count}\n`;
      }
      for (const { name, help, type, value } of gauges) {
        out += header(name, help, type);
        const series: [Labels, number][] = typeof value === "number" ? [[{}, value]] : value;
        for (const [labels, number] of series) out += `${name}${labelText(labels)} ${number}\n`;
      }
      return out;
    },
  };
};

const scaled = (seconds: number | undefined): number | undefined =>
  seconds === undefined ? undefined : Math.round(seconds * 10_000) / 10;

export type Metrics = ReturnType<typeof createMetrics>;
