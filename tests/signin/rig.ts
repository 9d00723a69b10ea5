/** A gateway with all three platforms beside it, each a fake on a port of its own. */
import { type ConfigJson, freePort, startGateway } from "../harness.ts";
import { BLANK } from "./blank.ts";
import { startDingTalk } from "./dingtalk.ts";
import { startFeishu } from "./feishu.ts";
import { startWeCom } from "./wecom.ts";

export type RigOptions = {
  now?: () => number;
  dataDir?: string;
  /** The real page instead of a blank one. */
  page?: boolean;
  /** Over the `signIn` of each provider, and over the whole config. */
  feishu?: ConfigJson;
  dingtalk?: ConfigJson;
  wecom?: ConfigJson;
  signIn?: ConfigJson;
  config?: ConfigJson;
};

export const startRig = async (options: RigOptions = {}) => {
  const port = freePort();
  const url = `http://127.0.0.1:${port}`;
  const clock = options.now ? { now: options.now } : {};
  const feishu = startFeishu({ redirects: ["feishu", "lark"].map((id) => `${url}/sign-in/${id}/callback`), ...clock });
  const dingtalk = startDingTalk({ redirects: [`${url}/sign-in/dingtalk/callback`], ...clock });
  const wecom = startWeCom({ trusted: new URL(url).host, ...clock });
  const configOf = (over: RigOptions): ConfigJson => ({
    port,
    publicUrl: url,
    signIn: {
      feishu: feishu.signIn(over.feishu),
      dingtalk: dingtalk.signIn(over.dingtalk),
      wecom: wecom.signIn(over.wecom),
      ...over.signIn,
    },
    ...over.config,
  });
  const { now, dataDir } = options;
  const gateway = await startGateway(configOf(options), {
    ...(!options.page && { assets: BLANK }),
    ...(now && { now }),
    ...(dataDir && { dataDir }),
  });
  return {
    ...gateway,
    url,
    feishu,
    dingtalk,
    wecom,
    reload: (next: RigOptions) => gateway.reload(configOf(next)),
    async stop() {
      await gateway.stop();
      await Promise.all([feishu.stop(), dingtalk.stop(), wecom.stop()]);
    },
  };
};

export type Rig = Awaited<ReturnType<typeof startRig>>;
