/** A small menu under a button: arrows move, Escape and a click elsewhere close, focus returns to the button. */
import { h } from "./dom.ts";
import { icon, type IconName } from "./icons.ts";

export type MenuItem = { label: string; icon: IconName; danger?: boolean; run: () => void };

/** Opens the menu at `button`. At most one is open. */
export const openMenu = (button: HTMLElement, label: string, items: MenuItem[]): void => {
  document.querySelector(".menu")?.dispatchEvent(new Event("menu-close"));
  const menu = h("div.menu", { role: "menu", "aria-label": label });
  const close = (refocus: boolean): void => {
    menu.remove();
    button.setAttribute("aria-expanded", "false");
    removeEventListener("pointerdown", outside, true);
    removeEventListener("resize", gone);
    if (refocus) button.focus();
  };
  const outside = (event: Event): void => {
    if (!menu.contains(event.target as Node)) close(false);
  };
  const gone = (): void => close(false);
  for (const item of items) {
    const row = h(
      `button.menu-item${item.danger ? ".danger" : ""}`,
      { type: "button", role: "menuitem", tabindex: -1 },
      icon(item.icon),
      item.label,
    );
    row.addEventListener("click", () => {
      close(true);
      item.run();
    });
    menu.append(row);
  }
  menu.addEventListener("menu-close", gone);
  menu.addEventListener("keydown", (event) => {
    const rows = [...menu.querySelectorAll<HTMLElement>(".menu-item")];
    const at = rows.indexOf(document.activeElement as HTMLElement);
    if (event.key === "ArrowDown") rows[(at + 1) % rows.length]?.focus();
    else if (event.key === "ArrowUp") rows[(at - 1 + rows.length) % rows.length]?.focus();
    else if (event.key === "Home") rows[0]?.focus();
    else if (event.key === "End") rows.at(-1)?.focus();
    else if (event.key === "Escape" || event.key === "Tab") close(true);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  document.getElementById("layers")!.append(menu);
  const at = button.getBoundingClientRect();
  const { width, height } = menu.getBoundingClientRect();
  const below = at.bottom + height + 8 < innerHeight;
  menu.style.left = `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`;
  menu.style.top = `${Math.max(8, below ? at.bottom + 4 : at.top - height - 4)}px`;
  button.setAttribute("aria-expanded", "true");
  addEventListener("pointerdown", outside, true);
  addEventListener("resize", gone);
  menu.querySelector<HTMLElement>(".menu-item")?.focus({ preventScroll: true });
};
