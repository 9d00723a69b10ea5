/**
 * Which app's browser asks, by its User-Agent. It only picks the way to sign in; nothing is believed because of it.
 */
import type { App } from "./provider.ts";

/**
 * The apps this browser may belong to, the likeliest first. WeCom before all: its browser also calls itself MicroMessenger.
 * Feishu's calls itself Lark too, so where both are configured the one that is named wins.
 */
export const appsOf = (userAgent: string | null): readonly App[] => {
  const agent = userAgent ?? "";
  if (/wxwork/i.test(agent)) return ["wecom"];
  if (/DingTalk/i.test(agent)) return ["dingtalk"];
  if (/Feishu/i.test(agent)) return ["feishu", "lark"];
  if (/\bLark\//i.test(agent)) return ["lark", "feishu"];
  return [];
};
