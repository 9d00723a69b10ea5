/**
 * Around every route: limits → origin → who calls → body → handler → headers, and every refusal as one JSON shape.
 *
 * Owns what all answers share. What must stay true: a handler sees only requests that passed; Reject becomes its status and
 * sentence, anything else a 500 with a request id and a log line; no stack or path leaves the process.
 */
import type { Server } from "bun";
import { contentSecurityPolicy } from "./assets.ts";
import { checkOrigin, corsHeaders, digest, ownOrigin, preflightHeaders, readCookie, type Own } from "./auth.ts";
import type { Connection, SocketData } from "./bots.ts";
import type { Config } from "./config.ts";
import { createSenders, type Sender } from "./limits.ts";
import type { Log } from "./log.ts";
import type { People, Person } from "./people.ts";
import { ERRORS, Reject, type ErrorBody } from "./protocol.ts";
import { bearer, givenId, readJson, urlOf } from "./request.ts";
import type { Key, Session, Sessions } from "./sessions.ts";
import { SSE_HEADERS } from "./sse.ts";

/** Bytes of a body that carries names and settings; only messages with their pictures may use limits.bodyBytes. */
export const SMALL_BODY = 64 * 1024;
/** Names under which people reach one gateway; strangers invent others, which push them out. */
const MOST_OWNS = 100;

export type HttpServer = Server<SocketData>;
type Params = Record<string, string>;
export type Handler = (call: Call) => Response | Promise<Response>;

/**
 * `auth` none: anyone; user: a session, or an API key whose scope covers it; session: a person signed in, never a key;
 * admin: a session of a user with that role. `scope` chat: keys with scope "chat" reach it too.
 */
export type Route = {
  method: "GET" | "POST" | "PATCH" | "DELETE";
  path: string;
  auth: "none" | "user" | "session" | "admin";
  scope?: "chat";
  /** A bot's session reaches it too: `call.bot` is set then, and `call.caller` is not. */
  bots?: true;
  /** The body of a refusal, where the caller knows another shape than ours. */
  refusal?: (body: ErrorBody, status: number) => unknown;
  handle: Handler;
};

export type Caller = {
  user: string;
  entry: Person;
  /** What a stream opened with it is bound to: the session's digest or `key:<id>`. */
  access: string;
  session?: Session;
  key?: Key;
};

export type Call = {
  request: Request;
  server: HttpServer;
  params: Params;
  address: string;
  /** False when the address is a trusted proxy's own: such do not count toward connectionsPerAddress. */
  countsAddress: boolean;
  lang: "zh" | "en";
  own: Own;
  /** Whether a cookie may be read and set here (PROTOCOL 5). */
  cookies: boolean;
  /** Set for every route whose auth is not "none". */
  caller: Caller;
  bot: Connection | undefined;
  query: (name: string) => string | null;
  /** `X-Request-Id` as a proxy or the client gave it, else a new one; the same at every call. */
  requestId: () => string;
  /** The body as JSON, at most `max` bytes (default: limits.bodyBytes). Rejects too_large, bad_request. */
  body: (max?: number) => Promise<unknown>;
  json: (value: unknown, status?: number, headers?: Record<string, string>) => Response;
  /** A stream of events (sse.ts). */
  events: (body: ReadableStream, headers?: Record<string, string>) => Response;
  /** Security headers for an answer of another kind. */
  headers: Record<string, string>;
};

export const createHttp = (deps: {
  config: () => Config;
  people: People;
  sessions: () => Sessions;
  botBySession: (hash: string) => Connection | undefined;
  /** Told the status of every answer of a route. */
  answered: (status: number) => void;
  log: Log;
}) => {
  const { config, people, sessions, answered, log } = deps;

  // Made once per config, because a reload replaces the object.
  let madeFor: Config | undefined;
  let base: Record<string, string> = {};
  let api: Record<string, string> = {};
  /** As an object of its own kind: from a plain one each answer would make it anew (0.6 against 2.1 µs). */
  let apiHeaders = new Headers();
  let eventHeaders = new Headers();
  let senders = createSenders([]);
  /** What ownOrigin said of a Host: it parses URLs, 4 µs for each request. */
  let owns = new Map<string, Own>();
  const refresh = (): void => {
    const now = config();
    if (now === madeFor) return;
    madeFor = now;
    senders = createSenders(now.trustedProxies);
    owns = new Map();
    base = {
      "Content-Security-Policy": contentSecurityPolicy(now.frameAncestors),
      "X-Content-Type-Options": "nosniff",
      "Referrer-Policy": "same-origin",
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Resource-Policy": "same-origin",
      ...(now.publicUrl?.startsWith("https:") && { "Strict-Transport-Security": "max-age=31536000" }),
    };
    api = { ...base, "Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store" };
    apiHeaders = new Headers(api);
    eventHeaders = new Headers({ ...base, ...SSE_HEADERS });
  };

  const langOf = (request: Request): "zh" | "en" => {
    const accepted = /\b(zh|en)\b/i.exec(request.headers.get("accept-language") ?? "")?.[1]?.toLowerCase();
    return accepted === "en" || accepted === "zh" ? accepted : config().language;
  };

  const answer = (value: unknown, status: number, more: Record<string, string> | undefined): Response =>
    new Response(JSON.stringify(value), { status, headers: more ? { ...api, ...more } : apiHeaders });

  const refusal = (
    error: unknown,
    request: Request,
    more: Record<string, string> | undefined,
    shape: NonNullable<Route["refusal"]> = (body) => body,
  ): Response => {
    const lang = langOf(request);
    if (error instanceof Reject) {
      const body: ErrorBody = { error: error.say[lang], code: error.code };
      if (error.retryAfter !== undefined) body.retryAfter = Math.max(1, Math.ceil(error.retryAfter));
      const retry = body.retryAfter === undefined ? undefined : { "Retry-After": String(body.retryAfter) };
      const { status } = ERRORS[error.code];
      return answer(shape(body, status), status, { ...more, ...retry });
    }
    const requestId = givenId(request) ?? crypto.randomUUID();
    log("error", "request_failed", {
      requestId,
      method: request.method,
      path: URL.canParse(request.url) ? new URL(request.url).pathname : "",
      error, // as it is: the log knows which messages of errors quote what people wrote
    });
    return answer(shape({ error: ERRORS.internal[lang], code: "internal", requestId }, 500), 500, more);
  };

  const unauthorized = (): Reject => new Reject("unauthorized");

  const callerOf = (request: Request, route: Route, own: Own, cookies: "use" | "ignore" | "refuse"): Caller => {
    const token = bearer(request);
    if (token?.startsWith("nxk_")) return byKey(token, route);
    const cookie =
      token === undefined && cookies !== "ignore" ? readCookie(request.headers.get("cookie"), own.secure) : undefined;
    const secret = token ?? cookie;
    const session = secret === undefined ? undefined : sessions().find(secret);
    const entry = session && people.get(session.user);
    if (!session || !entry) throw unauthorized();
    if (token === undefined && cookies === "refuse")
      throw new Reject("forbidden", { zh: "跨站请求被拒绝", en: "Cross-site request refused" });
    if (route.auth === "admin" && entry.role !== "admin") throw new Reject("forbidden");
    return { user: session.user, entry, access: session.hash, session };
  };

  const byKey = (secret: string, route: Route): Caller => {
    const key = sessions().findKey(secret);
    const entry = key && people.get(key.row.user);
    if (!key || !entry) throw unauthorized();
    if (route.auth !== "user" || (key.row.scope === "chat" && route.scope !== "chat"))
      throw new Reject("forbidden", { zh: "这个密钥不能用于此接口", en: "This key does not reach this address" });
    return { user: key.row.user, entry, access: `key:${key.row.id}`, key };
  };

  const botOf = (request: Request): Connection | undefined => {
    const token = bearer(request);
    if (!token?.startsWith("nxb_")) return undefined;
    const bot = deps.botBySession(digest(token));
    if (!bot) throw unauthorized();
    return bot;
  };

  const ownOf = (headers: Headers, sender: () => Sender): Own => {
    const host = headers.get("host") ?? "";
    const proxied = headers.has("x-forwarded-proto") && sender().proxied;
    const key = proxied ? `${headers.get("x-forwarded-proto")} ${host}` : host;
    const known = owns.get(key);
    if (known) return known;
    const own = ownOrigin(headers, config().publicUrl, "http", proxied);
    if (owns.size >= MOST_OWNS) owns.clear();
    owns.set(key, own);
    return own;
  };

  const run = async (route: Route, request: Request, server: HttpServer): Promise<Response> => {
    refresh();
    let from: Sender | undefined;
    // Most requests never need it, and asking the socket and parsing what it says takes 8 µs.
    const sender = (): Sender => (from ??= senders.of(request.headers, server.requestIP(request)?.address ?? ""));
    const own = ownOf(request.headers, sender);
    const origin = checkOrigin(request.method, request.headers, own, config().corsOrigins);
    const cors =
      origin.verdict === "allowed" && origin.cors !== undefined
        ? { ...corsHeaders(origin.cors), "Cross-Origin-Resource-Policy": "cross-origin" }
        : undefined;
    try {
      if (origin.verdict === "forbidden")
        throw new Reject("forbidden", {
          zh: "跨站请求被拒绝（可在 corsOrigins 中允许）",
          en: "Cross-site request refused (corsOrigins can allow it)",
        });
      const bot = route.bots ? botOf(request) : undefined;
      const caller = route.auth === "none" || bot ? undefined : callerOf(request, route, own, origin.cookies);
      let requestId: string | undefined;
      const call: Call = {
        request,
        server,
        params: (request as Request & { params?: Params }).params ?? {},
        get address() {
          return sender().address;
        },
        get countsAddress() {
          return sender().counts;
        },
        get lang() {
          return langOf(request);
        },
        own,
        cookies: origin.cookies !== "ignore",
        caller: caller as Caller,
        bot,
        query: (name) => urlOf(request).searchParams.get(name),
        requestId: () => {
          requestId ??= givenId(request) ?? crypto.randomUUID();
          return requestId;
        },
        body: (max = Infinity) => readJson(request, Math.min(max, config().limits.bodyBytes)),
        json: (value, status = 200, headers) =>
          answer(value, status, cors || headers ? { ...cors, ...headers } : undefined),
        events: (body, headers) =>
          new Response(body, {
            headers: cors || headers ? { ...base, ...SSE_HEADERS, ...cors, ...headers } : eventHeaders,
          }),
        headers: cors ? { ...base, ...cors } : base,
      };
      const response = await route.handle(call);
      answered(response?.status ?? 101); // an upgraded socket has no response
      return response;
    } catch (error) {
      const response = refusal(error, request, cors, route.refusal);
      answered(response.status);
      return response;
    }
  };

  const matcher = (routes: readonly Route[]) =>
    routes.map((route) => ({
      route,
      pattern: new RegExp(`^${route.path.replace(/:[a-zA-Z]+/g, "[^/]+").replace(/\*/g, ".*")}$`),
    }));

  return {
    /** The route table in the form of Bun.serve: path → method → function. */
    table: (
      routes: readonly Route[],
    ): Record<string, Record<string, (request: Request, server: HttpServer) => Promise<Response>>> => {
      const table: Record<string, Record<string, (request: Request, server: HttpServer) => Promise<Response>>> = {};
      for (const route of routes) {
        const methods = table[route.path] ?? {};
        methods[route.method] = (request, server) => run(route, request, server);
        table[route.path] = methods;
      }
      return table;
    },

    /** What no route took: preflight, 405 with Allow, the page and its files, 404. */
    fallback: (routes: readonly Route[], page: (request: Request, path: string) => Promise<Response | undefined>) => {
      const known = matcher(routes);
      const shapeOf = (path: string): Route["refusal"] =>
        routes.find((route) => route.refusal && path.startsWith(`/${route.path.split("/")[1]}/`))?.refusal;
      return async (request: Request): Promise<Response> => {
        refresh();
        try {
          const preflight = preflightHeaders(request.method, request.headers, config().corsOrigins);
          if (preflight) return new Response(null, { status: 204, headers: { ...base, ...preflight } });
          const path = urlOf(request).pathname;
          const methods = known.filter(({ pattern }) => pattern.test(path)).map(({ route }) => route.method);
          if (methods.length > 0) {
            const allow = [...new Set([...methods, ...(methods.includes("GET") ? ["HEAD"] : [])])].join(", ");
            return refusal(new Reject("method_not_allowed"), request, { Allow: allow }, shapeOf(path));
          }
          const file = path.startsWith("/api/") ? undefined : await page(request, path);
          if (!file) return refusal(new Reject("not_found"), request, undefined, shapeOf(path));
          if (request.method !== "GET" && request.method !== "HEAD")
            return refusal(new Reject("method_not_allowed"), request, { Allow: "GET, HEAD" });
          return file;
        } catch (error) {
          return refusal(error, request, undefined);
        }
      };
    },

    /** For Bun's `error`: nothing should reach it, and nothing of it may reach the client. */
    failed: (error: unknown): Response => {
      refresh();
      const requestId = crypto.randomUUID();
      log("error", "request_failed", { requestId, error });
      return answer({ error: ERRORS.internal[config().language], code: "internal", requestId }, 500, undefined);
    },
  };
};

export type Http = ReturnType<typeof createHttp>;
