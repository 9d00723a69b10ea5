/** At most one drawing a frame; a page in the background gets no frames, yet should be ready when it is looked at. */

const HIDDEN_MS = 400;

/** The function that asks for the next drawing; asked twice it is still one. */
export const createFrames = (draw: (now: number) => void): (() => void) => {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    const run = (now: number): void => {
      asked = false;
      clearTimeout(hidden);
      cancelAnimationFrame(drawn);
      draw(now);
    };
    const drawn = requestAnimationFrame(run);
    const hidden = setTimeout(() => run(performance.now()), HIDDEN_MS);
  };
};
