/**
 * People, for admins: add, change, disable, remove, end their sign-ins, take their conversations along.
 *
 * What must stay true: whoever is disabled or removed loses every stream before the answer is sent; an admin cannot take
 * away the own way in, so there always is one; a removed name leaves nothing behind that a later bearer of it would find.
 */
import { isWeak } from "../../config/secrets.ts";
import { NO_LIMIT } from "../../config/defaults.ts";
import { limitOf, newUserBody, userBody } from "../../bodies.ts";
import { disposition } from "../../export.ts";
import type { Gate } from "../../gate.ts";
import { SMALL_BODY, type Call, type Route } from "../../http.ts";
import { decodeId } from "../../ids.ts";
import type { Listed } from "../../people.ts";
import { hashPassword } from "../../passwords.ts";
import { Reject } from "../../protocol.ts";
import type { AdminPerson, AdminSession } from "../../protocol/admin.ts";
import type { Session } from "../../sessions.ts";
import type { Done } from "../admin.ts";

/** People of one answer; who has more searches. */
const MOST = 500;
const PAGE = 200;

/** Enough of a session's digest to name it; it opens nothing. */
const sessionId = ({ hash }: Session): string => hash.slice(0, 16);
const zeroIsNone = (limit: number): number => (limit >= NO_LIMIT ? 0 : limit);

/** Read out loud once and typed once: no characters that look alike. 80 bits. */
const makePassword = (): string => {
  const letters = "abcdefghjkmnpqrstuvwxyz23456789";
  const text = Array.from(crypto.getRandomValues(new Uint32Array(16)), (n) => letters[n % letters.length]).join("");
  return text.replace(/(.{4})(?=.)/g, "$1-");
};

const weak = (): Reject =>
  new Reject("bad_request", { zh: "这个密码太容易猜到", en: "This password is too easy to guess" });

export const adminUserRoutes = (gate: Gate, done: Done): Route[] => {
  const { people, sessions, streams, turns, store, quota, settled, now } = gate;

  /** Names whose password is being hashed: two requests must not make the same person. */
  const making = new Set<string>();

  const counts = () => {
    const signedIn = new Map<string, number>();
    for (const { user, expiresAt } of sessions.all())
      if (expiresAt > now()) signedIn.set(user, (signedIn.get(user) ?? 0) + 1);
    const open = new Map<string, number>();
    for (const { user } of turns.all()) open.set(user, (open.get(user) ?? 0) + 1);
    return {
      signedIn,
      open,
      keys: sessions.keyCounts(),
      streams: streams.countsByUser(),
      sent: store.usage.allSentToday(),
    };
  };

  const shown = (one: Listed, by: ReturnType<typeof counts>): AdminPerson => ({
    username: one.username,
    displayName: one.person.displayName,
    role: one.person.role ?? "user",
    source: one.source,
    hasPassword: one.person.password !== undefined,
    ...(one.disabledAt !== undefined && { disabledAt: one.disabledAt }),
    ...(one.createdAt !== undefined && { createdAt: one.createdAt }),
    sessions: by.signedIn.get(one.username) ?? 0,
    keys: by.keys.get(one.username) ?? 0,
    streams: by.streams.get(one.username) ?? 0,
    openTurns: by.open.get(one.username) ?? 0,
    messagesToday: by.sent.get(one.username) ?? 0,
    messagesPerDay: zeroIsNone(one.person.messagesPerDay),
    turnsAtOnce: zeroIsNone(one.person.turnsAtOnce ?? quota.openLimitOf(one.username)),
    set: { messagesPerDay: one.set.messagesPerDay !== undefined, turnsAtOnce: one.set.turnsAtOnce !== undefined },
  });

  const named = (call: Call): Listed => {
    const found = people.list().find(({ username }) => username === call.params.name);
    if (!found) throw new Reject("not_found", { zh: "没有这个用户", en: "No such user" });
    return found;
  };

  /** Those who may not be here any more: their sign-ins and streams end, and what they asked stops. */
  const settle = (username: string): void => {
    settled();
    if (people.has(username)) return;
    for (const turn of turns.openOf(username)) turns.cancel(turn);
  };

  /** Whoever is being disabled, removed or demoted at this moment: they do it to nobody else. */
  const losing = new Set<string>();
  const checkOwn = (call: Call, username: string): void => {
    const { user } = call.caller;
    if (username === user)
      throw new Reject("conflict", {
        zh: "不能停用、删除自己或取消自己的管理员身份；请另一位管理员来做",
        en: "You cannot disable, remove or demote yourself; ask another admin",
      });
    if (losing.has(user) || people.get(user)?.role !== "admin") throw new Reject("forbidden");
  };
  const losingTheirPlace = async (username: string, change: () => Promise<void>): Promise<void> => {
    losing.add(username);
    await change().finally(() => losing.delete(username));
  };

  /** A user that was taken out of config.json left conversations: they are not for another person of that name. */
  const checkUnused = async (username: string): Promise<void> => {
    if ((await store.conversations.list(username, 1)).rows.length === 0) return;
    throw new Reject("conflict", {
      zh: "以前有过这个用户名，那个人的对话还在；请换一个用户名",
      en: "Somebody had this username before and their conversations are still here; choose another one",
    });
  };

  const dropConversations = async (username: string): Promise<void> => {
    for (;;) {
      const { rows } = await store.conversations.list(username, PAGE);
      if (rows.length === 0) return;
      for (const { id } of rows) await store.conversations.delete(username, id);
    }
  };

  /** Every conversation with its messages, as JSON, in slices. */
  const everything = async function* (username: string): AsyncGenerator<string> {
    yield `{"user":${JSON.stringify(username)},"conversations":[`;
    let before: { at: number; id: number } | undefined;
    let first = true;
    for (;;) {
      const page = await store.conversations.list(username, PAGE, before);
      for (const conversation of page.conversations) {
        const messages: unknown[] = [];
        for (let upper: number | undefined = Number.MAX_SAFE_INTEGER; upper !== undefined;) {
          const part: Awaited<ReturnType<typeof store.conversations.messages>> = await store.conversations.messages(
            username,
            decodeId(conversation.id),
            PAGE,
            upper,
          );
          messages.unshift(...part.messages);
          upper = part.next;
        }
        yield `${first ? "" : ","}\n${JSON.stringify({ conversation, messages })}`;
        first = false;
      }
      const last = page.rows.at(-1);
      if (!page.more || !last) break;
      before = { at: last.updated_at, id: last.id };
    }
    yield "\n]}\n";
  };

  return [
    {
      method: "GET",
      path: "/api/admin/users",
      auth: "admin",
      handle: (call) => {
        const asked = (call.query("q") ?? "").toLowerCase();
        const limit = limitOf(call.query("limit"), MOST, MOST);
        const found = people
          .list()
          .filter(
            ({ username, person }) =>
              asked === "" ||
              username.toLowerCase().includes(asked) ||
              person.displayName.toLowerCase().includes(asked),
          );
        const by = counts();
        return call.json({ users: found.slice(0, limit).map((one) => shown(one, by)), total: found.length });
      },
    },
    {
      method: "POST",
      path: "/api/admin/users",
      auth: "admin",
      handle: async (call) => {
        const {
          username,
          displayName = username,
          password,
          role,
          ...limits
        } = newUserBody(await call.body(SMALL_BODY));
        if (people.find(username) || making.has(username))
          throw new Reject("conflict", { zh: `用户 ${username} 已存在`, en: `The user ${username} exists` });
        await checkUnused(username);
        if (password !== undefined && isWeak(password, username)) throw weak();
        const made = password ?? makePassword();
        making.add(username);
        try {
          const hash = await hashPassword(made);
          // Whoever had this name before may have left keys and settings.
          await people.remove(username);
          sessions.forgetKeys(username);
          await people.add({ username, displayName, password: hash, ...(role === "admin" && { role }) });
          await people.change(username, limits);
        } finally {
          making.delete(username);
        }
        await done(call, {
          action: "person_added",
          target: username,
          detail: { displayName, role: role ?? "user", ...quotas(limits) },
        });
        const user = shown(
          people.list().find((one) => one.username === username)!,
          counts(),
        );
        return call.json({ user, ...(password === undefined && { password: made }) }, 201);
      },
    },
    {
      method: "PATCH",
      path: "/api/admin/users/:name",
      auth: "admin",
      handle: async (call) => {
        const change = userBody(await call.body(SMALL_BODY));
        const { username, source, disabledAt } = named(call);
        const { displayName, role, password, disabled } = change;
        const isLess = disabled === true || (role === "user" && named(call).person.role === "admin");
        if (isLess) checkOwn(call, username);
        if (source === "config" && (displayName ?? role) !== undefined)
          throw new Reject("conflict", {
            zh: "显示名和角色写在 config.json 里，请在那里修改",
            en: "Display name and role stand in config.json; change them there",
          });
        if (password !== undefined && isWeak(password, username)) throw weak();
        const apply = async () =>
          people.change(username, {
            ...change,
            ...(password !== undefined && { password: await hashPassword(password) }),
          });
        await (isLess ? losingTheirPlace(username, apply) : apply());
        settle(username);
        const detail = {
          ...(displayName !== undefined && { displayName }),
          ...(role !== undefined && { role }),
          ...(password !== undefined && { password: "changed" }),
          ...quotas(change),
        };
        if (Object.keys(detail).length > 0) await done(call, { action: "person_changed", target: username, detail });
        if (disabled !== undefined && disabled !== (disabledAt !== undefined))
          await done(call, { action: disabled ? "person_disabled" : "person_enabled", target: username });
        return call.json({ user: shown(named(call), counts()) });
      },
    },
    {
      method: "DELETE",
      path: "/api/admin/users/:name",
      auth: "admin",
      handle: async (call) => {
        const { username, source } = named(call);
        checkOwn(call, username);
        if (source === "config")
          throw new Reject("conflict", {
            zh: "这个用户写在 config.json 里：请在那里删除，或在这里停用",
            en: "This user stands in config.json: remove it there, or disable it here",
          });
        await losingTheirPlace(username, () => people.remove(username));
        sessions.forgetKeys(username);
        settle(username);
        await dropConversations(username);
        await done(call, { action: "person_removed", target: username });
        return call.json({ success: true });
      },
    },
    {
      method: "GET",
      path: "/api/admin/users/:name/sessions",
      auth: "admin",
      handle: (call) => {
        const list: AdminSession[] = sessions.of(named(call).username).map((one) => ({
          id: sessionId(one),
          createdAt: one.createdAt,
          expiresAt: one.expiresAt,
          current: one === call.caller.session,
        }));
        return call.json({ sessions: list });
      },
    },
    ...["/api/admin/users/:name/sessions", "/api/admin/users/:name/sessions/:id"].map((path): Route => ({
      method: "DELETE",
      path,
      auth: "admin",
      handle: async (call) => {
        const { username } = named(call);
        const { id } = call.params;
        const gone = sessions.of(username).filter((one) => id === undefined || sessionId(one) === id);
        if (id !== undefined && gone.length === 0) throw new Reject("not_found");
        await sessions.end(gone);
        await done(call, { action: "sessions_ended", target: username, detail: { count: gone.length } });
        return call.json({ ended: gone.length });
      },
    })),
    {
      method: "GET",
      path: "/api/admin/users/:name/export",
      auth: "admin",
      handle: async (call) => {
        const { username } = named(call);
        await done(call, { action: "exported", target: username, detail: { what: "conversations" } });
        return new Response(everything(username), {
          headers: {
            ...call.headers,
            "Content-Type": "application/json; charset=utf-8",
            "Cache-Control": "no-store",
            "Content-Disposition": disposition("attachment", `nexus-${username}.json`),
          },
        });
      },
    },
  ];
};

const quotas = (change: { messagesPerDay?: number | null | undefined; turnsAtOnce?: number | null | undefined }) => ({
  ...(change.messagesPerDay !== undefined && { messagesPerDay: change.messagesPerDay }),
  ...(change.turnsAtOnce !== undefined && { turnsAtOnce: change.turnsAtOnce }),
});
