const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 70;

/** A line of numbers over time. `values` are [ms, number] in order. */
export function chart(values, label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "chart");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const times = values.map(([time]) => time);
  const numbers = values.map(([, number]) => number);
  const [start, end] = [times[0], times.at(-1)];
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const x = (time) => (end === start ? WIDTH / 2 : ((time - start) / (end - start)) * WIDTH);
  const y = (number) => (high === low ? HEIGHT / 2 : HEIGHT - 4 - ((number - low) / (high - low)) * (HEIGHT - 8));
  const points = values.map(([time, number]) => `${x(time).toFixed(1)},${y(number).toFixed(1)}`);
  const add = (name, attributes) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    svg.append(node);
  };
  add("polygon", { class: "area", points: `0,${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}` });
  add("polyline", { class: "line", points: points.join(" ") });
  return svg;
}
