/** A Feishu (or Lark) that answers as its documents say: facts A.1. In its own app silent, elsewhere after a QR page. */
import { consent, createOnce, json, page, PNG, redirect, startVendor } from "./vendor.ts";

export type FeishuPerson = { name: string; union_id: string; tenant_key: string; visible?: boolean; avatar?: string };
type Grant = { person: FeishuPerson; redirectUri: string; challenge: string | null };

const CODE_MS = 5 * 60_000;
const TOKEN_MS = 7_200_000;
const APP = { id: "cli_a1b2c3", secret: "feishu-app-secret" };

export const startFeishu = ({ redirects, now = Date.now }: { redirects: string[]; now?: () => number }) => {
  const codes = createOnce<Grant>(now, CODE_MS, "c");
  const tokens = createOnce<FeishuPerson>(now, TOKEN_MS, "u-");
  /** Who is signed in to the app, and whether they say no. */
  const state: { person: FeishuPerson; refuses: boolean } = {
    person: { name: "张三", union_id: "on_1", tenant_key: "tenant1" },
    refuses: false,
  };
  const fault = (code: number, error: string, status = 400) =>
    json({ code, error, error_description: `${error} ${code}` }, status);

  const grant = (url: URL): Response => {
    const back = url.searchParams.get("redirect_uri")!;
    const echoed = url.searchParams.get("state") ?? "";
    if (state.refuses) return redirect(back, { error: "access_denied", state: echoed });
    const code = codes.make({
      person: state.person,
      redirectUri: back,
      challenge: url.searchParams.get("code_challenge"),
    });
    return redirect(back, { code, state: echoed });
  };

  const exchange = async (request: Request, pkceWorks: boolean): Promise<Response> => {
    if (!request.headers.get("content-type")?.startsWith("application/json")) return fault(20001, "invalid_request");
    const body = (await request.json()) as Record<string, string>;
    if (body.grant_type !== "authorization_code" || !body.code) return fault(20001, "invalid_request");
    if (body.client_id !== APP.id || body.client_secret !== APP.secret) return fault(20002, "invalid_client");
    const got = codes.use(body.code);
    if (got === "unknown") return fault(20003, "invalid_grant");
    if (got === "old") return fault(20004, "invalid_grant");
    if (got.redirectUri !== body.redirect_uri) return fault(20071, "invalid_grant");
    if (got.challenge !== null) {
      const digest = new Bun.CryptoHasher("sha256").update(body.code_verifier ?? "").digest("base64url");
      if (!pkceWorks || digest !== got.challenge) return fault(20049, "invalid_grant");
    }
    if (got.person.visible === false) return fault(20010, "access_denied", 403);
    return json({
      code: 0,
      access_token: tokens.make(got.person),
      expires_in: 7200,
      scope: "auth:user.id:read",
      token_type: "Bearer",
    });
  };

  const vendor = startVendor({
    "GET /open-apis/authen/v1/authorize": (request, url) => {
      const q = url.searchParams;
      if (q.get("client_id") !== APP.id) return page("错误码 20002", 400);
      if (!redirects.includes(q.get("redirect_uri") ?? "")) return page("错误码 20029：重定向 URL 有误", 400);
      if (q.get("response_type") !== "code") return page("错误码 20001", 400);
      const own = /Lark|Feishu/.test(request.headers.get("user-agent") ?? "");
      return own ? grant(url) : consent(`/confirm${url.search}`);
    },
    "GET /confirm": (_, url) => grant(url),
    "POST /open-apis/authen/v2/oauth/token": (request) => exchange(request, true),
    // The live report: authorize v1 with PKCE and v3 ends in 20049.
    "POST /oauth/v3/token": (request) => exchange(request, false),
    "GET /open-apis/authen/v1/user_info": (request) => {
      const token = request.headers.get("authorization")?.replace(/^Bearer /, "");
      const person = tokens.peek(token);
      if (typeof person === "string") return json({ code: 99991668, msg: "Invalid access token" }, 401);
      const { visible: _visible, avatar, ...data } = person;
      const picture = avatar ?? `${vendor.url}/avatar.png`;
      return json({
        code: 0,
        msg: "success",
        data: { ...data, en_name: "", open_id: `ou_${data.union_id}`, avatar_url: picture, avatar_middle: picture },
      });
    },
    "GET /avatar.png": () => new Response(PNG),
    "GET /avatar.html": () => page("<script>1</script>"),
    "GET /avatar-away.png": () => redirect(`${vendor.url}/avatar.png`, {}),
  });

  return {
    ...vendor,
    state,
    signIn: (more: Record<string, unknown> = {}) => ({
      appId: APP.id,
      appSecret: APP.secret,
      tenants: ["tenant1"],
      hosts: { accounts: vendor.url, open: vendor.url },
      ...more,
    }),
  };
};
