/** The log: its two forms, what it hides (S11), and lines that cannot be forged. */
import { describe, expect, test } from "bun:test";
import { createLog, type Level, logStyle } from "../lib/log.ts";

const NOW = Date.UTC(2026, 10, 22, 8, 9, 10, 111);

const record = (options: { json?: boolean; colour?: boolean; level?: Level } = {}) => {
  const lines: string[] = [];
  const log = createLog({ json: true, ...options, write: (line) => lines.push(line), now: () => NOW });
  return { log, lines, text: () => lines.join("") };
};

describe("log", () => {
  test("a JSON line has time, level, event and the fields, and ends with one newline", () => {
    const { log, lines } = record();
    log("info", "bot_registered", { botId: "my-bot", caps: 3 });
    expect(lines).toEqual([
      '{"at":"2026-11-22T08:09:10.111Z","level":"info","event":"bot_registered","botId":"my-bot","caps":3}\n',
    ]);
  });

  test("a terminal gets a readable line, with colour only when asked", () => {
    const bare = record({ json: false });
    bare.log("warn", "login_refused", { user: "a b", count: 2, list: [1, "x"] });
    expect(bare.text()).toMatch(/^\d\d:09:10 WARN {2}login_refused user="a b" count=2 list=\[1,"x"\]\n$/);
    const coloured = record({ json: false, colour: true });
    coloured.log("error", "x");
    expect(coloured.text()).toContain("\x1b[31mERROR");
  });

  test("the style is JSON without a terminal, and NO_COLOR is honoured on one", () => {
    expect(logStyle({}, {})).toEqual({ json: true, colour: false });
    expect(logStyle({ isTTY: true }, {})).toEqual({ json: false, colour: true });
    expect(logStyle({ isTTY: true }, { NO_COLOR: "1" })).toEqual({ json: false, colour: false });
  });

  test("lines below the level are not written", () => {
    const { log, lines } = record({ level: "warn" });
    log("info", "a");
    log("debug", "b");
    log("error", "c");
    expect(lines.length).toBe(1);
  });

  test("fields that hold credentials or people's words never show their value", () => {
    const names =
      "token password Cookie set-cookie Authorization content text message image botToken session_token api_key data";
    for (const json of [true, false]) {
      const { log, text } = record({ json });
      for (const name of names.split(" ")) log("info", "x", { [name]: "CANARY", nested: { [name]: ["CANARY"] } });
      expect(text()).not.toContain("CANARY");
      expect(text()).toContain("[hidden]");
    }
  });

  test("secrets inside longer strings are masked, wherever they stand", () => {
    const tail = "Q".repeat(43);
    const secrets = [
      `got nxs_${tail} here`,
      `nxb_${tail}`,
      `x=nxk_${tail}`,
      `$argon2id$v=19$m=19456,t=2,p=1$${tail}$${tail}`,
      `Authorization: Bearer ${tail}`,
      `https://user:${tail}@example.com/`,
      `GET /x?a=1&token=${tail}`,
      `POST /x?api_key=${tail}`,
      `data:image/png;base64,${tail}`,
    ];
    for (const json of [true, false]) {
      const { log, text } = record({ json });
      for (const secret of secrets) log("error", secret, { url: secret, list: [secret], error: new Error(secret) });
      expect(text()).not.toContain(tail);
    }
  });

  test("a secret that straddles the cut of a long value is masked before the cut", () => {
    const { log, text } = record();
    log("info", "x", { where: `${"a ".repeat(990)}nxs_${"Q".repeat(43)}` });
    expect(text()).not.toContain("QQQ");
  });

  test("no value, name or event can begin a new line or send an escape sequence", () => {
    const evil = 'a\n{"level":"error"}\r\n\u2028\u2029\x1b[31m\x9b31m\u202e\u0000';
    for (const json of [true, false]) {
      const { log, lines } = record({ json });
      log("info", evil, { [evil]: evil, deep: { [evil]: [evil] }, error: new Error(evil) });
      const line = lines[0]!;
      const body = json ? line.slice(0, -1) : line.split("\n")[0]!;
      expect(body).not.toMatch(/[\p{Cc}\u2028\u2029\u202e]/u);
      if (!json) for (const more of line.trimEnd().split("\n").slice(1)) expect(more).toStartWith("    at ");
      if (json) expect(JSON.parse(body).level).toBe("info");
    }
  });

  test("a field named like the line's own time, level or event cannot replace it", () => {
    const { log, lines } = record();
    log("info", "real", { level: "error", event: "forged", at: "1970" });
    expect(JSON.parse(lines[0]!)).toMatchObject({ level: "info", event: "real", level_: "error", event_: "forged" });
  });

  test("an error shows its name, sentence and frames; a parser's sentence is left out", () => {
    const { log, lines } = record();
    log("error", "x", { error: new TypeError("boom", { cause: new Error("why") }) });
    log("error", "x", { error: new SyntaxError("Unexpected CANARY") });
    expect(JSON.parse(lines[0]!).error).toMatchObject({ name: "TypeError", said: "boom", cause: { said: "why" } });
    expect(JSON.parse(lines[0]!).error.at[0]).toStartWith("at ");
    expect(lines[1]).not.toContain("CANARY");
  });

  test("cycles, deep and huge values, throwing getters and a failing writer never throw", () => {
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    const { log, lines } = record();
    log("info", "cycle", {
      cycle,
      big: "x".repeat(1_000_000),
      list: Array(1000).fill(1),
      fn: () => 1,
      n: 1n,
      nan: NaN,
    });
    expect(lines[0]!.length).toBeLessThan(5_000);
    log("info", "getter", {
      get bad() {
        throw new Error("no");
      },
    });
    const broken = createLog({
      write: () => {
        throw new Error("EPIPE");
      },
    });
    expect(() => broken("error", "x")).not.toThrow();
  });
});
