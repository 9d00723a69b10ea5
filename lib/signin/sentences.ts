/**
 * What the vendors' error codes mean for the person who meets one: a sentence that says what to do, and whose setting to
 * change. Codes are the vendors' documents'; a code that is not here is shown as it is.
 */
import type { Reject, Say } from "../protocol.ts";
import { refusal } from "./provider.ts";

type Table = Readonly<Record<string, Say>>;

const say = (zh: string, en: string): Say => ({ zh, en });
/** Met only when a token that was just fetched is refused. */
const badToken = say(
  "应用的凭证刚取到就被拒绝，请稍后再试；总是这样时请管理员核对应用的密钥",
  "A token that was just fetched is refused; try again later. If it keeps failing, the administrator checks the app's secret",
);
const again = say("登录链接已失效或用过了，请重新打开页面", "This sign-in was used or is too old; open the page again");

export const FEISHU: Table = {
  20002: say(
    "飞书应用的密钥不对；请管理员核对 config.json 里的 appId 和 appSecret（飞书开放平台 → 凭证与基础信息）",
    "The app secret is wrong; the administrator compares appId and appSecret in config.json with the developer console (Credentials)",
  ),
  20003: again,
  20004: again,
  20008: say(
    "飞书说没有这个用户；请联系企业的飞书管理员",
    "There is no such user; ask your organisation's administrator",
  ),
  20009: say(
    "你的企业没有安装这个飞书应用；请管理员在开放平台发布应用并在管理后台启用它",
    "Your organisation has not installed this app; the administrator publishes it and enables it in the admin console",
  ),
  20010: say(
    "你不在这个飞书应用的可用范围内；请飞书管理员在 开放平台 → 版本管理与发布 → 可用范围 里加上你",
    "You are outside this app's availability; the administrator adds you under Version Management → Availability",
  ),
  20024: say(
    "飞书应用配置不一致；请管理员核对 signIn 里的 appId",
    "The app configuration does not fit; the administrator checks appId in signIn",
  ),
  20027: say(
    "飞书应用没有开通所请求的权限；请管理员在 开放平台 → 权限管理 里开通",
    "The app lacks a permission; the administrator opens it under Permissions",
  ),
  20029: say(
    "跳转地址没有登记；请管理员在 飞书开放平台 → 安全设置 → 重定向 URL 里加上本站的地址",
    "The redirect URL is not registered; the administrator adds it under Security Settings → Redirect URLs",
  ),
  20049: say(
    "飞书的 PKCE 校验没有通过，请重试；总是这样时请管理员把 signIn.feishu.tokenApi 换成另一种",
    "The PKCE check failed; try again. If it keeps failing, the administrator changes signIn.feishu.tokenApi",
  ),
  20050: say("飞书服务器出错，请稍后再试", "The server had an error; try again later"),
  20065: say(
    "跳转地址与登记的不一致；请管理员核对 publicUrl 和 飞书开放平台 → 安全设置 → 重定向 URL",
    "The redirect URL differs from the registered one; the administrator compares publicUrl with Security Settings → Redirect URLs",
  ),
  20071: say(
    "跳转地址与登记的不一致；请管理员核对 publicUrl 和 飞书开放平台 → 安全设置 → 重定向 URL",
    "The redirect URL differs from the registered one; the administrator compares publicUrl with Security Settings → Redirect URLs",
  ),
};

export const DINGTALK: Table = {
  40078: again,
  40014: badToken,
  42001: badToken,
  "invalidParameter.authCode.notFound": again,
  invalidClientId: say(
    "钉钉应用的 Client ID 或 Client Secret 不对；请管理员核对 config.json 和 钉钉开放平台 → 凭证与基础信息",
    "Client ID or Client Secret is wrong; the administrator compares config.json with the developer console (Credentials)",
  ),
  invalidClientIdOrSecret: say(
    "钉钉应用的 Client ID 或 Client Secret 不对；请管理员核对 config.json 和 钉钉开放平台 → 凭证与基础信息",
    "Client ID or Client Secret is wrong; the administrator compares config.json with the developer console (Credentials)",
  ),
  "Forbidden.AccessDenied.AccessTokenPermissionDenied": say(
    "钉钉应用没有“个人手机号/通讯录个人信息读”权限；请管理员在 钉钉开放平台 → 权限管理 里开通 Contact.User.Read",
    "The app lacks a permission; the administrator opens Contact.User.Read under Permissions",
  ),
  60011: say(
    "钉钉应用没有通讯录权限；请管理员在 钉钉开放平台 → 权限管理 里开通“成员信息读权限”",
    "The app may not read members; the administrator opens the permission to read member information",
  ),
  60020: say(
    "钉钉不接受网关服务器的 IP；请管理员在 钉钉开放平台 → 安全设置 → 服务器出口 IP 里加上它",
    "DingTalk refuses the server's IP address; the administrator adds it under Security Settings → Server egress IP",
  ),
  60121: say(
    "你不是这家企业的钉钉成员，不能登录；请企业管理员把你加入组织",
    "You are not a member of this company in DingTalk; ask its administrator to add you",
  ),
};

export const WECOM: Table = {
  40001: say(
    "企业微信应用的 Secret 不对；请管理员核对 config.json 和 企业微信管理后台 → 应用管理 → 应用的 Secret",
    "The app secret is wrong; the administrator compares config.json with the app's Secret in the admin console",
  ),
  40013: say(
    "企业 ID 不对；请管理员核对 signIn.wecom.corpId 和 企业微信管理后台 → 我的企业 → 企业 ID",
    "The corp ID is wrong; the administrator checks signIn.wecom.corpId",
  ),
  40014: badToken,
  42001: badToken,
  40029: again,
  50001: say(
    "本站域名不是这个应用的可信域名；请管理员在 企业微信管理后台 → 应用 → 网页授权及 JS-SDK 里设置可信域名（含端口）",
    "This domain is not trusted by the app; the administrator sets it under the app's Web authorisation → Trusted domain (with its port)",
  ),
  60011: say(
    "你不在这个企业微信应用的可见范围内；请管理员在 应用管理 → 可见范围 里加上你",
    "You are outside this app's visible range; the administrator adds you there",
  ),
  60020: say(
    "企业微信不接受网关服务器的 IP；请管理员在 应用管理 → 企业可信 IP 里加上它",
    "WeCom refuses the server's IP address; the administrator adds it under the app's Trusted IPs",
  ),
  60111: say("企业微信里没有这个成员", "There is no such member in WeCom"),
  80001: say(
    "可信域名的备案主体与企业不一致；请管理员使用本企业备案的域名",
    "The domain's ICP registration is another company's; the administrator uses a domain of this company",
  ),
  85005: say(
    "可信域名没有通过归属校验；请管理员把 WW_verify 文件写进 signIn.wecom.verify",
    "The trusted domain is not verified; the administrator puts the WW_verify file into signIn.wecom.verify",
  ),
};

/** What the vendor says about its own refusal: one line, no links to nowhere, the address it saw when that is the reason. */
const told = (text: unknown): string =>
  typeof text === "string"
    ? text
        .replace(/[\s\p{Cc}]+/gu, " ")
        .trim()
        .slice(0, 200)
    : "";

/** The refusal for an error code. `detail` is the vendor's own text. */
export const sentence = (table: Table, name: Say, code: unknown, detail: unknown): Reject => {
  const key = String(code ?? "?").slice(0, 80);
  const known = Object.hasOwn(table, key) ? table[key] : undefined;
  const more = told(detail);
  if (!known)
    return refusal(
      `${name.zh}拒绝了登录（错误 ${key}${more ? `：${more}` : ""}）；请把这句话告诉管理员`,
      `${name.en} refused the sign-in (error ${key}${more ? `: ${more}` : ""}); tell your administrator`,
    );
  const ip = /from ip:\s*([\d.]+|[\da-f:]+)/i.exec(more)?.[1];
  const seen = ip ? say(`（${ip}）`, ` (${ip})`) : say("", "");
  return refusal(`${known.zh}${seen.zh}（${name.zh} ${key}）`, `${known.en}${seen.en} (${name.en} ${key})`);
};
