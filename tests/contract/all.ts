/** The whole published contract as one list; order does not matter. */
import { bots } from "./bots.ts";
import { chats } from "./chats.ts";
import type { Check } from "./check.ts";
import { people } from "./people.ts";

export const CHECKS: Check[] = [...people, ...bots, ...chats];
