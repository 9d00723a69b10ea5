/**
 * Makes one reply out of what the host says about one run: growing partial texts, finished messages, notices, errors.
 *
 * A run may hold several assistant messages (text, tool, text). Each is a segment; segments are joined by an empty line.
 * What must stay true: a finished message is in the reply exactly once, whether it was streamed before or not; what the
 * reader sees is only replaced when the host revised it. Pure: it writes to the three functions it is given.
 */

export type TranscriptSink = {
  write(text: string): void;
  replace(text: string): void;
};

/** The host's token for "no answer"; models stream it before the host can hide it. */
const SILENT = "NO_REPLY";

const squash = (text: string): string => text.replace(/\s+/g, " ").trim();

export const createTranscript = (sink: TranscriptSink) => {
  /** Finished segments with their separators. */
  let settled = "";
  /** The segment that is being streamed. */
  let open = "";
  const said = new Set<string>();
  /** The message that `whole` closed: its partial texts may come late, until the next one begins. */
  let closed = "";
  const notices: string[] = [];
  const gap = () => (settled === "" || settled.endsWith("\n\n") ? "" : settled.endsWith("\n") ? "\n" : "\n\n");

  const show = (text: string) => {
    if (text === open) return;
    if (text.startsWith(open)) sink.write(open === "" ? gap() + text : text.slice(open.length));
    else sink.replace(settled + gap() + text);
    open = text;
  };

  const settle = () => {
    if (open === "") return;
    settled += gap() + open;
    said.add(squash(open));
    open = "";
  };

  const next = () => {
    settle();
    closed = "";
  };

  return {
    /** The current message so far, whole. */
    partial: (text: string) => {
      if (open === "" && closed.startsWith(squash(text))) return;
      if (open === "" && (text.trim() === "" || SILENT.startsWith(text.trim()))) return;
      show(text);
    },
    /** Another assistant message begins: what was streamed stays. */
    next,
    /**
     * The current message is complete, and goes on with a tool. It may have been streamed, in part or not at all. Returns
     * whether it is in the reply.
     */
    whole: (text: string): boolean => {
      const words = squash(text);
      if (words === "" || words === SILENT) return false;
      // What is open is a beginning of it, or another message, which has its own end.
      if (!words.startsWith(squash(open))) return false;
      if (open === "" && said.has(words)) return true;
      if (squash(open) !== words) show(text.startsWith(open) ? text : open + words.slice(squash(open).length));
      settle();
      closed = words;
      return true;
    },
    /** A finished message. Returns what of it is in the reply. */
    say: (text: string) => {
      if (text.trim() === "") return;
      if (open === "" && said.has(squash(text))) return; // it was streamed, or came as a block before
      show(text);
      settle();
    },
    /** Text of the host's own, shown only when the run says nothing else. */
    notice: (text: string) => {
      if (text.trim() !== "") notices.push(text.trim());
    },
    /** Closes the reply. Returns whether there is any text in it. */
    finish: (): boolean => {
      if (open !== "" && SILENT.startsWith(open.trim())) {
        sink.replace(settled);
        open = "";
      }
      settle();
      if (settled === "" && notices.length > 0) {
        const text = notices.join("\n\n");
        sink.write(text);
        settled = text;
      }
      return settled !== "";
    },
  };
};
export type Transcript = ReturnType<typeof createTranscript>;
