/** The machines a release is made for, and what each is called by whom: archives, the compiler, npm. */

export type Target = {
  /** In names of archives. */
  name: string;
  /** For `bun build --compile --target`. */
  compiler: string;
  /** Node's process.platform and process.arch: the package's `os` and `cpu`, and the end of its name. */
  platform: "linux" | "darwin" | "win32";
  arch: "x64" | "arm64";
  /** Which C library, where there is more than one. */
  libc?: "glibc" | "musl";
  executable: "nexus" | "nexus.exe";
};

export const TARGETS: readonly Target[] = [
  { name: "linux-x64", compiler: "bun-linux-x64", platform: "linux", arch: "x64", libc: "glibc", executable: "nexus" },
  {
    name: "linux-arm64",
    compiler: "bun-linux-arm64",
    platform: "linux",
    arch: "arm64",
    libc: "glibc",
    executable: "nexus",
  },
  {
    name: "linux-x64-musl",
    compiler: "bun-linux-x64-musl",
    platform: "linux",
    arch: "x64",
    libc: "musl",
    executable: "nexus",
  },
  { name: "macos-arm64", compiler: "bun-darwin-arm64", platform: "darwin", arch: "arm64", executable: "nexus" },
  { name: "macos-x64", compiler: "bun-darwin-x64", platform: "darwin", arch: "x64", executable: "nexus" },
  { name: "windows-x64", compiler: "bun-windows-x64", platform: "win32", arch: "x64", executable: "nexus.exe" },
];

/** The npm package that people install. */
export const NPM_NAME = "nexus-gateway";

/** The npm package with this target's binary. npm/nexus-gateway.cjs makes the same name from what Node says it runs on. */
export const npmPackageOf = ({ platform, arch, libc }: Target): string =>
  [NPM_NAME, platform, arch, ...(libc === "musl" ? ["musl"] : [])].join("-");
