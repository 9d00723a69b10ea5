/**
 * Scrolling of the transcript: follows the end while the reader is there, and never moves under a reader who is not.
 *
 * Must stay true: only the reader lets go (wheel, finger, key or scroll bar upwards, or a jump) and only reaching the end,
 * pressing the button or sending takes hold again. What was jumped to stays in view until what is around it is drawn.
 */
export type Follow = {
  pinned: () => boolean;
  pin: () => void;
  /** As pin, for a transcript that is about to be drawn: nothing is measured yet. */
  hold: () => void;
  /** Keeps to the end if pinned. Call after anything changed. */
  stick: () => void;
  /** Runs a change above the view, keeping what is in view where it is. */
  keep: (anchor: () => Element | undefined, change: () => void) => void;
  /**
   * A jump of our own: holds the element in view while `drawing` and a moment longer, or until a gesture; with none it holds
   * the place. Where that is the end, the end is held.
   */
  aim: (element: Element | undefined, drawing: () => boolean) => void;
};

const NEAR_PX = 80;
const GESTURE_PX = 3;
/** Browsers scroll smoothly for some 300 ms after a key or the wheel: what of it is left when we take hold is no new gesture. */
const LEFTOVER_MS = 500;
/** What comes into view is laid out in the frame after, and only then has its height. */
const SETTLE_FRAMES = 2;

/** `changed` is called when the hold is taken or let go. */
export const createFollow = (scroller: HTMLElement, content: HTMLElement, changed: () => void): Follow => {
  let pinned = true;
  let lastTop = 0;
  let lastHeight = 0;
  let touchY: number | undefined;
  let heldAt = -LEFTOVER_MS;
  let aimed: { element: Element | undefined } | undefined;

  const gap = (): number => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
  const set = (next: boolean): void => {
    if (pinned === next) return;
    pinned = next;
    changed();
  };
  const letGo = (): void => {
    aimed = undefined;
    if (scroller.scrollHeight > scroller.clientHeight + 1) set(false);
  };
  const stick = (): void => {
    if (aimed) aimed.element?.scrollIntoView({ block: "center" });
    else if (pinned && gap() > 0.5) scroller.scrollTop = scroller.scrollHeight;
    lastTop = scroller.scrollTop;
    lastHeight = scroller.scrollHeight;
  };
  const hold = (): void => {
    heldAt = performance.now();
    aimed = undefined;
    set(true);
  };
  const aim: Follow["aim"] = (element, drawing) => {
    const mine = { element };
    aimed = mine;
    let left = SETTLE_FRAMES;
    const settle = (): void => {
      if (aimed !== mine) return;
      stick();
      set(gap() <= NEAR_PX);
      left = drawing() ? SETTLE_FRAMES : left - 1;
      if (left >= 0) requestAnimationFrame(settle);
      else aimed = undefined;
    };
    settle();
  };

  const gesture = (): void => {
    if (aimed) aimed.element = undefined;
  };
  for (const kind of ["wheel", "pointerdown", "keydown"]) scroller.addEventListener(kind, gesture, { passive: true });
  scroller.addEventListener("wheel", (event) => event.deltaY <= -GESTURE_PX && letGo(), { passive: true });
  scroller.addEventListener("touchstart", (event) => (touchY = event.touches[0]?.clientY), { passive: true });
  scroller.addEventListener(
    "touchmove",
    (event) => {
      const y = event.touches[0]?.clientY;
      if (touchY !== undefined && y !== undefined && y - touchY >= GESTURE_PX) letGo();
    },
    { passive: true },
  );
  scroller.addEventListener("keydown", (event) => {
    if (["PageUp", "ArrowUp", "Home"].includes(event.key)) letGo();
  });
  scroller.addEventListener(
    "scroll",
    () => {
      if (aimed) return; // where to is ours to say
      const top = scroller.scrollTop;
      const grown = scroller.scrollHeight - lastHeight;
      const upwards = pinned && top < lastTop && grown >= 0;
      if (upwards && performance.now() - heldAt < LEFTOVER_MS) return stick();
      if (upwards && top < lastTop - GESTURE_PX && gap() > GESTURE_PX) letGo();
      else if (!pinned && top > lastTop && gap() <= NEAR_PX) set(true);
      lastTop = top;
      lastHeight = scroller.scrollHeight;
    },
    { passive: true },
  );

  const observer = new ResizeObserver(stick);
  observer.observe(content);
  observer.observe(scroller);

  return {
    pinned: () => pinned,
    pin: () => {
      hold();
      stick();
    },
    hold,
    stick,
    keep: (anchor, change) => {
      const element = anchor();
      const before = element?.getBoundingClientRect().top ?? 0;
      change();
      const settle = (): void => {
        if (!element?.isConnected || pinned) return;
        const moved = element.getBoundingClientRect().top - before;
        if (Math.abs(moved) > 0.5) scroller.scrollTop += moved;
        lastTop = scroller.scrollTop;
        lastHeight = scroller.scrollHeight;
      };
      settle();
    },
    aim,
  };
};
