/** Standalone page only: the chosen theme and language before the first paint, which elsewhere the gateway writes. */
const read = (key: string): string | null => {
  try {
    return localStorage.getItem(`nexus.${key}`);
  } catch {
    return null;
  }
};
const theme = read("theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
const lang = read("lang") ?? (/^zh/i.test(navigator.language) ? "zh" : "en");
document.documentElement.lang = lang === "en" ? "en" : "zh";
document.documentElement.dataset.view = read("token") ? "chat" : "login";
