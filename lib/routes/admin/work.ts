/** What is going on and what could not be delivered, for admins: open turns, the queue, dead letters. */
import { whenEnded } from "../../turn.ts";
import { limitOf } from "../../bodies.ts";
import type { Gate } from "../../gate.ts";
import type { Call, Route } from "../../http.ts";
import { decodeId, encodeId } from "../../ids.ts";
import { Reject } from "../../protocol.ts";
import type { AdminDeadLetter, AdminTurn } from "../../protocol/admin.ts";
import type { DeadLetter } from "../../store/inbox.ts";
import type { Done } from "../admin.ts";

/** Open turns of one answer. */
const MOST = 500;
/** An end is stored within this, or the answer says that it is being stored. */
const END_MS = 2000;

export const adminWorkRoutes = ({ turns, store, people, now }: Gate, done: Done): Route[] => {
  const letter = ({ id, bot, reason, frame, created_at }: DeadLetter): AdminDeadLetter => ({
    id: encodeId(id),
    botId: bot,
    reason,
    createdAt: created_at,
    bytes: Buffer.byteLength(frame),
  });
  const letterOf = (call: Call): DeadLetter => {
    const found = store.inbox.deadLetter(decodeId(call.params.id ?? ""));
    if (!found) throw new Reject("not_found");
    return found;
  };

  return [
    {
      method: "GET",
      path: "/api/admin/turns",
      auth: "admin",
      handle: (call) => {
        const at = now();
        const open = [...turns.all()].slice(0, MOST).map((turn): AdminTurn => ({
          id: turn.key,
          user: turn.user,
          displayName: people.get(turn.user)?.displayName ?? turn.user,
          ...(turn.botId !== undefined && { botId: turn.botId }),
          ...(turn.botName !== undefined && { botName: turn.botName }),
          state: turn.connection || turn.state === "queued" ? turn.state : "waiting",
          source: turn.source,
          ...(turn.requestId !== undefined && { requestId: turn.requestId }),
          attempt: turn.attempt,
          createdAt: turn.createdAt,
          chars: turn.text.length,
          silentMs: Math.max(0, at - turn.frameAt),
        }));
        return call.json({ turns: open, total: turns.count(), queued: turns.queued() });
      },
    },
    {
      method: "POST",
      path: "/api/admin/turns/:id/cancel",
      auth: "admin",
      handle: async (call) => {
        const turn = turns.get(decodeId(call.params.id ?? ""));
        if (!turn) throw new Reject("not_found", { zh: "这次回答已经结束", en: "This turn is over" });
        turns.cancel(turn);
        await Promise.race([whenEnded(turn), Bun.sleep(END_MS)]);
        await done(call, {
          action: "turn_cancelled",
          target: turn.key,
          detail: { user: turn.user, bot: turn.botId ?? null },
        });
        return call.json({ turnId: turn.key, state: turn.state });
      },
    },
    {
      method: "GET",
      path: "/api/admin/dead-letters",
      auth: "admin",
      handle: (call) => {
        const before = call.query("before");
        const limit = limitOf(call.query("limit"), 50, 200);
        const rows = store.inbox.deadLetters(limit, before ? decodeId(before) : undefined);
        const last = rows.at(-1);
        return call.json({
          deadLetters: rows.map(letter),
          total: store.inbox.deadCount(),
          ...(rows.length === limit && last && { next: encodeId(last.id) }),
        });
      },
    },
    {
      method: "GET",
      path: "/api/admin/dead-letters/:id",
      auth: "admin",
      handle: async (call) => {
        const found = letterOf(call);
        await done(call, { action: "dead_letter_read", target: encodeId(found.id), detail: { bot: found.bot } });
        return call.json({ ...letter(found), frame: found.frame });
      },
    },
    {
      method: "DELETE",
      path: "/api/admin/dead-letters/:id",
      auth: "admin",
      handle: async (call) => {
        const found = letterOf(call);
        await store.inbox.dropDead(found.id);
        await done(call, { action: "dead_letter_removed", target: encodeId(found.id), detail: { bot: found.bot } });
        return call.json({ success: true });
      },
    },
  ];
};
