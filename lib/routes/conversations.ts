/** Conversations, their messages, search, export, and the stream of everything of a user. */
import { limitOf, newConversationBody, patchConversationBody, sendBody } from "../bodies.ts";
import { exportConversation } from "../export.ts";
import type { Gate } from "../gate.ts";
import { SMALL_BODY, type Call, type Route } from "../http.ts";
import { decodeId, encodeId } from "../ids.ts";
import { Reject } from "../protocol.ts";
import { toConversation } from "../store/rows.ts";
import { allows } from "../turn.ts";
import { openReply } from "../turns/publish.ts";
import { checkSends, clientOf, onlyBots } from "./chat.ts";

const LIST_MOST = 200;
const QUERY_CHARS = 200;

export const conversationRoutes = (gate: Gate): Route[] => {
  const { config, store, bots, turns, streams, sync, inbox } = gate;
  const { publish } = turns;
  const idOf = (call: Call): number => decodeId(call.params.id ?? "");

  const badPlace = (): Reject =>
    new Reject("bad_request", { zh: "before：应为上一页的 next", en: "before: the `next` of the page before" });

  /** `<updatedAt>-<id>`, opaque to clients. */
  const cursor = (text: string | null): { at: number; id: number } | undefined => {
    if (text === null || text === "") return undefined;
    const match = /^(\d{1,16})-([0-9a-z]{1,11})$/.exec(text);
    if (!match) throw badPlace();
    return { at: Number(match[1]), id: decodeId(match[2]!) };
  };

  const page = async (call: Call) => {
    const before = call.query("before");
    const upper = before ? decodeId(before) : Number.MAX_SAFE_INTEGER;
    if (upper === 0) throw badPlace();
    const { messages, next } = await store.conversations.messages(
      call.caller.user,
      idOf(call),
      limitOf(call.query("limit"), 50, LIST_MOST),
      upper,
    );
    const lowest = next ?? 0;
    const open = turns.openIn(idOf(call)).filter(({ id }) => id < upper && id > lowest);
    if (open.length > 0) {
      messages.push(...open.map(openReply));
      messages.sort((a, b) => decodeId(a.id) - decodeId(b.id));
    }
    return { messages, ...(next !== undefined && { next: encodeId(next) }) };
  };

  return [
    {
      method: "GET",
      path: "/api/conversations",
      auth: "user",
      handle: async (call) => {
        const limit = limitOf(call.query("limit"), 50, LIST_MOST);
        const { rows, conversations, more } = await store.conversations.list(
          call.caller.user,
          limit,
          cursor(call.query("before")),
        );
        const last = rows.at(-1);
        return call.json({ conversations, ...(more && last && { next: `${last.updated_at}-${encodeId(last.id)}` }) });
      },
    },
    {
      method: "POST",
      path: "/api/conversations",
      auth: "user",
      handle: async (call) => {
        const { title = "", botId } = newConversationBody(await call.body(SMALL_BODY));
        const { user, key } = call.caller;
        if (botId !== undefined && !(bots.mayUse(user, botId) && allows(key?.bots, botId)))
          throw new Reject("bot_not_found");
        const row = await store.conversations.create(user, title, botId ?? null);
        publish.conversation(user, row);
        return call.json(toConversation(row), 201);
      },
    },
    {
      method: "GET",
      path: "/api/conversations/:id",
      auth: "user",
      handle: async (call) => call.json(await store.conversations.get(call.caller.user, idOf(call))),
    },
    {
      method: "PATCH",
      path: "/api/conversations/:id",
      auth: "user",
      handle: async (call) => {
        const { row, seen } = await store.conversations.patch(
          call.caller.user,
          idOf(call),
          patchConversationBody(await call.body(SMALL_BODY)),
        );
        publish.conversation(call.caller.user, row);
        for (const bot of new Set(seen.map((one) => one.bot))) inbox.seen(bot);
        return call.json(toConversation(row));
      },
    },
    {
      method: "DELETE",
      path: "/api/conversations/:id",
      auth: "user",
      handle: async (call) => {
        const rev = await store.conversations.delete(call.caller.user, idOf(call));
        publish.deleted(call.caller.user, idOf(call), rev);
        for (const turn of turns.openIn(idOf(call))) turns.cancel(turn);
        return call.json({ success: true });
      },
    },
    {
      method: "POST",
      path: "/api/conversations/:id/restore",
      auth: "user",
      handle: async (call) => {
        const { row, messages } = await store.conversations.restore(call.caller.user, idOf(call));
        publish.restored(call.caller.user, row, messages);
        return call.json(toConversation(row));
      },
    },
    {
      method: "GET",
      path: "/api/conversations/:id/messages",
      auth: "user",
      handle: async (call) => call.json(await page(call)),
    },
    {
      method: "POST",
      path: "/api/conversations/:id/messages",
      auth: "user",
      handle: async (call) => {
        const { clientId, ...rest } = sendBody(await call.body(), config().limits.textChars);
        const conversation = idOf(call);
        if (!store.conversations.find(call.caller.user, conversation)) throw new Reject("not_found");
        checkSends(gate, call.caller.user);
        const started = await turns.start({
          ...rest,
          conversation,
          user: call.caller.user,
          source: "web",
          requestId: call.requestId(),
          client: clientOf(clientId, { conversation, ...rest }),
          ...onlyBots(call),
        });
        const { id, question } = "row" in started ? started.row : started.turn;
        const row = store.turns.message(question);
        if (!row) throw new Reject("not_found");
        return call.json({ message: store.conversations.withFiles([row])[0], turnId: encodeId(id) }, 202);
      },
    },
    {
      method: "GET",
      path: "/api/conversations/:id/export",
      auth: "user",
      handle: async (call) => {
        const format = call.query("format") ?? "md";
        if (format !== "md" && format !== "json")
          throw new Reject("bad_request", { zh: "format：应为 md 或 json", en: "format: md or json" });
        return exportConversation(store, call, idOf(call), format);
      },
    },
    {
      method: "GET",
      path: "/api/search",
      auth: "user",
      handle: async (call) => {
        const q = (call.query("q") ?? "").slice(0, QUERY_CHARS);
        return call.json({
          hits: await store.search.search(call.caller.user, q, limitOf(call.query("limit"), 20, 100)),
        });
      },
    },
    {
      method: "GET",
      path: "/api/events",
      auth: "user",
      handle: (call) => {
        const after = call.request.headers.get("last-event-id") ?? call.query("after");
        const access = gate.access(call);
        const body = streams.openUser(access, sync.catchUp(access, after));
        call.server.timeout(call.request, 60);
        return call.events(body);
      },
    },
  ];
};
