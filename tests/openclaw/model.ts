/**
 * A fake OpenAI-compatible model for the host: what it answers is written in the person's message.
 *
 * Words it obeys: `SAY:<text>` (that text, in small pieces), `STREAM:<n>` (n numbered words, `PACE:<ms>` between them; 0: all in one piece),
 * `FOREVER` (until the connection is cut), `TOOL` (text, a tool call, text), `MEDIA:<path>` (text with a file),
 * `SEND:<user>` (the message tool, and with `QUIET` not a word after it), `SILENT` (the host's token for no answer, however often it is asked), `FAIL` (HTTP 400), `RECALL` (every earlier message of the session), `LOOK` (what
 * kinds of files it was shown). It keeps every request, so that a test can look at what the host asked.
 */

export type ModelRequest = {
  messages: { role: string; content: unknown; tool_calls?: unknown }[];
  tools?: { function: { name: string } }[];
  stream?: boolean;
};

type Part = { type?: string; text?: string };
const textOf = (content: unknown): string =>
  typeof content === "string" ? content : ((content as Part[] | null) ?? []).map((part) => part.text ?? "").join("\n");

/** The person's latest words. The host appends a message of its own after them, so they are in the last two. */
const latest = (request: ModelRequest) => {
  const { messages } = request;
  let from = messages.length;
  while (from > 0 && messages[from - 1]?.role === "user") from--;
  const tail = messages.slice(Math.max(from, messages.length - 2));
  const beforeTools = messages.findLastIndex(
    (message, i) => i < from && message.role === "assistant" && !message.tool_calls,
  );
  return {
    /** All that was said since the last answer, before a tool as well. */
    asked: messages
      .slice(beforeTools + 1)
      .flatMap((message) => (message.role === "user" ? [textOf(message.content)] : []))
      .join("\n"),
    afterTool: messages.slice(0, from).findLast((message) => message.role !== "system")?.role === "tool",
    text: tail.map((message) => textOf(message.content)).join("\n"),
    parts: tail.flatMap((message) => message.content),
  };
};

type Answer = { text: string; paceMs: number; tool?: { name: string; args: object }; forever?: boolean };

export const createModel = () => {
  const requests: ModelRequest[] = [];
  /** Connections the host cut before the answer was whole: a cancelled run. */
  let cut = 0;
  let gate: Promise<void> = Promise.resolve();
  let release = () => {};

  const answer = (request: ModelRequest): Answer => {
    const { text, parts, afterTool, asked } = latest(request);
    const pace = Number(/PACE:(\d+)/.exec(text)?.[1] ?? 5);
    // The host does not take silence for an answer in a direct chat and asks again, with words of its own.
    if (asked.includes("SILENT") || (afterTool && asked.includes("QUIET"))) return { text: "NO_REPLY", paceMs: pace };
    if (afterTool) return { text: "The tool is done. All good.", paceMs: pace };
    if (text.includes("FOREVER")) return { text: "on and on ", paceMs: 30, forever: true };
    if (text.includes("RECALL")) {
      const users = request.messages
        .filter((message) => message.role === "user")
        .map((message) => textOf(message.content));
      const marks = users.flatMap((words) => words.match(/MARK-\w+/g) ?? []);
      return { text: `I remember: ${[...new Set(marks)].join(",") || "nothing"}.`, paceMs: pace };
    }
    if (text.includes("LOOK")) {
      const kinds = (parts as Part[]).map((part) => part?.type ?? "text").filter((kind) => kind !== "text");
      const files = text.match(/\[media attached[^\]]*\]|media:\/\/\S+|\S+\/inbound\/\S+/g) ?? [];
      return { text: `I see: ${kinds.join(",") || "nothing"}; files: ${files.length}.`, paceMs: pace };
    }
    const stream = /STREAM:(\d+)/.exec(text);
    if (stream)
      return { text: Array.from({ length: Number(stream[1]) }, (_, i) => `word${i} `).join(""), paceMs: pace };
    const send = /SEND:(\S+)/.exec(text);
    if (send) {
      const args = { action: "send", channel: "nexus", target: send[1], message: "hello from the message tool" };
      return { text: "", paceMs: pace, tool: { name: "message", args } };
    }
    if (text.includes("TOOL"))
      return { text: "Let me look. ", paceMs: pace, tool: { name: "ls", args: { path: "." } } };
    const media = /MEDIA:(\S+)/.exec(text);
    if (media) return { text: `Here is the file.\nMEDIA:${media[1]}`, paceMs: pace };
    return { text: `You said: ${/SAY:(.*)/.exec(text)?.[1]?.trim() ?? "?"}`, paceMs: pace };
  };

  const respond = async (request: ModelRequest): Promise<Response> => {
    const { text, paceMs, tool, forever } = answer(request);
    const base = { id: "chatcmpl-fake", object: "chat.completion.chunk", created: 1, model: "fake-1" };
    const call = tool && {
      id: `call_${requests.length}`,
      type: "function",
      function: { name: tool.name, arguments: JSON.stringify(tool.args) },
    };
    const usage = { prompt_tokens: 10, completion_tokens: 10, total_tokens: 20 };
    const finish = call ? "tool_calls" : "stop";
    if (!request.stream) {
      const message = { role: "assistant", content: text, ...(call ? { tool_calls: [call] } : {}) };
      return Response.json({
        ...base,
        object: "chat.completion",
        choices: [{ index: 0, finish_reason: finish, message }],
        usage,
      });
    }
    const line = (value: object) => `data: ${JSON.stringify(value)}\n\n`;
    const delta = (content: object, reason: string | null = null) =>
      line({ ...base, choices: [{ index: 0, delta: content, finish_reason: reason }] });
    let whole = false;
    async function* events() {
      try {
        yield delta({ role: "assistant", content: "" });
        await gate;
        // Without a pace it is one piece, text and tool call together, as from a service that does not really stream.
        if (paceMs === 0) {
          const calls = call ? delta({ tool_calls: [{ index: 0, ...call }] }) : "";
          whole = true;
          yield `${delta({ content: text })}${calls}${delta({}, finish)}${line({ ...base, choices: [], usage })}data: [DONE]\n\n`;
          return;
        }
        do {
          for (const piece of text.match(/[\s\S]{1,8}/g) ?? []) {
            yield delta({ content: piece });
            await Bun.sleep(paceMs);
          }
        } while (forever);
        if (call) yield delta({ tool_calls: [{ index: 0, ...call }] });
        yield delta({}, finish);
        yield line({ ...base, choices: [], usage });
        whole = true;
        yield "data: [DONE]\n\n";
      } finally {
        if (!whole) cut++;
      }
    }
    return new Response(events() as unknown as ReadableStream, { headers: { "Content-Type": "text/event-stream" } });
  };

  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 60,
    fetch: async (request) => {
      const { pathname } = new URL(request.url);
      if (pathname.endsWith("/models"))
        return Response.json({ object: "list", data: [{ id: "fake-1", object: "model" }] });
      if (!pathname.endsWith("/chat/completions")) return new Response("no", { status: 404 });
      const body = (await request.json()) as ModelRequest;
      requests.push(body);
      if (latest(body).text.includes("FAIL"))
        return Response.json(
          { error: { message: "the model refuses", type: "invalid_request_error" } },
          { status: 400 },
        );
      return respond(body);
    },
  });

  return {
    requests,
    get cut() {
      return cut;
    },
    url: `http://127.0.0.1:${server.port}/v1`,
    /** Answers begin but hold back their text until `open()`. */
    close: () => {
      gate = new Promise((resolve) => {
        release = resolve;
      });
    },
    open: () => release(),
    stop: () => server.stop(true),
  };
};
export type Model = ReturnType<typeof createModel>;
