/** How a bot's socket is ended: with a code it can act on, and for good when it does not read. */
import { CLOSE, type CloseReason } from "../protocol.ts";
import type { Socket } from "../bots.ts";

/** A close frame waits behind what the peer has not read: it has this long to see the code before the socket is ended. */
const CLOSE_GRACE_MS = 5_000;

/** `text`: what the close frame says, at most 123 bytes (RFC 6455, 5.5). */
export const closeSocket = (ws: Socket, reason: CloseReason, text: string = reason): void => {
  const full = ws.getBufferedAmount() > 0;
  ws.close(CLOSE[reason], text);
  if (full) setTimeout(() => ws.terminate(), CLOSE_GRACE_MS).unref();
};

/** Answers a `register` that is not taken, in the form v1 bots understand, and ends the socket. `code`: for v2 bots. */
export const refuseRegister = (
  ws: Socket,
  error: string,
  code: string | undefined,
  reason: CloseReason,
  text: string,
): void => {
  ws.send(JSON.stringify({ type: "registered", success: false, error, ...(code !== undefined && { code }) }));
  closeSocket(ws, reason, text);
};
