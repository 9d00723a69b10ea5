/** `signIn` of config.json: what is refused and why, what is filled in, and that the pages of docs/sign-in say what is so. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { Glob } from "bun";
import { parseConfig } from "../lib/config.ts";
import { describeConfig } from "../lib/config/describe.ts";
import { DINGTALK, FEISHU, WECOM } from "../lib/signin/sentences.ts";
import { FREE_QUOTA } from "../lib/signin/meter.ts";
import { type ConfigJson, ROOT } from "./harness.ts";
import { blocksOf, headingsOf, localLinksOf, rowsOf } from "./harness/markdown.ts";

const FEISHU_OK = { appId: "a", appSecret: "b" };
const OIDC_OK = { id: "corp", name: "C", issuer: "https://sso.example.com/x", clientId: "c" };
const parse = (signIn: unknown, more: ConfigJson = { publicUrl: "https://n.example" }) =>
  parseConfig({ ...more, signIn });
const faultsOf = (signIn: unknown, more?: ConfigJson): string[] => {
  const parsed = parse(signIn, more);
  return parsed.ok ? [] : parsed.faults.map(({ path, say }) => `${path}: ${say.en}`);
};

describe("the config", () => {
  test.each<[string, unknown, RegExp]>([
    ["a misspelt provider", { fieshu: FEISHU_OK }, /^signIn\.fieshu: .*did you mean feishu/],
    ["a misspelt field", { feishu: { ...FEISHU_OK, appSecrets: "x" } }, /^signIn\.feishu\.appSecrets: .*appSecret/],
    ["no secret", { feishu: { appId: "a" } }, /^signIn\.feishu\.appSecret: /],
    ["anyone, without a tenant", { feishu: { ...FEISHU_OK, create: "anyone" } }, /^signIn\.feishu\.tenants: needed/],
    ["anyone for all, without a tenant", { create: "anyone", lark: FEISHU_OK }, /^signIn\.lark\.tenants: needed/],
    ["anyone, without a claim", { oidc: [{ ...OIDC_OK, create: "anyone" }] }, /^signIn\.oidc\[0\]\.require: needed/],
    ["an id twice", { oidc: [OIDC_OK, OIDC_OK] }, /^signIn\.oidc\[1\]\.id: is taken/],
    ["an id of a platform", { oidc: [{ ...OIDC_OK, id: "wecom" }] }, /^signIn\.oidc\[0\]\.id: is taken/],
    ["an id with a colon", { oidc: [{ ...OIDC_OK, id: "a:b" }] }, /^signIn\.oidc\[0\]\.id: /],
    ["an issuer with a query", { oidc: [{ ...OIDC_OK, issuer: "https://x/?a" }] }, /^signIn\.oidc\[0\]\.issuer: /],
    ["an issuer of another kind", { oidc: [{ ...OIDC_OK, issuer: "file:///etc" }] }, /^signIn\.oidc\[0\]\.issuer: /],
    ["scopes without openid", { oidc: [{ ...OIDC_OK, scopes: ["profile"] }] }, /^signIn\.oidc\[0\]\.scopes: /],
    [
      "a host with a path",
      { feishu: { ...FEISHU_OK, hosts: { open: "https://x/y" } } },
      /^signIn\.feishu\.hosts\.open: /,
    ],
    [
      "a proof of another name",
      { wecom: { corpId: "c", agentId: 1, secret: "s", verify: { "../x.txt": "y" } } },
      /verify/,
    ],
    [
      "a proof that is markup",
      { wecom: { corpId: "c", agentId: 1, secret: "s", verify: { "WW_verify_a.txt": "<b>" } } },
      /verify/,
    ],
    [
      "a corp with a colon",
      { dingtalk: { clientId: "c", clientSecret: "s", corpId: "a:b" } },
      /^signIn\.dingtalk\.corpId: /,
    ],
  ])("%s is refused", (_, signIn, told) => {
    const faults = faultsOf(signIn);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatch(told);
  });

  test("without publicUrl there is no address to come back to, so it is refused", () => {
    expect(faultsOf({ feishu: FEISHU_OK }, {})).toEqual([expect.stringMatching(/^publicUrl: needed with signIn/)]);
    expect(faultsOf({ create: "listed" }, {})).toEqual([]);
  });

  test("who may come in by default depends on the gate", () => {
    const parsed = parse({
      feishu: FEISHU_OK,
      lark: { ...FEISHU_OK, tenants: ["t"] },
      dingtalk: { clientId: "c", clientSecret: "s", corpId: "d" },
      wecom: { corpId: "c", agentId: 1000002, secret: "s" },
      oidc: [OIDC_OK, { ...OIDC_OK, id: "two", require: { email_verified: true, groups: ["a"] } }],
    });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
    const { feishu, lark, dingtalk, wecom, oidc } = parsed.config.signIn;
    const rules = [feishu, lark, dingtalk, wecom, ...(oidc ?? [])].map((one) => one?.create);
    expect(rules).toEqual(["listed", "anyone", "anyone", "anyone", "listed", "anyone"]);
    expect(wecom?.agentId).toBe("1000002");
    expect(oidc?.[1]?.require).toEqual({ email_verified: ["true"], groups: ["a"] });
    expect(feishu?.hosts.open).toBe("https://open.feishu.cn");
    expect(lark?.hosts.open).toBe("https://open.larksuite.com");
  });

  test("a way in that is open to nobody is told of", () => {
    const warned = (users: ConfigJson): string[] => {
      const parsed = parseConfig({
        publicUrl: "https://n.example",
        users,
        signIn: { feishu: FEISHU_OK, oidc: [OIDC_OK] },
      });
      if (!parsed.ok) throw new Error("refused");
      return parsed.warnings.map(({ en }) => /^signIn\.(\S+) lets in/.exec(en)?.[1] ?? "").filter(Boolean);
    };
    expect(warned({})).toEqual(["feishu", "oidc.corp"]);
    expect(warned({ ann: { identities: ["feishu:t:u", "oidc:other:u"] } })).toEqual(["oidc.corp"]);
  });

  test("nothing configured is nothing at all, and no secret is shown", () => {
    const none = parseConfig({});
    expect(none.ok && none.config.signIn).toEqual({});
    const parsed = parse({
      feishu: { appId: "a", appSecret: "CANARY" },
      oidc: [{ ...OIDC_OK, clientSecret: "CANARY" }],
    });
    if (!parsed.ok) throw new Error("refused");
    expect(JSON.stringify(describeConfig(parsed.config))).not.toContain("CANARY");
  });
});

const PAGES = [...new Glob("docs/sign-in/*.md").scanSync({ cwd: ROOT })].sort();
const read = (file: string): Promise<string> => Bun.file(join(ROOT, file)).text();

describe("docs/sign-in", () => {
  test("there is a page for each platform, in Chinese and in English, with the same sections, blocks and error codes", async () => {
    expect(PAGES.filter((file) => !file.endsWith(".en.md"))).toEqual(
      ["dingtalk", "feishu", "oidc", "wecom"].map((name) => `docs/sign-in/${name}.md`),
    );
    for (const file of PAGES.filter((one) => !one.endsWith(".en.md"))) {
      const [zh, en] = [await read(file), await read(file.replace(".md", ".en.md"))];
      const shape = (text: string) => ({
        levels: headingsOf(text).map((line) => line.indexOf(" ")),
        blocks: blocksOf(text).map(({ lang }) => lang),
        codes: rowsOf(text)
          .slice(1)
          .map(([code]) => code),
      });
      expect(shape(en)).toEqual(shape(zh));
    }
  });

  test.each(PAGES)(
    "%s: its config is accepted, its address is ours, its codes are known, its links lead somewhere",
    async (file) => {
      const text = await read(file);
      const configs = blocksOf(text).filter(({ lang }) => lang === "json config");
      expect(configs).toHaveLength(1);
      const json = JSON.parse(configs[0]!.text) as { signIn: Record<string, unknown> };
      const names = [...configs[0]!.text.matchAll(/"env": "(\w+)"/g)].map((found) => [found[1]!, "a secret"]);
      const parsed = parseConfig(json, Object.fromEntries(names));
      expect(parsed.ok ? [] : parsed.faults).toEqual([]);
      const [kind] = Object.keys(json.signIn);
      const id = kind === "oidc" ? "corp" : kind;
      const addresses = [...text.matchAll(/^\s*(https:\S+\/callback)$/gm)].map((found) => found[1]);
      expect(addresses).toEqual([`https://nexus.example.com/sign-in/${id}/callback`]);
      const table = { feishu: FEISHU, dingtalk: DINGTALK, wecom: WECOM }[kind!] ?? {};
      for (const [code] of rowsOf(text).slice(1)) expect(Object.keys(table)).toContain(code!);
      const quota = FREE_QUOTA[kind!];
      for (const said of quota ? [quota.calls.toLocaleString("en"), quota.asOf ?? "", quota.source] : [])
        expect(text).toContain(said);
      for (const link of localLinksOf(text)) expect(PAGES).toContain(`docs/sign-in/${link}`);
    },
  );
});
