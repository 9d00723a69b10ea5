/**
 * The secret by which a v2 bot shows that it is the one from before. Only its SHA-256 is stored; it is good for one
 * (botId, instanceId) and changes at each registration.
 */
import type { Admitted } from "../admit.ts";
import { digest, newSecret } from "../auth.ts";
import type { Store } from "../store.ts";

export const createBotSessions = (store: Store, now: () => number) => ({
  /**
   * Stores a new secret; resolves with it once committed, and whether the one it presented was good. That one stays good
   * until the new one has been presented, so that a crash in between loses nothing. Rejects `storage_failed`.
   */
  rotate: async (
    { botId, instance }: Pick<Admitted, "botId" | "instance">,
    presented: string | undefined,
  ): Promise<{ session: string; resumed: boolean }> => {
    const row = store.access.botSession(botId, instance);
    const hash = presented === undefined ? undefined : digest(presented);
    const resumed = hash !== undefined && row !== undefined && (hash === row.hash || hash === row.previous);
    const session = newSecret("nxb_");
    await store.access.putBotSession({
      bot: botId,
      instance,
      hash: digest(session),
      previous: resumed ? hash : null,
      updated_at: now(),
    });
    return { session, resumed };
  },

  /**
   * Whether `presented` is the one before the newest. Said beside a live connection that holds the newest, it comes from a
   * socket that was given up before that one was opened, and arrived late.
   */
  isOlder: ({ botId, instance }: Pick<Admitted, "botId" | "instance">, presented: string): boolean =>
    store.access.botSession(botId, instance)?.previous === digest(presented),

  /** Whose newest secret this digest is. */
  owner: (hash: string): Pick<Admitted, "botId" | "instance"> | undefined => {
    const row = store.access.botSessionByHash(hash);
    return row && { botId: row.bot, instance: row.instance };
  },
});
