/** Bots: who there is, connecting a new one, who may use it, and stopping one that runs away. */
import type { AdminBot, AdminPerson } from "../../lib/protocol/admin.ts";
import { openDialog } from "../dialog.ts";
import { h } from "../dom.ts";
import { cleanName } from "../page.ts";
import {
  button,
  changed,
  field,
  named,
  numberOf,
  showOnce,
  sureButton,
  table,
  textInput,
  type Admin,
  type Column,
  type Section,
} from "./parts.ts";

const pathOf = (id: string): string => `/api/admin/bots/${encodeURIComponent(id)}`;

export const createBots = (admin: Admin): Section => {
  const { t, number } = admin;
  const list = h("div", {});
  const element = h(
    "section",
    {},
    h(
      "div.admin-tools",
      {},
      button(t("addBot"), () => addBot(admin, load), "primary"),
    ),
    list,
  );
  const columns: Column[] = [
    { label: t("bot") },
    { label: t("state") },
    { label: t("who") },
    { label: t("token") },
    { label: t("tileOpen"), numeric: true },
  ];
  let seen = "";

  const load = async (again = false): Promise<void> => {
    const answer = await admin.read<{ bots: AdminBot[] }>("/api/admin/bots", again);
    // Signs of life change every few seconds and are not shown here.
    const text = JSON.stringify(answer, (key, value: unknown) => (key === "seenAt" ? undefined : value));
    if (!answer || text === seen) return;
    seen = text;
    const rows = answer.bots.map((bot) => {
      const open = h("button.row-button", { type: "button", "data-bot-id": bot.id }, named(bot.name, bot.id));
      open.addEventListener("click", () => openBot(admin, bot, () => load()));
      const state = bot.disabled
        ? h("span.badge-off", {}, t("disabled"))
        : h(bot.online ? "span.badge-on" : "span.meta", {}, t(bot.online ? "online" : "offline"));
      return [
        open,
        state,
        bot.users === null
          ? t("everybody")
          : h("span", { dir: "auto", title: bot.users.join(", ") }, t("whoCount", { n: bot.users.length })),
        t(bot.model ? "modelToken" : bot.hasToken ? "ownToken" : "noToken"),
        number(bot.connections.reduce((sum, { inFlight }) => sum + inFlight, 0)),
      ];
    });
    const focused = (document.activeElement as HTMLElement | null)?.dataset.botId;
    list.replaceChildren(rows.length ? table(t("bots"), columns, rows) : h("p.meta", {}, t("empty")));
    if (focused !== undefined) list.querySelector<HTMLElement>(`[data-bot-id="${CSS.escape(focused)}"]`)?.focus();
  };
  return { element, load, live: true };
};

/** Everybody, or a list of people with a search; `users` is what is chosen, null for everybody. */
const whoField = (admin: Admin, current: string[] | null): { element: HTMLElement; users: () => string[] | null } => {
  const { t } = admin;
  const chosen = new Set(current ?? []);
  const names = h("div.people", { role: "group", "aria-label": t("whoSome") });
  const search = textInput("", { type: "search", placeholder: t("searchUsers"), "aria-label": t("searchUsers") });
  const some = h("div", { hidden: current === null }, search, names);
  const radio = (value: string, label: string, checked: boolean): HTMLElement => {
    const input = h("input", { type: "radio", name: "admin-who", value, checked, id: `admin-who-${value}` });
    input.addEventListener("change", () => {
      some.hidden = value === "all";
    });
    return h("label", { for: `admin-who-${value}` }, input, h("span", {}, label));
  };
  const draw = async (): Promise<void> => {
    const answer = await admin.read<{ users: AdminPerson[] }>(
      `/api/admin/users?limit=100&q=${encodeURIComponent(search.value.trim())}`,
    );
    if (!answer) return;
    const known = new Set(answer.users.map(({ username }) => username));
    const gone = search.value.trim() === "" ? [...chosen].filter((name) => !known.has(name)) : [];
    const people = [
      ...gone.map((username) => ({ username, displayName: username })),
      ...answer.users.map(({ username, displayName }) => ({ username, displayName })),
    ];
    names.replaceChildren(
      ...people.map(({ username, displayName }) => {
        const box = h("input", { type: "checkbox", checked: chosen.has(username), value: username });
        box.addEventListener("change", () => (box.checked ? chosen.add(username) : chosen.delete(username)));
        return h("label.person", {}, box, named(displayName, username));
      }),
    );
  };
  search.addEventListener("input", () => void draw());
  void draw();
  const element = h(
    "fieldset.choice",
    {},
    h("legend", {}, t("who")),
    h("div.segments", {}, radio("all", t("whoAll"), current === null), radio("some", t("whoSome"), current !== null)),
    some,
  );
  return { element, users: () => (some.hidden ? null : [...chosen].sort()) };
};

const listOf = (input: HTMLInputElement): string[] | null => {
  const items = input.value.split(/[,，\s]+/).filter(Boolean);
  return items.length === 0 ? null : items;
};

const address = (admin: Admin): string => {
  const origin = admin.page.api.gateway() || location.origin;
  return `${origin.replace(/^http/, "ws")}/bot-ws`;
};

const showToken = (admin: Admin, id: string, token: string): void => {
  const { t } = admin;
  showOnce(admin, t("tokenTitle", { name: cleanName(id) }), t("tokenHint"), [
    [t("address"), address(admin)],
    [t("botId"), id],
    [t("token"), token],
  ]);
};

const addBot = (admin: Admin, done: () => Promise<void>): void => {
  const { t, page } = admin;
  const id = textInput("", { maxlength: 64, required: true, autocapitalize: "none" });
  const name = textInput("", { maxlength: 256 });
  const who = whoField(admin, null);
  const submit = h("button.primary", { type: "submit" }, t("addBot"));
  const form = h(
    "form.admin-form",
    {},
    field("bot-id", t("botId"), id, t("botIdHint")),
    field("bot-name", t("botName"), name, t("botNameHint")),
    who.element,
    h("div.actions", {}, submit),
  );
  const dialog = openDialog({ title: t("addBotTitle"), closeLabel: page.t("close"), name: "admin-add-bot" }, form);
  id.focus();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    const made = await admin.call<{ token: string }>("POST", "/api/admin/bots", {
      id: id.value.trim(),
      name: name.value.trim() || null,
      users: who.users(),
    });
    submit.disabled = false;
    if (!made) return;
    dialog.close();
    await done();
    showToken(admin, id.value.trim(), made.token);
  });
};

const openBot = (admin: Admin, bot: AdminBot, done: () => Promise<void>): void => {
  const { t, page, call } = admin;
  const path = pathOf(bot.id);
  const name = textInput(bot.name === bot.id && !bot.onPage ? "" : bot.name, { maxlength: 256 });
  const who = whoField(admin, bot.users);
  const pools = textInput(bot.pools?.join(", ") ?? "", { autocapitalize: "none" });
  const concurrency = textInput(bot.maxConcurrency > 0 ? String(bot.maxConcurrency) : "", {
    inputmode: "numeric",
    pattern: "\\d*",
  });
  const form = h(
    "form.admin-form",
    {},
    field("bot-name", t("botName"), name, t("botNameHint")),
    who.element,
    h(
      "div.pair",
      {},
      field("pools", t("pools"), pools, t("poolsHint")),
      field("concurrency", t("concurrency"), concurrency, t("concurrencyHint")),
    ),
    h("div.actions", {}, h("button.primary", { type: "submit" }, t("save"))),
  );
  const values = () => ({
    name: name.value.trim() || null,
    users: who.users(),
    pools: listOf(pools),
    maxConcurrency: numberOf(concurrency) || null,
  });
  const before = values();
  const finish = async (note: string): Promise<void> => {
    page.toast(note);
    dialog.close();
    await done();
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const change = changed(before, values());
    if (Object.keys(change).length === 0 || (await call("PATCH", path, change))) await finish(t("saved"));
  });
  const disconnect = async (instance?: string): Promise<void> => {
    const answer = await call<{ disconnected: number }>("POST", `${path}/disconnect`, { instance });
    if (answer) await finish(t("disconnected", { n: answer.disconnected }));
  };
  const connections = h(
    "div",
    {},
    h("h3", {}, t("connections", { n: bot.connections.length })),
    ...bot.connections.map((one) =>
      h(
        "div.act",
        {},
        h(
          "p.meta",
          { dir: "auto" },
          one.instance && `${t("instance", { name: cleanName(one.instance) })} · `,
          t("connectionSince", {
            address: one.address,
            proto: one.proto,
            at: admin.time(one.connectedAt),
            n: one.inFlight,
          }),
        ),
        button(t("disconnect"), () => disconnect(one.instance)),
      ),
    ),
    bot.connections.length > 0 && h("p.meta", {}, t("disconnectHint")),
  );
  const act = (hint: string, made: HTMLElement): HTMLElement => h("div.act", {}, h("p.meta", {}, hint), made);
  const actions = h(
    "div.acts",
    {},
    h("h3", {}, t("bot")),
    !bot.model &&
      act(
        t("newTokenHint"),
        button(t("newToken"), async () => {
          const made = await call<{ token: string }>("POST", `${path}/token`, {});
          if (!made) return;
          dialog.close();
          await done();
          showToken(admin, bot.id, made.token);
        }),
      ),
    act(
      t("botDisableHint"),
      button(t(bot.disabled ? "enable" : "disable"), async () => {
        if (await call("PATCH", path, { disabled: !bot.disabled })) await finish(t("saved"));
      }),
    ),
    bot.onPage &&
      act(
        t("botRemoveHint"),
        sureButton(t("botRemove"), t("botRemoveConfirm", { name: cleanName(bot.name) }), async () => {
          if (await call("DELETE", path)) await finish(t("removed"));
        }),
      ),
  );
  const dialog = openDialog(
    { title: cleanName(bot.name), closeLabel: page.t("close"), name: "admin-bot" },
    form,
    connections,
    actions,
  );
};
