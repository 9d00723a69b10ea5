/**
 * What starts a program made for musl on a Debian machine: Debian's own musl with its loader, and Debian's C++ library.
 *
 * Debian has no C++ library made for musl. Its own one asks glibc for a handful of functions that musl has under another
 * name or not at all; they are compiled here and loaded first. Everything else that the program calls is musl's. Two of them
 * are less than the real ones: destructors of thread-local objects do not run, and exceptions find their frames the slow way.
 * Refuses to pretend more: on Alpine the program has the C++ library of Alpine, which nothing here runs.
 */
import { existsSync } from "node:fs";
import { copyFile, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { find, sh } from "./kit.ts";

const LOADER = "/lib/ld-musl-x86_64.so.1";
const LIBRARIES = ["/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1"];

const MISSING = `
typedef unsigned long size_t;
char __libc_single_threaded = 0;
struct { unsigned vendor, type, subtype, features; } __cpu_model;
int __cpu_indicator_init(void) { return 0; }
long getrandom(void *, size_t, unsigned);
unsigned arc4random(void) { unsigned x = 0; getrandom(&x, sizeof x, 0); return x; }
size_t strftime_l(char *, size_t, const char *, const void *, void *);
size_t __strftime_l(char *to, size_t n, const char *as, const void *at, void *in) { return strftime_l(to, n, as, at, in); }
int __cxa_thread_atexit_impl(void (*run)(void *), void *with, void *of) { return 0; }
int _dl_find_object(void *at, void *found) { return -1; }
`;

/** Why the musl program cannot be started here; undefined when it can. */
export const lacksMusl = (): string | undefined => {
  const missing = [LOADER, ...LIBRARIES].find((path) => !existsSync(path));
  if (missing) return `needs ${missing}`;
  return find("cc") ? undefined : "needs a C compiler";
};

/** Prepares `folder`; what stands before the program's path then. */
export const prepareMusl = async (folder: string): Promise<string[]> => {
  await mkdir(folder, { recursive: true });
  for (const path of LIBRARIES) await copyFile(path, join(folder, path.split("/").at(-1)!));
  const [source, made] = [join(folder, "missing.c"), join(folder, "missing.so")];
  await Bun.write(source, MISSING);
  await sh(["cc", "-shared", "-fPIC", "-nostdlib", "-o", made, source]);
  // The C++ library names glibc's loader as one of its own libraries.
  await copyFile(made, join(folder, "ld-linux-x86-64.so.2"));
  return ["/usr/bin/env", `LD_PRELOAD=${made}`, `LD_LIBRARY_PATH=${folder}`];
};
