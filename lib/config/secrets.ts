/**
 * Secrets in config.json: given as text, as {"env": "NAME"} or as {"file": "path"}; and what a password hash may be.
 *
 * What must stay true: a secret named by env or file is never silently empty (an empty bot token would open the gateway):
 * in the place of one that cannot be had stands what nobody can know. No fault or warning repeats a secret. Refuses every
 * password hash but argon2id of at least FLOOR.
 */
import type { Fault, Shape } from "../shape.ts";

/** Reads a file named in the config; throws when it cannot. */
export type ReadFile = (path: string) => string;
export type Env = Record<string, string | undefined>;

/** Generous for any token; bounds what a mistaken {"file": "/dev/zero"} can do together with ReadFile. */
const SECRET_CHARS = 4_096;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Text of 1 to `max` units, or where to find it. A file's last newline does not count. */
export const secret =
  (env: Env, readFile: ReadFile, max = SECRET_CHARS): Shape<string> =>
  (value, path, faults) => {
    const fault = (zh: string, en: string): string => {
      faults.push({ path, say: { zh, en } });
      return "";
    };
    const withheld = (zh: string, en: string): string => {
      faults.push({ path, say: { zh, en }, withheld: true });
      return crypto.randomUUID();
    };
    let got: unknown = value;
    if (isRecord(value)) {
      const names = Object.keys(value);
      const name = names[0];
      const where = name === undefined ? undefined : value[name];
      if (names.length !== 1 || (name !== "env" && name !== "file") || typeof where !== "string" || where === "")
        return fault('应为文字、{"env": "变量名"} 或 {"file": "路径"}', 'text, {"env": "NAME"} or {"file": "path"}');
      if (name === "env") {
        got = Object.hasOwn(env, where) ? env[where] : undefined;
        if (!got)
          return withheld(`环境变量 ${where} 没有设置或为空`, `the environment variable ${where} is not set or empty`);
      } else {
        try {
          got = readFile(where).replace(/\r?\n$/, "");
        } catch {
          return withheld(`无法读取文件 ${where}`, `the file ${where} cannot be read`);
        }
        if (got === "") return withheld(`文件 ${where} 是空的`, `the file ${where} is empty`);
      }
    }
    if (typeof got !== "string" || got.length < 1 || got.length > max)
      return fault(`应为 1 到 ${max} 个字符的文字`, `text, 1 to ${max} characters`);
    return got;
  };

/** S8 (docs/security.md): the OWASP minimum for argon2id. Below it a stolen config.json is too cheap to guess from. */
export const FLOOR = { memoryKiB: 19_456, passes: 2 };
/** Above these a single sign-in could take the machine down, and Bun refuses to verify anyway. */
const CEILING = { memoryKiB: 1_048_576, passes: 32, lanes: 16 };

export type HashCost = { memoryKiB: number; passes: number; lanes: number };

const PHC = /^\$argon2id\$v=19\$m=(\d{1,8}),t=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})$/;
/** Hashes of other kinds, pasted: taken as plain text, the hash itself would open the account. */
const ANY_HASH = /^\$(?:argon2|2[abxy]\$\d\d\$|(?:[1567y]|scrypt|pbkdf2[\w-]*)\$[^$]+\$.{16,})/;

export const isHash = (password: string): boolean => password.startsWith("$argon2id$");

/** What verifying this hash costs; undefined when it is not a well-formed argon2id PHC string. */
export const hashCost = (phc: string): HashCost | undefined => {
  const found = PHC.exec(phc);
  return found ? { memoryKiB: Number(found[1]), passes: Number(found[2]), lanes: Number(found[3]) } : undefined;
};

/** Longest password in UTF-16 units: long enough for any sentence, short enough to hash. */
export const PASSWORD_CHARS = 256;

/** A plain password or an argon2id PHC string of at least `floor`. */
export const passwordShape =
  (env: Env, readFile: ReadFile, floor: { memoryKiB: number; passes: number } = FLOOR): Shape<string> =>
  (value, path, faults) => {
    const found: Fault[] = [];
    const got = secret(env, readFile, PASSWORD_CHARS)(value, path, found);
    faults.push(...found);
    if (found.length > 0 || !ANY_HASH.test(got)) return got;
    const cost = hashCost(got);
    if (!cost)
      faults.push({
        path,
        say: {
          zh: "密码哈希格式不对；只接受 argon2id（用 nexus user passwd 生成）",
          en: "not a well-formed argon2id hash, the only kind accepted (nexus user passwd makes one)",
        },
      });
    else if (cost.memoryKiB < floor.memoryKiB || cost.passes < floor.passes)
      faults.push({
        path,
        say: {
          zh: `密码哈希太弱：至少 m=${floor.memoryKiB},t=${floor.passes}（用 nexus user passwd 重新生成）`,
          en: `the password hash is too weak: at least m=${floor.memoryKiB},t=${floor.passes} (nexus user passwd makes one)`,
        },
      });
    else if (cost.memoryKiB > CEILING.memoryKiB || cost.passes > CEILING.passes || cost.lanes > CEILING.lanes)
      faults.push({
        path,
        say: {
          zh: `密码哈希太贵：至多 m=${CEILING.memoryKiB},t=${CEILING.passes},p=${CEILING.lanes}`,
          en: `the password hash costs too much: at most m=${CEILING.memoryKiB},t=${CEILING.passes},p=${CEILING.lanes}`,
        },
      });
    return got;
  };

/** Passwords and tokens that everybody tries first: those printed in documents of ours and of v1, and the usual ones. */
const COMMON = new Set(
  (
    "admin admin123 admin888 admin@123 administrator root toor password password1 password123 passw0rd p@ssw0rd secure-password " +
    "123456 1234567 12345678 123456789 1234567890 000000 111111 666666 888888 88888888 123123 654321 112233 123321 abc123 a123456 " +
    "qwerty qwerty123 1q2w3e4r iloveyou welcome letmein changeme secret nexus test test123 demo user user1 guest 5201314 woaini " +
    "your-secret-token my-secret-token your-bot-token your-token token bot-token"
  ).split(" "),
);
/** Shorter ones fall to guessing even through the throttle. */
const SHORT_CHARS = 8;

/** Whether `value` is what an attacker tries first: a common one, a very short one, or the name itself. */
export const isWeak = (value: string, name?: string): boolean => {
  const plain = value.toLowerCase();
  return COMMON.has(plain) || value.length < SHORT_CHARS || (name !== undefined && plain === name.toLowerCase());
};
