/**
 * Calls to the gateway. Owns where it is (this origin, or another one in the standalone page) and how the page proves who
 * it is (the session cookie, or a Bearer token kept in this browser). Must stay true: no secret in an address.
 */
import type { ErrorBody } from "../lib/protocol.ts";
import type { Keep } from "./keep.ts";

/** A refused call. `code` is that of the gateway, "network" when it could not be reached. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly retryAfter: number | undefined;
  constructor(status: number, code: string, message: string, retryAfter?: number) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export type Api = {
  /** True in the page that another server hosts. */
  standalone: boolean;
  /** The gateway's origin; "" is our own. */
  gateway: () => string;
  setGateway: (origin: string) => void;
  setToken: (token: string | undefined) => void;
  /** JSON in, JSON out. Throws ApiError. */
  call: <T>(method: string, path: string, body?: unknown, signal?: AbortSignal) => Promise<T>;
  /** The raw response of a GET. Throws ApiError when it is not 2xx. */
  open: (path: string, headers: Record<string, string>, signal?: AbortSignal) => Promise<Response>;
  /** Sends a file; `progress` from 0 to 1. Resolves to the parsed answer. */
  upload: <T>(path: string, file: Blob, name: string, progress: (part: number) => void) => Promise<T>;
  /** Called for every 401 but that of the login. */
  onUnauthorized: (listener: () => void) => void;
};

const failure = (status: number, text: string, networkText: string): ApiError => {
  try {
    const body = JSON.parse(text) as Partial<ErrorBody>;
    if (typeof body.error === "string")
      return new ApiError(status, body.code ?? "internal", body.error, body.retryAfter);
  } catch {
    // A proxy's own page: no sentence for a person in it.
  }
  return new ApiError(status, status >= 500 ? "network" : "internal", `${networkText} (${status})`);
};

export const createApi = (keep: Keep, lang: () => string, networkText: () => string): Api => {
  const meta = document.querySelector<HTMLMetaElement>('meta[name="nexus-gateway"]');
  const standalone = meta !== null;
  let listener = (): void => {};
  const asked = standalone ? new URLSearchParams(location.search).get("gateway") : null;
  if (asked && /^https?:\/\//.test(asked)) keep.set("gateway", new URL(asked).origin);
  let origin = standalone ? (keep.get("gateway") ?? meta.content.replace(/\/+$/, "")) : "";
  let token = standalone ? keep.get("token") : undefined;

  const headers = (extra: Record<string, string>): Record<string, string> => ({
    "Accept-Language": lang(),
    ...(token ? { Authorization: `Bearer ${token}` } : {}),
    ...extra,
  });

  const check = (status: number, text: string, path: string): void => {
    if (status >= 200 && status < 300) return;
    if (status === 401 && path !== "/api/login") listener();
    throw failure(status, text, networkText());
  };

  const send = async (path: string, init: RequestInit): Promise<Response> => {
    try {
      return await fetch(origin + path, {
        ...init,
        credentials: standalone ? "omit" : "same-origin",
        cache: "no-store",
      });
    } catch (error) {
      if ((error as Error).name === "AbortError") throw error;
      throw new ApiError(0, "network", networkText());
    }
  };

  return {
    standalone,
    gateway: () => origin,
    setGateway: (next) => {
      origin = next;
      keep.set("gateway", next);
    },
    setToken: (next) => {
      if (!standalone) return;
      token = next;
      keep.set("token", next);
    },
    call: async <T>(method: string, path: string, body?: unknown, signal?: AbortSignal) => {
      const response = await send(path, {
        method,
        headers: headers(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...(signal ? { signal } : {}),
      });
      const text = await response.text().catch(() => "");
      check(response.status, text, path);
      try {
        return (text ? JSON.parse(text) : {}) as T;
      } catch {
        throw new ApiError(response.status, "network", networkText());
      }
    },
    open: async (path, extra, signal) => {
      const response = await send(path, { headers: headers(extra), ...(signal ? { signal } : {}) });
      if (!response.ok) check(response.status, await response.text().catch(() => ""), path);
      return response;
    },
    upload: <T>(path: string, file: Blob, name: string, progress: (part: number) => void) =>
      new Promise<T>((resolve, reject) => {
        // The gateway looks at the bytes itself; a text type would be refused as what a foreign form could send.
        // XMLHttpRequest, because fetch tells nothing of how much was sent.
        const request = new XMLHttpRequest();
        request.open("POST", origin + path);
        const own = {
          "Content-Type": /^image\/[\w.+-]+$/.test(file.type) ? file.type : "application/octet-stream",
          "X-Filename": encodeURIComponent(name),
        };
        for (const [key, value] of Object.entries(headers(own))) request.setRequestHeader(key, value);
        request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
        request.onerror = () => reject(new ApiError(0, "network", networkText()));
        request.onload = () => {
          try {
            check(request.status, request.responseText, path);
            resolve(JSON.parse(request.responseText) as T);
          } catch (error) {
            reject(error);
          }
        };
        request.send(file);
      }),
    onUnauthorized: (next) => {
      listener = next;
    },
  };
};
