import { isIP } from "node:net";
import { OPTION, type Options } from "#coap/index.js";

/** What a client asks a proxy for: where, and which resource there. */
export interface ProxyRequestTarget {
  readonly scheme: string;
  /** In lower case; an IPv6 address without brackets. */
  readonly host: string;
  readonly port: number;
  /** Segments, decoded. */
  readonly path: readonly string[];
  readonly query: readonly string[];
}

/** What a proxy is asked for, by Proxy-Uri or Proxy-Scheme (RFC 7252 §5.7.2). */
export type ProxyQuestion =
  | { readonly type: "none" }
  | { readonly type: "malformed" }
  /** A scheme other than CoAP's. */
  | { readonly type: "other-scheme" }
  | { readonly type: "target"; readonly target: ProxyRequestTarget };

/** Reads the options that make a request one to a forward proxy; Proxy-Uri goes before all others (RFC 7252 §5.10.2). */
export function proxyQuestionOf(options: Options): ProxyQuestion {
  const [proxyUri] = options.strings(OPTION.ProxyUri);
  if (proxyUri !== undefined) return parseProxyUri(proxyUri);
  const [proxyScheme] = options.strings(OPTION.ProxyScheme);
  if (proxyScheme === undefined) return { type: "none" };
  const scheme = proxyScheme.toLowerCase();
  const defaultPort = DEFAULT_PORTS.get(scheme);
  if (defaultPort === undefined) return { type: "other-scheme" };
  const host = options.uriHost?.toLowerCase();
  // Without Uri-Host the destination would be this proxy itself.
  if (host === undefined || !isHostText(host)) return { type: "malformed" };
  const port = options.uint(OPTION.UriPort) ?? defaultPort;
  return {
    type: "target",
    target: { scheme, host: withoutBrackets(host), port, path: options.uriPath, query: options.uriQuery },
  };
}

/** RFC 7252 §6.4: an absolute URI into the options that it stands for. */
function parseProxyUri(text: string): ProxyQuestion {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(text)?.[1]?.toLowerCase();
  if (scheme === undefined) return { type: "malformed" };
  const defaultPort = DEFAULT_PORTS.get(scheme);
  if (defaultPort === undefined) return { type: "other-scheme" };
  const match = /^[^:]+:\/\/(\[[^\]/?#]+\]|[^:/?#@[\]]+)(?::(\d{0,5}))?(\/[^?#]*)?(?:\?([^#]*))?$/.exec(text);
  const host = decode(match?.[1] ?? "")?.toLowerCase();
  const port = match?.[2] === undefined || match[2] === "" ? defaultPort : Number(match[2]);
  const path = (match?.[3] ?? "/") === "/" ? [] : (match?.[3] ?? "").slice(1).split("/").map(decode);
  const query = match?.[4] === undefined ? [] : match[4].split("&").map(decode);
  const parts = [...path, ...query];
  if (
    host === undefined ||
    !isHostText(host) ||
    port < 1 ||
    port > 65_535 ||
    !parts.every((part) => part !== undefined)
  )
    return { type: "malformed" };
  const known = (list: readonly (string | undefined)[]): string[] => list.filter((part) => part !== undefined);
  return {
    type: "target",
    target: { scheme, host: withoutBrackets(host), port, path: known(path), query: known(query) },
  };
}

function decode(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

function isHostText(host: string): boolean {
  if (host.startsWith("[")) return isIP(withoutBrackets(host)) === 6;
  return /^[\p{L}\p{N}._-]+$/u.test(host) || isIP(host) === 6;
}

function withoutBrackets(host: string): string {
  return host.startsWith("[") ? host.slice(1, -1) : host;
}

const DEFAULT_PORTS: ReadonlyMap<string, number> = new Map([
  ["coap", 5683],
  ["coaps", 5684],
]);
