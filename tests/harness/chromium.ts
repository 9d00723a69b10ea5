/**
 * Finds a Chromium that the browser tests can drive, and on Debian as root installs one. Refuses to download browsers
 * by itself anywhere else: there it says in one sentence what is missing.
 */
import { existsSync } from "node:fs";

const NAMES = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
const PLACES = [
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/** Where Chromium is: CHROMIUM_PATH, else the usual names on the PATH and places; undefined when there is none. */
export const findChromium = (): string | undefined => {
  const told = process.env.CHROMIUM_PATH;
  if (told && existsSync(told)) return told;
  for (const name of NAMES) {
    const found = Bun.which(name);
    if (found) return found;
  }
  return PLACES.find((place) => existsSync(place));
};

const run = async (command: string[]): Promise<{ code: number; output: string }> => {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const child = Bun.spawn(command, { env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, output: out + err };
};

/** Chinese text must not be drawn as boxes on the screenshots that people look at. */
const hasChineseFont = async (): Promise<boolean> => {
  if (!Bun.which("fc-list")) return false;
  return (await run(["fc-list", ":lang=zh"])).output.trim() !== "";
};

const isDebianRoot = async (): Promise<boolean> => {
  if (process.getuid?.() !== 0 || !Bun.which("apt-get")) return false;
  const release = await Bun.file("/etc/os-release")
    .text()
    .catch(() => "");
  return /^ID="?debian"?$/m.test(release);
};

/** Makes sure there is a browser; returns a sentence for the person when there is not and none could be installed. */
export const ensureChromium = async (tell: (text: string) => void): Promise<string | undefined> => {
  const debian = await isDebianRoot();
  const wanted: string[] = [];
  if (!findChromium()) wanted.push("chromium");
  if (debian && !(await hasChineseFont())) wanted.push("fonts-noto-cjk");
  if (!wanted.length) return undefined;
  if (!debian)
    return "The browser tests need Chromium: install it so that `chromium` is on the PATH, or set CHROMIUM_PATH.";
  tell(`installing ${wanted.join(" and ")} with apt-get`);
  await run(["apt-get", "update", "-q"]);
  const { code, output } = await run(["apt-get", "install", "-y", "-q", "--no-install-recommends", ...wanted]);
  if (code === 0) return undefined;
  return `The browser tests need Chromium, and apt-get could not install it: ${output.trim().split("\n").at(-1)}`;
};
