/** An element with its properties and children; text is only ever set as text. */
export function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return node;
}

export function show(...children) {
  document.querySelector("#main").replaceChildren(...children.filter((child) => child !== undefined));
}

/** How long ago, as people say it. */
export function ago(time, now = Date.now()) {
  if (time === undefined) return "never";
  const seconds = Math.max(0, Math.round((now - Date.parse(time)) / 1000));
  if (seconds < 2) return "now";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]])
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  return `${seconds} s ago`;
}

/** A number with its unit, as people read it: bytes and seconds by size, ratios in percent. */
export function quantity(value, unit, most = 4) {
  if (unit === "B") {
    const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.max(1, Math.abs(value))) / 3)));
    return [digits(value / 1000 ** power, most), ["B", "kB", "MB", "GB", "TB"][power]];
  }
  if (unit === "/") return [digits(value * 100, most), "%"];
  if (unit === "s" && Math.abs(value) >= 7200) return [digits(value / 3600, most), "h"];
  return [digits(value, most), { __proto__: null, Cel: "°C", "%RH": "% RH", "%EL": "% battery", count: "" }[unit] ?? unit ?? ""];
}

function digits(value, most) {
  return Number.isInteger(value) ? value.toLocaleString("en") : value.toLocaleString("en", { maximumSignificantDigits: most });
}

export function duration(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]])
    if (seconds >= size && seconds % size === 0) return `${seconds / size} ${unit}`;
  return `${seconds} s`;
}

/** A time that tells its age, and goes on telling. */
export function age(time) {
  return el("time", { datetime: time, title: time === undefined ? undefined : new Date(time).toLocaleString(), "data-age": time ?? "" }, ago(time));
}

setInterval(() => {
  for (const node of document.querySelectorAll("[data-age]")) {
    const time = node.getAttribute("data-age");
    if (time !== "") node.textContent = ago(time);
  }
}, 1000);
