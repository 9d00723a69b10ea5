/** Token buckets, counters, bounded memory (B4), and whose address a request counts under (S7). */
import { describe, expect, test } from "bun:test";
import { formatAddress, inBlock, parseAddress, parseBlock } from "../lib/config/address.ts";
import { addressKey, clientAddress, createBuckets, createCounter, isTrusted, trustedBlocks } from "../lib/limits.ts";

const clock = (start = 1_800_000_000_000) => {
  let at = start;
  return { now: () => at, pass: (ms: number) => (at += ms), set: (ms: number) => (at = ms) };
};

describe("token buckets", () => {
  test("a bucket gives its burst, then one per refill, and says how long to wait", () => {
    const time = clock();
    const buckets = createBuckets({ burst: () => 5, refillMs: () => 60_000, now: time.now });
    for (let i = 0; i < 5; i++) expect(buckets.take("a")).toBe(0);
    expect(buckets.take("a")).toBe(60_000);
    time.pass(59_999);
    expect(buckets.take("a")).toBe(1);
    time.pass(1);
    expect(buckets.take("a")).toBe(0);
    expect(buckets.take("a")).toBe(60_000);
    time.pass(3_600_000);
    for (let i = 0; i < 5; i++) expect(buckets.take("a")).toBe(0);
    expect(buckets.take("a")).toBe(60_000);
  });

  test("keys do not touch each other, and a full bucket needs no memory", () => {
    const time = clock();
    const buckets = createBuckets({ burst: () => 1, refillMs: () => 1000, now: time.now });
    expect(buckets.take("a")).toBe(0);
    expect(buckets.take("b")).toBe(0);
    expect(buckets.take("a")).toBe(1000);
    buckets.giveBack("a");
    expect(buckets.take("a")).toBe(0);
    buckets.forget("a");
    expect(buckets.size()).toBe(1);
  });

  test("a raised or lifted limit counts at once", () => {
    const time = clock();
    let burst = 1;
    const buckets = createBuckets({ burst: () => burst, refillMs: () => 60_000 / burst, now: time.now });
    buckets.take("a");
    expect(buckets.take("a")).toBeGreaterThan(0);
    burst = Number.MAX_SAFE_INTEGER;
    for (let i = 0; i < 1000; i++) expect(buckets.take("a")).toBe(0);
  });

  test("a clock that is set back an hour locks nobody out for longer than an empty bucket would", () => {
    const time = clock();
    const buckets = createBuckets({ burst: () => 5, refillMs: () => 60_000, now: time.now });
    for (let i = 0; i < 5; i++) buckets.take("a");
    time.pass(-3_600_000);
    expect(buckets.take("a")).toBe(60_000);
    time.pass(60_000);
    expect(buckets.take("a")).toBe(0);
  });

  test("an odd rate is not refused by rounding", () => {
    const time = clock(1_800_000_000_123.456);
    const buckets = createBuckets({ burst: () => 7, refillMs: () => 60_000 / 7, now: time.now });
    for (let round = 0; round < 50; round++) {
      for (let i = 0; i < 7; i++) expect(buckets.take("a")).toBe(0);
      expect(buckets.take("a")).toBeGreaterThan(8_000);
      time.pass(60_000.7);
    }
  });

  test("a million random addresses leave at most 100,000 keys, and a blocked key stays blocked (B4)", () => {
    const time = clock();
    const buckets = createBuckets({ burst: () => 5, refillMs: () => 60_000, now: time.now });
    for (let i = 0; i < 5; i++) buckets.take("victim");
    let most = 0;
    for (let i = 0; i < 1_000_000; i++) {
      buckets.take(`2001:db8:${(i >> 16).toString(16)}:${(i & 0xffff).toString(16)}::/64`);
      if (i % 10_000 === 0) most = Math.max(most, buckets.size());
    }
    expect(most).toBeLessThanOrEqual(100_000);
    expect(buckets.size()).toBeLessThanOrEqual(100_000);
    expect(buckets.take("victim")).toBeGreaterThan(0);
  }, 30_000);

  test("when all is full, the keys that are nearly free go first", () => {
    const time = clock();
    const buckets = createBuckets({ burst: () => 5, refillMs: () => 60_000, now: time.now, mostKeys: 8 });
    for (let i = 0; i < 7; i++) for (let j = 0; j < 5; j++) buckets.take(`blocked ${i}`);
    buckets.take("once");
    for (let i = 0; i < 5; i++) buckets.take("newcomer");
    expect(buckets.size()).toBe(8);
    for (let i = 0; i < 7; i++) expect(buckets.take(`blocked ${i}`)).toBeGreaterThan(0);
  });
});

test("a counter refuses beyond its maximum, forgets what is closed, and follows a new maximum", () => {
  let most = 2;
  const counter = createCounter({ most: () => most });
  expect([counter.enter("a"), counter.enter("a"), counter.enter("a"), counter.enter("b")]).toEqual([
    true,
    true,
    false,
    true,
  ]);
  counter.leave("a");
  expect(counter.enter("a")).toBe(true);
  most = 1;
  counter.leave("a");
  expect(counter.enter("a")).toBe(false);
  counter.leave("a");
  counter.leave("a");
  counter.leave("b");
  expect([counter.count("a"), counter.total()]).toEqual([0, 0]);
});

describe("addresses", () => {
  test("one address has one form", () => {
    const forms: [string, string][] = [
      ["192.0.2.1", "192.0.2.1"],
      ["::ffff:192.0.2.1", "192.0.2.1"],
      ["::FFFF:c000:201", "192.0.2.1"],
      ["0:0:0:0:0:0:0:1", "::1"],
      ["2001:DB8:0:0:1:0:0:0", "2001:db8:0:0:1::"],
      ["2001:db8::1%eth0", "2001:db8::1"],
      ["::", "::"],
      ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
      ["64:ff9b::192.0.2.1", "64:ff9b::c000:201"],
    ];
    for (const [given, form] of forms) expect(formatAddress(parseAddress(given)!), given).toBe(form);
  });

  test("what is no address is refused, never guessed", () => {
    const bad =
      "1.2.3 1.2.3.4.5 256.1.1.1 01.2.3.4 1.2.3.-4 0x7f.1 127.1 ::1::2 1:2:3:4:5:6:7 1:2:3:4:5:6:7:8:9 12345:: :: :: g::1 1.2.3.4:: unknown localhost";
    for (const text of [...bad.split(" ").filter((word) => word !== "::"), "", " ::1", "1.2.3.4 "])
      expect(parseAddress(text), text).toBeUndefined();
  });

  test("blocks hold what they name", () => {
    const holds = (block: string, address: string) => inBlock(parseAddress(address)!, parseBlock(block)!);
    expect(holds("127.0.0.1/8", "127.255.0.1")).toBe(true);
    expect(holds("10.0.0.0/8", "11.0.0.0")).toBe(false);
    expect(holds("::ffff:10.0.0.0/104", "10.9.9.9")).toBe(true);
    expect(holds("0.0.0.0/0", "::1")).toBe(false);
    expect(holds("fd00::/8", "fdff::1")).toBe(true);
    expect(holds("2001:db8::1", "2001:db8::2")).toBe(false);
    for (const bad of ["10.0.0.0/33", "10.0.0.0/", "::/129", "10.0.0.0/-1", "x/8", "::ffff:10.0.0.0/95"])
      expect(parseBlock(bad), bad).toBeUndefined();
  });

  test("an IPv6 customer counts once whatever address of the /64 is used", () => {
    expect(addressKey("2001:db8:1:2:aaaa::1")).toBe("2001:db8:1:2::/64");
    expect(addressKey("2001:db8:1:2:bbbb::2")).toBe("2001:db8:1:2::/64");
    expect(addressKey("2001:db8:1:3::1")).not.toBe("2001:db8:1:2::/64");
    expect(addressKey("192.0.2.1")).toBe("192.0.2.1");
  });
});

describe("the client's address (S7)", () => {
  const TRUSTED = ["10.0.0.0/8", "fd00::/8"];
  const cases: [name: string, headers: Record<string, string>, socket: string, expected: string][] = [
    ["no proxy: the socket's", {}, "203.0.113.9", "203.0.113.9"],
    [
      "an untrusted sender's headers mean nothing",
      { "x-forwarded-for": "1.1.1.1", "x-real-ip": "1.1.1.1" },
      "203.0.113.9",
      "203.0.113.9",
    ],
    ["a trusted proxy without headers counts itself", {}, "10.0.0.1", "10.0.0.1"],
    ["the only entry", { "x-forwarded-for": "203.0.113.9" }, "10.0.0.1", "203.0.113.9"],
    [
      "a spoofed entry on the left is not reached",
      { "x-forwarded-for": "1.1.1.1, 203.0.113.9" },
      "10.0.0.1",
      "203.0.113.9",
    ],
    [
      "trusted hops on the right are passed",
      { "x-forwarded-for": "1.1.1.1, 203.0.113.9, 10.0.0.2, 10.0.0.3" },
      "10.0.0.1",
      "203.0.113.9",
    ],
    ["all trusted: the left-most", { "x-forwarded-for": "10.0.0.7, 10.0.0.2" }, "10.0.0.1", "10.0.0.7"],
    [
      "garbage ends the search at who reported it",
      { "x-forwarded-for": "203.0.113.9, unknown, 10.0.0.2" },
      "10.0.0.1",
      "10.0.0.2",
    ],
    ["garbage alone", { "x-forwarded-for": "' OR 1=1" }, "10.0.0.1", "10.0.0.1"],
    ["an empty list is none", { "x-forwarded-for": " ", "x-real-ip": "203.0.113.9" }, "10.0.0.1", "203.0.113.9"],
    [
      "ports, brackets and quotes are taken off",
      { "x-forwarded-for": '"[2001:db8::9]:443", 10.0.0.2:80' },
      "10.0.0.1",
      "2001:db8::9",
    ],
    [
      "IPv4 mapped into IPv6 is IPv4, in the socket",
      { "x-forwarded-for": "203.0.113.9" },
      "::ffff:10.0.0.1",
      "203.0.113.9",
    ],
    [
      "IPv4 mapped into IPv6 is IPv4, in the list",
      { "x-forwarded-for": "203.0.113.9, ::ffff:10.0.0.2" },
      "10.0.0.1",
      "203.0.113.9",
    ],
    ["an IPv6 proxy", { "x-forwarded-for": "2001:DB8:0::9" }, "fd00::1", "2001:db8::9"],
    ["X-Real-IP where that is all", { "x-real-ip": "203.0.113.9" }, "10.0.0.1", "203.0.113.9"],
    ["X-Real-IP that is no address", { "x-real-ip": "evil" }, "10.0.0.1", "10.0.0.1"],
    [
      "both, from one nginx",
      { "x-forwarded-for": "1.1.1.1, 203.0.113.9", "x-real-ip": "203.0.113.9" },
      "10.0.0.1",
      "203.0.113.9",
    ],
    [
      "both, at odds: one is invented, the proxy counts",
      { "x-forwarded-for": "1.1.1.1", "x-real-ip": "203.0.113.9" },
      "10.0.0.1",
      "10.0.0.1",
    ],
  ];
  for (const [name, headers, socket, expected] of cases)
    test(name, () => expect(clientAddress(new Headers(headers), socket, trustedBlocks(TRUSTED))).toBe(expected));

  test("without trusted proxies no header counts, not even from this machine", () => {
    const headers = new Headers({ "x-forwarded-for": "1.1.1.1", "x-real-ip": "1.1.1.1" });
    expect(clientAddress(headers, "127.0.0.1", [])).toBe("127.0.0.1");
    expect(isTrusted("127.0.0.1", [])).toBe(false);
    expect(isTrusted("::ffff:127.0.0.1", trustedBlocks(["127.0.0.1/8"]))).toBe(true);
  });

  test("a list of ten thousand hops costs nothing to speak of and is read from the right", () => {
    const list = `${"1.1.1.1, ".repeat(10_000)}203.0.113.9`;
    const began = performance.now();
    for (let i = 0; i < 100; i++)
      expect(clientAddress(new Headers({ "x-forwarded-for": list }), "10.0.0.1", trustedBlocks(TRUSTED))).toBe(
        "203.0.113.9",
      );
    expect(performance.now() - began).toBeLessThan(2_000);
  });
});
