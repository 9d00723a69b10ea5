/**
 * The least Bun program that relays a chat: one Map, JSON.parse, JSON.stringify; no login, no checks, no storage.
 * The measure of every ratio in docs/benchmarks.md. Prints its port as one line of JSON.
 *
 * With a file as its argument it also keeps what a chat says before it is told (storing.ts): what that promise alone costs.
 */
type Waiting = (content: string, done: boolean) => void;

let bot: Bun.ServerWebSocket<unknown> | undefined;
let next = 0;
const waiting = new Map<string, Waiting>();
// Not loaded where it is not used: the plain relay is what everything is measured against.
const store = process.argv[2] ? (await import("./storing.ts")).createStoring(process.argv[2]) : undefined;

const ask = (body: { message: string; image?: string }, on: Waiting): string => {
  const id = String(++next);
  waiting.set(id, on);
  bot!.send(
    JSON.stringify({ type: "chat", id, content: body.message, from: "x", image: body.image, timestamp: Date.now() }),
  );
  return id;
};

const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  idleTimeout: 0,
  maxRequestBodySize: 64 * 1024 * 1024,
  routes: {
    "/health": () => new Response("ok"),
    "/bot-ws": (request, server) => (server.upgrade(request) ? undefined : new Response("", { status: 400 })),
    "/api/chat": {
      POST: async (request) => {
        const body = (await request.json()) as { message: string };
        if (store) await store("user", body.message);
        const content = await new Promise<string>((resolve) => {
          let text = "";
          ask(body, (part, done) => {
            text += part;
            if (done) resolve(text);
          });
        });
        if (store) await store("bot", content);
        return Response.json({ botId: "bot", content, timestamp: Date.now() });
      },
    },
    "/api/chat/stream": {
      POST: async (request) => {
        const body = (await request.json()) as { message: string };
        return new Response(
          new ReadableStream({
            start(controller) {
              controller.enqueue(`data: ${JSON.stringify({ type: "start", botId: "bot" })}\n\n`);
              ask(body, (content, done) => {
                controller.enqueue(`data: ${JSON.stringify({ type: "chunk", content, done })}\n\n`);
                if (!done) return;
                controller.enqueue(`data: ${JSON.stringify({ type: "end" })}\n\n`);
                controller.close();
              });
            },
          }),
          { headers: { "Content-Type": "text/event-stream" } },
        );
      },
    },
  },
  fetch: () => new Response("", { status: 404 }),
  websocket: {
    maxPayloadLength: 64 * 1024 * 1024,
    message(ws, data) {
      const frame = JSON.parse(String(data)) as { type: string; replyTo: string; content: string; done: boolean };
      if (frame.type === "register") {
        bot = ws;
        ws.send(JSON.stringify({ type: "registered", success: true }));
      } else if (frame.type === "reply") {
        const on = waiting.get(frame.replyTo);
        if (frame.done) waiting.delete(frame.replyTo);
        on?.(frame.content, frame.done);
      }
    },
  },
});
process.stdout.write(`${JSON.stringify({ port: server.port })}\n`);
export {};
