/** `nexus user`: people in config.json, edited by hand and by command. */
import { afterEach, describe, expect, test } from "bun:test";
import { chmod, stat } from "node:fs/promises";
import { join } from "node:path";
import { ROOT, until, within } from "./harness.ts";
import { configFolder, nexus } from "./harness/cli.ts";
import { testStore } from "./harness/store.ts";

const folders: { remove: () => Promise<void> }[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) await folder.remove();
});
const withConfig = async (text: string) => {
  const folder = await configFolder(text);
  folders.push(folder);
  return folder;
};

describe("nexus user", () => {
  const HAND_WRITTEN = `{
    "port": 1234,   "botToken": "keep me",
    "users": {
        "admin": { "password": "old", "displayName": "管理员" },
        "zoe":   {"displayName": "Zoe \\u00e9"}
    },
    "limits": {"streams": 7}
}
`;

  test("add writes a hash that opens the account, and nothing else changes", async () => {
    const { cwd, read } = await withConfig(HAND_WRITTEN);
    const { code, out, err } = await nexus(["user", "add", "bob", "--display-name", "Bob 🙂", "--admin"], {
      cwd,
      typed: "correct horse\nmore\n",
    });
    expect([code, err]).toEqual([0, ""]);
    expect(out).toBe("added the user bob\n");
    const text = await read();
    const { password, ...rest } = JSON.parse(text).users.bob;
    expect(rest).toEqual({ displayName: "Bob 🙂", role: "admin" });
    expect(await Bun.password.verify("correct horse", password)).toBe(true);
    expect(text).toBe(
      HAND_WRITTEN.replace(
        '"Zoe \\u00e9"}\n',
        `"Zoe \\u00e9"},\n        "bob": {\n            "password": "${password}",\n            "displayName": "Bob 🙂",\n            "role": "admin"\n        }\n`,
      ),
    );
  });

  test("add, then remove, gives back the file byte for byte, whatever its style", async () => {
    const styles = [
      HAND_WRITTEN,
      HAND_WRITTEN.replaceAll("\n", "\r\n"),
      HAND_WRITTEN.replaceAll("    ", "\t"),
      '{"users":{"a":{"password":"x"}}}',
      '{\n  "users": {\n    "a": {}\n  }\n}',
      `\ufeff${HAND_WRITTEN}`,
    ];
    for (const style of styles) {
      const { cwd, read } = await withConfig(style);
      expect((await nexus(["user", "add", "__proto__"], { cwd, typed: "correct horse\n" })).code).toBe(0);
      const text = await read();
      expect(Object.keys(JSON.parse(text.replace(/^\ufeff/, "")).users)).toContain("__proto__");
      expect(text.includes("\r\n")).toBe(style.includes("\r\n"));
      expect(text.includes("\r\n") && /[^\r]\n/.test(text)).toBe(false);
      expect((await nexus(["user", "remove", "__proto__"], { cwd })).code).toBe(0);
      expect(await read()).toBe(style);
    }
  });

  test("add makes users where there are none", async () => {
    for (const empty of ["{}", "{\n}", '{\n  "port": 1\n}', '{"users": {}}', '{\n  "users": {}\n}']) {
      const { cwd, read } = await withConfig(empty);
      expect((await nexus(["user", "add", "a"], { cwd, typed: "correct horse\n" })).code).toBe(0);
      expect(JSON.parse(await read())).toEqual({
        ...JSON.parse(empty),
        users: { a: { password: expect.stringMatching(/^\$argon2id\$/), displayName: "a" } },
      });
      expect((await nexus(["check"], { cwd })).code).toBe(0);
    }
  });

  test("passwd replaces a plain password by a hash, keeps the mode, and knows whom it does not know", async () => {
    const { cwd, path, read } = await withConfig(HAND_WRITTEN);
    await chmod(path, 0o640);
    expect((await nexus(["user", "passwd", "admin"], { cwd, typed: "new password\r\n" })).code).toBe(0);
    const hash = JSON.parse(await read()).users.admin.password;
    expect(await Bun.password.verify("new password", hash)).toBe(true);
    expect(await read()).toBe(HAND_WRITTEN.replace('"old"', `"${hash}"`));
    expect((await stat(path)).mode & 0o777).toBe(0o640);

    expect((await nexus(["user", "passwd", "zoe"], { cwd, typed: "word for zoe" })).code).toBe(0);
    expect(await Bun.password.verify("word for zoe", JSON.parse(await read()).users.zoe.password)).toBe(true);

    const before = await read();
    const unknown = await nexus(["user", "passwd", "amdin"], { cwd, typed: "x y z\n" });
    expect([unknown.code, unknown.err]).toEqual([1, "nexus: there is no user amdin; did you mean admin?\n"]);
    expect((await nexus(["user", "remove", "nobody"], { cwd })).code).toBe(1);
    expect((await nexus(["user", "add", "admin"], { cwd, typed: "x\n" })).code).toBe(1);
    expect((await nexus(["user", "passwd", "admin"], { cwd, typed: "" })).code).toBe(1);
    expect((await nexus(["user", "passwd", "admin"], { cwd, typed: "\n" })).code).toBe(1);
    expect((await nexus(["user", "passwd", "admin"], { cwd, typed: `${"x".repeat(257)}\n` })).code).toBe(1);
    expect(await read()).toBe(before);
  });

  test("passwd and remove say where somebody is whom only the store knows", async () => {
    const { cwd } = await withConfig('{"users": {"admin": {"password": "old"}}, "botToken": {"env": "NOT_HERE"}}');
    const { store, stop } = await testStore({ dir: join(cwd, "data") });
    const row = { password: null, role: null, avatar: null, avatar_source: null, created_at: 1 };
    await store.people.put({ ...row, username: "wang", made_by: "page", display_name: "王" });
    await store.people.put({ ...row, username: "oidc:x:li", made_by: "sign-in", display_name: "李" });
    await store.people.put({ ...row, username: "gone", made_by: "config", display_name: "" });
    const said = async (...args: string[]) => {
      const { code, out, err } = await nexus(["user", ...args], { cwd, typed: "some words here\n" });
      expect([code, out]).toEqual([1, ""]);
      return err;
    };
    for (const command of ["passwd", "remove"]) {
      expect(await said(command, "wang")).toBe(
        "nexus: wang was added on the admin page and is not in config.json; change that under People on the admin page\n",
      );
      expect(await said(command, "oidc:x:li")).toContain("signs in from another platform");
      expect(await said(command, "gone")).toBe("nexus: there is no user gone\n");
    }
    await stop();
    expect(await said("passwd", "wang")).toContain("admin page");
  });

  test("a weak password is taken with a note, and no password is ever shown", async () => {
    const { cwd } = await withConfig(HAND_WRITTEN);
    const { code, out, err } = await nexus(["user", "add", "x"], { cwd, typed: "admin123\n" });
    expect(code).toBe(0);
    expect(err).toContain("easy to guess");
    expect(out + err).not.toContain("admin123");
  });

  test("a display name that the gateway would refuse is refused before the password is asked for", async () => {
    const { cwd, read } = await withConfig(HAND_WRITTEN);
    for (const [name, sentence] of [
      ["a\nb", "--display-name: no control characters"],
      ["x".repeat(257), "--display-name: text, 0 to 256 characters"],
    ] as const)
      expect(await nexus(["user", "add", "bob", "--display-name", name], { cwd })).toMatchObject({
        code: 2,
        err: `nexus: ${sentence}\n`,
      });
    expect(await read()).toBe(HAND_WRITTEN);
  });

  test("list shows names, roles and how passwords are kept, never the passwords", async () => {
    const { cwd } = await withConfig(HAND_WRITTEN);
    expect((await nexus(["user", "list"], { cwd })).out).toBe(
      "admin\t管理员\tuser\tplain\nzoe\tZoe é\tuser\tno password\n",
    );
  });

  test("without a config, or with a broken one, nothing is written and the exit code is 2", async () => {
    const nothing = await nexus(["user", "add", "a"], { typed: "x\n" });
    expect([nothing.code, nothing.err]).toEqual([2, expect.stringContaining("run nexus there once")]);
    const { cwd, read } = await withConfig('{"users": {,}}');
    expect((await nexus(["user", "add", "a"], { cwd, typed: "x\n" })).code).toBe(2);
    expect(await read()).toBe('{"users": {,}}');
    const secret = await withConfig('{"users": {"a": {"password": {"env": "P"}}}}');
    expect((await nexus(["user", "passwd", "a"], { cwd: secret.cwd, typed: "x\n" })).code).toBe(1);
  });

  test("on a terminal the password is asked twice, not echoed, and Backspace works", async () => {
    const { cwd, read } = await withConfig(HAND_WRITTEN);
    const type = async (...lines: string[]) => {
      let shown = "";
      const child = Bun.spawn([process.execPath, join(ROOT, "server.ts"), "user", "passwd", "admin"], {
        cwd,
        env: { PATH: process.env.PATH ?? "", LANG: "en_US.UTF-8", TERM: "xterm" },
        terminal: {
          data: (_, bytes) => {
            shown += new TextDecoder().decode(bytes);
          },
        },
      });
      for (const [i, line] of lines.entries()) {
        const question = i === 0 ? "New password" : "Once more";
        await until(() => shown.includes(question), 10_000, question);
        child.terminal!.write(line);
      }
      const code = await within(child.exited, 10_000, "the command to end");
      child.terminal!.close();
      return { code, shown };
    };
    const right = await type("Tr0ub4dur\x7f\x7for 3\x1b[D\r", "Tr0ub4dor 3\r");
    expect(right.code).toBe(0);
    expect(right.shown).not.toContain("Tr0ub");
    expect(await Bun.password.verify("Tr0ub4dor 3", JSON.parse(await read()).users.admin.password)).toBe(true);

    const before = await read();
    const differs = await type("one and two\r", "two and one\r");
    expect([differs.code, differs.shown]).toEqual([1, expect.stringContaining("the two differ")]);
    const given = await type("half\x03");
    expect(given.code).toBe(1);
    expect(await read()).toBe(before);
  }, 30_000);
});
