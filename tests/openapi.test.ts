/**
 * docs/openapi.json against the real gateway: every route is in it and nothing else, with who may call it; and answers of a
 * running gateway have exactly the shapes it says, so that a client made from it can trust it.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { ERRORS } from "../lib/protocol.ts";
import { api, BOT_TOKEN, login, PASSWORD, ROOT, startGateway, v1Bot } from "./harness.ts";

type Schema = {
  $ref?: string;
  type?: string | string[];
  enum?: string[];
  const?: unknown;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  items?: Schema;
};
type Operation = {
  "x-nexus-auth": string;
  "x-nexus-scope"?: string;
  "x-nexus-bots"?: boolean;
  security: unknown[];
  tags: string[];
  parameters?: { name: string; in: string }[];
  responses: Record<string, { content?: Record<string, { schema: Schema }> }>;
};
type OpenApi = {
  openapi: string;
  info: { version: string };
  tags: { name: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
};

const doc: OpenApi = await Bun.file(join(ROOT, "docs/openapi.json")).json();
const operations = Object.entries(doc.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ name: `${method.toUpperCase()} ${path}`, path, operation })),
);

const named = (ref: string): Schema => {
  const found = doc.components.schemas[ref.replace("#/components/schemas/", "")];
  if (!found) throw new Error(`${ref} is not there`);
  return found;
};

const kindOf = (value: unknown): string =>
  value === null ? "null" : Array.isArray(value) ? "array" : Number.isInteger(value) ? "integer" : typeof value;

/** What of `value` is not as `schema` says, as sentences. Fields the schema does not name are faults too. */
const faultsOf = (value: unknown, schema: Schema, at: string): string[] => {
  if (schema.$ref) return faultsOf(value, named(schema.$ref), at);
  const kind = kindOf(value);
  const types = [schema.type ?? kind].flat();
  if (!types.includes(kind) && !(kind === "integer" && types.includes("number"))) return [`${at} is ${kind}`];
  if (schema.enum && !schema.enum.includes(value as string)) return [`${at} is ${String(value)}`];
  if (schema.const !== undefined && value !== schema.const) return [`${at} is ${String(value)}`];
  if (kind === "array")
    return (value as unknown[]).flatMap((one, i) => faultsOf(one, schema.items ?? {}, `${at}[${i}]`));
  if (kind !== "object") return [];
  const fields = value as Record<string, unknown>;
  const missing = (schema.required ?? []).filter((name) => !(name in fields)).map((name) => `${at}.${name} is missing`);
  const wrong = Object.entries(fields).flatMap(([name, inside]) => {
    const known = schema.properties?.[name];
    if (known) return faultsOf(inside, known, `${at}.${name}`);
    if (schema.additionalProperties === false) return [`${at}.${name} is not documented`];
    return typeof schema.additionalProperties === "object"
      ? faultsOf(inside, schema.additionalProperties, `${at}.${name}`)
      : [];
  });
  return [...missing, ...wrong];
};

describe("docs/openapi.json", () => {
  let gateway: Awaited<ReturnType<typeof startGateway>>;
  let bot: Awaited<ReturnType<typeof v1Bot>>;
  beforeAll(async () => {
    // Nobody signs in by them here; what they are counted by is answered with its optional fields.
    const signIn = {
      feishu: { appId: "a", appSecret: "b" },
      wecom: { corpId: "c", agentId: 1, secret: "s" },
      oidc: [{ id: "corp", name: "C", issuer: "https://sso.example.com", clientId: "c" }],
    };
    gateway = await startGateway({ publicUrl: "http://127.0.0.1", signIn });
    bot = await v1Bot(gateway.wsUrl, { botId: "echo", token: BOT_TOKEN });
  });
  afterAll(async () => {
    await bot.close();
    await gateway.stop();
  });

  test("has every route of the gateway and no other, with who may call it", () => {
    const real = gateway.gateway.routes.map(({ method, path, auth, scope, bots }) =>
      [method, path.replace(/:(\w+)/g, "{$1}"), auth, scope ?? "", bots ? "bots" : ""].join(" "),
    );
    const said = operations.map(({ name, operation }) =>
      [name, operation["x-nexus-auth"], operation["x-nexus-scope"] ?? "", operation["x-nexus-bots"] ? "bots" : ""].join(
        " ",
      ),
    );
    expect(said.sort()).toEqual(real.sort());
  });

  test("is OpenAPI 3.1 of this version, whose references, parameters and tags hold together", async () => {
    expect(doc.openapi).toMatch(/^3\.1\.\d+$/);
    expect(doc.info.version).toBe((await Bun.file(join(ROOT, "package.json")).json()).version);
    for (const [ref] of JSON.stringify(doc).matchAll(/#\/components\/schemas\/\w+/g)) named(ref);
    for (const { name, path, operation } of operations) {
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!);
      const given = (operation.parameters ?? []).filter((one) => one.in === "path").map((one) => one.name);
      expect(`${name} ${given}`).toBe(`${name} ${inPath}`);
      for (const tag of operation.tags) expect(doc.tags.map((one) => one.name)).toContain(tag);
      expect(`${name} ${operation.security.length > 0}`).toBe(`${name} ${operation["x-nexus-auth"] !== "none"}`);
      expect(Object.keys(operation.responses)).toContain("default");
    }
  });

  test("knows every error code", () => {
    expect([...(named("Error").properties?.code?.enum ?? [])].sort()).toEqual(Object.keys(ERRORS).sort());
  });

  test("says the shape of what the gateway answers", async () => {
    const admin = api(gateway.url, await login(gateway.url));
    const checked = new Set<string>();
    /** Calls, and compares the answer with what the document says of this status. */
    const check = async (method: string, path: string, pattern = path, body?: unknown, init: RequestInit = {}) => {
      const answer = await admin(method, path, body, init);
      const operation = doc.paths[pattern.split("?")[0]!]?.[method.toLowerCase()];
      const response = operation?.responses[String(answer.status)];
      const name = `${method} ${pattern} ${answer.status}`;
      const schema = response?.content?.["application/json"]?.schema;
      expect(`${name} ${schema ? "documented" : `not documented: ${answer.text}`}`).toBe(`${name} documented`);
      expect(faultsOf(answer.body, schema!, name)).toEqual([]);
      checked.add(`${method} ${pattern.split("?")[0]}`);
      return answer.body as Record<string, string>;
    };

    await check("GET", "/health");
    await check("POST", "/api/login", "/api/login", { username: "user1", password: PASSWORD });
    await check("GET", "/api/me");
    await check("GET", "/api/bots");
    const said = await check("POST", "/api/chat", "/api/chat", { message: "hi" });
    await check("POST", `/api/turns/${said.turnId}/cancel`, "/api/turns/{id}/cancel");
    await check("GET", "/api/conversations?limit=1");
    const made = await check("POST", "/api/conversations", "/api/conversations", { title: "hello" });
    const one = "/api/conversations/{id}";
    await check("GET", `/api/conversations/${made.id}`, one);
    await check("PATCH", `/api/conversations/${made.id}`, one, { pinned: true });
    await check("DELETE", `/api/conversations/${made.id}`, one);
    await check("POST", `/api/conversations/${made.id}/restore`, `${one}/restore`);
    await check("POST", `/api/conversations/${made.id}/messages`, `${one}/messages`, { clientId: "1", content: "x" });
    await check("GET", `/api/conversations/${said.conversationId}/messages`, `${one}/messages`);
    await check("GET", "/api/search?q=hi");
    const file = { headers: { "content-type": "text/plain", "x-filename": "a.txt" } };
    await check("POST", "/api/attachments", "/api/attachments", new TextEncoder().encode("a"), file);
    const key = await check("POST", "/api/keys", "/api/keys", { name: "k" });
    await check("GET", "/api/keys");
    await check("DELETE", `/api/keys/${key.id}`, "/api/keys/{id}");
    await check("GET", "/v1/models");
    await check("GET", "/v1/models/echo", "/v1/models/{id}");
    const numbers = await fetch(`${gateway.url}/metrics`, { headers: { accept: "application/json" } });
    expect(faultsOf(await numbers.json(), named("Overview"), "/metrics")).toEqual([]);
    await check("GET", "/api/sign-in");
    for (const path of ["overview", "users", "bots", "turns", "dead-letters", "usage", "audit", "limits", "sign-ins"])
      await check("GET", `/api/admin/${path}`);
    await check("GET", "/api/admin/users/user1/sessions", "/api/admin/users/{name}/sessions");
    await check("POST", "/api/admin/bots", "/api/admin/bots", { id: "made" });
    await check("PATCH", "/api/admin/bots/made", "/api/admin/bots/{id}", { maxConcurrency: 2 });
    await check("POST", "/api/admin/bots/made/token", "/api/admin/bots/{id}/token");
    await check("POST", "/api/admin/bots/made/disconnect", "/api/admin/bots/{id}/disconnect", {});
    await check("DELETE", "/api/admin/bots/made", "/api/admin/bots/{id}");
    expect(checked.size).toBeGreaterThan(35);

    const refusal = (await admin("GET", "/api/conversations/nothing1")).body;
    expect(faultsOf(refusal, named("Error"), "a refusal")).toEqual([]);
    const openAi = (await admin("GET", "/v1/models/nobody")).body;
    expect(faultsOf(openAi, named("OpenAiError"), "a refusal of /v1")).toEqual([]);
    await check("POST", "/api/logout");
  });

  test("the comparison sees a wrong type, a missing field and one too many", () => {
    const whole = { id: "m", object: "model", created: 1, owned_by: "nexus" };
    expect(faultsOf(whole, named("Model"), "m")).toEqual([]);
    expect(faultsOf({ ...whole, created: "1" }, named("Model"), "m")).toEqual(["m.created is string"]);
    expect(faultsOf({ ...whole, more: 1 }, named("Model"), "m")).toEqual(["m.more is not documented"]);
    expect(faultsOf({ ...whole, id: undefined, object: "x" }, named("Model"), "m")).toEqual([
      "m.id is undefined",
      "m.object is x",
    ]);
  });
});
