/**
 * Renders a growing Markdown text with work proportional to what is new.
 *
 * Finished blocks are frozen: lexed once, appended once, never touched again. Only complete lines decide what is finished
 * (a line still growing can change the block before it), and the last block stays open until another follows. The open end
 * is lexed again as it grows, the less often the longer it is; an open code fence is not lexed at all, its text is
 * appended. Must stay true: after the end the DOM equals that of rendering the whole text at once, and nothing throws:
 * what fails is shown as plain text.
 */
import { buildBlock, codeBlock, plainBlock, type BuildEnv } from "./build.ts";
import { lexBlocks, type Links, type Token } from "./lexer.ts";
import { safeLang } from "./links.ts";
import { morphChildren } from "./morph.ts";

export type RenderEnv = BuildEnv & {
  /** Called once for every node that will not change any more, after it stands in the document. */
  settled: (node: ChildNode) => void;
};

export type Renderer = {
  /** The whole text so far; `open`: more may come. Does no work itself. */
  set: (text: string, open: boolean) => void;
  /** Does a slice of the work, at most about 10 ms. `now` in ms. True: call again next frame. */
  render: (now: number) => boolean;
  /** Starts over, for another language or theme of the labels. */
  reset: () => void;
  /** Characters given to the lexer so far: the measure the tests hold. */
  lexed: () => number;
};

/** Beyond this a message is shown as plain text. */
const MESSAGE_CAP = 1_000_000;
/** Text looked at in one frame, of what was there at the beginning. */
const WINDOW = 24_000;
/** Our part of a frame in ms while that is drawn: most of it is out of view and costs nothing more. */
const WINDOW_MS = 20;
/** What came since goes on screen in slices: a machine that falls behind would otherwise do ever more in ever longer frames. */
const SLICE_MIN = 300;
/** Our part of a frame in ms; style, layout and paint of what we built take several times as much. */
const SLICE_MS = 4;
/** Characters of open end that may be lexed again per ms of waiting: 2 kB at 8 frames a second. */
const TAIL_RATE = 16;
const MAX_WAIT_MS = 1000;
/** Blocks in one part of the answer. */
const PART = 16;
/** Text of an open fence goes into pieces of about this size, each of which the browser can skip. */
const PIECE = 8000;

const FENCE = /^(`{3,}|~{3,})([^\n]*)\n/;

const lastBlock = (tokens: Token[]): number => {
  let i = tokens.length - 1;
  while (i >= 0 && tokens[i]!.type === "space") i--;
  return i;
};

/** Where the next character would stand: the element that shows the cursor. */
const endOf = (block: ChildNode | null | undefined): Element | undefined => {
  if (block?.nodeType !== 1) return undefined;
  const element = block as Element;
  if (/^(?:P|H[4-6])$/.test(element.nodeName)) return element;
  if (/^[UO]L$/.test(element.nodeName)) return element.lastElementChild ?? undefined;
  return element.className === "code" ? (element.querySelector("pre > code") ?? undefined) : undefined;
};

/** Creates a renderer that owns the children of `host`. */
export const createRenderer = (host: HTMLElement, env: RenderEnv): Renderer => {
  let text = "";
  let open = true;
  let stable = 0; // everything before is frozen
  let scanned = 0; // complete lines up to here were searched for finished blocks
  let frozen = 0; // child nodes that will not change
  let begun: number | undefined; // what was there when drawing began
  let wide = WINDOW;
  let slice = 4 * SLICE_MIN;
  let sliced = false; // the last rendering left text for the next
  let window = WINDOW;
  let links: Links = {};
  let redo = false; // a definition came after text that uses it
  let fence: { at: number; mark: string; lang: string; shown: number } | undefined;
  let renderedAt = Number.NEGATIVE_INFINITY;
  let shownLength = -1;
  let shownOpen = true;
  let lexed = 0;
  let cursor: Element | undefined;

  const lex = (from: number, to: number): ReturnType<typeof lexBlocks> => {
    lexed += to - from;
    return lexBlocks(text.slice(from, to), links);
  };

  const learn = (tokens: Token[]): void => {
    for (const token of tokens) {
      if (token.type === "def") {
        const tag = String(token.tag);
        if (Object.hasOwn(links, tag)) continue;
        links = { ...links, [tag]: { href: String(token.href), title: token.title as string } };
        if (frozen > 0 && (/\s/.test(tag) || text.slice(0, stable).toLowerCase().includes(`[${tag.toLowerCase()}]`)))
          redo = true;
      } else if (token.type === "list") learn(token.items as Token[]);
      else if (token.type === "blockquote" || token.type === "list_item") learn(token.tokens ?? []);
    }
  };

  const build = (tokens: Token[]): ChildNode[] => {
    const nodes: ChildNode[] = [];
    for (const token of tokens) {
      const node = buildBlock(env, token);
      if (node) nodes.push(node as ChildNode);
    }
    return nodes;
  };

  /** Blocks stand in parts of a fixed number, so that a browser can skip the parts that are not in view. */
  const partAt = (index: number): HTMLElement => {
    const found = host.childNodes[index] as HTMLElement | undefined;
    if (found?.className === "part") return found;
    const part = document.createElement("div");
    part.className = "part";
    if (found) found.replaceWith(part);
    else host.append(part);
    return part;
  };
  const nodeAt = (index: number): ChildNode => partAt(Math.floor(index / PART)).childNodes[index % PART] as ChildNode;

  /** By an attribute of that one element: a rule by place would have the browser match whole parts anew. */
  const moveCursor = (to: Element | undefined): void => {
    cursor?.removeAttribute("data-end");
    cursor = to;
    cursor?.setAttribute("data-end", "");
  };

  const place = (settledNodes: ChildNode[], tail: ChildNode[]): void => {
    moveCursor(undefined);
    const rest = [...settledNodes, ...tail];
    let at = frozen;
    while (rest.length || at % PART > 0) {
      const part = partAt(Math.floor(at / PART));
      const from = at % PART;
      const now = rest.splice(0, PART - from);
      morphChildren(part, (part.childNodes[from] as ChildNode | undefined) ?? null, now);
      at += now.length;
      if (!rest.length) break;
    }
    const used = Math.ceil(at / PART);
    while (host.childNodes.length > used) (host.lastChild as ChildNode).remove();
    const from = frozen;
    frozen += settledNodes.length;
    for (let i = from; i < frozen; i++) env.settled(nodeAt(i));
    if (open) moveCursor(endOf(host.lastChild?.lastChild));
  };

  const startOver = (): void => {
    stable = scanned = frozen = 0;
    begun = undefined;
    fence = undefined;
    redo = false;
    renderedAt = Number.NEGATIVE_INFINITY;
    shownLength = -1;
  };

  /** The open end is a fence whose end has not come: true when its text was appended without lexing. */
  const appendToFence = (): boolean => {
    if (!open) return false;
    if (!fence) {
      const start = FENCE.exec(text.slice(stable, stable + 200));
      if (!start || (start[1]![0] === "`" && start[2]!.includes("`"))) return false;
      fence = { at: stable + start[0].length, mark: start[1]!, lang: safeLang(start[2]), shown: -1 };
    }
    const from = Math.max(fence.at, fence.shown);
    const lineStart = text.lastIndexOf("\n", from - 1) + 1;
    const closing = new RegExp(`^ {0,3}${fence.mark}`, "m");
    if (closing.test(text.slice(lineStart))) {
      fence = undefined;
      return false;
    }
    if (fence.shown < 0) {
      place([], [codeBlock(env, "", fence.lang)]);
      fence.shown = fence.at;
    }
    const code = (nodeAt(frozen) as HTMLElement).querySelector("pre > code")!;
    let piece = text.slice(fence.shown);
    fence.shown = text.length;
    while (piece) {
      const last = (code.lastChild?.nodeName === "SPAN" ? code.lastChild : code) as HTMLElement;
      const size = last.textContent?.length ?? 0;
      const cut = size + piece.length > PIECE ? piece.indexOf("\n", Math.max(0, PIECE - size)) + 1 : 0;
      const now = cut > 0 ? piece.slice(0, cut) : piece;
      if (last.lastChild?.nodeType === 3) (last.lastChild as Text).appendData(now);
      else last.append(now);
      piece = piece.slice(now.length);
      if (piece) code.append(document.createElement("span"));
      if (piece) (code.lastChild as HTMLElement).className = "slab";
    }
    return true;
  };

  const firstWindow = (): number => (stable < (begun ?? 0) ? wide : slice);

  const work = (now: number): boolean => {
    if (begun === undefined) {
      begun = text.length;
      window = firstWindow();
    }
    if (text.length > MESSAGE_CAP) {
      if (open && now - renderedAt < MAX_WAIT_MS) return true;
      startOver();
      partAt(0).replaceChildren(plainBlock(text));
      renderedAt = now;
      shownLength = text.length;
      return false;
    }
    const behind = text.length - stable;
    if (open && behind <= window && now - renderedAt < Math.min(MAX_WAIT_MS, behind / TAIL_RATE) && !fence) return true;
    if (open && behind <= window && appendToFence()) {
      shownLength = text.length;
      return false;
    }
    const limit = Math.min(text.length, stable + window);
    const all = limit === text.length;
    const end = all && !open ? text.length : text.lastIndexOf("\n", limit - 1) + 1;
    let settledNodes: ChildNode[] = [];
    let rest: Token[] | undefined;
    if (end > stable && (end > scanned || !open)) {
      const blocks = lex(stable, end);
      const keep = all && !open ? blocks.tokens.length : Math.max(0, lastBlock(blocks.tokens));
      scanned = end;
      if (keep > 0 || end === text.length) blocks.inline();
      if (keep > 0) {
        const done = blocks.tokens.slice(0, keep);
        learn(done);
        settledNodes = build(done);
        for (const token of done) stable += token.raw.length;
        window = firstWindow();
        fence = undefined;
      } else if (!all) window *= 2;
      if (end === text.length) rest = blocks.tokens.slice(keep);
    } else if (!all) window *= 2;
    if (!all) {
      // What shows the open end stays until something takes its place.
      if (settledNodes.length) place(settledNodes, []);
      sliced = settledNodes.length > 0;
      return true;
    }
    if (!open && redo) {
      startOver();
      return true;
    }
    if (!rest && stable < text.length) {
      const blocks = lex(stable, text.length);
      blocks.inline();
      rest = blocks.tokens;
    }
    place(settledNodes, build(rest ?? []));
    renderedAt = now;
    shownLength = text.length;
    shownOpen = open;
    return false;
  };

  return {
    set: (next, isOpen) => {
      const clean = next.includes("\r") ? next.replace(/\r\n?/g, "\n") : next;
      if (!clean.startsWith(text)) {
        startOver();
        links = {};
      }
      text = clean;
      open = isOpen;
    },
    render: (now) => {
      if (shownLength === text.length && shownOpen === open) return false;
      const begin = performance.now();
      try {
        sliced = false;
        const more = work(now);
        const took = performance.now() - begin;
        if (took > WINDOW_MS) wide = Math.max(SLICE_MIN, wide / 2);
        if (took > SLICE_MS) slice = Math.max(SLICE_MIN, slice / 2);
        else if (sliced && took < SLICE_MS / 2) slice = Math.min(WINDOW, slice * 1.5);
        return more;
      } catch {
        startOver();
        host.replaceChildren();
        partAt(0).replaceChildren(plainBlock(text));
        shownLength = text.length;
        shownOpen = open;
        return false;
      }
    },
    reset: () => {
      startOver();
      host.replaceChildren();
    },
    lexed: () => lexed,
  };
};
