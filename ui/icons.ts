/** The line icons of the page, drawn as SVG nodes. 20×20, stroke of the text colour. */

const NS = "http://www.w3.org/2000/svg";

const PATHS = {
  send: "M10 16V4.5M5 9.5l5-5 5 5",
  stop: "M6 6h8v8H6z",
  plus: "M10 4.5v11M4.5 10h11",
  close: "M5.5 5.5l9 9M14.5 5.5l-9 9",
  menu: "M3.5 6h13M3.5 10h13M3.5 14h13",
  search: "M9 14.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11zM13 13l4 4",
  more: "M5 10h.01M10 10h.01M15 10h.01",
  pin: "M7 3.5h6l-.8 5 2.3 2.5H5.5L7.8 8.5zM10 11v5.5",
  edit: "M4 16l.8-3.4L13 4.4l2.6 2.6-8.2 8.2z",
  trash: "M4 6h12M8 6V4.5h4V6M5.5 6l.7 10h7.6l.7-10",
  gear: "M10 12.6a2.6 2.6 0 1 0 0-5.2 2.6 2.6 0 0 0 0 5.2zM10 2.8v2M10 15.2v2M2.8 10h2M15.2 10h2M4.9 4.9l1.4 1.4M13.7 13.7l1.4 1.4M4.9 15.1l1.4-1.4M13.7 6.3l1.4-1.4",
  download: "M10 3.5v9M6 9l4 4 4-4M4 16.5h12",
  down: "M10 4.5v11M5.5 11l4.5 4.5L14.5 11",
  eye: "M2.5 10S5 5 10 5s7.5 5 7.5 5-2.5 5-7.5 5-7.5-5-7.5-5zM10 12.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4z",
  image: "M3.5 4.5h13v11h-13zM3.5 13l4-3.5 3 2.5 2.5-2 3.5 3M13 8h.01",
  left: "M12 5l-5 5 5 5",
  right: "M8 5l5 5-5 5",
  retry: "M15.5 7A6 6 0 1 0 16 10M16 3.5V7h-3.5",
  file: "M5.5 3h6l3 3v11h-9zM11.5 3v3h3",
  key: "M12.5 11.5a3.5 3.5 0 1 0-3-1.7L3.5 15.8V17H6v-1.5h1.5V14H9l1.2-1.3",
  new: "M4 4.5h7M4 4.5v11h11V9M9 11l6.5-6.5",
  check: "M4.5 10.5l3.5 3.5 7.5-8",
} as const;

export type IconName = keyof typeof PATHS;

/** One icon; decorative, so the button around it needs a label. */
export const icon = (name: IconName): SVGSVGElement => {
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", `i i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(NS, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
};

/** The mark of Nexus: two nodes and the wire between them. */
export const logo = (): SVGSVGElement => {
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "logo");
  svg.setAttribute("aria-hidden", "true");
  const wire = document.createElementNS(NS, "path");
  wire.setAttribute("d", "M5 15.5V6.5L19 15.5V7.5");
  svg.append(wire);
  for (const [x, y] of [
    [5, 18],
    [19, 5],
  ]) {
    const node = document.createElementNS(NS, "circle");
    node.setAttribute("cx", String(x));
    node.setAttribute("cy", String(y));
    node.setAttribute("r", "2.4");
    svg.append(node);
  }
  return svg;
};
