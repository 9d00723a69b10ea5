/**
 * Signing in: the page for it, and the dialog when a session ended in the middle of a chat.
 *
 * Must stay true: name and password only ever travel in the body of a POST, and what was typed stays after a failure. Other
 * ways to sign in (ways.ts) stand below the form.
 */
import type { UserInfo } from "../lib/protocol.ts";
import { byId, h, setAttributes, setText } from "./dom.ts";
import { openDialog, type Dialog } from "./dialog.ts";
import { icon, logo } from "./icons.ts";
import type { Lang } from "./i18n.ts";
import { composing, type Page } from "./page.ts";
import { showWays } from "./ways.ts";

export type Login = {
  show: () => void;
  hide: () => void;
  texts: () => void;
  /** Asks for the password over the open chat. */
  again: () => void;
};

type Answer = { token: string; user: UserInfo; expiresAt: number };

/** `signedIn` is called after the session cookie (or token) is in place. */
export const createLogin = (
  page: Page,
  on: { signedIn: (user: UserInfo) => void; setLang: (lang: Lang) => void },
): Login => {
  const { t, api, i18n } = page;
  const root = byId("login");
  const form = byId<HTMLFormElement>("login-form");
  const username = byId<HTMLInputElement>("username");
  const password = byId<HTMLInputElement>("password");
  const error = byId("login-error");
  const submit = byId<HTMLButtonElement>("login-submit");
  const eye = byId<HTMLButtonElement>("show-password");
  const language = byId("login-language");
  const gateway = byId<HTMLInputElement>("gateway");

  const signIn = async (name: string, secret: string): Promise<void> => {
    const answer = await api.call<Answer>("POST", "/api/login", { username: name, password: secret });
    api.setToken(answer.token);
    on.signedIn(answer.user);
  };

  const attempt = async (button: HTMLButtonElement, note: HTMLElement, run: () => Promise<void>): Promise<boolean> => {
    if (button.disabled) return false;
    button.disabled = true;
    button.setAttribute("aria-busy", "true");
    setText(button, t("signingIn"));
    setText(note, "");
    try {
      await run();
      return true;
    } catch (failure) {
      const { code, message } = failure as { code?: string; message: string };
      setText(note, code === "network" ? t("loginNetwork") : message);
      return false;
    } finally {
      button.disabled = false;
      button.removeAttribute("aria-busy");
      setText(button, t("signIn"));
    }
  };

  const toggle = (button: HTMLElement, input: HTMLInputElement): void => {
    const shown = input.type === "text";
    input.type = shown ? "password" : "text";
    setAttributes(button, { "aria-pressed": String(!shown) });
    input.focus();
  };

  eye.append(icon("eye"));
  byId("login-brand").append(logo(), h("h1.wordmark", {}, "Nexus"));
  eye.addEventListener("click", () => toggle(eye, password));
  language.addEventListener("click", () => on.setLang(i18n.lang() === "zh" ? "en" : "zh"));
  // Enter that only picks a candidate of an input method must not submit.
  form.addEventListener("keydown", (event) => event.key === "Enter" && composing(event) && event.preventDefault());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (api.standalone) {
      let origin: string;
      try {
        const url = new URL(gateway.value.trim());
        if (!/^https?:$/.test(url.protocol)) throw new Error();
        origin = url.origin;
      } catch {
        setText(error, t("loginBadGateway"));
        gateway.focus();
        return;
      }
      api.setGateway(origin);
    }
    void attempt(submit, error, () => signIn(username.value, password.value)).then((done) => {
      if (done) password.value = "";
      else password.focus();
    });
  });

  let dialog: Dialog | undefined;
  const again = (): void => {
    if (dialog) return;
    const name = page.state.user?.username ?? username.value;
    const field = h("input", {
      type: "password",
      name: "password",
      id: "again-password",
      autocomplete: "current-password",
      required: true,
      maxlength: 1024,
      autofocus: true,
    });
    const hidden = h("input", {
      name: "username",
      value: name,
      autocomplete: "username",
      readonly: true,
      id: "again-name",
    });
    const note = h("p.error", { role: "alert" });
    const button = h("button.primary", { type: "submit" }, t("signIn"));
    const ways = h("div.ways");
    const retry = h(
      "form",
      { method: "post", action: "/api/login" },
      h("p", {}, t("reloginLine")),
      h("label", { for: "again-name" }, t("username")),
      hidden,
      h("label", { for: "again-password" }, t("password")),
      field,
      note,
      button,
      ways,
    );
    void showWays(page, ways, true);
    retry.addEventListener("keydown", (event) => event.key === "Enter" && composing(event) && event.preventDefault());
    retry.addEventListener("submit", (event) => {
      event.preventDefault();
      void attempt(button, note, () => signIn(name, field.value)).then((done) => done && dialog?.close());
    });
    dialog = openDialog(
      {
        title: t("relogin"),
        closeLabel: t("close"),
        name: "relogin",
        locked: true,
        onClose: () => {
          dialog = undefined;
        },
      },
      retry,
    );
  };

  const texts = (): void => {
    setText(byId("login-line"), t("loginLine"));
    setText(byId("username-label"), t("username"));
    setText(byId("password-label"), t("password"));
    setText(byId("gateway-label"), t("gateway"));
    setText(submit, t("signIn"));
    setText(language, t("otherLanguage"));
    setAttributes(language, { lang: i18n.lang() === "zh" ? "en" : "zh" });
    setAttributes(eye, { "aria-label": t("showPassword") });
    setText(error, "");
    if (!root.hidden) void showWays(page, byId("sign-in-more"));
  };

  return {
    again,
    texts,
    show: () => {
      root.hidden = false;
      byId("gateway-field").hidden = !api.standalone;
      if (api.standalone) {
        gateway.value = api.gateway();
        gateway.required = true;
        form.removeAttribute("action");
      }
      texts();
      if (!matchMedia("(pointer: coarse)").matches) (username.value ? password : username).focus();
    },
    hide: () => {
      root.hidden = true;
    },
  };
};
