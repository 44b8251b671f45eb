import { CoapError } from "./errors.js";

/** One link of the CoRE link format (RFC 6690). An attribute without a value is `true`. */
export interface Link {
  readonly target: string;
  readonly attributes: Readonly<Record<string, string | true>>;
}

/** `</dpe1/reg>;rt="dpe.reg";obs,…` (RFC 6690 §2). @throws CoapError COAP_INVALID_MESSAGE for a target or name that would not be read back. */
export function encodeLinks(links: readonly Link[]): string {
  return links
    .map(({ target, attributes }) => {
      if (target.includes(">"))
        throw new CoapError("COAP_INVALID_MESSAGE", `a link's target cannot hold ">": ${target}`);
      const parts = Object.entries(attributes).map(([name, value]) => {
        if (!ATTRIBUTE_NAME.test(name))
          throw new CoapError("COAP_INVALID_MESSAGE", `no name of a link's attribute: ${name}`);
        return value === true ? name : `${name}=${quoted(value)}`;
      });
      return [`<${target}>`, ...parts].join(";");
    })
    .join(",");
}

/** @throws CoapError COAP_FORMAT_ERROR with the place of the fault. */
export function decodeLinks(text: string): Link[] {
  const links: Link[] = [];
  let index = 0;
  const fail = (what: string): never => {
    throw new CoapError("COAP_FORMAT_ERROR", `link format: ${what} at character ${index}`);
  };
  const take = (pattern: RegExp, what: string): RegExpExecArray => {
    pattern.lastIndex = index;
    const match = pattern.exec(text);
    if (match === null) return fail(`${what} expected`);
    index += match[0].length;
    return match;
  };
  while (index < text.length) {
    if (links.length > 0) take(/,[ \t]*/y, "a comma");
    const target = take(/<([^>]*)>/y, "<target>")[1] ?? "";
    const attributes = new Map<string, string | true>();
    while (text[index] === ";") {
      const [, name = "", quotedValue, token] = take(ATTRIBUTE, "an attribute");
      // RFC 6690 §3: of a repeated attribute the first counts.
      if (!attributes.has(name)) attributes.set(name, quotedValue?.replaceAll(/\\(.)/gs, "$1") ?? token ?? true);
    }
    links.push({ target, attributes: Object.fromEntries(attributes) });
  }
  return links;
}

function quoted(value: string): string {
  return /^[0-9]+$/.test(value) ? value : `"${value.replaceAll(/["\\]/g, "\\$&")}"`;
}

const ATTRIBUTE = /;\s*([A-Za-z0-9!#$&+.^_`|~*-]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]+)))?/sy;
const ATTRIBUTE_NAME = /^[A-Za-z0-9!#$&+.^_`|~*-]+$/;
