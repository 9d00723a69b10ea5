/**
 * A scripted model service: what it was asked is kept, what it answers is written by the test, byte by byte if need be.
 * It knows nothing of the adapters.
 */

export type Asked = { path: string; headers: Headers; body: Record<string, unknown>; aborted: () => boolean };
export type Answer = (asked: Asked) => Response | Promise<Response>;

/** A body whose pieces go out one by one; a number waits that many milliseconds, "cut" breaks the line. */
export const pieces = (
  parts: (string | Uint8Array | number)[],
  more: { cut?: boolean; status?: number } = {},
): Response => {
  const encoder = new TextEncoder();
  const body = new ReadableStream({
    async start(controller) {
      for (const part of parts) {
        if (typeof part === "number") await Bun.sleep(part);
        else controller.enqueue(typeof part === "string" ? encoder.encode(part) : part);
        await new Promise((resolve) => setImmediate(resolve));
      }
      if (more.cut) controller.error(new Error("cut"));
      else controller.close();
    },
  });
  return new Response(body, { status: more.status ?? 200, headers: { "Content-Type": "text/event-stream" } });
};

const data = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`;

/** Chunks of OpenAI's stream. */
export const openAi = {
  text: (content: string, finish_reason: string | null = null): string =>
    data({ choices: [{ index: 0, delta: { content }, finish_reason }] }),
  finish: (reason = "stop"): string => data({ choices: [{ index: 0, delta: {}, finish_reason: reason }] }),
  usage: (prompt_tokens: number, completion_tokens: number): string =>
    data({ choices: [], usage: { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens } }),
  error: (message: string, type: string): string => data({ error: { message, type } }),
  done: "data: [DONE]\n\n",
};

const event = (type: string, more: object): string => `event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`;

/** Events of the Messages API. */
export const anthropic = {
  start: (input_tokens: number): string => event("message_start", { message: { usage: { input_tokens } } }),
  ping: event("ping", {}),
  text: (text: string): string => event("content_block_delta", { index: 0, delta: { type: "text_delta", text } }),
  thinking: (thinking: string): string =>
    event("content_block_delta", { index: 0, delta: { type: "thinking_delta", thinking } }),
  end: (output_tokens: number): string =>
    event("message_delta", { delta: { stop_reason: "end_turn" }, usage: { output_tokens } }) +
    event("message_stop", {}),
  error: (message: string, type: string): string => event("error", { error: { type, message } }),
};

/** Refuses with a status, as services do. */
export const refusal = (status: number, error: object, headers: Record<string, string> = {}): Response =>
  Response.json({ error }, { status, headers });

/** Answers one after the other; the last one again and again. */
export const startFake = (...answers: Answer[]) => {
  const asked: Asked[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 30,
    development: false,
    error: () => new Response(null, { status: 500 }),
    fetch: async (request) => {
      let aborted = false;
      request.signal.addEventListener("abort", () => {
        aborted = true;
      });
      const one: Asked = {
        path: new URL(request.url).pathname + new URL(request.url).search,
        headers: request.headers,
        body: (await request.json()) as Record<string, unknown>,
        aborted: () => aborted,
      };
      asked.push(one);
      return answers[Math.min(asked.length, answers.length) - 1]!(one);
    },
  });
  return { asked, url: `http://127.0.0.1:${server.port}`, stop: () => server.stop(true) };
};
