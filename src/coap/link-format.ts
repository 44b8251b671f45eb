import { CoapError } from "./errors.js";

/** One link of the CoRE link format (RFC 6690). An attribute without a value is `true`. */
export interface Link {
  readonly target: string;
  readonly attributes: Readonly<Record<string, string | true>>;
}

/** `</dpe1/reg>;rt="dpe.reg";obs,…` (RFC 6690 §2). */
export function encodeLinks(links: readonly Link[]): string {
  return links
    .map(({ target, attributes }) => {
      const parts = Object.entries(attributes).map(([name, value]) =>
        value === true ? name : `${name}=${quoted(value)}`,
      );
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
    const attributes: Record<string, string | true> = {};
    while (text[index] === ";") {
      const [, name = "", quotedValue, token] = take(ATTRIBUTE, "an attribute");
      // RFC 6690 §3: of a repeated attribute the first counts.
      if (!Object.hasOwn(attributes, name)) attributes[name] = quotedValue?.replaceAll(/\\(.)/g, "$1") ?? token ?? true;
    }
    links.push({ target, attributes });
  }
  return links;
}

function quoted(value: string): string {
  return /^[0-9]+$/.test(value) ? value : `"${value.replaceAll(/["\\]/g, "\\$&")}"`;
}

const ATTRIBUTE = /;\s*([A-Za-z0-9!#$&+.^_`|~*-]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]+)))?/y;
