import { DpeError } from "./errors.js";

/** An address of its own that a client listens on for DPE-2. */
export interface Dpe2Uri {
  readonly isSecure: boolean;
  /** An address literal, IPv6 without brackets. */
  readonly address: string;
  readonly port: number;
}

/**
 * Parses the `dpe2` argument of a registration: `coap://ADDRESS[:PORT]` or `coaps://…`, a literal and nothing after it.
 *
 * @throws DpeError DPE_BAD_REQUEST.
 */
export function parseDpe2Uri(text: string): Dpe2Uri {
  const match = /^(coaps?):\/\/(?:\[([0-9A-Fa-f:.]{2,45})\]|(\d{1,3}(?:\.\d{1,3}){3}))(?::(\d{1,5}))?\/?$/.exec(text);
  const [, scheme, ipv6, ipv4, portText] = match ?? [];
  const address = ipv6 ?? ipv4;
  const isSecure = scheme === "coaps";
  const port = portText === undefined ? (isSecure ? COAPS_PORT : COAP_PORT) : Number(portText);
  if (address === undefined || port < 1 || port > 65_535)
    throw new DpeError("DPE_BAD_REQUEST", "dpe2 is association, or coap:// or coaps:// with an address literal");
  return { isSecure, address, port };
}

export function formatDpe2Uri({ isSecure, address, port }: Dpe2Uri): string {
  return `${isSecure ? "coaps" : "coap"}://${address.includes(":") ? `[${address}]` : address}:${port}`;
}

/** RFC 7252 §6.1, §6.2 */
const COAP_PORT = 5683;
const COAPS_PORT = 5684;
