/** What bots.ts tells whoever made it: it knows connections, they know turns. */
import type { Connection } from "../bots.ts";
import type { BotFrame, RegisterFrame } from "../protocol.ts";

export type BotHooks = {
  /** In the Map and told so; `replaced` is the connection it took the place of. */
  joined(connection: Connection, replaced: Connection | undefined): void;
  /** For `registered.pending`, asked before `joined`. */
  pending(connection: Connection): { id: string; seq: number }[];
  frame(connection: Connection, frame: Exclude<BotFrame, RegisterFrame | { type: "pong" }>): void;
  left(connection: Connection): void;
  /** Who is online, or what they can, changed. */
  changed(): void;
};
