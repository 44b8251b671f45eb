import { CoapError } from "./errors.js";
import { OPTION } from "./wire/option-registry.js";
import { Options } from "./wire/options.js";

/** Where a CoAP URI leads and what a request for it says. */
export interface CoapTarget {
  readonly scheme: CoapScheme;
  /** A name, or an address without brackets. */
  readonly host: string;
  readonly port: number;
  /** Uri-Host where the host is a name, Uri-Path and Uri-Query. */
  readonly options: Options;
}

export type CoapScheme = keyof typeof DEFAULT_PORT;

/**
 * Decomposes a URI into options (RFC 7252 §6.4, RFC 8323 §8.6).
 *
 * @throws CoapError COAP_BAD_URI: no absolute CoAP URI, one with a fragment or user, or with bad percent-encoding.
 */
export function decomposeUri(text: string): CoapTarget {
  const parts = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?$/i.exec(text);
  if (parts === null) throw badUri(text, "is no absolute URI");
  const [, givenScheme = "", authority = "", path = "", query, fragment] = parts;
  const scheme = givenScheme.toLowerCase();
  if (!isCoapScheme(scheme))
    throw badUri(text, `has a scheme that is not one of ${Object.keys(DEFAULT_PORT).join(", ")}`);
  if (fragment !== undefined) throw badUri(text, "has a fragment");
  const [, bracketed, name = "", givenPort] = /^(?:\[([^\]]*)\]|([^:@[\]]+))(?::([0-9]*))?$/.exec(authority) ?? [];
  const host = bracketed ?? unescaped(name, text).toLowerCase();
  if (host === "") throw badUri(text, "has no host that is a name or an address");
  const port = givenPort === undefined || givenPort === "" ? DEFAULT_PORT[scheme] : Number(givenPort);
  if (port < 1 || port > 65_535) throw badUri(text, "has a port that is none");
  const isAddress = bracketed !== undefined || /^[0-9]+(\.[0-9]+){3}$/.test(host);
  const segments = path === "" ? [] : withoutDots(checked(path.slice(1).split("/"), text));
  const isRoot = segments.length === 1 && segments[0] === "";
  let options = Options.none.withAll(OPTION.UriPath, isRoot ? [] : segments);
  if (query !== undefined) options = options.withAll(OPTION.UriQuery, checked(query.split("&"), text));
  if (!isAddress) options = options.withAll(OPTION.UriHost, checked([host], text));
  return { scheme, host, port, options };
}

function isCoapScheme(scheme: string): scheme is CoapScheme {
  return Object.hasOwn(DEFAULT_PORT, scheme);
}

function checked(values: readonly string[], uri: string): string[] {
  return values.map((value) => {
    const decoded = unescaped(value, uri);
    if (new TextEncoder().encode(decoded).length > MAX_VALUE_BYTES)
      throw badUri(uri, `has a part longer than ${MAX_VALUE_BYTES} bytes`);
    return decoded;
  });
}

/** RFC 3986 §5.2.4, which the resolution of a URI includes (RFC 7252 §6.4): no option's value is "." or "..". */
function withoutDots(segments: readonly string[]): string[] {
  const kept: string[] = [];
  for (const [index, segment] of segments.entries()) {
    if (segment === "..") kept.pop();
    if (segment !== "." && segment !== "..") kept.push(segment);
    else if (index === segments.length - 1) kept.push("");
  }
  return kept;
}

function unescaped(value: string, uri: string): string {
  try {
    return decodeURIComponent(value);
  } catch (error) {
    throw badUri(uri, "has bad percent-encoding", error);
  }
}

function badUri(uri: string, what: string, cause?: unknown): CoapError {
  return new CoapError("COAP_BAD_URI", `${uri} ${what}`, { cause });
}

/** RFC 7252 §6.1, §6.2; RFC 8323 §8.1, §8.2. */
const DEFAULT_PORT = { coap: 5683, coaps: 5684, "coap+tcp": 5683, "coaps+tcp": 5684 } as const;
const MAX_VALUE_BYTES = 255;
