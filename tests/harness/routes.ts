/** Calling every route of a gateway's table, as anybody. */
import type { Route } from "../../lib/http.ts";

export const named = (route: Route): string => `${route.method} ${route.path}`;
/** The path with something in place of its parameters. */
const pathOf = (route: Route, id = "nosuch"): string => route.path.replace(/:[a-zA-Z]+/g, id);
const bodyOf = ({ method }: Route): string | undefined => (method === "POST" || method === "PATCH" ? "{}" : undefined);
/** Calls it as nobody unless a token is given; streams are left at once. */
export const callRoute = async (
  url: string,
  route: Route,
  init: { token?: string; headers?: Record<string, string>; body?: string; id?: string } = {},
) => {
  const body = init.body ?? bodyOf(route);
  const response = await fetch(url + pathOf(route, init.id), {
    method: route.method,
    redirect: "manual",
    headers: {
      ...(body !== undefined && { "Content-Type": "application/json" }),
      ...(init.token !== undefined && { Authorization: `Bearer ${init.token}` }),
      ...init.headers,
    },
    ...(body !== undefined && { body }),
  });
  const stream = response.headers.get("content-type")?.startsWith("text/event-stream");
  const text = stream ? "" : await response.text();
  if (stream) await response.body?.cancel();
  return { status: response.status, headers: response.headers, text };
};
/** The machine code of a refusal, in our shape or in OpenAI's. */
export const codeOf = (text: string): unknown => {
  const body = JSON.parse(text);
  return body.code ?? body.error?.code;
};
