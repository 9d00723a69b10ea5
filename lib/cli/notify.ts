/**
 * Telling the service manager how far the process is: the sd_notify protocol, one datagram to the unix socket that
 * NOTIFY_SOCKET names (systemd's `Type=notify`; sd_notify(3)).
 *
 * What must stay true: without NOTIFY_SOCKET nothing is loaded and nothing happens; a message that cannot be sent is logged
 * and never stops the gateway. The runtime has no unix datagram sockets, so three functions of the C library are called.
 */
import type { Log } from "../log.ts";

/** <sys/socket.h> of Linux, the same on x64 and arm64. */
const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 0o2000002;
const MSG_NOSIGNAL = 0x4000;
/** sockaddr_un.sun_path */
const PATH_BYTES = 108;

/** A sockaddr_un for a path, or for an abstract name, which is written with @ in front. */
const addressOf = (path: string): Buffer => {
  const abstract = path.startsWith("@");
  const name = Buffer.from(path);
  if (!/^[/@]./.test(path) || name.length >= PATH_BYTES) throw new Error("NOTIFY_SOCKET names no unix socket");
  const address = Buffer.alloc(2 + name.length + (abstract ? 0 : 1));
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, 2);
  if (abstract) address[2] = 0;
  return address;
};

const send = async (path: string, state: string): Promise<void> => {
  const address = addressOf(path);
  const { dlopen, ptr } = await import("bun:ffi");
  const libc = dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    sendto: { args: ["i32", "ptr", "u64", "i32", "ptr", "u32"], returns: "i64" },
    close: { args: ["i32"], returns: "i32" },
  });
  try {
    const fd = libc.symbols.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
    if (fd < 0) throw new Error("no socket");
    const text = Buffer.from(state);
    const sent = libc.symbols.sendto(fd, ptr(text), text.length, MSG_NOSIGNAL, ptr(address), address.length);
    libc.symbols.close(fd);
    if (Number(sent) !== text.length) throw new Error("the datagram was not taken");
  } finally {
    libc.close();
  }
};

/**
 * `notify("READY=1")` and the like. Resolves when it is sent, at once where no service manager listens; never rejects.
 */
export const createNotify = ({ env, log }: { env: Record<string, string | undefined>; log: Log }) => {
  const path = env.NOTIFY_SOCKET;
  return async (state: "READY=1" | "STOPPING=1"): Promise<void> => {
    if (!path) return;
    try {
      await send(path, state);
    } catch (error) {
      log("warn", "notify_failed", { state, error });
    }
  };
};
