/**
 * What this browser remembers: drafts, unsent messages, choices. Storage may be absent, full or forbidden (private mode,
 * in-app browsers), so every access may fail and then memory serves until the page closes. Theme and language also go
 * into a cookie, from which the gateway writes them into the page before the first paint.
 */
export type Keep = {
  get: (key: string) => string | undefined;
  set: (key: string, value: string | undefined) => void;
  /** Keys that begin so, without our own prefix. */
  keys: (prefix: string) => string[];
  cookie: (name: "theme" | "lang", value: string | undefined) => void;
  /** Tells of changes by other tabs. */
  onChange: (listener: (key: string, value: string | undefined) => void) => void;
};

const PREFIX = "nexus.";

export const createKeep = (): Keep => {
  /** What storage did not take: newer than what it holds. */
  const memory = new Map<string, string>();
  let storage: Storage | undefined;
  try {
    storage = window.localStorage;
  } catch {
    storage = undefined;
  }
  const tryRun = <T>(run: () => T): T | undefined => {
    try {
      return run();
    } catch {
      return undefined;
    }
  };
  return {
    get: (key) => memory.get(key) ?? tryRun(() => storage?.getItem(PREFIX + key) ?? undefined),
    set: (key, value) => {
      memory.delete(key);
      if (value === undefined) {
        tryRun(() => storage?.removeItem(PREFIX + key));
        return;
      }
      const taken = tryRun(() => {
        storage!.setItem(PREFIX + key, value);
        return true;
      });
      if (!taken) memory.set(key, value);
    },
    keys: (prefix) => {
      const stored = tryRun(() => Object.keys(storage ?? {})) ?? [];
      const all = [
        ...stored.filter((key) => key.startsWith(PREFIX)).map((key) => key.slice(PREFIX.length)),
        ...memory.keys(),
      ];
      return [...new Set(all)].filter((key) => key.startsWith(prefix));
    },
    cookie: (name, value) => {
      const secure = location.protocol === "https:" ? "; Secure" : "";
      const age = value === undefined ? 0 : 31_536_000;
      // biome-ignore lint/suspicious/noDocumentCookie: the newer Cookie Store exists only on https and not in older engines
      document.cookie = `nexus_${name}=${value ?? ""}; Path=/; Max-Age=${age}; SameSite=Lax${secure}`;
    },
    onChange: (listener) =>
      addEventListener("storage", (event) => {
        if (event.key?.startsWith(PREFIX)) listener(event.key.slice(PREFIX.length), event.newValue ?? undefined);
      }),
  };
};

/** A random id that needs no secure context, unlike crypto.randomUUID. 22 characters. */
export const randomId = (): string => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  let text = "";
  for (const byte of bytes) text += byte.toString(36).padStart(2, "0");
  return text.slice(0, 32);
};
