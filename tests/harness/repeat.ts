/**
 * Finds whole WebSocket frames in the bytes of one direction of a connection, for a proxy that lets some arrive twice.
 *
 * Passes HTTP through as it is. The first text frame of each direction is never repeated: a socket registers once.
 */

/** Length of the frame that begins `bytes`, and whether it is an unfragmented text frame; undefined while it is not whole. */
const frameAt = (bytes: Uint8Array): { size: number; text: boolean } | undefined => {
  if (bytes.length < 2) return undefined;
  const short = bytes[1]! & 127;
  const masked = (bytes[1]! & 128) !== 0;
  const head = (short < 126 ? 2 : short === 126 ? 4 : 10) + (masked ? 4 : 0);
  if (bytes.length < head) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const payload = short < 126 ? short : short === 126 ? view.getUint16(2) : Number(view.getBigUint64(2));
  return bytes.length < head + payload ? undefined : { size: head + payload, text: bytes[0] === 0x81 };
};

const join = (a: Uint8Array, b: Uint8Array): Uint8Array => {
  if (a.length === 0) return b;
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
};

/**
 * A function from what was read to what is passed on. `twice` is asked for each text frame but the first; `request` is given
 * each POST that came whole in one read.
 */
export const repeater = (twice: () => boolean, request: (bytes: Uint8Array) => void = () => {}) => {
  let kind: "unknown" | "http" | "head" | "frames" = "unknown";
  let rest: Uint8Array = new Uint8Array(0);
  let seen = 0;

  const isWhole = (text: string, size: number): boolean => {
    const at = text.indexOf("\r\n\r\n");
    const length = /\r\ncontent-length: (\d+)/i.exec(text.slice(0, at))?.[1];
    return at > 0 && length !== undefined && size === at + 4 + Number(length);
  };

  return (bytes: Uint8Array): Uint8Array[] => {
    if (kind === "unknown" || kind === "http") {
      const text = Buffer.from(bytes).toString("latin1");
      if (kind === "unknown") kind = /^GET \/bot-ws |^HTTP\/1\.1 101 /.test(text) ? "head" : "http";
      if (kind === "http") {
        if (text.startsWith("POST ") && isWhole(text, bytes.length)) request(bytes);
        return [bytes];
      }
    }
    rest = join(rest, bytes);
    const out: Uint8Array[] = [];
    if (kind === "head") {
      const at = Buffer.from(rest).indexOf("\r\n\r\n");
      if (at < 0) return [];
      out.push(rest.subarray(0, at + 4));
      rest = rest.subarray(at + 4);
      kind = "frames";
    }
    for (let frame = frameAt(rest); frame; frame = frameAt(rest)) {
      const whole = rest.subarray(0, frame.size);
      rest = rest.subarray(frame.size);
      out.push(whole);
      if (frame.text && ++seen > 1 && twice()) out.push(whole);
    }
    return out;
  };
};
