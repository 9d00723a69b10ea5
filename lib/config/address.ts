/**
 * IP addresses and address blocks as numbers: what trustedProxies means, and what a limiter may count by.
 *
 * What must stay true: one address has one form (an IPv4 address mapped into IPv6 is that IPv4 address), and whatever
 * does not parse is undefined, never a guess. Refuses names: nothing here asks a resolver.
 */

/** `bits` is 32 or 128; an IPv4-mapped IPv6 address is held as IPv4. */
export type Address = { bits: 32 | 128; value: bigint };
export type Block = Address & { prefix: number };

const parseV4 = (text: string): bigint | undefined => {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  let value = 0n;
  for (const part of parts) {
    // No leading zeros: some programs read them as octal, and two readings of one address are a way around a limit.
    if (!/^(?:0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    value = (value << 8n) | BigInt(part);
  }
  return value;
};

const parseV6 = (text: string): bigint | undefined => {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const groups = (half: string): bigint[] | undefined => {
    if (half === "") return [];
    const out: bigint[] = [];
    const parts = half.split(":");
    for (const [i, part] of parts.entries()) {
      if (i === parts.length - 1 && part.includes(".")) {
        const v4 = parseV4(part);
        if (v4 === undefined) return undefined;
        out.push(v4 >> 16n, v4 & 0xffffn);
      } else if (/^[\da-f]{1,4}$/i.test(part)) out.push(BigInt(`0x${part}`));
      else return undefined;
    }
    return out;
  };
  const head = groups(halves[0]!);
  const tail = halves.length === 2 ? groups(halves[1]!) : [];
  if (!head || !tail) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  // The IPv4 form is only valid as the last group.
  if (halves.length === 2 && halves[0]!.includes(".")) return undefined;
  return [...head, ...Array<bigint>(missing).fill(0n), ...tail].reduce((value, group) => (value << 16n) | group, 0n);
};

const MAPPED = 0xffffn << 32n;

/** An address, without a port; a zone (`fe80::1%eth0`) is dropped. */
export const parseAddress = (text: string): Address | undefined => {
  if (text.length > 64) return undefined;
  const v4 = parseV4(text);
  if (v4 !== undefined) return { bits: 32, value: v4 };
  const v6 = parseV6(text.replace(/%[\w.-]+$/, ""));
  if (v6 === undefined) return undefined;
  return v6 >> 32n === MAPPED >> 32n ? { bits: 32, value: v6 & 0xffffffffn } : { bits: 128, value: v6 };
};

/** `10.0.0.0/8`, `::1/128` or a single address. Host bits may be set (`127.0.0.1/8`); a mapped block needs /96 or more. */
export const parseBlock = (text: string): Block | undefined => {
  const slash = text.indexOf("/");
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (!address) return undefined;
  if (slash < 0) return { ...address, prefix: address.bits };
  const digits = text.slice(slash + 1);
  if (!/^\d{1,3}$/.test(digits)) return undefined;
  const mapped = address.bits === 32 && text.includes(":");
  const prefix = Number(digits) - (mapped ? 96 : 0);
  return prefix < 0 || prefix > address.bits ? undefined : { ...address, prefix };
};

export const inBlock = (address: Address, block: Block): boolean => {
  if (address.bits !== block.bits) return false;
  const shift = BigInt(block.bits - block.prefix);
  return address.value >> shift === block.value >> shift;
};

/** The address as text, always the same text for the same address. */
export const formatAddress = ({ bits, value }: Address): string => {
  if (bits === 32) return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 0xffn)).join(".");
  const groups = Array.from({ length: 8 }, (_, i) => ((value >> BigInt(112 - i * 16)) & 0xffffn).toString(16));
  // The longest run of two or more zero groups becomes "::" (RFC 5952).
  let best = { from: 0, length: 1 };
  for (let from = 0; from < 8; from++) {
    let length = 0;
    while (groups[from + length] === "0") length++;
    if (length > best.length) best = { from, length };
  }
  if (best.length < 2) return groups.join(":");
  return `${groups.slice(0, best.from).join(":")}::${groups.slice(best.from + best.length).join(":")}`;
};
