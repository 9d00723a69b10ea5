/** The limits of config.json as they hold. Shown, not set: they are the operator's file. */
import { h } from "../dom.ts";
import { table, type Admin, type Section } from "./parts.ts";

export const createLimits = (admin: Admin): Section => {
  const { t, number, bytes } = admin;
  const list = h("div", {});
  const load = async (): Promise<void> => {
    const answer = await admin.read<{ limits: Record<string, number> }>("/api/admin/limits");
    if (!answer) return;
    const rows = Object.entries(answer.limits).map(([name, value]) => [
      h("code", {}, name),
      value === 0 ? t("none") : name.endsWith("Bytes") ? bytes(value) : number(value),
    ]);
    list.replaceChildren(table(t("limits"), [{ label: t("limit") }, { label: t("value"), numeric: true }], rows));
  };
  return { element: h("section", {}, h("p.meta", {}, t("limitsHint")), list), load };
};
