/** What a bot says, to whom it belongs: an open turn it holds, the inbox, or nobody, which it is told. */
import type { Connection } from "./bots.ts";
import { decodeId } from "./ids.ts";
import type { Inbox } from "./inbox.ts";
import type { Log } from "./log.ts";
import type { BotFrame, GatewayFrame, RegisterFrame } from "./protocol.ts";
import type { Turns } from "./turns.ts";

export const createHearing =
  (deps: { turns: Turns; inbox: Inbox; send: (connection: Connection, frame: GatewayFrame) => void; log: Log }) =>
  (connection: Connection, frame: Exclude<BotFrame, RegisterFrame | { type: "pong" }>): void => {
    const { turns, inbox, send, log } = deps;
    if (frame.type === "message") return inbox.message(connection, frame);
    const id = frame.type === "ack" ? frame.id : (frame.replyTo ?? "");
    const turn = turns.get(decodeId(id));
    if (!turn) return inbox.stray(connection, frame);
    if (turns.frame(connection, frame, turn)) return;
    // One line per doubling: a bot that lost a turn may go on talking about it.
    const strays = ++connection.strays;
    if ((strays & (strays - 1)) === 0) log("warn", "not_your_turn", { bot: connection.botId, turn: id, strays });
    send(connection, {
      type: "error",
      code: "not_your_turn",
      id,
      message: "This turn was not given to this connection",
    });
  };
