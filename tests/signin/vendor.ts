/**
 * What the fake platforms share: a server on a free port, single-use codes and tokens that expire, and a list of the calls
 * that came. Written from the vendors' documents, not from our client: a request they would refuse is refused here.
 */

export type Call = { method: string; path: string; at: number };
type Handler = (request: Request, url: URL) => Response | Promise<Response>;

/** Things that work once and for a while. `use` says why it does not: `unknown` (or used before), or `old`. */
export const createOnce = <T>(now: () => number, lifeMs: number, prefix: string) => {
  const held = new Map<string, { value: T; until: number }>();
  return {
    make: (value: T): string => {
      const key = prefix + crypto.randomUUID().replaceAll("-", "");
      held.set(key, { value, until: now() + lifeMs });
      return key;
    },
    use: (key: unknown): T | "unknown" | "old" => {
      const found = held.get(String(key));
      held.delete(String(key));
      if (!found) return "unknown";
      return found.until <= now() ? "old" : found.value;
    },
    /** The same without spending it: tokens. */
    peek: (key: unknown): T | "unknown" | "old" => {
      const found = held.get(String(key));
      if (!found) return "unknown";
      return found.until <= now() ? "old" : found.value;
    },
    clear: (): void => held.clear(),
    /** Every one is too old from now on. */
    expire: (): void => {
      for (const one of held.values()) one.until = now();
    },
  };
};

export const json = (body: unknown, status = 200): Response => Response.json(body, { status });
export const page = (body: string, status = 200): Response =>
  new Response(`<!doctype html><meta charset="utf-8"><body>${body}</body>`, {
    status,
    headers: { "Content-Type": "text/html; charset=utf-8" },
  });
/** The page on which a person says yes: a QR code or a consent in real life. */
export const consent = (to: string): Response => page(`<a id="agree" href="${to.replaceAll("&", "&amp;")}">同意</a>`);
export const redirect = (to: string, query: Record<string, string>): Response => {
  const url = new URL(to);
  for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
  return new Response(null, { status: 302, headers: { Location: url.href } });
};

/** One pixel. */
export const PNG = Uint8Array.fromBase64(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
);

/** `routes`: "METHOD /path" → handler. Anything else is 404, so a call to a wrong address is noticed. */
export const startVendor = (routes: Record<string, Handler>) => {
  const calls: Call[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => {
      const url = new URL(request.url);
      calls.push({ method: request.method, path: url.pathname, at: Date.now() });
      return (
        routes[`${request.method} ${url.pathname}`]?.(request, url) ?? new Response("no such page", { status: 404 })
      );
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    calls,
    /** How often this path was asked. */
    asked: (path: string): number => calls.filter((call) => call.path === path).length,
    stop: (): Promise<void> => server.stop(true),
  };
};
