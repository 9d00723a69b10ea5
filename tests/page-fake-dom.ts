/**
 * The least DOM the Markdown renderer needs, so its rules run in the everyday tests without a browser. Text nodes, elements
 * and nothing else; `outline` prints a tree so that two trees can be compared. The real DOM is tested in tests/e2e.
 */

export type FakeNode = {
  nodeType: number;
  nodeName: string;
  parentNode: FakeNode | null;
  childNodes: FakeNode[];
  data: string;
  attributes: { name: string; value: string }[];
  outline: () => string;
  textContent: string;
};

class Node_ {
  nodeType: number;
  nodeName: string;
  parentNode: Node_ | null = null;
  childNodes: Node_[] = [];
  data = "";
  attributes: { name: string; value: string }[] = [];
  touched = 0;
  constructor(type: number, name: string, data = "") {
    this.nodeType = type;
    this.nodeName = name;
    this.data = data;
  }
  get firstChild(): Node_ | null {
    return this.childNodes[0] ?? null;
  }
  get lastChild(): Node_ | null {
    return this.childNodes.at(-1) ?? null;
  }
  get nextSibling(): Node_ | null {
    const siblings = this.parentNode?.childNodes;
    return siblings?.[siblings.indexOf(this) + 1] ?? null;
  }
  get className(): string {
    return this.getAttribute("class") ?? "";
  }
  set className(value: string) {
    this.setAttribute("class", value);
  }
  get textContent(): string {
    return this.nodeType === 3 ? this.data : this.childNodes.map((n) => n.textContent).join("");
  }
  set textContent(value: string) {
    this.replaceChildren(value);
  }
  getAttribute(name: string): string | null {
    return this.attributes.find((a) => a.name === name)?.value ?? null;
  }
  setAttribute(name: string, value: string): void {
    const found = this.attributes.find((a) => a.name === name);
    if (found) found.value = value;
    else this.attributes.push({ name, value });
  }
  removeAttribute(name: string): void {
    this.attributes = this.attributes.filter((a) => a.name !== name);
  }
  appendChild(node: Node_): Node_ {
    node.remove();
    node.parentNode = this;
    this.childNodes.push(node);
    this.touch();
    return node;
  }
  append(...nodes: (Node_ | string)[]): void {
    for (const n of nodes) this.appendChild(typeof n === "string" ? new Node_(3, "#text", n) : n);
  }
  appendData(more: string): void {
    this.data += more;
    this.touch();
  }
  replaceChildren(...nodes: (Node_ | string)[]): void {
    for (const n of this.childNodes) n.parentNode = null;
    this.childNodes = [];
    this.append(...nodes);
  }
  replaceWith(node: Node_): void {
    const parent = this.parentNode;
    if (!parent) return;
    node.remove();
    parent.childNodes[parent.childNodes.indexOf(this)] = node;
    node.parentNode = parent;
    this.parentNode = null;
    parent.touch();
  }
  remove(): void {
    const parent = this.parentNode;
    if (!parent) return;
    parent.childNodes = parent.childNodes.filter((n) => n !== this);
    this.parentNode = null;
    parent.touch();
  }
  /** Only the one selector the renderer uses. */
  querySelector(_: "pre > code"): Node_ | null {
    for (const n of this.childNodes) {
      if (n.nodeName === "CODE" && this.nodeName === "PRE") return n;
      const deep = n.querySelector(_);
      if (deep) return deep;
    }
    return null;
  }
  touch(): void {
    this.touched++;
    this.parentNode?.touch();
  }
  outline(): string {
    if (this.nodeType === 3) return JSON.stringify(this.data);
    const attrs = this.attributes.map((a) => ` ${a.name}=${JSON.stringify(a.value)}`).join("");
    return `<${this.nodeName.toLowerCase()}${attrs}>${this.childNodes.map((n) => n.outline()).join("")}</>`;
  }
}

export type FakeElement = Node_;

/** Puts the document in place for the modules of the page; call before importing them. Returns a maker of hosts. */
export const installFakeDom = (): { host: () => FakeElement } => {
  Object.assign(globalThis, {
    document: {
      createElement: (tag: string) => new Node_(1, tag.toUpperCase()),
      createTextNode: (data: string) => new Node_(3, "#text", data),
    },
  });
  return { host: () => new Node_(1, "DIV") };
};

/** A seeded generator: a failure names its seed. */
export const random = (seed: number): (() => number) => {
  let s = seed >>> 0;
  return () => {
    s = (s + 0x6d2b79f5) >>> 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
};
