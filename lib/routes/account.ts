/** Login, logout, me, API keys. */
import { clearCookie, serialiseCookie } from "../auth.ts";
import { loginBody, newKeyBody } from "../bodies.ts";
import type { Gate } from "../gate.ts";
import { SMALL_BODY, type Route } from "../http.ts";
import { addressKey } from "../limits.ts";
import { Reject } from "../protocol.ts";

export const accountRoutes = ({ config, people, sessions, passwords, signedIn, log, now }: Gate): Route[] => [
  {
    method: "POST",
    path: "/api/login",
    auth: "none",
    handle: async (call) => {
      const { username, password } = loginBody(await call.body(SMALL_BODY));
      const proven = people.get(username)?.password;
      const right = await passwords.check(username, password, addressKey(call.address));
      // A password that was changed while it was being checked opens nothing any more.
      if (!right || people.get(username)?.password !== proven) {
        log("warn", "login_failed", { address: call.address });
        throw new Reject("unauthorized", { zh: "用户名或密码错误", en: "Wrong username or password" });
      }
      const { token, session } = await sessions.create(username);
      log("info", "login", { user: username, address: call.address });
      signedIn(username);
      const { displayName } = people.info(username);
      const cookie = call.cookies
        ? { "Set-Cookie": serialiseCookie(token, call.own.secure, config().sessionTTL) }
        : undefined;
      return call.json({ token, user: { username, displayName }, expiresAt: session.expiresAt }, 200, cookie);
    },
  },
  {
    method: "POST",
    path: "/api/logout",
    auth: "session",
    handle: async (call) => {
      await sessions.drop(call.caller.session!);
      return call.json(
        { success: true },
        200,
        call.cookies ? { "Set-Cookie": clearCookie(call.own.secure) } : undefined,
      );
    },
  },
  {
    method: "GET",
    path: "/api/me",
    auth: "user",
    handle: (call) =>
      call.json({
        user: people.info(call.caller.user),
        expiresAt: call.caller.session?.expiresAt ?? call.caller.key?.row.expires_at ?? null,
      }),
  },
  {
    method: "GET",
    path: "/api/keys",
    auth: "session",
    handle: (call) => call.json({ keys: sessions.keysOf(call.caller.user) }),
  },
  {
    method: "POST",
    path: "/api/keys",
    auth: "session",
    handle: async (call) => {
      const { name, scope = "chat", bots, expiresAt } = newKeyBody(await call.body(SMALL_BODY));
      if (expiresAt !== undefined && expiresAt <= now())
        throw new Reject("bad_request", {
          zh: "expiresAt：应为将来的毫秒时间",
          en: "expiresAt: a moment to come, in milliseconds",
        });
      const key = await sessions.createKey(call.caller.user, {
        name,
        scope,
        ...(bots && { bots }),
        ...(expiresAt !== undefined && { expiresAt }),
      });
      log("info", "key_created", { user: call.caller.user, id: key.id, scope });
      return call.json(key, 201);
    },
  },
  {
    method: "DELETE",
    path: "/api/keys/:id",
    auth: "session",
    handle: async (call) => {
      await sessions.dropKey(call.caller.user, call.params.id ?? "");
      log("info", "key_deleted", { user: call.caller.user, id: call.params.id });
      return call.json({ success: true });
    },
  },
];
