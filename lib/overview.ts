/** The numbers of a running gateway, as `Overview` and as gauges: put together when somebody asks, kept by nobody. */
import packageJson from "../package.json" with { type: "json" };
import type { Gate } from "./gate.ts";
import type { Gauge } from "./metrics.ts";
import type { Overview } from "./protocol/admin.ts";

export const overviewOf = ({
  now,
  metrics,
  days,
  turns,
  bots,
  people,
  sessions,
  streams,
  store,
  isDraining,
}: Gate): Overview => {
  const { turns: ended, firstChunkMs, loopDelayMs } = metrics.summary();
  const connections = [...bots.connections()];
  const { commits, writes, maxMs } = store.stats();
  const cpu = process.cpuUsage();
  return {
    at: now(),
    startedAt: metrics.startedAt,
    version: packageJson.version,
    draining: isDraining(),
    timeZone: days.zone(),
    turns: { open: turns.count(), queued: turns.queued(), ...ended },
    today: store.usage.totals(days.today()),
    firstChunkMs,
    loopDelayMs,
    bots: {
      online: new Set(connections.map(({ botId }) => botId)).size,
      connections: connections.length,
      busy: connections.filter(({ inFlight, maxConcurrency }) => inFlight >= maxConcurrency).length,
    },
    people: people.all().size,
    sessions: [...sessions.all()].length,
    streams: streams.count(),
    sentBytes: streams.sentBytes(),
    store: { bytes: store.bytes(), commits, writes, maxCommitMs: Math.round(maxMs * 10) / 10 },
    memoryBytes: process.memoryUsage.rss(),
    cpuMs: Math.round((cpu.user + cpu.system) / 1000),
    deadLetters: store.inbox.deadCount(),
  };
};

/** What stands elsewhere than in the counters, for /metrics. */
export const gaugesOf = (gate: Gate): Gauge[] => {
  const { turns, bots } = gate;
  const now = overviewOf(gate);
  const byState = new Map([..."queued sent accepted streaming".split(" ")].map((state) => [state, 0]));
  for (const { state } of turns.all()) if (byState.has(state)) byState.set(state, byState.get(state)! + 1);
  const gauge = (name: string, help: string, value: Gauge["value"], type: Gauge["type"] = "gauge"): Gauge => ({
    name,
    help,
    type,
    value,
  });
  return [
    gauge("nexus_info", "The version, as a label.", [[{ version: now.version }, 1]]),
    gauge("nexus_draining", "1 while the gateway takes no new turns because it stops.", now.draining ? 1 : 0),
    gauge(
      "nexus_turns_open",
      "Turns that have not ended, by state.",
      [...byState].map(([state, count]) => [{ state }, count]),
    ),
    gauge("nexus_turns_queued", "Turns that wait for a bot with room.", now.turns.queued),
    gauge("nexus_bots_online", "Bots with at least one connection.", now.bots.online),
    gauge("nexus_bot_connections", "Connections of bots.", now.bots.connections),
    gauge(
      "nexus_bot_turns",
      "Turns that a bot is answering, over all its connections.",
      [...countBy(bots.connections())].map(([bot, count]) => [{ bot }, count]),
    ),
    gauge("nexus_people", "People who may sign in.", now.people),
    gauge("nexus_sessions", "Sign-ins that have not ended.", now.sessions),
    gauge("nexus_streams_open", "Open event streams.", now.streams),
    gauge("nexus_stream_bytes_total", "Bytes written to event streams.", now.sentBytes, "counter"),
    gauge("nexus_messages_today", "Messages sent since midnight in the configured time zone.", now.today.messages),
    gauge("nexus_dead_letters", "Frames of bots that named nobody, kept for an admin.", now.deadLetters),
    gauge("nexus_store_commits_total", "Transactions committed.", now.store.commits, "counter"),
    gauge("nexus_store_writes_total", "Writes in these transactions.", now.store.writes, "counter"),
    gauge("nexus_store_commit_max_seconds", "The longest transaction since the start.", now.store.maxCommitMs / 1000),
    gauge("nexus_store_bytes", "Size of the database on disk.", now.store.bytes),
    gauge("process_resident_memory_bytes", "Resident memory.", now.memoryBytes),
    gauge("process_cpu_seconds_total", "User and system CPU time.", now.cpuMs / 1000, "counter"),
    gauge("process_start_time_seconds", "Start of the process, in seconds since 1970.", now.startedAt / 1000),
  ];
};

const countBy = (connections: Iterable<{ botId: string; inFlight: number }>): Map<string, number> => {
  const counts = new Map<string, number>();
  for (const { botId, inFlight } of connections) counts.set(botId, (counts.get(botId) ?? 0) + inFlight);
  return counts;
};
