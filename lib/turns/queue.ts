/**
 * Turns that wait for a bot, in the order they came. Everyone waiting is told their place.
 *
 * Owns the list and its bound (limits.queuedTurns). Refuses to choose a bot: `give` does, and says whether it could.
 */
import type { Turn } from "../turn.ts";
import type { Core } from "./core.ts";

export const createQueue = ({ config, streams }: Pick<Core, "config" | "streams">, give: (turn: Turn) => boolean) => {
  let waiting: Turn[] = [];
  /** Seats of turns that are being stored and will come. */
  let coming = 0;
  let hurried = false;

  const announce = (): void => {
    waiting.forEach((turn, i) => {
      if (turn.activity?.position === i + 1) return;
      turn.activity = { kind: "queued", position: i + 1 };
      streams.activity(turn, turn.activity);
    });
  };

  const advance = (): void => {
    hurried = false;
    const before = waiting;
    waiting = [];
    const stay = before.filter((turn) => !turn.ending && !give(turn));
    // A turn that was given and could not be written is back by now: behind those that never left.
    waiting = [...stay, ...waiting];
    announce();
  };

  return {
    add: (turn: Turn): void => {
      waiting.push(turn);
      announce();
    },
    remove: (turn: Turn): void => {
      const at = waiting.indexOf(turn);
      if (at < 0) return;
      waiting.splice(at, 1);
      announce();
    },
    /** Room for one more; the returned function gives the seat back (once it is in the queue, or needs none). */
    takeSeat: (): (() => void) | undefined => {
      const most = config().limits.queuedTurns;
      if (most > 0 && waiting.length + coming >= most) return undefined;
      coming++;
      return () => {
        coming--;
      };
    },
    /** There may be room at a bot: looks soon, once for everything that happens in this turn of the event loop. */
    hurry: (): void => {
      if (hurried || waiting.length === 0) return;
      hurried = true;
      setImmediate(advance);
    },
    length: (): number => waiting.length,
  };
};
