/**
 * Limits that count: token buckets, counters with a maximum, and whose address a request comes from.
 *
 * What must stay true: memory is bounded whatever keys strangers invent (B4), and inventing keys does not free a key that
 * is blocked; the client address is never taken from a header that a trusted proxy did not vouch for (S7).
 * Refuses to know what is being limited or to answer anybody: callers turn a refusal into an answer.
 */
import { type Address, type Block, formatAddress, inBlock, parseAddress, parseBlock } from "./config/address.ts";

/** B4: about 15 MB of keys at worst. */
const MOST_KEYS = 100_000;
/** How many entries are looked at to make room for one. Of so many, the one with the least debt goes. */
const SAMPLE = 8;

/** Moments are floating-point numbers of about 1.8e12: their last digit is worth 0.0002 ms. */
const ROUNDING_MS = 0.01;

/**
 * Token buckets, one per key: `burst` at once, then one every `refillMs`. Both are asked each time, so a reload counts at
 * once. A bucket is one number (the moment at which it will be full again), and a full one needs no entry at all.
 */
export const createBuckets = ({
  burst,
  refillMs,
  now,
  mostKeys = MOST_KEYS,
}: {
  burst: () => number;
  refillMs: () => number;
  now: () => number;
  mostKeys?: number;
}) => {
  const fullAt = new Map<string, number>();
  let hand = fullAt.keys();

  const nextKey = (): string | undefined => {
    let step = hand.next();
    if (step.done) {
      hand = fullAt.keys();
      step = hand.next();
    }
    return step.done ? undefined : step.value;
  };

  /**
   * Makes room for one. A full bucket goes first: it says nothing. Else, of a sample walking around the Map, the one that
   * would be full soonest, i.e. with the least debt: a stranger's new keys have a debt of one and push out each other. To
   * free a blocked key he must keep the Map full of keys in debt and have others around it that are blocked harder.
   */
  const evict = (): void => {
    const at = now();
    let least: { key: string; full: number } | undefined;
    for (let i = 0; i < SAMPLE; i++) {
      const key = nextKey();
      if (key === undefined) break;
      const full = fullAt.get(key)!;
      if (!least || full < least.full) least = { key, full };
      if (full <= at) break;
    }
    if (least) fullAt.delete(least.key);
  };

  const set = (key: string, full: number, at: number): void => {
    if (full <= at) {
      fullAt.delete(key);
      return;
    }
    if (!fullAt.has(key) && fullAt.size >= mostKeys) evict();
    fullAt.set(key, full);
  };

  /** When the bucket of `key` is full. Cut to what an empty one needs: a clock set back must not lock anybody out longer. */
  const fullFrom = (key: string, at: number): number => {
    const full = fullAt.get(key);
    if (full === undefined || full <= at) return at;
    const latest = at + burst() * refillMs();
    if (full <= latest) return full;
    fullAt.set(key, latest);
    return latest;
  };

  const waitFrom = (key: string, at: number): number => {
    const wait = fullFrom(key, at) - at - (burst() - 1) * refillMs();
    return wait > ROUNDING_MS ? wait : 0;
  };

  return {
    /** Milliseconds until `key` may take one; 0: now. Takes nothing. */
    waitMs: (key: string): number => waitFrom(key, now()),
    /** Takes one and returns 0, or takes nothing and returns the milliseconds until one is there. */
    take(key: string): number {
      const at = now();
      const wait = waitFrom(key, at);
      if (wait === 0) set(key, fullFrom(key, at) + refillMs(), at);
      return wait;
    },
    /** Returns one that was taken: it turned out not to count. */
    giveBack(key: string): void {
      const full = fullAt.get(key);
      if (full !== undefined) set(key, full - refillMs(), now());
    },
    /** Fills the bucket of `key`. */
    forget(key: string): void {
      fullAt.delete(key);
    },
    /** Entries held, for tests and metrics. */
    size: (): number => fullAt.size,
  };
};

export type Buckets = ReturnType<typeof createBuckets>;

/** Counts what is open per key, up to `most()`; a lowered maximum applies to whoever comes next. Bounded by what is open. */
export const createCounter = ({ most }: { most: () => number }) => {
  const open = new Map<string, number>();
  let total = 0;
  return {
    /** Counts one more and returns true, or returns false when `key` is at the maximum. */
    enter(key: string): boolean {
      const count = open.get(key) ?? 0;
      if (count >= most()) return false;
      open.set(key, count + 1);
      total++;
      return true;
    },
    /** For each `enter` that returned true, exactly once. */
    leave(key: string): void {
      const count = open.get(key);
      if (count === undefined) return;
      total--;
      if (count === 1) open.delete(key);
      else open.set(key, count - 1);
    },
    count: (key: string): number => open.get(key) ?? 0,
    total: (): number => total,
  };
};

export type Counter = ReturnType<typeof createCounter>;

/** `trustedProxies` of the config, parsed once per config. What does not parse was refused there. */
export const trustedBlocks = (proxies: readonly string[]): Block[] =>
  proxies.flatMap((text) => {
    const block = parseBlock(text);
    return block ? [block] : [];
  });

const trusts = (address: Address, trusted: readonly Block[]): boolean =>
  trusted.some((block) => inBlock(address, block));

/** Whether the socket's other end is a proxy whose headers count. */
export const isTrusted = (socketAddress: string, trusted: readonly Block[]): boolean => {
  const address = parseAddress(socketAddress);
  return address !== undefined && trusts(address, trusted);
};

/** One entry of X-Forwarded-For: `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1`, `[2001:db8::1]:5678`, quoted or not. */
const forwarded = (entry: string): Address | undefined => {
  const text = entry.trim().replace(/^"(.*)"$/, "$1");
  const bracketed = /^\[([^\]]*)\](?::\d{1,5})?$/.exec(text)?.[1];
  if (bracketed !== undefined) return parseAddress(bracketed);
  return parseAddress(text) ?? parseAddress(text.replace(/:\d{1,5}$/, ""));
};

/** Proxies add one entry each; a longer list is somebody's joke. */
const MOST_HOPS = 50;

/**
 * Whose address a request counts under (PROTOCOL 5). The socket's, unless that is a trusted proxy: then the right-most
 * untrusted entry of X-Forwarded-For, or X-Real-IP where that is all the proxy sends. An entry that is no address ends the
 * search at the hop that reported it.
 *
 * A proxy that sets only X-Real-IP (v1's nginx block) passes the client's own X-Forwarded-For through. Where both are there
 * and the last entry of the list is not X-Real-IP, one of them is the client's invention and nothing tells which: the
 * proxy's address counts, so that whoever plays this shares one bucket with all who do.
 */
export const clientAddress = (headers: Headers, socketAddress: string, trusted: readonly Block[]): string => {
  const socket = parseAddress(socketAddress);
  if (!socket) return socketAddress; // a unix socket has none
  if (trusted.length === 0 || !trusts(socket, trusted)) return formatAddress(socket);
  const list = headers.get("x-forwarded-for");
  const realHeader = headers.get("x-real-ip");
  const real = realHeader === null ? undefined : forwarded(realHeader);
  if (list === null || list.trim() === "") return formatAddress(real ?? socket);
  const hops = list.split(",").slice(-MOST_HOPS);
  const last = forwarded(hops[hops.length - 1]!);
  if (real && (!last || last.bits !== real.bits || last.value !== real.value)) return formatAddress(socket);
  let known = socket;
  for (let i = hops.length - 1; i >= 0; i--) {
    const hop = forwarded(hops[i]!);
    if (!hop) break;
    known = hop;
    if (!trusts(hop, trusted)) break;
  }
  return formatAddress(known);
};

/** `proxied`: the socket's other end is a trusted proxy. `counts`: toward connectionsPerAddress; a proxy's own do not. */
export type Sender = { address: string; proxied: boolean; counts: boolean };

/** Senders that stay known: those of a busy hour. */
const MOST_SENDERS = 1_000;

/** Who sent a request, by `trustedProxies`; known for each address that speaks for itself (parsing takes 3 µs). */
export const createSenders = (trustedProxies: readonly string[]) => {
  const trusted = trustedBlocks(trustedProxies);
  const direct = new Map<string, Sender>();
  const look = (headers: Headers, socketAddress: string): Sender => {
    const proxied = isTrusted(socketAddress, trusted);
    const address = clientAddress(headers, socketAddress, trusted);
    return { address, proxied, counts: !(proxied && isTrusted(address, trusted)) };
  };
  return {
    of: (headers: Headers, socketAddress: string): Sender => {
      const known = direct.get(socketAddress);
      if (known) return known;
      const sender = look(headers, socketAddress);
      if (sender.proxied) return sender; // its headers decide, and they change
      if (direct.size >= MOST_SENDERS) direct.clear();
      direct.set(socketAddress, sender);
      return sender;
    },
  };
};

/** What a limiter counts an address by: an IPv6 customer has a whole /64 to choose from, so that is one key. */
export const addressKey = (address: string): string => {
  const parsed = parseAddress(address);
  if (!parsed || parsed.bits === 32) return address;
  return `${formatAddress({ bits: 128, value: (parsed.value >> 64n) << 64n })}/64`;
};
