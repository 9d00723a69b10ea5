/**
 * What a returning reader of /api/events is told before it is live: state by revision, not a log of chunks.
 *
 * A generator, pulled while the reader drains. The stream becomes live in the same synchronous step in which the generator
 * finds nothing more to say, and no commit can fall between, so nothing is missed and nothing needs a queue meanwhile.
 */
import type { Bots } from "./bots.ts";
import { encodeId } from "./ids.ts";
import type { People } from "./people.ts";
import type { Store } from "./store.ts";
import { MAX_GAP_ROWS } from "./store/conversations.ts";
import type { Streams } from "./streams.ts";
import { SLICE, type Access } from "./streams/reader.ts";
import { allows } from "./turn.ts";
import type { Turns } from "./turns.ts";
import { turnEvent } from "./turns/publish.ts";

/** Rows per read while catching up. */
const PAGE = 100;

export const createSync = (deps: { people: People; store: Store; bots: Bots; streams: Streams; turns: Turns }) => {
  const { people, store, bots, streams, turns } = deps;
  const { event } = streams;
  const idOf = (rev: number): string => `${store.epoch}:${rev}`;

  /** The rev a Last-Event-ID stands for; undefined: none was given; "reset": not ours, or from before a restored backup. */
  const revOf = (lastEventId: string | null): number | "reset" | undefined => {
    if (lastEventId === null || lastEventId === "") return undefined;
    const at = lastEventId.lastIndexOf(":");
    const rev = Number(lastEventId.slice(at + 1));
    if (lastEventId.slice(0, at) !== store.epoch || !Number.isSafeInteger(rev) || rev > store.rev()) return "reset";
    return rev;
  };

  /**
   * What changed after `from`, up to the last commit before its first word; returns the revision it has told, and `from`
   * itself when there was nothing to tell. What is committed while it is being read comes with the next call: a message
   * of a conversation that did not exist when this one began must not come before it.
   */
  function* changedSince(user: string, from: number): Generator<string, number> {
    let rev = from;
    const upto = store.rev();
    const conversations = store.conversations.changedConversations(user, rev);
    // Conversations first and without an id, so that a message always finds its own, and a cut loses nothing.
    for (const { conversation, deleted } of conversations)
      yield event(
        conversation
          ? { type: "conversation", conversation }
          : { type: "conversation_deleted", id: encodeId(deleted!) },
      );
    for (;;) {
      const page = store.conversations.changedMessages(user, rev, upto, PAGE);
      for (const one of page) {
        rev = one.rev;
        yield event({ type: "message", message: one.message }, idOf(rev));
      }
      if (page.length < PAGE) break;
    }
    const last = conversations.at(-1);
    if (!last || last.rev <= rev) return rev;
    yield event(
      last.conversation
        ? { type: "conversation", conversation: last.conversation }
        : { type: "conversation_deleted", id: encodeId(last.deleted!) },
      idOf(last.rev),
    );
    return last.rev;
  }

  /** Snapshots of open turns, in slices, until each is told to its newest character. */
  function* openTurns(
    user: string,
    told: Map<string, { generation: number; offset: number }>,
  ): Generator<string, boolean> {
    let said = false;
    for (const turn of turns.openOf(user)) {
      let at = told.get(turn.key);
      if (!at || at.generation !== turn.generation) {
        at = { generation: turn.generation, offset: Math.min(turn.visible, SLICE) };
        told.set(turn.key, at);
        said = true;
        yield event(turnEvent(turn, turn.text.slice(0, at.offset)));
        if (turn.activity) yield event({ type: "activity", turnId: turn.key, ...turn.activity });
      }
      while (at.generation === turn.generation && at.offset < turn.visible) {
        const upto: number = Math.min(turn.visible, at.offset + SLICE);
        const content = turn.text.slice(at.offset, upto);
        const { offset } = at;
        at.offset = upto;
        said = true;
        yield event({ type: "chunk", turnId: turn.key, generation: turn.generation, offset, content });
      }
    }
    return said;
  }

  return {
    /** Yields the events of one reader, first `hello`; returns its last `bots` when it may go live. `only`: see Access. */
    *catchUp({ user, only }: Pick<Access, "user" | "only">, lastEventId: string | null): Generator<string, string> {
      const asked = revOf(lastEventId);
      const gap = typeof asked === "number" && store.conversations.gap(user, asked) > MAX_GAP_ROWS;
      const fresh = asked === undefined || asked === "reset" || gap;
      let rev = fresh ? store.rev() : asked;
      const hello = { type: "hello" as const, epoch: store.epoch, rev: store.rev(), user: people.info(user) };
      // With an id only when nothing was missed: a reader cut while catching up must ask for the same again.
      yield event(hello, fresh ? idOf(rev) : undefined);
      if (asked !== undefined && fresh) yield event({ type: "reset" });
      let toldBots = "";
      const told = new Map<string, { generation: number; offset: number }>();
      for (;;) {
        const before = rev;
        const online = event({ type: "bots", bots: bots.list(user).filter(({ id }) => allows(only, id)) });
        const botsChanged = online !== toldBots;
        toldBots = online;
        if (botsChanged) yield online;
        rev = yield* changedSince(user, rev);
        const said = yield* openTurns(user, told);
        if (!said && !botsChanged && rev === before) return toldBots;
      }
    },
  };
};

export type Sync = ReturnType<typeof createSync>;
