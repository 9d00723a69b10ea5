/** All patches of `bun run mutate`, one or more per promise; tests/mutate.test.ts holds them to the code every day. */
import { DELIVERY } from "./delivery.ts";
import { LIMITS } from "./limits.ts";
import type { Patch } from "./patch.ts";
import { SECURITY } from "./security.ts";

export const PATCHES: readonly Patch[] = [...DELIVERY, ...LIMITS, ...SECURITY];
