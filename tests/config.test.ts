/** Configs that are accepted, what they are warned of, how they are shown, and the file on disk. */
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
      signIn: { feishu: { appId: "x", appSecret: "y", tenants: ["t"] } },
      models: [{ id: "m", echo: true }],
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

  test("for who needs no secret, one that cannot be had is named, and nobody can sign in with what stands in its place", async () => {
    const text = JSON.stringify({
      botToken: [{ env: "T" }, "plain-token"],
      metricsToken: { file: "missing.txt" },
      users: { a: { password: { env: "P" } }, b: { password: "kept" } },
      bots: { x: { token: { env: "EMPTY" }, pools: ["p"] } },
      signIn: { dingtalk: { clientId: "c", clientSecret: { env: "S" }, corpId: "d" } },
      publicUrl: "https://n.example",
      models: [{ id: "m", openai: "https://m.example/v1", model: "m", key: { env: "K" } }],
    });
    expect((await load(text, { EMPTY: "" })).ok).toBe(false);
    const path = join(folder.path, "config.json");
    const read = () => {
      const got = loadConfig(path, { EMPTY: "" }, { withoutSecrets: true });
      if (!got.ok) throw new Error(got.faults.map((fault) => faultLine(fault, "en")).join("\n"));
      return got;
    };
    const [one, two] = [read(), read()];
    expect(one.withheld.map((fault) => faultLine(fault, "en"))).toEqual([
      "botToken[0]: the environment variable T is not set or empty",
      "users.a.password: the environment variable P is not set or empty",
      "metricsToken: the file missing.txt cannot be read",
      "bots.x.token: the environment variable EMPTY is not set or empty",
      "signIn.dingtalk.clientSecret: the environment variable S is not set or empty",
      "models[0].key: the environment variable K is not set or empty",
    ]);
    const secretsOf = ({ config }: typeof one) => [
      config.botTokens[0],
      config.metricsTokens[0],
      config.users.get("a")?.password,
      config.bots.get("x")?.tokens[0],
      config.signIn.dingtalk?.clientSecret,
      config.models[0]?.key,
    ];
    const stand = [...secretsOf(one), ...secretsOf(two)];
    for (const word of stand) expect(word).toMatch(/^[\da-f-]{36}$/);
    expect(new Set(stand).size).toBe(12);
    expect([one.config.botTokens[1], one.config.users.get("b")?.password]).toEqual(["plain-token", "kept"]);

    await writeFile(path, '{"botToken": {"env": "T"}, "users": {"a": {"password": {"evn": "P"}}}, "prot": 1}');
    const broken = loadConfig(path, {}, { withoutSecrets: true });
    expect(broken.ok ? [] : broken.faults.map((fault) => fault.path)).toEqual(["users.a.password", "prot"]);
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

test("described, a config shows every default and no secret, also not of a query", async () => {
  const got = await load(
    JSON.stringify({
      botToken: ["CANARY-1", "CANARY-2"],
      users: { a: { password: "CANARY-3" }, b: { password: GOOD_HASH }, c: {} },
      bots: { x: { token: "CANARY-4", users: ["a"] } },
      publicUrl: "http://127.0.0.1",
      signIn: {
        feishu: { appId: "a", appSecret: "CANARY-5" },
        oidc: [{ id: "i", name: "I", issuer: "http://127.0.0.1", clientId: "c", clientSecret: "CANARY-6" }],
      },
      models: [
        { id: "m", echo: true, key: "CANARY-7" },
        { id: "q", openai: "http://127.0.0.1/v1?CANARY-8==&api_key=CANARY-9&v=2#x", model: "m" },
      ],
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
    signIn: { feishu: { appSecret: "***", tokenApi: "v2" } },
    models: [
      { id: "m", echo: true, key: "***" },
      { id: "q", openai: "http://127.0.0.1/v1?***&api_key=***&v=***#x" },
    ],
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

  test("what a link leads to is noticed when it is edited, and when the link or a folder on the way is pointed elsewhere", async () => {
    const dir = join(folder.path, "linked");
    for (const name of ["1", "2"]) {
      await mkdir(join(dir, name), { recursive: true });
      await writeFile(join(dir, name, "config.json"), name);
    }
    const point = async (to: string): Promise<void> => {
      await symlink(to, join(dir, "next"));
      await rename(join(dir, "next"), join(dir, "current"));
    };
    await point("1");
    await mkdir(join(dir, "etc"));
    const path = join(dir, "etc", "config.json");
    await symlink("../current/config.json", path);
    let changes = 0;
    const stop = watchConfig(path, () => changes++);
    try {
      writeAtomic(path, "edited");
      expect(await Bun.file(join(dir, "1", "config.json")).text()).toBe("edited");
      await until(() => changes === 1, 5000, "the edit behind the link");
      await point("2");
      await until(() => changes === 2, 5000, "the folder that was pointed elsewhere");
      await symlink("../1/config.json", join(dir, "etc", "next"));
      await rename(join(dir, "etc", "next"), path);
      await until(() => changes === 3, 5000, "the link that was pointed elsewhere");
    } finally {
      stop();
    }
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
