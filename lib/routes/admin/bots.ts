/**
 * Bots, for admins: which there are, who may use them, tokens, disconnect, disable.
 *
 * What must stay true: a token is in the answer that made it and nowhere else; after each change every connection is judged
 * again, so what is no longer permitted is gone when the answer is sent.
 */
import { botBody, disconnectBody, newBotBody } from "../../bodies.ts";
import type { Gate } from "../../gate.ts";
import { SMALL_BODY, type Call, type Route } from "../../http.ts";
import { Reject } from "../../protocol.ts";
import type { AdminBot } from "../../protocol/admin.ts";
import type { Done } from "../admin.ts";

type Set = { name?: string | null; users?: string[] | null; pools?: string[] | null; maxConcurrency?: number | null };

/** What was set, for the audit log. */
const detailOf = ({ name, users, pools, maxConcurrency }: Set) => ({
  ...(name !== undefined && { name }),
  ...(users !== undefined && { users }),
  ...(pools !== undefined && { pools }),
  ...(maxConcurrency !== undefined && { maxConcurrency }),
});

export const adminBotRoutes = ({ bots, botSettings, config, file, settled }: Gate, done: Done): Route[] => {
  const list = (): AdminBot[] => {
    const names = bots.names();
    const connections = [...bots.connections()];
    for (const { botId, name } of connections) names.set(botId, name);
    const models = new Set(config().models.map(({ id }) => id));
    const ids = new Set([...config().bots.keys(), ...models, ...connections.map(({ botId }) => botId)]);
    return [...ids].sort().map((id) => {
      const entry = config().bots.get(id);
      const own = connections.filter(({ botId }) => botId === id);
      return {
        id,
        name: entry?.name ?? names.get(id) ?? id,
        online: own.length > 0,
        connections: own.map((one) => ({
          instance: one.instance,
          address: one.ws.data.address,
          proto: one.proto,
          connectedAt: one.connectedAt,
          seenAt: one.seenAt,
          inFlight: one.inFlight,
          caps: [...one.caps],
          draining: one.draining,
        })),
        users: entry?.users ? [...entry.users].sort() : null,
        pools: entry?.pools ?? null,
        maxConcurrency: entry?.maxConcurrency ?? 0,
        hasToken: (entry?.tokens.length ?? 0) + (entry?.tokenDigests?.length ?? 0) > 0,
        model: models.has(id),
        disabled: entry?.disabled === true,
        inConfig: file().bots.has(id),
        onPage: botSettings.has(id),
      };
    });
  };

  const named = (call: Call): AdminBot => {
    const found = list().find(({ id }) => id === call.params.id);
    if (!found) throw new Reject("not_found", { zh: "没有这个机器人", en: "No such bot" });
    return found;
  };

  return [
    { method: "GET", path: "/api/admin/bots", auth: "admin", handle: (call) => call.json({ bots: list() }) },
    {
      method: "POST",
      path: "/api/admin/bots",
      auth: "admin",
      handle: async (call) => {
        const { id, ...set } = newBotBody(await call.body(SMALL_BODY));
        if (config().bots.has(id))
          throw new Reject("conflict", { zh: `机器人 ${id} 已存在`, en: `The bot ${id} exists` });
        const { token } = await botSettings.change(file(), id, { ...set, newToken: true });
        settled();
        await done(call, { action: "bot_added", target: id, detail: detailOf(set) });
        return call.json({ bot: list().find((one) => one.id === id), token }, 201);
      },
    },
    {
      method: "PATCH",
      path: "/api/admin/bots/:id",
      auth: "admin",
      handle: async (call) => {
        const { disabled, ...set } = botBody(await call.body(SMALL_BODY));
        const { id, disabled: was } = named(call);
        await botSettings.change(file(), id, { ...set, disabled });
        settled();
        if (Object.keys(set).length > 0) await done(call, { action: "bot_changed", target: id, detail: detailOf(set) });
        if (disabled !== undefined && disabled !== was)
          await done(call, { action: disabled ? "bot_disabled" : "bot_enabled", target: id });
        return call.json({ bot: named(call) });
      },
    },
    {
      method: "DELETE",
      path: "/api/admin/bots/:id",
      auth: "admin",
      handle: async (call) => {
        const { id, onPage } = named(call);
        if (!onPage)
          throw new Reject("conflict", {
            zh: "页面上没有关于它的设置：config.json 里的请在那里删除，只是在线的可以断开",
            en: "The page has set nothing about it: remove it in config.json, or disconnect it",
          });
        await botSettings.drop(id);
        settled();
        await done(call, { action: "bot_removed", target: id });
        return call.json({ success: true });
      },
    },
    {
      method: "POST",
      path: "/api/admin/bots/:id/token",
      auth: "admin",
      handle: async (call) => {
        const { id } = named(call);
        const { token } = await botSettings.change(file(), id, { newToken: true });
        settled();
        await done(call, { action: "bot_token_made", target: id });
        return call.json({ token }, 201);
      },
    },
    {
      method: "POST",
      path: "/api/admin/bots/:id/disconnect",
      auth: "admin",
      handle: async (call) => {
        const { instance } = disconnectBody(await call.body(SMALL_BODY));
        const { id } = named(call);
        const gone = [...bots.connections()].filter(
          (one) => one.botId === id && (instance === undefined || one.instance === instance),
        );
        for (const one of gone) bots.close(one, "disconnected");
        await done(call, { action: "bot_disconnected", target: id, detail: { connections: gone.length } });
        return call.json({ disconnected: gone.length });
      },
    },
  ];
};
