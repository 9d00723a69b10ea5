/**
 * Files both ways: a person's files into the host's media store, the agent's files as bytes for the gateway.
 *
 * Bounded by `mediaMaxMb`. Local files are read by the host's loader and only from the folders the host allows for the
 * agent. Refuses nothing by type: the gateway decides what may be shown.
 */
import type { PluginRuntime } from "openclaw/plugin-sdk/channel-core";
import { toInboundMediaFacts } from "openclaw/plugin-sdk/channel-inbound";
import { loadWebMedia } from "openclaw/plugin-sdk/web-media";
import type { Turn, TurnFile } from "../client.ts";

export type InboundMedia = ReturnType<typeof toInboundMediaFacts>;

/** Saves a turn's files where the agent finds them. A file that cannot be had is named in `missing`, the rest goes on. */
export const receiveFiles = async (options: {
  turn: Turn;
  runtime: PluginRuntime;
  maxBytes: number;
}): Promise<{ media: InboundMedia; missing: string[] }> => {
  const { turn, runtime, maxBytes } = options;
  const saved: { path: string; contentType: string | null; fileName: string; messageId: string }[] = [];
  const missing: string[] = [];
  for (const file of turn.attachments) {
    try {
      if (file.size > maxBytes) throw new Error(`larger than ${maxBytes} bytes`);
      const bytes = await turn.fetchAttachment(file);
      const stored = await runtime.channel.media.saveMediaBuffer(
        Buffer.from(bytes),
        file.mime || undefined,
        "inbound",
        maxBytes,
        file.name,
      );
      const { path, contentType } = stored;
      saved.push({ path, contentType: contentType ?? (file.mime || null), fileName: file.name, messageId: turn.id });
    } catch (error) {
      if (turn.signal.aborted) throw error;
      missing.push(`${file.name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return { media: toInboundMediaFacts(saved), missing };
};

type LoadOptions = NonNullable<Parameters<typeof loadWebMedia>[1]>;

/** The bytes behind a media reference of the host: a path in an allowed folder, or a URL. Throws when it may not be read. */
export const loadFile = async (url: string, options: LoadOptions): Promise<TurnFile> => {
  const media = await loadWebMedia(url, options);
  const mime = media.contentType ?? "application/octet-stream";
  const name = media.fileName ?? url.split(/[/\\?#]/).findLast((part) => part !== "") ?? "file";
  const { buffer } = media;
  return { name, mime, data: new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength) };
};
