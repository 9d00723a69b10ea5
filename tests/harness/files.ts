/** Files for tests, and the two sides that send and fetch them. */
import type { Attachment } from "../../lib/protocol.ts";
import type { V2Bot } from "./bots.ts";
import type { Answer } from "./client.ts";
import type { Person } from "./person.ts";

/** A picture of 2 by 3 points. */
export const PNG = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAIAAAA2iEnWAAAAEUlEQVR4nGNgYGD4z8DAAAAGAAEBr9ySpQAAAABJRU5ErkJggg==",
  "base64",
);
export const DATA_URL = `data:image/png;base64,${PNG.toString("base64")}`;

export const upload = (
  who: Person,
  bytes: Uint8Array | string,
  headers: Record<string, string> = {},
): Promise<Answer<Attachment>> =>
  who.call<Attachment>("POST", "/api/attachments", bytes, {
    headers: { "Content-Type": "application/octet-stream", ...headers },
  });

/** `who`: a person, or a token of anybody. */
export const download = (url: string, id: string, who: Person | string): Promise<Response> =>
  fetch(`${url}/api/attachments/${id}`, {
    headers: { Authorization: `Bearer ${typeof who === "string" ? who : who.token}` },
  });

/** What a bot does with its session over HTTP. */
export const asBot = (url: string, bot: V2Bot | string, path: string, body?: Uint8Array): Promise<Response> =>
  fetch(url + path, {
    method: body ? "POST" : "GET",
    headers: {
      Authorization: `Bearer ${typeof bot === "string" ? bot : bot.registered.session}`,
      "Content-Type": "image/png",
      "X-Filename": "bot.png",
    },
    ...(body && { body }),
  });
