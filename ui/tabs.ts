/**
 * Which tabs of this browser hold a stream.
 *
 * On http a browser opens six connections to a host, over all its tabs; a stream holds one for as long as its tab lives, so the
 * seventh tab would wait for ever. A tab that is looked at always has its stream; of the hidden ones only those looked at
 * last, and they tell the others what changed in the list, so that every title counts right.
 *
 * Must stay true: without BroadcastChannel, or alone, a tab has its stream; a tab that vanished without a word is forgotten.
 */
import type { UserEvent } from "../lib/protocol.ts";
import { randomId } from "./keep.ts";

export type Tabs = {
  /** Whether this tab should hold a stream now. */
  streams: () => boolean;
  /** Passes on to the tabs without a stream what concerns the list. */
  share: (event: UserEvent) => void;
};

type Peer = { visible: boolean; seenAt: number; heardAt: number };
type Word =
  | { kind: "here"; id: string; visible: boolean; seenAt: number }
  | { kind: "gone"; id: string }
  | { kind: "event"; id: string; event: UserEvent };

/** Streams of one browser; the other three connections are for calls. */
const STREAMS = 3;
const WORD_MS = 20_000;
/** Timers of hidden tabs run once a minute. */
const FORGET_MS = 150_000;

/** `changed`: `streams()` may have changed. `heard`: another tab passes on an event. `name` tells gateways apart. */
export const createTabs = (name: string, on: { changed: () => void; heard: (event: UserEvent) => void }): Tabs => {
  const id = randomId();
  const peers = new Map<string, Peer>();
  let seenAt = Date.now();
  let channel: BroadcastChannel | undefined;
  try {
    channel = new BroadcastChannel(`nexus ${name}`);
  } catch {
    channel = undefined;
  }
  const visible = (): boolean => document.visibilityState === "visible";

  /** How many tabs come before this one. */
  const rank = (): number => {
    const old = Date.now() - FORGET_MS;
    let before = 0;
    for (const [other, peer] of peers) {
      if (peer.heardAt < old) peers.delete(other);
      else if (peer.visible || peer.seenAt > seenAt || (peer.seenAt === seenAt && other > id)) before++;
    }
    return before;
  };
  const streams = (): boolean => visible() || rank() < STREAMS;

  const say = (word: Word): void => channel?.postMessage(word);
  const here = (): void => say({ kind: "here", id, visible: visible(), seenAt });

  channel?.addEventListener("message", ({ data }: MessageEvent<Word>) => {
    if (data.kind === "event") {
      if (!streams()) on.heard(data.event);
      return;
    }
    if (data.kind === "gone") peers.delete(data.id);
    else {
      const known = peers.has(data.id);
      peers.set(data.id, { visible: data.visible, seenAt: data.seenAt, heardAt: Date.now() });
      if (!known) here();
    }
    on.changed();
  });
  document.addEventListener("visibilitychange", () => {
    seenAt = Date.now(); // the moment of coming and of going: both are when it was looked at last
    here();
    on.changed();
  });
  addEventListener("pagehide", () => say({ kind: "gone", id }));
  addEventListener("pageshow", (event) => event.persisted && here());
  setInterval(() => {
    here();
    on.changed();
  }, WORD_MS);
  here();

  return {
    streams,
    share: (event) => {
      if (peers.size >= STREAMS && /^conversation/.test(event.type)) say({ kind: "event", id, event });
    },
  };
};
