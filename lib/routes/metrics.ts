/**
 * `GET /metrics`: the numbers of this gateway, for Prometheus as text and, when JSON is asked for, for `nexus status`.
 *
 * What must stay true: only this machine reads it, or who brings `metricsToken`. A request that a proxy passed on is not
 * from this machine, even when the proxy is. It names bots, never people.
 */
import { isOneOf } from "../auth.ts";
import type { Gate } from "../gate.ts";
import type { Call, Route } from "../http.ts";
import { gaugesOf, overviewOf } from "../overview.ts";
import { Reject } from "../protocol.ts";

const PASSED_ON = ["x-forwarded-for", "x-real-ip", "forwarded", "via", "x-forwarded-proto", "x-forwarded-host"];

const isLocal = ({ address, request, own }: Call): boolean =>
  /^(127\.|::1$|::ffff:127\.)/.test(address) &&
  PASSED_ON.every((name) => !request.headers.has(name)) &&
  // A page elsewhere that was made to resolve to this machine still says its own name.
  /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$/i.test(own.host);

export const metricsRoutes = (gate: Gate): Route[] => [
  {
    method: "GET",
    path: "/metrics",
    auth: "none",
    handle: (call) => {
      const given = /^bearer (.+)$/i.exec(call.request.headers.get("authorization") ?? "")?.[1]?.trim();
      const tokens = gate.config().metricsTokens;
      const allowed = given === undefined ? isLocal(call) : tokens.length > 0 && isOneOf(given, tokens);
      if (!allowed)
        throw new Reject("forbidden", {
          zh: "只能从本机读取，或带上 metricsToken",
          en: "Only from this machine, or with metricsToken",
        });
      if (/\bjson\b/i.test(call.request.headers.get("accept") ?? "")) return call.json(overviewOf(gate));
      return new Response(gate.metrics.text(gaugesOf(gate)), {
        headers: {
          ...call.headers,
          "Content-Type": "text/plain; version=0.0.4; charset=utf-8",
          "Cache-Control": "no-store",
        },
      });
    },
  },
];
