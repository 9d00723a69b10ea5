/** Login, logout, me, API keys. */
import { clearCookie, serialiseCookie } from "../auth.ts";
import { loginBody, newKeyBody, passwordBody } from "../bodies.ts";
import type { Gate } from "../gate.ts";
import { SMALL_BODY, type Route } from "../http.ts";
import { isWeak } from "../config/secrets.ts";
import { addressKey } from "../limits.ts";
import { hashPassword } from "../passwords.ts";
import { Reject } from "../protocol.ts";

export const accountRoutes = ({
  config,
  people,
  sessions,
  passwords,
  audit,
  settled,
  signedIn,
  log,
  now,
}: Gate): Route[] => [
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
        // Only names that exist: what stands in the wrong field may be a password.
        const target = people.find(username) ? username : "";
        audit.note({ actor: "", action: "sign_in_failed", target, address: call.address });
        throw new Reject("unauthorized", { zh: "用户名或密码错误", en: "Wrong username or password" });
      }
      const { token, session } = await sessions.create(username);
      log("info", "login", { user: username, address: call.address });
      audit.note({ actor: username, action: "sign_in", detail: { by: "password" }, address: call.address });
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
      audit.note({ actor: call.caller.user, action: "sign_out", address: call.address });
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
    method: "POST",
    path: "/api/me/password",
    auth: "session",
    handle: async (call) => {
      const { current, password } = passwordBody(await call.body(SMALL_BODY));
      const { user, session } = call.caller;
      if (call.caller.entry.password === undefined)
        throw new Reject("forbidden", {
          zh: "你用单点登录进来，没有密码可改",
          en: "You sign in without a password, so there is none to change",
        });
      // A limiter of its own name: who is signed in and mistypes must not lock the login of this address.
      if (!(await passwords.check(user, current, `${addressKey(call.address)} change`)))
        throw new Reject("bad_request", { zh: "现在的密码不对", en: "The current password is wrong" });
      if (isWeak(password, user))
        throw new Reject("bad_request", { zh: "这个密码太容易猜到", en: "This password is too easy to guess" });
      await people.change(user, { password: await hashPassword(password) });
      await sessions.keep(session!);
      settled();
      log("info", "password_changed", { user });
      await audit.record({ actor: user, action: "password_changed", target: user, address: call.address });
      return call.json({ success: true });
    },
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
      audit.note({
        actor: call.caller.user,
        action: "key_created",
        target: key.id,
        detail: { name, scope, ...(bots && { bots }) },
        address: call.address,
      });
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
      audit.note({
        actor: call.caller.user,
        action: "key_deleted",
        target: call.params.id ?? "",
        address: call.address,
      });
      return call.json({ success: true });
    },
  },
];
