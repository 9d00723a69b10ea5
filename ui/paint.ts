/**
 * When code is coloured: after its block is finished, as soon as the colouring chunk is there, a little at a time so that
 * no frame is missed. Long code stays plain.
 */

type Painter = (code: Element, source: string, lang: string) => boolean;

/** About 40 ms of work on a slow machine; longer code is readable without colours. */
const CAP = 10_000;

/** Creates the queue; `settled` takes a finished node and colours the code in it, now or soon. */
export const createPaint = (): { settled: (node: Node) => void } => {
  let painter: Painter | undefined;
  let loading: Promise<void> | undefined;
  const waiting: Element[] = [];
  let scheduled = false;

  const paint = (code: Element): void => {
    const source = code.textContent ?? "";
    painter?.(code, source, code.getAttribute("data-lang") ?? "");
  };

  const work = (): void => {
    scheduled = false;
    const begin = performance.now();
    while (waiting.length && performance.now() - begin < 8) {
      const code = waiting.shift()!;
      if (code.isConnected) paint(code);
    }
    if (waiting.length) schedule();
  };

  const schedule = (): void => {
    if (scheduled || !painter) return;
    scheduled = true;
    // Safari has no requestIdleCallback.
    if (typeof requestIdleCallback === "function") requestIdleCallback(work, { timeout: 500 });
    else setTimeout(work, 30);
  };

  const load = (): void => {
    if (loading) return;
    loading = import("./highlight.ts")
      .then(({ createPainter }) => {
        painter = createPainter();
        schedule();
      })
      .catch(() => {
        loading = undefined; // offline: the next block tries again
      });
  };

  return {
    settled: (node) => {
      if (!(node instanceof Element)) return;
      for (const code of node.querySelectorAll("pre > code[data-lang]")) {
        if ((code.textContent?.length ?? 0) > CAP) continue;
        waiting.push(code);
      }
      if (!waiting.length) return;
      if (painter) schedule();
      else load();
    },
  };
};
