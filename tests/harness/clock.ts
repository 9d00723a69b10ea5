/** A clock that stands still until a test moves it. */
export const fakeClock = (start = Date.now()) => {
  let at = start;
  return {
    now: (): number => at,
    pass: (ms: number): void => {
      at += ms;
    },
  };
};
