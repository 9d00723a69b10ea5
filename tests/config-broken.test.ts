/** F8: configs that are refused, every fault named at once with its path. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseConfig } from "../lib/config.ts";
import { faultLine, loadConfig } from "../lib/config/file.ts";
import { tempDir } from "./harness/wait.ts";

let folder: { path: string; remove: () => Promise<void> };
beforeAll(async () => {
  folder = await tempDir("config");
});
afterAll(() => folder.remove());

const GOOD_HASH =
  "$argon2id$v=19$m=19456,t=2,p=1$Ro4j/9CW+A+55D/k4HpxGekXHOsog7z0HUpT/d8HEro$jlw7vdZSYN54BFFtH9CwbY013P0KDvrnmQC97sKVl6o";

const load = async (text: string) => {
  const path = join(folder.path, "config.json");
  await writeFile(path, text);
  return loadConfig(path, {});
};
const faultsOf = (json: unknown, env: Record<string, string> = {}): string[] => {
  const got = parseConfig(json, env);
  return got.ok ? [] : got.faults.map((fault) => faultLine(fault, "en"));
};

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
    "identities without their source, beside one that is taken",
    '{"users": {"a": {"identities": ["zhangsan", null, "wecom:C:z"]}, "b": {"identities": ["WeCom:C:z", "wecom:C:z"]}}}',
    [
      /^users\.a\.identities\[0\]: /,
      /^users\.a\.identities\[1\]: /,
      /^users\.b\.identities\[0\]: /,
      /^users\.b\.identities\[1\]: already belongs to the user a/,
    ],
  ],
  [
    "providers that are no objects",
    '{"publicUrl": "https://a.example", "signIn": {"oidc": ["x", null]}}',
    [/^signIn\.oidc\[0\]: a JSON object/, /^signIn\.oidc\[1\]: a JSON object/],
  ],
  [
    "a limited bot without a token",
    '{"bots": {"b": {"users": ["a"]}, "c": {"pools": ["p"]}, "m": {"users": ["a"]}}, "models": [{"id": "m", "echo": true}]}',
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
