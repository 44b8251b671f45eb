import type { Link } from "./link-format.js";

/**
 * The links that a query selects (RFC 6690 §4.1): each `name=value` must match, `href` the target, and any of the values
 * that are parted by spaces in `rel`, `rev`, `rt`, `if` and the like. A `*` at the end of a value stands for any rest.
 */
export function filterLinks(links: readonly Link[], query: readonly string[]): Link[] {
  return links.filter((link) => query.every((parameter) => isSelected(link, parameter)));
}

function isSelected(link: Link, parameter: string): boolean {
  const split = parameter.indexOf("=");
  const name = split < 0 ? parameter : parameter.slice(0, split);
  const wanted = split < 0 ? undefined : parameter.slice(split + 1);
  if (name === "href") return wanted !== undefined && isMatch(link.target, wanted);
  const value = Object.hasOwn(link.attributes, name) ? link.attributes[name] : undefined;
  if (value === undefined) return false;
  // An attribute without a value is selected by its name.
  if (wanted === undefined || value === true) return wanted === undefined || wanted === "" || wanted === "*";
  return value.split(" ").some((part) => isMatch(part, wanted));
}

function isMatch(value: string, wanted: string): boolean {
  return wanted.endsWith("*") ? value.startsWith(wanted.slice(0, -1)) : value === wanted;
}
