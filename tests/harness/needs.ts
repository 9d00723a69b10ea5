/**
 * What the tests need from the machine beside Bun: a Chromium for the page, curl and a Python with `websockets` for the
 * examples of the README. On Debian as root what is missing is installed, and also what the release tests can use (nginx,
 * an emulator, …); elsewhere one sentence says what is missing, and a release test says what it could not run.
 */
import { existsSync } from "node:fs";

const BROWSERS = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
const PLACES = [
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

const which = (name: string): string | undefined => Bun.which(name) ?? undefined;

/** Where Chromium is: CHROMIUM_PATH, else the usual names on the PATH and places; undefined when there is none. */
export const findChromium = (): string | undefined => {
  const told = process.env.CHROMIUM_PATH;
  if (told && existsSync(told)) return told;
  return BROWSERS.map(which).find(Boolean) ?? PLACES.find((place) => existsSync(place));
};

/** A Python 3 that can import `websockets`; the system's own comes after whatever the PATH has first. */
export const findPython = (): string | undefined =>
  [which("python3"), "/usr/bin/python3", which("python")].find(
    (path) =>
      path && existsSync(path) && Bun.spawnSync([path, "-c", "import websockets"], { stderr: "ignore" }).success,
  );

/** Chinese text must not be drawn as boxes on the screenshots that people look at. */
const hasChineseFont = (): boolean => {
  const list = which("fc-list");
  return list !== undefined && Bun.spawnSync([list, ":lang=zh"]).stdout.toString().trim() !== "";
};

/** Debian's packages for tests/ship, each by a file or program that it brings. */
const SHIP: readonly [is: string, from: string][] = [
  ["/usr/sbin/nginx", "nginx-light"],
  ["/usr/bin/openssl", "openssl"],
  ["/usr/bin/systemd-analyze", "systemd"],
  ["/usr/share/doc/python3-seccomp", "python3-seccomp"],
];
/** What starts the binaries that are not the machine's own: arm64, and x64 with musl. */
const EMULATION: typeof SHIP = [
  ["/lib/ld-musl-x86_64.so.1", "musl"],
  ["/usr/bin/qemu-aarch64-static", "qemu-user-static"],
  ["/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1", "libc6-arm64-cross"],
];

const isDebianRoot = async (): Promise<boolean> => {
  if (process.getuid?.() !== 0 || !which("apt-get")) return false;
  const release = await Bun.file("/etc/os-release")
    .text()
    .catch(() => "");
  return /^ID="?debian"?$/m.test(release);
};

const apt = async (...args: string[]): Promise<{ code: number; output: string }> => {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const child = Bun.spawn(["apt-get", "-q", "-y", ...args], { env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, output: out + err };
};

/** Installs what is missing, where that may be done. Returns one sentence when something is missing in the end. */
export const ensureNeeds = async (tell: (text: string) => void): Promise<string | undefined> => {
  const missing: { packages: string[]; sentence: string }[] = [];
  if (!findChromium())
    missing.push({ packages: ["chromium"], sentence: "Chromium (on the PATH, or named by CHROMIUM_PATH)" });
  if (!which("curl")) missing.push({ packages: ["curl"], sentence: "curl" });
  if (!findPython())
    missing.push({ packages: ["python3", "python3-websockets"], sentence: "Python 3 with the websockets package" });
  const debian = await isDebianRoot();
  const fonts = debian && !hasChineseFont() ? ["fonts-noto-cjk"] : [];
  const wanted = process.arch === "x64" ? [...SHIP, ...EMULATION] : SHIP;
  const ship = debian ? wanted.filter(([is]) => !existsSync(is)).map(([, from]) => from) : [];
  const packages = [...missing.flatMap((one) => one.packages), ...fonts, ...ship];
  if (!packages.length) return undefined;

  const named = [...missing.map((one) => one.sentence), ...ship];
  const sentence = `The tests need ${named.join(", and ")}.`;
  if (!debian) return sentence;
  tell(`installing ${packages.join(", ")} with apt-get`);
  await apt("update");
  const { code, output } = await apt("install", "--no-install-recommends", ...packages);
  return code === 0 ? undefined : `${sentence} apt-get could not install it: ${output.trim().split("\n").at(-1)}`;
};
