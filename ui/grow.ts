/** A text field as high as its text, up to 40 % of what is visible; then it scrolls. */

/** The function to call after the text was changed; a change of the window is noticed here. */
export const createGrow = (field: HTMLTextAreaElement): (() => void) => {
  const grow = (): void => {
    // One line needs no measuring, which at the start would lay out the whole page.
    field.style.height = field.value === "" ? "" : "auto";
    if (field.value === "") return;
    const view = window.visualViewport?.height ?? window.innerHeight;
    const most = Math.max(56, Math.floor(view * 0.4) - 8);
    field.style.height = `${Math.min(field.scrollHeight, most)}px`;
    field.style.overflowY = field.scrollHeight > most ? "auto" : "hidden";
  };
  window.visualViewport?.addEventListener("resize", grow);
  addEventListener("resize", grow);
  return grow;
};
