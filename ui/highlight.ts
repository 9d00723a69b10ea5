/**
 * Colours code. Loaded on the first finished code block, as a chunk of its own.
 *
 * Must stay true: the text of the block does not change, only spans appear; nothing is parsed as HTML (the tree of
 * highlight.js is walked, and if its shape is not the known one the code stays plain); languages are never guessed.
 */
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import ini from "highlight.js/lib/languages/ini";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import markdown from "highlight.js/lib/languages/markdown";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";

const LANGUAGES = {
  bash,
  c,
  cpp,
  css,
  diff,
  go,
  ini,
  java,
  javascript,
  json,
  markdown,
  python,
  rust,
  sql,
  typescript,
  xml,
  yaml,
};

type Tree = { scope?: string; children: (Tree | string)[] };

/** Creates the painter: fills `code` with coloured spans of `source`; false when the language is not known. */
export const createPainter = (): ((code: Element, source: string, lang: string) => boolean) => {
  const engine = hljs.newInstance();
  for (const [name, language] of Object.entries(LANGUAGES)) engine.registerLanguage(name, language);

  const build = (parent: Node, children: (Tree | string)[]): void => {
    for (const child of children) {
      if (typeof child === "string") parent.appendChild(document.createTextNode(child));
      else {
        const scope = /^[a-z][a-z._-]*$/i.test(child.scope ?? "") ? child.scope!.split(".")[0] : undefined;
        const target = scope ? document.createElement("span") : parent;
        if (scope) (target as HTMLElement).className = `h-${scope}`;
        build(target, child.children);
        if (scope) parent.appendChild(target);
      }
    }
  };

  return (code, source, lang) => {
    if (!engine.getLanguage(lang)) return false;
    const result = engine.highlight(source, { language: lang, ignoreIllegals: true });
    const tree = (result as unknown as { _emitter?: { rootNode?: Tree } })._emitter?.rootNode;
    if (!tree || !Array.isArray(tree.children)) return false;
    const fragment = document.createDocumentFragment();
    build(fragment, tree.children);
    if (fragment.textContent !== source) return false;
    code.replaceChildren(fragment);
    return true;
  };
};
