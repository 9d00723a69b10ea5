/** Server-sent events out of a byte stream, for streams that EventSource cannot open (a Bearer token, our own backoff). */

export type SseItem = { id: string | undefined; data: string };

/** A parser to feed with text as it arrives; CR, LF and CRLF may stand anywhere, also between two pieces. */
export const createSseParser = (onItem: (item: SseItem) => void): ((text: string) => void) => {
  let line = "";
  let afterCr = false;
  let data: string[] = [];
  let id: string | undefined;
  const endOfLine = (): void => {
    if (line === "") {
      if (data.length) onItem({ id, data: data.join("\n") });
      data = [];
      id = undefined;
    } else if (!line.startsWith(":")) {
      const at = line.indexOf(":");
      const field = at < 0 ? line : line.slice(0, at);
      const value = at < 0 ? "" : line.slice(at + (line[at + 1] === " " ? 2 : 1));
      if (field === "data") data.push(value);
      else if (field === "id") id = value;
    }
    line = "";
  };
  return (text) => {
    let start = 0;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code === 10 && afterCr && i === start) {
        afterCr = false;
        start = i + 1;
      } else if (code === 10 || code === 13) {
        line += text.slice(start, i);
        endOfLine();
        afterCr = code === 13;
        start = i + 1;
      } else afterCr = false;
    }
    line += text.slice(start);
  };
};
