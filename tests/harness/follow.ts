/**
 * A reader as a browser is one: follows a turn over cuts, restarts and silence by Last-Event-ID, and checks with every
 * event that its own count of the text is the server's.
 */
import type { Said } from "./rig.ts";
import { sseParser } from "./sse.ts";

export type Followed = {
  text: string;
  turn: string;
  conversation: string;
  /** How the turn ended: `stop`, `cancelled`, `silent`, or `error <code>`. */
  end: string;
  connections: number;
  replaced: number;
  faults: string[];
};

/** No byte for this long means that nobody is there any more: twice the heartbeat. */
const SILENT_MS = 30_000;

/**
 * Sends `message` (until it was accepted; the clientId makes repeats one) and follows the turn to its end.
 * `base` is asked each time, because the address may change. Gives up at `deadline` (performance.now()).
 */
export const follow = async (
  base: () => string,
  token: string,
  message: string,
  clientId: string,
  deadline: number,
  body: object = {},
): Promise<Followed> => {
  const got: Followed = { text: "", turn: "", conversation: "", end: "", connections: 0, replaced: 0, faults: [] };
  let lastId = "";

  const take = ({ id, text }: { id: string; text: string }): void => {
    const said = JSON.parse(text) as Said;
    if (id !== "") lastId = id;
    switch (said.type) {
      case "start":
        if (got.text !== "") got.faults.push("start after text");
        got.turn = said.turnId!;
        got.conversation = said.conversationId!;
        return;
      case "chunk":
        got.text += said.content!;
        break;
      case "replace":
        got.text = said.content!;
        got.replaced++;
        break;
      case "end":
        got.end = said.finish!;
        return;
      case "error":
        got.end = `error ${said.code}`;
        return;
      default:
        return;
    }
    const held = Number(lastId.split(":")[1]);
    if (held !== got.text.length) got.faults.push(`holds ${got.text.length}, told ${lastId}`);
  };

  const connect = (signal: AbortSignal): Promise<Response> => {
    const headers: Record<string, string> = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    if (got.turn === "") {
      const init = { method: "POST", headers, body: JSON.stringify({ message, clientId, ...body }), signal };
      return fetch(`${base()}/api/chat/stream`, init);
    }
    if (lastId !== "") headers["last-event-id"] = lastId;
    return fetch(`${base()}/api/turns/${got.turn}/stream`, { headers, signal });
  };

  while (got.end === "" && performance.now() < deadline) {
    const abort = new AbortController();
    let timer: Timer | undefined;
    const alive = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(), SILENT_MS);
    };
    alive();
    try {
      const response = await connect(abort.signal);
      got.connections++;
      if (response.status !== 200) {
        const said = await response.text();
        if (response.status < 500 && response.status !== 429) {
          got.end = `refused ${response.status} ${said}`;
          break;
        }
        throw new Error(said);
      }
      const parser = sseParser({ event: take });
      const decoder = new TextDecoder();
      for await (const piece of response.body!) {
        alive();
        parser.push(decoder.decode(piece, { stream: true }));
      }
    } catch {
      // Cut, refused or silent: again, from where we are.
    }
    clearTimeout(timer);
    abort.abort();
    if (got.end === "") await Bun.sleep(100 + Math.random() * 300);
  }
  return got;
};
