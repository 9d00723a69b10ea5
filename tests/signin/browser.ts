/** A browser as far as sign-in needs one: cookies per host, redirects followed by hand, a User-Agent, links by their id. */

export const AGENTS = {
  desktop:
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
  feishu:
    "Mozilla/5.0 (Linux; Android 14; Pixel) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/120.0 Mobile Safari/537.36 Lark/7.40.5 LarkLocale/zh_CN ChannelName/Feishu",
  dingtalk:
    "Mozilla/5.0 (Linux; U; Android 14; zh-CN; Pixel) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/120.0 Mobile Safari/537.36 AliApp(DingTalk/7.6.30) com.alibaba.android.rimet/1 Channel/1 language/zh-CN",
  dingtalkIos:
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/21F90 AliApp(DingTalk/7.6.30) com.laiwang.DingTalk/1 Channel/201200 language/zh-Hans-CN",
  dingtalkDesk:
    "Mozilla/5.0 (Windows NT 10.0; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 dingtalk-win/1.0.0 nw(0.14.7) DingTalk(7.6.30-Release.240101) Mojo/1.0.0 Native AppType(release) Channel/201200",
  wecom:
    "Mozilla/5.0 (Linux; Android 14; Pixel) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/120.0 Mobile Safari/537.36 wxwork/4.1.30 MicroMessenger/7.0.1 NetType/WIFI Language/zh",
} as const;

export type Stop = { url: string; status: number; text: string; headers: Headers };

export const createBrowser = (agent: keyof typeof AGENTS = "desktop") => {
  const jars = new Map<string, Map<string, string>>();
  const jarOf = (url: string): Map<string, string> => {
    const host = new URL(url).hostname; // cookies do not know ports
    const jar = jars.get(host) ?? new Map<string, string>();
    jars.set(host, jar);
    return jar;
  };
  const hops: string[] = [];

  const once = async (url: string, init: RequestInit = {}): Promise<Stop> => {
    const jar = jarOf(url);
    const headers = new Headers(init.headers);
    headers.set("User-Agent", AGENTS[agent]);
    if (!headers.has("Accept-Language")) headers.set("Accept-Language", "en");
    if (jar.size > 0) headers.set("Cookie", [...jar].map(([name, value]) => `${name}=${value}`).join("; "));
    hops.push(url);
    const response = await fetch(url, { ...init, headers, redirect: "manual" });
    for (const cookie of response.headers.getSetCookie()) {
      const [pair = "", ...attributes] = cookie.split(";");
      const at = pair.indexOf("=");
      const gone = attributes.some((one) => /^\s*max-age=0$/i.test(one));
      if (gone) jar.delete(pair.slice(0, at));
      else jar.set(pair.slice(0, at), pair.slice(at + 1));
    }
    return { url, status: response.status, text: await response.text(), headers: response.headers };
  };

  /** Follows redirects until a page, or until `before` is about to be asked. */
  const go = async (url: string, before?: (url: string) => boolean): Promise<Stop> => {
    let at = await once(url);
    for (let i = 0; i < 15 && at.status >= 300 && at.status < 400; i++) {
      const next = new URL(at.headers.get("location")!, at.url).href;
      if (before?.(next)) return { ...at, url: next };
      at = await once(next);
    }
    return at;
  };

  return {
    once,
    go,
    hops,
    cookies: (url: string) => jarOf(url),
    /** Follows the link with this id. */
    click: (page: Stop, id: string, before?: (url: string) => boolean): Promise<Stop> => {
      const href = new RegExp(`<a id="${id}" href="([^"]*)"`).exec(page.text)?.[1];
      if (href === undefined) throw new Error(`no link ${id} on ${page.url}: ${page.text.slice(0, 200)}`);
      return go(new URL(href.replaceAll("&amp;", "&"), page.url).href, before);
    },
    post: (url: string, body: unknown, headers: Record<string, string> = {}): Promise<Stop> =>
      once(url, {
        method: "POST",
        body: JSON.stringify(body),
        headers: { "Content-Type": "application/json", Origin: new URL(url).origin, ...headers },
      }),
    /** Who the gateway at `url` takes this browser for. */
    me: async (url: string): Promise<{ username: string; displayName: string; avatar?: string } | undefined> => {
      const { status, text } = await once(`${url}/api/me`);
      return status === 200 ? JSON.parse(text).user : undefined;
    },
  };
};

export type Browser = ReturnType<typeof createBrowser>;
