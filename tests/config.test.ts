import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, mkdir, readdir, rename, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Config, parseConfig } from "../lib/config.ts";
import { DEFAULTS, NO_LIMIT } from "../lib/config/defaults.ts";
import { describeConfig } from "../lib/config/describe.ts";
import { faultLine, loadConfig, watchConfig, writeAtomic } from "../lib/config/file.ts";
import { tempDir, until } from "./harness/wait.ts";

let folder: { path: string; remove: () => Promise<void> };
beforeAll(async () => {
  folder = await tempDir("config");
});
afterAll(() => folder.remove());

const GOOD_HASH =
  "$argon2id$v=19$m=19456,t=2,p=1$Ro4j/9CW+A+55D/k4HpxGekXHOsog7z0HUpT/d8HEro$jlw7vdZSYN54BFFtH9CwbY013P0KDvrnmQC97sKVl6o";

const accepted = (json: unknown, env: Record<string, string> = {}): Config => {
  const got = parseConfig(json, env);
  if (!got.ok) throw new Error(got.faults.map((fault) => faultLine(fault, "en")).join("\n"));
  return got.config;
};
const faultsOf = (json: unknown, env: Record<string, string> = {}): string[] => {
  const got = parseConfig(json, env);
  return got.ok ? [] : got.faults.map((fault) => faultLine(fault, "en"));
};
const warnings = (json: unknown): string[] => {
  const got = parseConfig(json);
  if (!got.ok) throw new Error("refused");
  return got.warnings.map(({ en }) => en);
};
const load = async (text: string, env: Record<string, string> = {}) => {
  const path = join(folder.path, "config.json");
  await writeFile(path, text);
  return loadConfig(path, env);
};

/** The example of seed.md, as printed. */
const V1 = `{
  "port": 17392,
  "sessionTTL": 86400000,
  "pingInterval": 30000,
  "botTimeout": 90000,
  "botToken": "your-secret-token",
  "users": {
    "admin": {
      "password": "admin123",
      "displayName": "管理员"
    },
    "user1": {
      "password": "password1",
      "displayName": "用户1"
    }
  }
}`;

describe("a config that is accepted", () => {
  test("the file printed in the v1 documents works as it is", async () => {
    const got = await load(V1);
    if (!got.ok) throw new Error("refused");
    expect(got.config.port).toBe(17392);
    expect(got.config.botTokens).toEqual(["your-secret-token"]);
    expect(got.config.users.get("admin")).toEqual({
      password: "admin123",
      displayName: "管理员",
      identities: [],
      messagesPerDay: NO_LIMIT,
    });
    expect(got.config.dataDir).toBe(join(folder.path, "data"));
    expect(got.warnings.map(({ en }) => en).join("\n")).toMatch(
      /guessed first: admin, user1[\s\S]*botToken is easy to guess/,
    );
  });

  test("an empty object is a complete config with the published defaults", () => {
    const config = accepted({});
    expect(config).toMatchObject({ port: 17392, sessionTTL: 86_400_000, pingInterval: 30_000, botTimeout: 90_000 });
    expect(config).toMatchObject({ host: "0.0.0.0", botTokens: [], turnTimeout: 300_000, synchronous: "normal" });
    expect(config.limits).toEqual({ ...DEFAULTS.limits });
    expect(config.trustedProxies).toEqual([]);
  });

  test("every added field of the documents is accepted", () => {
    const config = accepted({
      host: "::1",
      publicUrl: "https://nexus.example.com/",
      trustedProxies: ["127.0.0.1/8", "::1", "fd00::/8"],
      corsOrigins: ["https://chat.example.com"],
      frameAncestors: ["'self'", "https://*.feishu.cn", "work.weixin.qq.com:443"],
      dataDir: "/tmp/x",
      synchronous: "full",
      retentionDays: 30,
      turnTimeout: 60_000,
      language: "en",
      bots: {
        "my-bot": {
          token: ["a-long-token", "b-long-token"],
          users: ["admin"],
          pools: ["default"],
          weight: 0.5,
          maxConcurrency: 4,
        },
      },
      users: {
        admin: {
          password: GOOD_HASH,
          displayName: "管理员",
          role: "admin",
          identities: ["wecom:CORP:zhang"],
          messagesPerDay: 0,
        },
      },
      limits: { streams: 0, queuedTurns: 5, bodyBytes: 1 },
      signIn: { feishu: { appId: "x" } },
      models: [{ id: "m" }],
    });
    expect(config.publicUrl).toBe("https://nexus.example.com");
    expect(config.bots.get("my-bot")).toEqual({
      tokens: ["a-long-token", "b-long-token"],
      users: new Set(["admin"]),
      pools: ["default"],
      weight: 0.5,
      maxConcurrency: 4,
    });
    expect(config.limits).toMatchObject({ streams: NO_LIMIT, queuedTurns: 5, bodyBytes: 1, turnsPerUser: 20 });
  });

  test("a user named __proto__, constructor or toString is a user like any other", async () => {
    const got = await load(`{"users": {"__proto__": {"password": "${GOOD_HASH}"}, "constructor": {}, "toString": {}}}`);
    if (!got.ok) throw new Error("refused");
    expect([...got.config.users.keys()]).toEqual(["__proto__", "constructor", "toString"]);
    expect(got.config.users.get("__proto__")).toMatchObject({ password: GOOD_HASH, displayName: "__proto__" });
    expect(got.config.users.get("hasOwnProperty")).toBeUndefined();
    expect(({} as Record<string, unknown>).password).toBeUndefined();
    expect(Object.keys(describeConfig(got.config).users as object)).toEqual(["__proto__", "constructor", "toString"]);
  });

  test("PORT overrides the file, and an empty PORT does not", () => {
    expect(accepted({ port: 1 }, { PORT: "8080" }).port).toBe(8080);
    expect(accepted({ port: 1 }, { PORT: "" }).port).toBe(1);
    expect(accepted({}, { PORT: "0" }).port).toBe(0);
  });

  test("secrets come from the environment and from files beside the config", async () => {
    await writeFile(join(folder.path, "token.txt"), "from-the-file\n");
    const got = await load(
      '{"botToken": [{"env": "T"}, {"file": "token.txt"}, "plain-token"], "users": {"a": {"password": {"env": "P"}}}}',
      { T: "from-the-env", P: GOOD_HASH },
    );
    if (!got.ok) throw new Error(JSON.stringify(got.faults));
    expect(got.config.botTokens).toEqual(["from-the-env", "from-the-file", "plain-token"]);
    expect(got.config.users.get("a")?.password).toBe(GOOD_HASH);
  });

  test("passwords of 256 characters, emoji and every kind of space are accepted", () => {
    for (const password of ["x".repeat(256), "密码🔑".repeat(60), " lead and trail ", "\t"])
      expect(accepted({ users: { a: { password } } }).users.get("a")?.password).toBe(password);
  });
});

describe("warnings", () => {
  test("an open bot socket is told of unless only this machine can reach it", () => {
    expect(warnings({}).join()).toContain("botToken is empty");
    for (const host of ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
      expect(warnings({ host }).join()).not.toContain("botToken is empty");
  });

  test("plain passwords are told of with the command that hashes them, weak ones apart, hashes not at all", () => {
    const told = warnings({
      users: { a: { password: "Tr0ub4dor&3-long" }, bob: { password: "bob" }, c: { password: GOOD_HASH } },
    });
    expect(told.join("\n")).toContain("guessed first: bob; run nexus user passwd NAME");
    expect(told.join("\n")).toContain("plain password: a; nexus user passwd NAME");
    expect(told.join("\n")).not.toContain("Tr0ub4dor");
    for (const password of ["admin123", "secure-password", "123456", "PASSWORD1"])
      expect(warnings({ users: { x: { password } } }).join()).toContain("guessed first");
  });

  test("a bot's user who is probably misspelt is told of", () => {
    const told = warnings({
      users: { admin: {} },
      bots: { b: { token: "long-enough", users: ["amdin", "feishu:x:y", "zoe"] } },
    });
    expect(told.filter((text) => text.includes("did you mean"))).toEqual([
      "bots.b.users names amdin, who is no user of this file; did you mean admin?",
    ]);
  });
});

/** F8: what the file says, and what must be in the lines printed about it. */
const BROKEN: [name: string, text: string, faults: RegExp[]][] = [
  ["an empty file", "", [/^config\.json: line 1, column 1: the file ends here/]],
  ["a missing brace", '{\n  "port": 1\n', [/line 3, column 1: the file ends here, a comma or } is expected/]],
  ["a missing value", '{"a": 1,\n "b": }', [/line 2, column 7: a value is expected/]],
  ["a trailing comma", '{"port": 1,}', [/line 1, column 11: no comma after the last entry/]],
  ["a missing comma", '{"port": 1\n "host": "x"}', [/line 2, column 2: a comma or } is expected/]],
  ["a comment", '{\n // the port\n "port": 1}', [/line 2, column 2: JSON has no comments/]],
  ["single quotes", "{'port': 1}", [/line 1, column 2: text needs double quotes/]],
  ["Chinese punctuation", '{"port"：1}', [/line 1, column 8: a full-width colon/]],
  ["an open text", '{"host": "127.0.0.1\n}', [/line 1, column 10: this text has no closing quote/]],
  ["a Windows path", '{"dataDir": "C:\\data"}', [/line 1, column 16: an invalid escape/]],
  [
    "a name that stands twice",
    '{"port": 1,\n"users": {"a": {},\n"a": {}}}',
    [/^users\.a: stands there twice \(line 3\)/],
  ],
  ["a list instead of an object", "[]", [/^config\.json: a JSON object/]],
  ["nothing but null", "null", [/a JSON object/]],
  ["a port in quotes", '{"port": "17392"}', [/^port: a whole number \(0–65535\)/]],
  ["a port beyond all ports", '{"port": 70000}', [/^port: a whole number/]],
  ["a fraction", '{"sessionTTL": 0.5}', [/^sessionTTL: a whole number/]],
  [
    "a span no timer can hold",
    '{"pingInterval": 3000000000, "botTimeout": 4000000000}',
    [/^pingInterval: /, /^botTimeout: /],
  ],
  [
    "a timeout shorter than the ping",
    '{"pingInterval": 30000, "botTimeout": 30000}',
    [/^botTimeout: must be greater than pingInterval/],
  ],
  ["a misspelt field", '{"sessionTtl": 1000}', [/^sessionTtl: unknown field; did you mean sessionTTL\?/]],
  ["a field that is nothing like ours", '{"zzzzzz": 1}', [/^zzzzzz: unknown field; known: port, /]],
  [
    "an unknown field of a user",
    '{"users": {"a": {"pasword": "x"}}}',
    [/^users\.a\.pasword: unknown field; did you mean password\?/],
  ],
  ["a field named __proto__", '{"__proto__": {"port": 1}}', [/^__proto__: unknown field/]],
  ["an empty password", '{"users": {"a": {"password": ""}}}', [/^users\.a\.password: text, 1 to 256 characters/]],
  [
    "a password of 257 characters",
    `{"users": {"a": {"password": "${"x".repeat(257)}"}}}`,
    [/^users\.a\.password: text, 1 to 256/],
  ],
  [
    "a weak hash",
    `{"users": {"a": {"password": "${GOOD_HASH.replace("19456", "4096")}"}}}`,
    [/^users\.a\.password: .*too weak: at least m=19456,t=2/],
  ],
  ["a hash of one pass", `{"users": {"a": {"password": "${GOOD_HASH.replace("t=2", "t=1")}"}}}`, [/too weak/]],
  [
    "a hash that eats the machine",
    `{"users": {"a": {"password": "${GOOD_HASH.replace("19456", "8388608")}"}}}`,
    [/costs too much/],
  ],
  ["a cut hash", `{"users": {"a": {"password": "${GOOD_HASH.slice(0, 60)}"}}}`, [/not a well-formed argon2id hash/]],
  ["a bcrypt hash", `{"users": {"a": {"password": "$2b$12$${"a".repeat(53)}"}}}`, [/not a well-formed argon2id hash/]],
  ["a username with a colon", '{"users": {"feishu:x": {}}}', [/^users\.feishu:x: a username has no colon/]],
  [
    "one identity of two users",
    '{"users": {"a": {"identities": ["wecom:C:z"]}, "b": {"identities": ["wecom:C:z"]}}}',
    [/^users\.b\.identities\[0\]: already belongs to the user a/],
  ],
  [
    "a limited bot without a token",
    '{"bots": {"b": {"users": ["a"]}, "c": {"pools": ["p"]}}}',
    [/^bots\.b\.token: /, /^bots\.c\.token: /],
  ],
  ["an empty bot token of its own", '{"bots": {"b": {"token": ""}}}', [/^bots\.b\.token: text, 1 to 4096/]],
  ["a bot id with a space", '{"bots": {"my bot": {}}}', [/^bots\.my bot: /]],
  [
    "an environment variable that is not set",
    '{"botToken": {"env": "NOPE"}}',
    [/^botToken: the environment variable NOPE is not set or empty/],
  ],
  [
    "a secret file that is not there",
    '{"botToken": {"file": "nope.txt"}}',
    [/^botToken: the file nope\.txt cannot be read/],
  ],
  ["a secret that is a folder", '{"botToken": {"file": "."}}', [/^botToken: the file \. cannot be read/]],
  [
    "a public URL with a path",
    '{"publicUrl": "https://example.com/nexus"}',
    [/^publicUrl: an http\(s\) URL without a path/],
  ],
  ["a public URL of another kind", '{"publicUrl": "ws://example.com"}', [/^publicUrl: /]],
  [
    "every origin",
    '{"corsOrigins": ["*", "null", "https://a.example/x"]}',
    [/^corsOrigins\[0\]: /, /^corsOrigins\[1\]: /, /^corsOrigins\[2\]: /],
  ],
  [
    "proxies that are no addresses",
    '{"trustedProxies": ["nginx", "10.0.0.0/33", "010.0.0.1"]}',
    [/^trustedProxies\[0\]: /, /^trustedProxies\[1\]: /, /^trustedProxies\[2\]: /],
  ],
  [
    "a frame ancestor that adds a directive",
    '{"frameAncestors": ["https://a.example; script-src *"]}',
    [/^frameAncestors\[0\]: /],
  ],
  [
    "a frame ancestor with a new line",
    '{"frameAncestors": ["https://a.example\\r\\nX-Evil: 1", "\'none\'"]}',
    [/^frameAncestors\[0\]: /, /'none' stands alone/],
  ],
  [
    "a byte limit of nothing",
    '{"limits": {"bodyBytes": 0, "frameBytes": -1, "streams": -1}}',
    [/^limits\.bodyBytes: /, /^limits\.frameBytes: /, /^limits\.streams: /],
  ],
  ["a language we do not speak", '{"language": "fr"}', [/^language: one of zh, en/]],
  [
    "everything at once",
    '{"port": true, "users": {"a:b": {"role": "king"}}, "limits": [], "bots": 1, "host": "a b", "prot": 1}',
    [
      /^port: /,
      /^users\.a:b: /,
      /^users\.a:b\.role: one of admin/,
      /^limits: /,
      /^bots: /,
      /^host: /,
      /^prot: .*did you mean port\?/,
    ],
  ],
];

describe("a broken config (F8)", () => {
  for (const [name, text, expected] of BROKEN)
    test(`${name} is refused, each fault with its path`, async () => {
      const got = await load(text);
      if (got.ok) throw new Error("it was accepted");
      const lines = got.faults.map((fault) => faultLine(fault, "en"));
      for (const pattern of expected)
        expect(
          lines.some((line) => pattern.test(line)),
          `${pattern} in\n${lines.join("\n")}`,
        ).toBe(true);
      expect(lines.length).toBe(expected.length);
      for (const { say } of got.faults) expect(say.zh).toMatch(/[\u4e00-\u9fff]/);
    });

  test("a bad PORT in the environment is a fault", () => {
    for (const PORT of ["abc", "70000", "-1", "80.5", " 80", "1e3"])
      expect(faultsOf({}, { PORT })).toEqual(["PORT: a port number (0–65535)"]);
  });

  test("a file that is missing, a folder, or unreadable is one sentence", async () => {
    const missing = loadConfig(join(folder.path, "nope.json"), {});
    expect(missing).toMatchObject({ ok: false, missing: true });
    const dir = loadConfig(folder.path, {});
    expect(dir.ok).toBe(false);
    if (!dir.ok) expect(faultLine(dir.faults[0]!, "en")).toContain("cannot be read");
  });

  test("no fault repeats a secret", async () => {
    const canary = "CANARY".repeat(60);
    const texts = [
      `{"users": {"a": {"password": "${canary}"}}}`,
      `{"users": {"a": {"password": "$argon2id$${canary.slice(0, 100)}"}}, "botToken": ["${canary.repeat(20)}"]}`,
      `{"botToken": "${canary}`,
      `{"publicUrl": "https://u:${canary}@example.com"}`,
    ];
    for (const text of texts) {
      const got = await load(text);
      expect(got.ok).toBe(false);
      expect(JSON.stringify(got)).not.toContain("CANARY");
    }
  });
});

test("described, a config shows every default and no secret", async () => {
  const got = await load(
    JSON.stringify({
      botToken: ["CANARY-1", "CANARY-2"],
      users: { a: { password: "CANARY-3" }, b: { password: GOOD_HASH }, c: {} },
      bots: { x: { token: "CANARY-4", users: ["a"] } },
      signIn: { feishu: { appSecret: "CANARY-5", nested: [{ clientSecret: "CANARY-6" }] } },
      models: [{ id: "m", key: "CANARY-7" }],
      limits: { streams: 0 },
    }),
  );
  if (!got.ok) throw new Error("refused");
  const shown = describeConfig(got.config);
  expect(JSON.stringify(shown)).not.toMatch(/CANARY|argon2id\$/);
  expect(shown).toMatchObject({
    port: 17392,
    botToken: ["***", "***"],
    users: { a: { password: "*** (plain)" }, b: { password: "*** (argon2id)" } },
    bots: { x: { token: ["***"], users: ["a"] } },
    limits: { streams: 0, bots: 1000 },
    models: [{ id: "m", key: "***" }],
  });
});

describe("the file on disk", () => {
  test("replacing keeps the mode, follows a symbolic link, and leaves nothing beside it", async () => {
    const dir = join(folder.path, "atomic");
    await mkdir(dir);
    const path = join(dir, "config.json");
    await writeFile(path, "old");
    await chmod(path, 0o640);
    await symlink(path, join(dir, "link.json"));
    writeAtomic(join(dir, "link.json"), "new");
    expect(await Bun.file(path).text()).toBe("new");
    expect((await stat(path)).mode & 0o777).toBe(0o640);
    writeAtomic(join(dir, "fresh.json"), "x");
    expect((await stat(join(dir, "fresh.json"))).mode & 0o777).toBe(0o600);
    expect((await readdir(dir)).sort()).toEqual(["config.json", "fresh.json", "link.json"]);
  });

  test("an edit in place and a replaced file are both noticed, other files are not", async () => {
    const dir = join(folder.path, "watched");
    await mkdir(dir);
    const path = join(dir, "config.json");
    await writeFile(path, "1");
    let changes = 0;
    const stop = watchConfig(path, () => changes++);
    try {
      await writeFile(join(dir, "other.log"), "x");
      await writeFile(path, "22");
      await until(() => changes === 1, 5000, "the edit in place");
      await writeFile(join(dir, "new.json"), "333");
      await rename(join(dir, "new.json"), path);
      await until(() => changes === 2, 5000, "the replaced file");
      await writeFile(join(dir, "other.log"), "y");
      writeAtomic(path, "4444");
      await until(() => changes === 3, 5000, "the atomic replacement");
    } finally {
      stop();
    }
  });
});
