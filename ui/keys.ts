/** The person's API keys: make one (shown once), see when each was used, revoke. */
import type { ApiKey } from "../lib/protocol.ts";
import { h, setText } from "./dom.ts";
import { composing, type Page } from "./page.ts";

/** The section of the settings. A session may list keys; no key may. */
export const createKeys = (page: Page): HTMLElement => {
  const { t, api } = page;
  const list = h("ul.keys");
  const note = h("p.meta", { role: "status" });
  const name = h("input", { id: "key-name", maxlength: 64, required: true, autocomplete: "off" });
  const scope = h(
    "select",
    { id: "key-scope" },
    h("option", { value: "chat" }, t("keyScopeChat")),
    h("option", { value: "all" }, t("keyScopeAll")),
  );
  const make = h("button.secondary", { type: "submit" }, t("keyCreate"));
  const made = h("div.made", { hidden: true });
  const form = h(
    "form.key-form",
    {},
    h("div", {}, h("label", { for: "key-name" }, t("keyName")), name),
    h("div", {}, h("label", { for: "key-scope" }, t("keyScope")), scope),
    make,
  );

  const load = async (): Promise<void> => {
    try {
      const { keys } = await api.call<{ keys: ApiKey[] }>("GET", "/api/keys");
      setText(note, keys.length ? "" : t("keyNone"));
      list.replaceChildren(
        ...keys.map((key) => {
          const revoke = h(
            "button.quiet",
            { type: "button", "aria-label": t("keyRevokeLabel", { name: key.name }) },
            t("keyRevoke"),
          );
          revoke.addEventListener("click", () => {
            revoke.disabled = true;
            api.call("DELETE", `/api/keys/${key.id}`).then(load, (error: Error) => page.toast(error.message));
          });
          const used = key.lastUsedAt ? t("keyUsed", { date: page.i18n.date(key.lastUsedAt) }) : t("keyNever");
          return h(
            "li",
            {},
            h("span.key-name", { dir: "auto" }, key.name),
            h("span.meta", {}, `${t(key.scope === "all" ? "keyScopeAll" : "keyScopeChat")} · ${used}`),
            revoke,
          );
        }),
      );
    } catch (error) {
      setText(note, (error as Error).message);
    }
  };

  form.addEventListener("keydown", (event) => event.key === "Enter" && composing(event) && event.preventDefault());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    make.disabled = true;
    api
      .call<{ key: string } & Partial<ApiKey>>("POST", "/api/keys", { name: name.value.trim(), scope: scope.value })
      .then((answer) => {
        const secret = h("input", { readonly: true, value: answer.key, "aria-label": t("keyOnce"), class: "secret" });
        const copy = h("button.secondary", { type: "button" }, t("copy"));
        copy.addEventListener("click", () => void page.copy(answer.key));
        made.replaceChildren(h("p", { role: "alert" }, t("keyOnce")), h("div.setting-row", {}, secret, copy));
        made.hidden = false;
        name.value = "";
        return load();
      })
      .catch((error: Error) => page.toast(error.message))
      .finally(() => {
        make.disabled = false;
      });
  });
  void load();
  return h("section.setting", {}, h("h3", {}, t("keys")), h("p.meta", {}, t("keysHint")), list, note, made, form);
};
