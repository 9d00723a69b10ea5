/**
 * The storm: a gateway that is killed again and again under many streams, bots and people behind networks that delay, cut,
 * half-open, dribble, repeat and reorder; afterwards every text is looked at. One run for the test of two minutes and for
 * `bun run soak`. Everything that is decided by chance is decided by the seed.
 */
import { type Bot, connectBot, type Turn } from "../../plugin/client.ts";
import {
  api,
  BOT_TOKEN,
  type ConfigJson,
  freePort,
  login,
  type RunningProcess,
  startProcess,
  tempDir,
  until,
} from "../harness.ts";
import { follow, type Followed } from "../harness/follow.ts";
import { faultProxy, type Faults, NO_FAULTS, seeded } from "../harness/proxy.ts";
import type { Stored } from "../harness/rig.ts";

const LIMITS = { sendsPerMinute: 0, turnsPerUser: 0, streamsPerUser: 0, connectionsPerAddress: 0 };

/** A gateway on a fixed port, which can be killed and started again on the same folder. */
export const killable = async (closers: (() => unknown)[], config: ConfigJson = {}) => {
  const folder = await tempDir("chaos");
  closers.push(() => folder.remove());
  const port = freePort();
  let running: RunningProcess;
  const start = async (): Promise<RunningProcess> => {
    running = await startProcess({
      cwd: folder.path,
      port,
      config: { port, limits: LIMITS, ...config },
      readyMs: 20_000,
    });
    return running;
  };
  closers.push(() => running.stop());
  await start();
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    wsUrl: `ws://127.0.0.1:${port}/bot-ws`,
    start,
    now: (): RunningProcess => running,
    kill: async (signal: NodeJS.Signals = "SIGKILL"): Promise<void> => {
      running.kill(signal);
      await running.exited;
    },
  };
};

/** Every message of a conversation, oldest first. */
export const messagesOf = async (url: string, token: string, conversation: string): Promise<Stored[]> => {
  const all: Stored[] = [];
  let before = "";
  for (;;) {
    const path = `/api/conversations/${conversation}/messages?limit=200${before && `&before=${before}`}`;
    const { body } = await api(url, token)<{ messages: Stored[]; next?: string }>("GET", path);
    all.unshift(...body.messages);
    if (!body.next) return all;
    before = body.next;
  }
};

/** The network of the storm, on both legs. */
const BAD: Faults = {
  delayMs: 30,
  cut: 0.35,
  halfOpen: 0.1,
  withinMs: 6_000,
  silentMs: 5_000,
  dribble: 0.2,
  duplicate: 0.02,
  reorder: 0.5,
  lateMs: 1_500,
};

/** One run of a bot, as the bot itself counts it. */
type Given = { text: string; files: string[] };
type Done = Followed & { message: string };

/** A bot's answer that is decided by the seed: pieces, replacements, files, pauses. */
const answers = (random: () => number, given: Map<string, Given[]>, counted: () => number) => {
  const answer =
    (botId: string) =>
    async (turn: Turn): Promise<void> => {
      const run = counted();
      const pieces = 20 + Math.floor(random() * 180);
      let text = "";
      const files: string[] = [];
      const texts = given.get(turn.id) ?? [];
      given.set(turn.id, texts);
      const place = texts.push({ text: "", files }) - 1;
      for (let i = 0; i < pieces && !turn.signal.aborted; i++) {
        const piece = `${botId}/${run}/${i} 🙂你好${"x".repeat(Math.floor(random() * 40))}\n`;
        const what = random();
        if (what < 0.02) {
          text = `${text.slice(0, text.length / 2)}|${piece}`.toWellFormed();
          turn.replace(text);
        } else {
          turn.write(piece);
          text += piece;
        }
        if (what > 0.98) {
          const name = `${run}-${i}.txt`;
          files.push(name);
          await turn.attach({ name, mime: "text/plain", data: new TextEncoder().encode(piece.repeat(50)) });
        }
        await Bun.sleep(random() * 100);
      }
      texts[place] = { text, files };
    };
  return answer;
};

/** What is stored is what was shown is what a bot gave: every difference as a sentence. */
const compare = (done: Done[], given: Map<string, Given[]>, stored: Map<string, Stored[]>) => {
  const wrong: string[] = [];
  let attached = 0;
  for (const one of done) {
    const name = `${one.message} (${one.turn}, ${one.connections} connections)`;
    if (one.end !== "stop") wrong.push(`${name} ended with "${one.end}"`);
    if (one.faults.length > 0) wrong.push(`${name}: ${one.faults.slice(0, 3).join("; ")}`);
    const run = given.get(one.turn)?.find(({ text }) => text === one.text);
    if (!run) wrong.push(`${name} shows what no bot gave (${one.text.length})`);
    const rows = stored.get(one.turn) ?? [];
    if (rows.map(({ role }) => role).join() !== "user,bot") wrong.push(`${name} is stored as ${rows.length} messages`);
    if (rows[0]?.content !== one.message) wrong.push(`${name} is stored as "${rows[0]?.content}"`);
    if (rows[1]?.content !== one.text) wrong.push(`${name}: stored and shown differ`);
    const files = rows[1]?.attachments.map((file) => file.name).sort() ?? [];
    if (files.join() !== run?.files.toSorted().join()) wrong.push(`${name}: files ${files} instead of ${run?.files}`);
    attached += files.length;
  }
  const turns = new Set(done.map(({ turn }) => turn));
  if (turns.size !== done.length) wrong.push(`${done.length} questions, ${turns.size} turns`);
  if (stored.size !== done.length) wrong.push(`${done.length} questions, ${stored.size} turns stored`);
  return { wrong, attached };
};

export type StormReport = Awaited<ReturnType<typeof storm>>;

/**
 * Runs for `seconds`, then lets what is open end (a minute at most) and compares. `progress` is called about every ten
 * seconds with the running numbers. `wrong` of the report must be empty.
 */
export const storm = async (given: {
  seed: number;
  seconds: number;
  streams: number;
  killEveryMs: number;
  /** Part of the kills that are SIGTERM instead of SIGKILL. */
  gently?: number;
  progress?: (numbers: Record<string, unknown>) => void;
}) => {
  const { seed, seconds, streams, killEveryMs, gently = 0.15, progress = () => {} } = given;
  const closers: (() => unknown)[] = [];
  const random = seeded(seed);
  try {
    const server = await killable(closers, { pingInterval: 2_000, botTimeout: 6_000 });
    // A bot that is new has no session to show yet, so its first connection is left alone.
    const weather = { ...NO_FAULTS };
    const toBots = faultProxy(server.port, weather, random);
    const toPeople = faultProxy(server.port, weather, random);
    closers.push(toBots.stop, toPeople.stop);

    /** Every text that a bot gave in answer to a turn: one per run of it. */
    const texts = new Map<string, Given[]>();
    let runs = 0;
    const answer = answers(random, texts, () => ++runs);
    const bots: Bot[] = ["a", "b", "c", "d", "e"].map((botId) =>
      connectBot({
        url: `ws://127.0.0.1:${toBots.port}`,
        botId,
        token: BOT_TOKEN,
        reconnect: { minMs: 100, maxMs: 1_000 },
        onTurn: answer(botId),
      }),
    );
    closers.push(() => Promise.all(bots.map((bot) => bot.close())));
    await until(() => bots.every((bot) => bot.state.state === "online"), 20_000, "five bots");
    const token = await login(server.url, "user1");
    Object.assign(weather, BAD);

    const done: Done[] = [];
    const kills = { SIGKILL: 0, SIGTERM: 0 };
    const wrong: string[] = [];
    let asked = 0;
    let going = true;
    let attached = 0;
    const began = performance.now();
    const endsAt = began + seconds * 1000;
    const sum = (of: (one: Done) => number): number => done.reduce((total, one) => total + of(one), 0);
    const numbers = () => ({
      seed,
      seconds: Math.round((performance.now() - began) / 1000),
      kills: kills.SIGKILL,
      stops: kills.SIGTERM,
      answers: done.length,
      characters: sum(({ text }) => text.length),
      connections: sum(({ connections }) => connections),
      replaced: sum(({ replaced }) => replaced),
      runs,
      attached,
      bots: toBots.counts,
      people: toPeople.counts,
      wrong: wrong.length,
    });

    const killer = (async () => {
      let told = began;
      while (performance.now() < endsAt) {
        await Bun.sleep(Math.min(killEveryMs, Math.max(0, endsAt - performance.now())));
        const signal = random() < gently ? "SIGTERM" : "SIGKILL";
        kills[signal]++;
        if (signal === "SIGTERM") {
          // A stop waits for open answers, of which there are always some; whoever is impatient sends it twice.
          server.now().kill("SIGTERM");
          await Bun.sleep(random() * 2_000);
        }
        await server.kill(signal);
        await server.start();
        if (performance.now() - told > 10_000) {
          told = performance.now();
          progress(numbers());
        }
      }
      going = false;
    })();

    const base = () => `http://127.0.0.1:${toPeople.port}`;
    const person = async (): Promise<void> => {
      do {
        const n = asked++;
        const message = `question ${n}`;
        done.push({ message, ...(await follow(base, token, message, `c${n}`, endsAt + 60_000)) });
      } while (going);
    };
    await Promise.all([killer, ...Array.from({ length: streams }, person)]);

    const stored = new Map<string, Stored[]>();
    for (const conversation of new Set(done.map((one) => one.conversation)))
      for (const message of await messagesOf(server.url, token, conversation))
        stored.set(message.turnId ?? "", [...(stored.get(message.turnId ?? "") ?? []), message]);
    const compared = compare(done, texts, stored);
    wrong.push(...compared.wrong);
    attached = compared.attached;
    return { ...numbers(), wrong };
  } finally {
    for (const close of closers.reverse()) await close();
  }
};
