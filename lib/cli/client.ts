/**
 * A person's side of the HTTP API for the terminal: ask, follow the stream over broken lines, stop, look back.
 *
 * Knows only docs/protocol.md. What must stay true: the text handed on is the answer's, once and in order, also when the
 * stream was cut and continued; every failure is a sentence (ChatFailure).
 */
import { sseEvents } from "../models/upstream.ts";
import type { Conversation, Message, TurnEvent } from "../protocol.ts";
import type { Language } from "./command.ts";

/** A sentence for the person; `status` where the gateway refused. */
export class ChatFailure extends Error {
  readonly status: number | undefined;
  constructor(sentence: string, status?: number) {
    super(sentence);
    this.status = status;
  }
}

export type Answered = { conversationId: string | undefined; finish: string };
export type Hears = { start?: (botName: string) => void; text: (text: string) => void };
export type Question = { message: string; bot?: string | undefined; conversation?: string | undefined };

/** A line that broke is tried again so often, with these waits between. */
const TRIES = 6;
const WAIT_MS = 500;

export const createClient = (server: string, key: string | undefined, language: Language) => {
  let token = key;

  const send = async (path: string, init: RequestInit = {}): Promise<Response> => {
    const headers = {
      "Accept-Language": language,
      ...(token && { Authorization: `Bearer ${token}` }),
      ...(init.body != null && { "Content-Type": "application/json" }),
      ...(init.headers as Record<string, string> | undefined),
    };
    let response: Response;
    try {
      response = await fetch(server + path, { ...init, headers, timeout: false } as RequestInit);
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new ChatFailure(language === "zh" ? `连不上 ${server}` : `${server} cannot be reached`);
    }
    if (response.ok) return response;
    const body = (await response.json().catch(() => ({}))) as { error?: unknown };
    const said = typeof body.error === "string" ? body.error : `${server}: ${response.status}`;
    throw new ChatFailure(said, response.status);
  };

  const json = async <T>(method: string, path: string, body?: unknown): Promise<T> =>
    (await (await send(path, { method, ...(body !== undefined && { body: JSON.stringify(body) }) })).json()) as T;

  /** Reads one stream to its end. Returns whether the turn is over. */
  const listen = async (response: Response, on: (event: TurnEvent, id: string) => void): Promise<boolean> => {
    let over = false;
    try {
      for await (const { data, id } of sseEvents(response.body!, () => {})) {
        const event = JSON.parse(data) as TurnEvent;
        on(event, id);
        if (event.type === "end") over = true;
        if (event.type === "error") throw new ChatFailure(event.error);
      }
    } catch (error) {
      if (error instanceof ChatFailure) throw error; // anything else: the line broke
    }
    return over;
  };

  return {
    login: async (username: string, password: string): Promise<void> => {
      token = (await json<{ token: string }>("POST", "/api/login", { username, password })).token;
    },

    newConversation: async (): Promise<string> => (await json<{ id: string }>("POST", "/api/conversations", {})).id,

    /** The newest conversation with this bot (or any). */
    lastConversation: async (bot: string | undefined): Promise<string | undefined> => {
      const { conversations } = await json<{ conversations: Conversation[] }>("GET", "/api/conversations?limit=50");
      return conversations.find(({ botId }) => bot === undefined || botId === bot)?.id;
    },

    history: async (conversation: string, limit: number): Promise<Message[]> =>
      (await json<{ messages: Message[] }>("GET", `/api/conversations/${conversation}/messages?limit=${limit}`))
        .messages,

    /** Asks and hands the answer on. When `stop` aborts, the turn is cancelled and what was said stays. */
    ask: async ({ message, bot, conversation }: Question, stop: AbortSignal, hears: Hears): Promise<Answered> => {
      let turn: string | undefined;
      let conversationId: string | undefined;
      let finish = "stop";
      let after = "";
      let said = "";
      const tell = (text: string): void => {
        said += text;
        if (text !== "") hears.text(text);
      };
      const on = (event: TurnEvent, id: string): void => {
        if (id !== "") after = id;
        if (event.type === "start") {
          if (turn === undefined) hears.start?.(event.botName);
          turn = event.turnId;
          conversationId = event.conversationId;
          if (stop.aborted) void cancel();
        } else if (event.type === "chunk") tell(event.content);
        else if (event.type === "replace") {
          // A terminal cannot take back what stands on it.
          const more = event.content.startsWith(said) ? event.content.slice(said.length) : `\n\n${event.content}`;
          tell(more);
        } else if (event.type === "attachment") tell(`\n[${event.attachment.name} ${server}${event.attachment.url}]`);
        else if (event.type === "end") finish = event.finish;
      };
      const cancel = async (): Promise<void> => {
        if (turn !== undefined) await send(`/api/turns/${turn}/cancel`, { method: "POST" }).catch(() => {});
      };
      const onStop = (): void => void cancel();
      stop.addEventListener("abort", onStop);
      try {
        const body = {
          message,
          clientId: crypto.randomUUID(),
          ...(bot !== undefined && { target: bot }),
          ...(conversation !== undefined && { conversationId: conversation }),
        };
        const again = (): Promise<Response> => send("/api/chat/stream", { method: "POST", body: JSON.stringify(body) });
        let over = await listen(await again(), on);
        for (let tries = 1; !over; tries++) {
          if (tries > TRIES)
            throw new ChatFailure(
              language === "zh" ? "连接断了，回答没有完" : "the line broke before the answer ended",
            );
          await Bun.sleep(WAIT_MS * tries);
          const path = `/api/turns/${turn}/stream`;
          // Before the start nothing is known but our clientId, and the same send is the same turn.
          const next = turn === undefined ? again() : send(path, after ? { headers: { "Last-Event-ID": after } } : {});
          const response = await next.catch((error: unknown) => {
            if (tries === TRIES) throw error;
            return undefined;
          });
          if (response) over = await listen(response, on);
        }
        return { conversationId, finish };
      } finally {
        stop.removeEventListener("abort", onStop);
      }
    },
  };
};

export type Client = ReturnType<typeof createClient>;
