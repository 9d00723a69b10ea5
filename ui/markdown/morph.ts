/**
 * Makes existing nodes look like freshly built ones with as few changes as possible, so that the growing end of a reply
 * keeps its selection and does not flicker. Both sides come from build.ts, hence no listeners to carry over.
 */

const sameAttributes = (a: Element, b: Element): boolean => {
  if (a.attributes.length !== b.attributes.length) return false;
  for (const { name, value } of a.attributes) if (b.getAttribute(name) !== value) return false;
  return true;
};

const morphNode = (old: ChildNode, fresh: ChildNode): void => {
  if (old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === 3) {
    const was = old as Text;
    const now = (fresh as Text).data;
    if (was.data === now) return;
    if (now.startsWith(was.data)) was.appendData(now.slice(was.data.length));
    else was.data = now;
    return;
  }
  if (!sameAttributes(old as Element, fresh as Element)) old.replaceWith(fresh);
  else morphChildren(old, old.firstChild, [...fresh.childNodes]);
};

/** Makes the children of `parent` from `first` on equal to `fresh`; `first` null: there are none yet. */
export const morphChildren = (parent: Node, first: ChildNode | null, fresh: ChildNode[]): void => {
  let old = first;
  for (const node of fresh) {
    if (!old) {
      parent.appendChild(node);
      continue;
    }
    const next: ChildNode | null = old.nextSibling;
    morphNode(old, node);
    old = next;
  }
  while (old) {
    const next: ChildNode | null = old.nextSibling;
    old.remove();
    old = next;
  }
};
