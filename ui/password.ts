/** Changing one's own password: a part of the settings, for people who have one. */
import { ApiError } from "./api.ts";
import { h, setText } from "./dom.ts";
import type { Page } from "./page.ts";

/** Folded until it is wanted. */
export const createPassword = (page: Page): HTMLElement => {
  const { t } = page;
  const current = h("input.secret", {
    type: "password",
    id: "current-password",
    autocomplete: "current-password",
    maxlength: 1024,
    required: true,
  });
  const next = h("input.secret", {
    type: "password",
    id: "new-password",
    autocomplete: "new-password",
    minlength: 8,
    maxlength: 256,
    required: true,
  });
  const error = h("p.danger", { role: "alert", hidden: true });
  const submit = h("button.secondary", { type: "submit" }, t("changePassword"));
  const form = h(
    "form.key-form",
    {},
    // Password managers look for whose password it is.
    h("input", {
      type: "text",
      autocomplete: "username",
      value: page.state.user?.username ?? "",
      hidden: true,
      readonly: true,
    }),
    h("div", {}, h("label", { for: "current-password" }, t("currentPassword")), current),
    h("div", {}, h("label", { for: "new-password" }, t("newPassword")), next),
    submit,
    error,
  );
  const element = h("details.password-change", {}, h("summary", {}, t("changePassword")), form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    error.hidden = true;
    try {
      await page.api.call("POST", "/api/me/password", { current: current.value, password: next.value });
      form.reset();
      element.open = false;
      page.toast(t("passwordChanged"));
    } catch (caught) {
      setText(error, caught instanceof ApiError ? caught.message : t("networkError"));
      error.hidden = false;
    } finally {
      submit.disabled = false;
    }
  });
  return element;
};
