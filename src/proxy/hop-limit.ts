import { CODE, OPTION, Options, type ResponseMessage } from "#coap/index.js";

/** The Hop-Limit to forward with, or why not to (RFC 8768 §3). */
export type Hop =
  | { readonly type: "forward"; readonly hopLimit: number }
  | { readonly type: "reached" }
  | { readonly type: "malformed" };

/** One less than what came; where none came, the first one of this proxy. */
export function nextHop(options: Options, firstHopLimit: number): Hop {
  const received = options.uint(OPTION.HopLimit);
  if (received === undefined) return { type: "forward", hopLimit: firstHopLimit };
  if (received === 0) return { type: "malformed" };
  return received === 1 ? { type: "reached" } : { type: "forward", hopLimit: received - 1 };
}

/** 5.08, whose payload names the proxies on its way, the one nearest to the client first (RFC 8768 §4). */
export function hopLimitReached(proxyName: string, beyond?: ResponseMessage): ResponseMessage {
  const own = new TextEncoder().encode(beyond === undefined ? proxyName : `${proxyName} `);
  const payload = new Uint8Array(own.length + (beyond?.payload.length ?? 0));
  payload.set(own);
  if (beyond !== undefined) payload.set(beyond.payload, own.length);
  return { code: CODE.HopLimitReached, options: Options.none, payload: payload.subarray(0, MAX_DIAGNOSTIC_BYTES) };
}

const MAX_DIAGNOSTIC_BYTES = 1024;
