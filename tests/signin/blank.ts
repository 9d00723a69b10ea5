/** A page without anything on it, for tests that only need to arrive there. */
import { createAssets } from "../../lib/assets.ts";

const bytes = new TextEncoder().encode('<html lang="zh" data-theme="system" data-view="start">the page</html>');

export const BLANK = createAssets([
  { path: "/", type: "text/html; charset=utf-8", bytes, gzip: undefined, immutable: false },
]);
