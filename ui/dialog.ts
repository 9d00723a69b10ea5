/** A titled dialog over the page. The browser keeps the focus inside and closes it with Escape. */
import { h, type Child } from "./dom.ts";
import { icon } from "./icons.ts";

export type Dialog = { element: HTMLDialogElement; close: () => void };

/** Opens a dialog; `locked`: only the returned `close` closes it. The element leaves the page when it closes. */
export const openDialog = (
  options: { title: string; closeLabel: string; name: string; locked?: boolean; onClose?: () => void },
  ...children: Child[]
): Dialog => {
  const close = h("button.icon", { type: "button", "aria-label": options.closeLabel }, icon("close"));
  const element = h(
    `dialog.dialog`,
    { "aria-labelledby": `${options.name}-title`, id: options.name },
    h("div.dialog-head", {}, h("h2", { id: `${options.name}-title` }, options.title), !options.locked && close),
    h("div.dialog-body", {}, ...children),
  );
  close.addEventListener("click", () => element.close());
  element.addEventListener("cancel", (event) => options.locked && event.preventDefault());
  // A press on the backdrop, not one that began inside and ended there.
  let pressedOutside = false;
  element.addEventListener("pointerdown", (event) => {
    pressedOutside = event.target === element;
  });
  element.addEventListener("click", (event) => {
    if (event.target === element && pressedOutside && !options.locked) element.close();
  });
  let done = false;
  element.addEventListener("close", () => {
    // A browser lets nobody be locked in: Escape pressed again and again closes whatever `cancel` says.
    if (options.locked && !done) {
      element.showModal();
      return;
    }
    element.remove();
    options.onClose?.();
  });
  document.body.append(element);
  element.showModal();
  return {
    element,
    close: () => {
      done = true;
      if (element.open) element.close();
    },
  };
};
