/**
 * The few functions this page builds its elements with. No HTML string ever becomes an element: text goes in as text
 * nodes, so nothing a bot, a person or a file name says can become markup. Refuses to hold state.
 */

export type Child = Node | string | undefined | false;

/** `h("button.primary", { type: "submit" }, "text")`: the first argument is a tag with classes. Attributes set to `undefined` or `false` are left out. */
export const h = <K extends keyof HTMLElementTagNameMap>(
  name: K | `${K}.${string}`,
  attributes: Record<string, string | number | boolean | undefined> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] => {
  const [tag, ...classes] = name.split(".") as [K, ...string[]];
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  setAttributes(element, attributes);
  for (const child of children) if (child) element.append(child);
  return element;
};

/** Sets, or with `undefined` and `false` removes, attributes; only where the value differs, so observers stay quiet. */
export const setAttributes = (
  element: Element,
  attributes: Record<string, string | number | boolean | undefined>,
): void => {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) element.removeAttribute(key);
    else {
      const text = value === true ? "" : String(value);
      if (element.getAttribute(key) !== text) element.setAttribute(key, text);
    }
  }
};

/** Sets the text of an element, only when it differs. */
export const setText = (element: Element, text: string): void => {
  if (element.textContent !== text) element.textContent = text;
};

/** The element with this id; absent is a mistake of ours. */
export const byId = <T extends HTMLElement = HTMLElement>(id: string): T => {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id}`);
  return found as T;
};

type Row<T> = { key: string; element: HTMLElement; update: (item: T) => void };

/**
 * Keeps the children of `parent` in step with a list, reusing elements by key, so focus, selection and scroll positions
 * survive. Returns the function that applies a list. Children it did not make stay in front.
 */
export const createList = <T>(
  parent: HTMLElement,
  key: (item: T) => string,
  make: (item: T) => { element: HTMLElement; update: (item: T) => void },
): ((items: readonly T[]) => void) => {
  let rows = new Map<string, Row<T>>();
  return (items) => {
    const next = new Map<string, Row<T>>();
    for (const item of items) {
      const id = key(item);
      let row = rows.get(id);
      if (row) row.update(item);
      else row = { key: id, ...make(item) };
      next.set(id, row);
    }
    for (const [id, row] of rows) if (!next.has(id)) row.element.remove();
    let before: ChildNode | null = null;
    for (const row of [...next.values()].reverse()) {
      const { parentNode, nextSibling } = row.element;
      // A row that is moved loses the focus: the others are moved around the one that has it.
      if (parentNode !== parent || (nextSibling !== before && !row.element.contains(document.activeElement)))
        parent.insertBefore(row.element, before);
      before = row.element;
    }
    rows = next;
  };
};
