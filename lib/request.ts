/** What a request carries, read with its faults: its address, its id, its Bearer token, its body. */
import { parseJson } from "./json.ts";
import { Reject } from "./protocol.ts";

/** Bytes of a body that are given back at once. */
const LARGE = 64 * 1024;

/** What a proxy calls this request: short and plain, because it goes into the log and to the bot. */
export const givenId = (request: Request): string | undefined => {
  const given = request.headers.get("x-request-id");
  return given !== null && /^[\w.:/+=-]{1,128}$/.test(given) ? given : undefined;
};

/** Its address; a Host header that is none makes it none. Rejects `bad_request`. */
export const urlOf = ({ url }: Request): URL => {
  if (URL.canParse(url)) return new URL(url);
  throw new Reject("bad_request", {
    zh: "请求的地址无效（Host）",
    en: "The address of the request is not valid (Host)",
  });
};

/** The token of `Authorization: Bearer`. */
export const bearer = (request: Request): string | undefined => {
  const header = request.headers.get("authorization");
  return header !== null && /^bearer /i.test(header) ? header.slice(7).trim() : undefined;
};

/** The body as JSON, at most `max` bytes. Rejects too_large, bad_request. */
export const readJson = async (request: Request, max: number): Promise<unknown> => {
  const tooLarge = (): Reject =>
    new Reject("too_large", { zh: `请求体超过 ${max} 字节`, en: `The body is over ${max} bytes` });
  if (Number(request.headers.get("content-length") ?? 0) > max) throw tooLarge();
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = (await request.bytes()) as Uint8Array<ArrayBuffer>;
  } catch {
    throw new Reject("bad_request", { zh: "请求体不完整", en: "The body did not arrive whole" });
  }
  if (bytes.length > max) throw tooLarge();
  try {
    return parseJson(bytes);
  } catch {
    throw new Reject("bad_request", { zh: "请求体不是合法的 JSON", en: "The body is not valid JSON" });
  } finally {
    // Not left to the collector: eight pictures at once would each be held a second time until it comes.
    if (bytes.length > LARGE) bytes.buffer.transfer(0);
  }
};
