/** A person's side of the HTTP API for tests: a small typed fetch, and signing in. Knows only the wire. */

export type Answer<T> = { status: number; headers: Headers; text: string; body: T };
export type Json = Record<string, unknown>;
export type Call = <T = Json>(method: string, path: string, body?: unknown, init?: RequestInit) => Promise<Answer<T>>;
export type LoginAnswer = { token: string; user: { username: string; displayName: string }; expiresAt: number };

const request = (
  base: string,
  token: string | undefined,
  method: string,
  path: string,
  body: unknown,
  init: RequestInit,
) => {
  const headers = new Headers(init.headers);
  if (token !== undefined && !headers.has("authorization")) headers.set("authorization", `Bearer ${token}`);
  // Text and bytes go as they are, so that broken JSON can be sent; everything else as JSON.
  const raw = typeof body === "string" || body instanceof Uint8Array || body instanceof FormData;
  if (body !== undefined && !(body instanceof FormData) && !headers.has("content-type"))
    headers.set("content-type", "application/json");
  const payload = body === undefined ? null : raw ? (body as string | FormData) : JSON.stringify(body);
  return fetch(base + path, { redirect: "manual", ...init, method, headers, body: payload });
};

/**
 * `call(method, path, body?)` with the answer read and parsed: `body` is the JSON, or {} when the answer is none
 * (then look at `text`). `call.stream` gives the open Response instead.
 */
export const api = (
  base: string,
  token?: string,
): Call & { stream: (path: string, body?: unknown, init?: RequestInit) => Promise<Response> } => {
  const call: Call = async <T>(method: string, path: string, body?: unknown, init: RequestInit = {}) => {
    const response = await request(base, token, method, path, body, init);
    const text = await response.text();
    const json = response.headers.get("content-type")?.includes("json");
    return { status: response.status, headers: response.headers, text, body: (json ? JSON.parse(text) : {}) as T };
  };
  return Object.assign(call, {
    /** POST with a body, GET without. */
    stream: (path: string, body?: unknown, init: RequestInit = {}) =>
      request(base, token, init.method ?? (body === undefined ? "GET" : "POST"), path, body, init),
  });
};

/** Signs in and returns the token. Throws when refused. */
export const login = async (base: string, username = "admin", password = PASSWORD): Promise<string> => {
  const { status, text, body } = await api(base)<LoginAnswer>("POST", "/api/login", { username, password });
  if (status !== 200) throw new Error(`login of ${username} was refused: ${status} ${text}`);
  return body.token;
};

/** The password of every user of the test config. */
export const PASSWORD = "correct horse";
