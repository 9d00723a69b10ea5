/** People: who there is, adding somebody, and the dialog of one person. */
import type { AdminPerson, AdminSession } from "../../lib/protocol/admin.ts";
import { openDialog } from "../dialog.ts";
import { h, setText } from "../dom.ts";
import { cleanName } from "../page.ts";
import {
  button,
  changed,
  field,
  named,
  numberOf,
  row,
  selectInput,
  showOnce,
  sureButton,
  table,
  textInput,
  type Admin,
  type Column,
  type Section,
} from "./parts.ts";

const SEARCH_AFTER_MS = 200;
const pathOf = (username: string): string => `/api/admin/users/${encodeURIComponent(username)}`;

export const createUsers = (admin: Admin): Section => {
  const { t, number } = admin;
  const search = textInput("", { type: "search", placeholder: t("searchUsers"), "aria-label": t("searchUsers") });
  const list = h("div", {});
  const more = h("p.meta", { hidden: true });
  const element = h(
    "section",
    {},
    h(
      "div.admin-tools",
      {},
      search,
      button(t("addUser"), () => addUser(admin, load), "primary"),
    ),
    list,
    more,
  );
  const columns: Column[] = [
    { label: t("username") },
    { label: t("role") },
    { label: t("source") },
    { label: t("signedIn"), numeric: true },
    { label: t("today"), numeric: true },
  ];
  const sources = { config: t("sourceConfig"), page: t("sourcePage"), "sign-in": t("sourceSignIn") };
  let seen = "";

  const load = async (again = false): Promise<void> => {
    const asked = search.value.trim();
    const answer = await admin.read<{ users: AdminPerson[]; total: number }>(
      `/api/admin/users?q=${encodeURIComponent(asked)}`,
      again,
    );
    const text = JSON.stringify(answer);
    if (!answer || text === seen) return;
    seen = text;
    const rows = answer.users.map((one) => {
      const open = h(
        "button.row-button",
        { type: "button", "data-user": one.username },
        named(one.displayName, one.username),
      );
      open.addEventListener("click", () => openUser(admin, one, () => load()));
      const today =
        one.messagesPerDay > 0
          ? t("todayOf", { n: number(one.messagesToday), max: number(one.messagesPerDay) })
          : number(one.messagesToday);
      return [
        open,
        h(
          "span",
          {},
          t(one.role === "admin" ? "roleAdmin" : "roleUser"),
          one.disabledAt !== undefined && h("span.badge-off", {}, t("disabled")),
        ),
        sources[one.source],
        number(one.sessions),
        today,
      ];
    });
    const focused = (document.activeElement as HTMLElement | null)?.dataset.user;
    list.replaceChildren(table(t("users"), columns, rows));
    if (focused !== undefined) list.querySelector<HTMLElement>(`[data-user="${CSS.escape(focused)}"]`)?.focus();
    more.hidden = answer.users.length === answer.total;
    setText(more, t("usersMore", { n: number(answer.users.length), total: number(answer.total) }));
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => void load(), SEARCH_AFTER_MS);
  });
  return { element, load, live: true };
};

/** Fields of the quotas, for a new person and for one there is. */
const quotaFields = (admin: Admin, perDay: HTMLInputElement, atOnce: HTMLInputElement): HTMLElement =>
  h(
    "div.pair",
    {},
    field("per-day", admin.t("perDay"), perDay, admin.t("perDayHint")),
    field("at-once", admin.t("atOnce"), atOnce, admin.t("atOnceHint")),
  );
/** `holds`: what counts while the field is empty; 0 for no limit. */
const numeric = (value?: number, holds?: string): HTMLInputElement =>
  textInput(value === undefined ? "" : String(value), { inputmode: "numeric", pattern: "\\d*", placeholder: holds });

const addUser = (admin: Admin, done: () => Promise<void>): void => {
  const { t, page } = admin;
  const username = textInput("", { maxlength: 256, required: true, autocapitalize: "none" });
  const displayName = textInput("", { maxlength: 256 });
  const password = h("input", { type: "password", autocomplete: "new-password", maxlength: 256, minlength: 8 });
  const role = selectInput(
    [
      ["user", t("roleUser")],
      ["admin", t("roleAdmin")],
    ],
    "user",
  );
  const [perDay, atOnce] = [numeric(), numeric()];
  const submit = h("button.primary", { type: "submit" }, t("addUser"));
  const form = h(
    "form.admin-form",
    {},
    field("username", t("username"), username),
    field("display-name", t("displayName"), displayName),
    field("password", t("password"), password, t("passwordEmpty")),
    field("role", t("role"), role),
    quotaFields(admin, perDay, atOnce),
    h("div.actions", {}, submit),
  );
  const dialog = openDialog({ title: t("addUserTitle"), closeLabel: page.t("close"), name: "admin-add-user" }, form);
  username.focus();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    const made = await admin.call<{ user: AdminPerson; password?: string }>("POST", "/api/admin/users", {
      username: username.value.trim(),
      ...(displayName.value.trim() && { displayName: displayName.value.trim() }),
      ...(password.value && { password: password.value }),
      role: role.value,
      messagesPerDay: numberOf(perDay),
      turnsAtOnce: numberOf(atOnce),
    });
    submit.disabled = false;
    if (!made) return;
    dialog.close();
    await done();
    const { username: name } = made.user;
    if (made.password === undefined) return page.toast(t("saved"));
    showOnce(admin, t("onceTitle", { name: cleanName(name) }), t("onceHint"), [
      [t("username"), name],
      [t("password"), made.password],
    ]);
  });
};

const openUser = (admin: Admin, user: AdminPerson, done: () => Promise<void>): void => {
  const { t, page, call } = admin;
  const path = pathOf(user.username);
  const inConfig = user.source === "config";
  const own = user.username === page.state.user?.username;
  const displayName = textInput(user.displayName, { maxlength: 256, disabled: inConfig });
  const role = selectInput(
    [
      ["user", t("roleUser")],
      ["admin", t("roleAdmin")],
    ],
    user.role,
  );
  role.disabled = inConfig || own;
  const password = h("input", { type: "password", autocomplete: "new-password", maxlength: 256, minlength: 8 });
  const shown = (limit: number): string => (limit === 0 ? t("none") : String(limit));
  const perDay = user.set.messagesPerDay
    ? numeric(user.messagesPerDay)
    : numeric(undefined, shown(user.messagesPerDay));
  const atOnce = user.set.turnsAtOnce ? numeric(user.turnsAtOnce) : numeric(undefined, shown(user.turnsAtOnce));
  const submit = h("button.primary", { type: "submit" }, t("save"));
  const form = h(
    "form.admin-form",
    {},
    inConfig && h("p.meta", {}, t("inConfig")),
    field("display-name", t("displayName"), displayName),
    field("role", t("role"), role),
    quotaFields(admin, perDay, atOnce),
    user.source !== "sign-in" && field("password", t("passwordNew"), password, t("passwordKeep")),
    h("div.actions", {}, submit),
  );
  const values = () => ({
    ...(!inConfig && { displayName: displayName.value.trim() || user.username }),
    ...(!inConfig && !own && { role: role.value }),
    messagesPerDay: numberOf(perDay),
    turnsAtOnce: numberOf(atOnce),
  });
  const before = values();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const change = {
      ...changed(before, values()),
      ...(password.value && { password: password.value }),
    };
    const saved = Object.keys(change).length === 0 || (await call("PATCH", path, change));
    if (!saved) return;
    page.toast(t("saved"));
    dialog.close();
    await done();
  });

  const sessions = h("div", {});
  const drawSessions = async (): Promise<void> => {
    const answer = await admin.read<{ sessions: AdminSession[] }>(`${path}/sessions`);
    if (!answer) return;
    const columns: Column[] = [{ label: t("signedIn") }, { label: "" }];
    sessions.replaceChildren(
      h("h3", {}, t("sessionsTitle", { n: answer.sessions.length })),
      h(
        "table.plain",
        {},
        h(
          "tbody",
          {},
          ...answer.sessions.map((one) =>
            row(columns, [
              h(
                "span",
                {},
                t("sessionSince", { from: admin.time(one.createdAt), to: admin.time(one.expiresAt) }),
                one.current && h("span.badge-on", {}, t("sessionOwn")),
              ),
              button(t("endSession"), () => end(`${path}/sessions/${one.id}`), "quiet"),
            ]),
          ),
        ),
      ),
      ...(answer.sessions.length > 0 ? [button(t("endSessions"), () => end(`${path}/sessions`))] : []),
    );
  };
  const end = async (address: string): Promise<void> => {
    const answer = await call<{ ended: number }>("DELETE", address);
    if (!answer) return;
    page.toast(t("ended", { n: answer.ended }));
    await drawSessions();
    await done();
  };

  const patch = async (change: object): Promise<void> => {
    if (!(await call("PATCH", path, change))) return;
    page.toast(t("saved"));
    dialog.close();
    await done();
  };
  const off = user.disabledAt !== undefined;
  const act = (hint: string, made: HTMLElement): HTMLElement => h("div.act", {}, h("p.meta", {}, hint), made);
  const actions = h(
    "div.acts",
    {},
    h("h3", {}, t("userActions")),
    h(
      "div.act",
      {},
      button(t("exportUser"), () => admin.download(`${path}/export`, `nexus-${user.username}.json`)),
    ),
    !own &&
      act(
        t("disableHint"),
        button(t(off ? "enable" : "disable"), () => patch({ disabled: !off })),
      ),
    !own &&
      !inConfig &&
      act(
        t("removeHint"),
        sureButton(t("remove"), t("removeConfirm", { name: cleanName(user.displayName) }), async () => {
          if (!(await call("DELETE", path))) return;
          page.toast(t("removed"));
          dialog.close();
          await done();
        }),
      ),
  );
  const dialog = openDialog(
    { title: cleanName(user.displayName), closeLabel: page.t("close"), name: "admin-user" },
    form,
    sessions,
    actions,
  );
  void drawSessions();
};
