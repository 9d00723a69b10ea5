/** Who exists: users of config.json and people made by sign-in, in one Map, over restarts and reloads. */
import { expect, test } from "bun:test";
import { type Config, parseConfig } from "../lib/config.ts";
import { NO_LIMIT } from "../lib/config/defaults.ts";
import { createPeople } from "../lib/people.ts";
import { openStore } from "../lib/store.ts";
import { type ConfigJson, tempDir } from "./harness.ts";

const OPEN = {
  feishu: { appId: "a", appSecret: "b", tenants: ["t"] },
  wecom: { corpId: "CORP", agentId: "1", secret: "s" },
};
const configOf = (users: ConfigJson, signIn: ConfigJson = OPEN): Config => {
  const parsed = parseConfig({ publicUrl: "https://n.example", users, signIn });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  return parsed.config;
};

const start = async (first: Config) => {
  const dir = await tempDir("people");
  let config = first;
  const open = () => openStore({ dir: dir.path, synchronous: "normal", now: Date.now, log: () => {} });
  let store = open();
  const make = () => createPeople({ config: () => config, store, now: Date.now });
  let people = make();
  return {
    people: () => people,
    config: (next: Config) => {
      config = next;
    },
    restart: () => {
      store.close();
      store = open();
      people = make();
    },
    stop: async () => {
      store.close();
      await dir.remove();
    },
  };
};

test("a person made by sign-in exists at once, after a restart, and beside the users of the config", async () => {
  const at = await start(configOf({ admin: { displayName: "管理员", role: "admin" } }));
  expect(at.people().has("feishu:t:u1")).toBe(false);
  const before = at.people().version();
  await at.people().add({ username: "feishu:t:u1", displayName: "张三" });
  for (const again of [false, true]) {
    if (again) at.restart();
    expect(at.people().get("feishu:t:u1")).toEqual({ displayName: "张三", identities: [], messagesPerDay: NO_LIMIT });
    expect([...at.people().all().keys()].sort()).toEqual(["admin", "feishu:t:u1"]);
    expect(at.people().identity("feishu:t:u1")).toBe("feishu:t:u1");
    expect(at.people().identity("feishu:t:u2")).toBeUndefined();
    expect(at.people().info("feishu:t:u1")).toEqual({ username: "feishu:t:u1", displayName: "张三" });
    expect(at.people().info("admin")).toEqual({ username: "admin", displayName: "管理员", role: "admin" });
  }
  expect(at.people().version()).toBeGreaterThan(0);
  expect(before).toBeGreaterThan(0);
  await at.stop();
});

test("adding somebody twice keeps the first, and nobody can be added over a user of the config", async () => {
  const at = await start(configOf({ admin: { displayName: "管理员", role: "admin" } }));
  await at.people().add({ username: "feishu:t:u1", displayName: "一" });
  await at.people().add({ username: "feishu:t:u1", displayName: "二", role: "admin" });
  await at.people().add({ username: "admin", displayName: "假" });
  at.restart();
  expect(at.people().get("feishu:t:u1")).toMatchObject({ displayName: "一" });
  expect(at.people().get("feishu:t:u1")?.role).toBeUndefined();
  expect(at.people().get("admin")).toMatchObject({ displayName: "管理员", role: "admin" });
  await at.stop();
});

test("identities belong to the config user who lists them, WeCom's without case, and take the place of a person made before", async () => {
  const at = await start(configOf({}));
  await at.people().add({ username: "wecom:CORP:zhang", displayName: "张" });
  expect(at.people().identity("wecom:CORP:zhang")).toBe("wecom:CORP:zhang");
  at.config(configOf({ z: { displayName: "Z", identities: ["wecom:corp:ZHANG", "feishu:t:Aa"] } }));
  expect(at.people().identity("wecom:CORP:zhang")).toBe("z");
  expect(at.people().has("wecom:CORP:zhang")).toBe(false);
  expect(at.people().identity("feishu:t:Aa")).toBe("z");
  expect(at.people().identity("feishu:t:aa")).toBeUndefined();
  at.config(configOf({}));
  expect(at.people().has("wecom:CORP:zhang")).toBe(true);
  await at.stop();
});

test("whoever the config no longer lets in does not exist, and comes back with it", async () => {
  const at = await start(configOf({}));
  await at.people().add({ username: "feishu:t:u1", displayName: "张三" });
  await at.people().add({ username: "invited", displayName: "客人" });
  for (const signIn of [
    {},
    { ...OPEN, create: "listed" },
    { ...OPEN, block: ["feishu:t:u1"] },
    { wecom: OPEN.wecom },
    { feishu: { ...OPEN.feishu, tenants: ["other"] } },
  ]) {
    at.config(configOf({}, signIn));
    expect(at.people().has("feishu:t:u1")).toBe(false);
    expect(at.people().has("invited")).toBe(true);
    at.config(configOf({}));
    expect(at.people().has("feishu:t:u1")).toBe(true);
  }
  await at.stop();
});

test("names follow the platform, pictures also for users of the config, and both survive a restart", async () => {
  const at = await start(configOf({ z: { displayName: "Z", role: "admin", identities: ["feishu:t:u2"] } }));
  await at.people().add({ username: "feishu:t:u1", displayName: "旧" });
  await at.people().update("feishu:t:u1", { displayName: "新" });
  await at.people().update("feishu:t:u1", { avatar: { id: 36, source: "https://p/1" } });
  await at.people().update("z", { displayName: "别的", avatar: { id: 37, source: "https://p/2" } });
  await at.people().update("nobody", { displayName: "x" });
  at.restart();
  expect(at.people().info("feishu:t:u1")).toMatchObject({ displayName: "新", avatar: "/api/attachments/10" });
  expect(at.people().info("z")).toMatchObject({ displayName: "Z", role: "admin", avatar: "/api/attachments/11" });
  expect(at.people().avatarSource("z")).toBe("https://p/2");
  expect(at.people().has("nobody")).toBe(false);
  at.config(configOf({}));
  expect(at.people().has("z")).toBe(false); // taken out of the file: a picture does not keep anybody
  await at.stop();
});
