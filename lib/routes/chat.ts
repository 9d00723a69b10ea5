/** Bots, the two v1 chat calls, and one turn: its stream and its end. */
import { chatBody } from "../bodies.ts";
import type { Gate } from "../gate.ts";
import type { Call, Route } from "../http.ts";
import { decodeId, encodeId } from "../ids.ts";
import { ERRORS, Reject, type Attachment, type ErrorCode } from "../protocol.ts";
import { parseAfter, type After, type Readable } from "../streams/reader.ts";
import { onlyOf, type TurnRow } from "../store/turns.ts";
import { allows, whenEnded, type TurnEnd } from "../turn.ts";
import type { Ask, Started } from "../turns/starts.ts";

/** Refused sends: the sentence says when it is free again. */
export const checkSends = ({ sends, isDraining }: Gate, user: string): void => {
  if (isDraining()) throw new Reject("shutting_down", ERRORS.shutting_down, 5);
  const waitMs = sends.take(user);
  if (waitMs > 0) throw new Reject("rate_limited", ERRORS.rate_limited, waitMs / 1000);
};

/** The idempotency key with a digest of everything that makes two sends the same send. */
export const clientOf = (id: string, body: unknown): NonNullable<Ask["client"]> => ({
  id,
  hash: new Bun.CryptoHasher("sha256").update(JSON.stringify(body)).digest("hex"),
});

export const onlyBots = (call: Call): Pick<Ask, "onlyBots"> =>
  call.caller.key?.bots ? { onlyBots: call.caller.key.bots } : {};

/** Is a turn one of a key for the bots `only`? By the bot that has it or must; before that by those that may get it (absent: all). */
const isOf = (bot: string | null | undefined, may: Set<string> | undefined, only: Set<string> | undefined): boolean => {
  if (!only) return true;
  return typeof bot === "string" ? only.has(bot) : (may?.isSubsetOf(only) ?? false);
};

type Finished = { botId: string | null; content: string; attachments: Attachment[]; at: number };

export const chatRoutes = (gate: Gate): Route[] => {
  const { config, store, bots, turns, streams, now } = gate;

  /** A turn that is over, in the shape readers take. Undefined when its conversation was deleted. */
  const ended = (row: TurnRow): (Readable & Finished) | undefined => {
    const message = store.turns.message(row.id);
    const conversation = store.turns.conversation(row.conversation);
    if (!message || !conversation || conversation.deleted_at !== null) return undefined;
    const end: TurnEnd = {
      state: message.state as TurnEnd["state"],
      finish: message.state === "cancelled" ? "cancelled" : "stop",
      ...(message.error_code !== null && {
        error: {
          code: message.error_code,
          message: message.error_text ?? "",
          retryable: message.error_code !== "too_large",
        },
      }),
    };
    return {
      id: row.id,
      key: encodeId(row.id),
      user: row.user,
      conversationKey: encodeId(row.conversation),
      botId: message.bot ?? undefined,
      botName: message.bot_name ?? undefined,
      generation: row.generation,
      text: message.content,
      visible: message.content.length,
      tail: "",
      tailFrom: -1,
      attachments: store.attachments.ofMessage(row.id),
      activity: undefined,
      ended: end,
      readers: undefined,
      content: message.content,
      at: message.updated_at,
    } as Readable & Finished;
  };

  const replayOf = (row: TurnRow): Readable & Finished => {
    const turn = ended(row);
    if (!turn) throw new Reject("not_found");
    return turn;
  };

  const start = async (call: Call): Promise<Started> => {
    const body = chatBody(await call.body(), config().limits.textChars);
    checkSends(gate, call.caller.user);
    const { clientId, sent } = body;
    // Filled in place, as all that is made for every chat: its spreads took 0.8 µs.
    const ask: Ask = {
      message: sent.message,
      attachments: sent.attachments,
      user: call.caller.user,
      source: "api",
      requestId: call.requestId(),
    };
    if (sent.target !== undefined) ask.target = sent.target;
    if (sent.image !== undefined) ask.image = sent.image;
    if (sent.conversation !== undefined) ask.conversation = sent.conversation;
    if (clientId !== undefined) ask.client = clientOf(clientId, sent);
    if (call.caller.key?.bots) ask.onlyBots = call.caller.key.bots;
    return turns.start(ask);
  };

  /** A turn of the caller; a key with a list of bots has none but theirs. */
  const own = (call: Call): { open?: NonNullable<ReturnType<typeof turns.get>>; row?: TurnRow } => {
    const { user, key } = call.caller;
    const id = decodeId(call.params.id ?? "");
    const open = turns.get(id);
    if (open?.user === user && isOf(open.botId ?? open.wanted.target, open.wanted.only, key?.bots)) return { open };
    const row = open ? undefined : store.turns.get(id);
    if (row?.user === user && isOf(row.bot ?? row.target, onlyOf(row), key?.bots)) return { row };
    throw new Reject("not_found");
  };

  const stream = (call: Call, turn: Readable, after: After | undefined, lives: boolean): Response => {
    const body = streams.openTurn(turn, after, gate.access(call), lives);
    call.server.timeout(call.request, 60);
    return call.events(body);
  };

  const answer = (
    call: Call,
    keys: { turnId: string; conversationId: string },
    end: TurnEnd,
    got: Omit<Finished, "botId"> & { botId: string | null | undefined },
  ): Response => {
    if (end.error) {
      const known = ERRORS[end.error.code as ErrorCode] as { zh: string; en: string } | undefined;
      const sentence = end.error.message;
      throw new Reject(
        known ? (end.error.code as ErrorCode) : "bot_failed",
        sentence ? { zh: sentence, en: sentence } : known,
      );
    }
    const said: Record<string, unknown> = {
      botId: got.botId,
      content: got.content,
      timestamp: got.at,
      turnId: keys.turnId,
      conversationId: keys.conversationId,
      messageId: keys.turnId,
    };
    if (got.attachments.length > 0) said.attachments = got.attachments;
    if (end.state === "cancelled") said.finish = "cancelled";
    return call.json(said);
  };

  return [
    {
      method: "GET",
      path: "/api/bots",
      auth: "user",
      scope: "chat",
      handle: (call) => {
        const only = call.caller.key?.bots;
        return call.json({ bots: bots.list(call.caller.user).filter(({ id }) => allows(only, id)) });
      },
    },
    {
      method: "POST",
      path: "/api/chat",
      auth: "user",
      scope: "chat",
      handle: async (call) => {
        const started = await start(call);
        if ("row" in started) {
          const turn = replayOf(started.row);
          return answer(call, { turnId: turn.key, conversationId: turn.conversationKey }, turn.ended!, {
            ...turn,
            at: turn.at,
          });
        }
        const { turn } = started;
        const release = gate.keepAlive(call);
        let end: TurnEnd;
        try {
          end = await whenEnded(turn);
        } finally {
          release();
        }
        const keys = { turnId: turn.key, conversationId: turn.conversationKey };
        return answer(call, keys, end, {
          botId: turn.botId,
          content: turn.text,
          attachments: turn.attachments,
          at: now(),
        });
      },
    },
    {
      method: "POST",
      path: "/api/chat/stream",
      auth: "user",
      scope: "chat",
      handle: async (call) => {
        const giveRoom = streams.takeRoom(call.caller.user);
        let started: Started;
        try {
          started = await start(call);
        } finally {
          giveRoom();
        }
        return stream(call, "row" in started ? replayOf(started.row) : started.turn, undefined, false);
      },
    },
    {
      method: "GET",
      path: "/api/turns/:id/stream",
      auth: "user",
      scope: "chat",
      handle: (call) => {
        const { open, row } = own(call);
        const after = parseAfter(call.request.headers.get("last-event-id") ?? call.query("after"));
        return stream(call, open ?? replayOf(row!), after, true);
      },
    },
    {
      method: "POST",
      path: "/api/turns/:id/cancel",
      auth: "user",
      scope: "chat",
      handle: async (call) => {
        const { open, row } = own(call);
        if (open) {
          turns.cancel(open);
          await Promise.race([whenEnded(open), Bun.sleep(2000)]);
        }
        return call.json({ turnId: call.params.id, state: open?.state ?? row!.state });
      },
    },
  ];
};
