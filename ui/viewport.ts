/**
 * The height that is really visible. iOS shrinks only the visual viewport when its keyboard opens, so the page would be
 * half behind it; the height and offset go into CSS variables. Pinch zoom also changes the visual viewport and must not.
 */
export const followViewport = (): void => {
  const viewport = window.visualViewport;
  const root = document.documentElement;
  const update = (): void => {
    if (!viewport || viewport.scale > 1.05) return;
    const keyboard = window.innerHeight - viewport.height > 40;
    root.classList.toggle("keyboard", keyboard);
    if (keyboard) {
      root.style.setProperty("--view-height", `${Math.round(viewport.height)}px`);
      root.style.setProperty("--view-top", `${Math.round(viewport.offsetTop)}px`);
    } else {
      root.style.removeProperty("--view-height");
      root.style.removeProperty("--view-top");
    }
  };
  viewport?.addEventListener("resize", update);
  viewport?.addEventListener("scroll", update);
  update();
};
