/** A conversation as a file: Markdown of the branch a person sees, or JSON of everything. Written in slices, not at once. */
import type { Call } from "./http.ts";
import type { Message } from "./protocol.ts";
import type { Store } from "./store.ts";

const PAGE = 200;

/** The messages of the newest versions: what stands below an older version of an edited question is left out. */
export const newestBranch = (messages: Message[]): Message[] => {
  const newest = new Map<string, string>();
  for (const { id, role, parentId = "" } of messages) if (role === "user") newest.set(parentId, id);
  const hidden = new Set<string>();
  return messages.filter(({ id, role, parentId = "" }) => {
    const hide = hidden.has(parentId) || (role === "user" && newest.get(parentId) !== id);
    if (hide) hidden.add(id);
    return !hide;
  });
};

const markdown = ({ role, botName, botId, content, createdAt, state, attachments }: Message, name: string): string => {
  const who = role === "user" ? name : (botName ?? botId ?? "bot");
  const when = new Date(createdAt).toISOString().slice(0, 16).replace("T", " ");
  const mark = state === "failed" || state === "cancelled" ? ` (${state})` : "";
  const files = attachments.map((file) => `\n- ${file.name} (${file.mime}, ${file.size} B)`).join("");
  return `\n## ${who} · ${when} UTC${mark}\n\n${content}${files}\n`;
};

/** `filename` for old readers, `filename*` (RFC 6266, RFC 5987) for everyone else. */
export const disposition = (kind: "inline" | "attachment", name: string): string =>
  `${kind}; filename="${name.replace(/[^\x20-\x7e]|["\\%]/g, "_")}"; filename*=UTF-8''${encodeURIComponent(name.toWellFormed()).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)}`;

/** Rejects `not_found` when it is not the caller's. */
export const exportConversation = async (
  store: Store,
  call: Call,
  id: number,
  format: "md" | "json",
): Promise<Response> => {
  const { user, entry } = call.caller;
  const conversation = await store.conversations.get(user, id);
  const messages: Message[] = [];
  for (let before: number | undefined = Number.MAX_SAFE_INTEGER; before !== undefined;) {
    const page: Awaited<ReturnType<typeof store.conversations.messages>> = await store.conversations.messages(
      user,
      id,
      PAGE,
      before,
    );
    messages.unshift(...page.messages);
    before = page.next;
    await Bun.sleep(0); // a long conversation must not hold up the streams of others
  }
  const title = conversation.title || id.toString(36);
  const body =
    format === "json"
      ? JSON.stringify({ conversation, messages }, null, 2)
      : `# ${title}\n${newestBranch(messages)
          .map((message) => markdown(message, entry.displayName))
          .join("")}`;
  return new Response(body, {
    headers: {
      ...call.headers,
      "Content-Type": format === "json" ? "application/json; charset=utf-8" : "text/markdown; charset=utf-8",
      "Content-Disposition": disposition(
        "attachment",
        `${title.replace(/[/\\:*?"<>|\n\r\t]/g, " ").trim() || "conversation"}.${format}`,
      ),
      "Cache-Control": "no-store",
    },
  });
};
