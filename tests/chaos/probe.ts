/**
 * Loaded before server.ts (`bun --preload`) by tests that look into the gateway's process: a timer of 1 ms that sees how long
 * the event loop stood still, and a collection on demand. SIGUSR2 collects and prints one line; the counts begin anew.
 */
const late: number[] = [];
let due = performance.now() + 1;
setInterval(() => {
  const at = performance.now();
  late.push(Math.max(0, at - due));
  due = at + 1;
}, 1);

process.on("SIGUSR2", () => {
  const sorted = late.splice(0).sort((a, b) => a - b);
  const part = (of: number): number => sorted[Math.floor(sorted.length * of)] ?? 0;
  const stalls = { samples: sorted.length, p50: part(0.5), p99: part(0.99), max: sorted.at(-1) ?? 0 };
  for (let i = 0; i < 3; i++) Bun.gc(true);
  const { rss, heapUsed } = process.memoryUsage();
  const memory = { rssMb: rss / 1024 / 1024, heapMb: heapUsed / 1024 / 1024 };
  process.stderr.write(`probe ${JSON.stringify({ ...stalls, ...memory })}\n`);
  due = performance.now() + 1;
});
