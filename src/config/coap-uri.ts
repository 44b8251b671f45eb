import * as z from "zod";
import { isHost } from "./host-port.js";
import { refuse } from "./refusal.js";

/** A `coap://`, `coaps://`, `coap+tcp://` or `coaps+tcp://` URI (RFC 7252 §6, RFC 8323 §8) with the scheme's default port where it names none. */
export function coapUri(options: CoapUriOptions = {}): z.ZodType<CoapUri, unknown> {
  const schemes = options.schemes ?? (["coap", "coaps"] as const);
  const expected = `a ${schemes.map((scheme) => `${scheme}://`).join(" or ")} URI`;
  return z.codec(z.unknown(), COAP_URI, {
    decode: (value, context) => {
      if (typeof value !== "string") {
        refuse(context, { code: "CONFIG_WRONG_TYPE", expected });
        return z.NEVER;
      }
      if (/^[^/]*\/\/[^/?#]*@/.test(value)) {
        refuse(context, {
          problem: "a CoAP URI carries no user name or password",
          hint: "write them under credentials",
        });
        return z.NEVER;
      }
      const uri = decodeCoapUri(value);
      if (uri === undefined || !schemes.includes(uri.scheme)) {
        refuse(context, { expected });
        return z.NEVER;
      }
      return uri;
    },
    encode: (uri) => uri.href,
  });
}

export interface CoapUri {
  readonly scheme: CoapScheme;
  /** A name in lower case, or an address; IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** Percent-encoded as written; `/` where the URI has none. */
  readonly path: string;
  /** Without the question mark; empty where the URI has none. */
  readonly query: string;
  /** The whole URI with its port. */
  readonly href: string;
}

export type CoapScheme = "coap" | "coaps" | "coap+tcp" | "coaps+tcp";

export interface CoapUriOptions {
  /** Which schemes are accepted. Default coap and coaps. */
  readonly schemes?: readonly CoapScheme[];
}

/** RFC 7252 §6.1 */
export const COAP_PORT = 5683;
/** RFC 7252 §6.2 */
export const COAPS_PORT = 5684;

function decodeCoapUri(text: string): CoapUri | undefined {
  const match =
    /^(coaps?(?:\+tcp)?):\/\/(?:\[([0-9A-Fa-f:.]+(?:%25[\w.-]+)?)\]|([^:/?#[\]]+))(?::(\d{0,5}))?(\/[^?#\s]*)?(?:\?([^#\s]*))?$/i.exec(
      text,
    );
  if (match === null) return undefined;
  const scheme = (match[1]?.toLowerCase() ?? "coap") as CoapScheme;
  // A zone identifier is written %25 in a URI: RFC 6874 §2.
  const host = match[2]?.toLowerCase().replace("%25", "%") ?? match[3]?.toLowerCase();
  const port = match[4] === undefined || match[4] === "" ? DEFAULT_PORTS[scheme] : Number(match[4]);
  if (!isHost(host) || (match[2] !== undefined && !host.includes(":")) || port > 65_535) return undefined;
  const path = match[5] ?? "/";
  const query = match[6] ?? "";
  const authority = host.includes(":") ? `[${host.replace("%", "%25")}]` : host;
  const href = `${scheme}://${authority}:${port}${path === "/" ? "" : path}${query === "" ? "" : `?${query}`}`;
  return { scheme, host, port, path, query, href };
}

const COAP_URI = z.object({
  scheme: z.enum(["coap", "coaps", "coap+tcp", "coaps+tcp"]),
  host: z.string(),
  port: z.number(),
  path: z.string(),
  query: z.string(),
  href: z.string(),
});
const DEFAULT_PORTS: Readonly<Record<CoapScheme, number>> = {
  coap: COAP_PORT,
  coaps: COAPS_PORT,
  "coap+tcp": COAP_PORT,
  "coaps+tcp": COAPS_PORT,
};
