import { timingSafeEqual } from "node:crypto";
import { computeResponse } from "./calculation.js";
import { decodeHex, encodeHex } from "./hex.js";
import type { Authorization, DigestRequest, DigestResponse } from "./messages.js";

/**
 * The response bytes for a request, from the wire's bytes: nonce, cnonce and HA1 enter the calculation of RFC 7616 §3.4 as
 * lowercase hex.
 */
export function computeRequestResponse(fields: ResponseFields, ha1: Uint8Array, request: DigestRequest): Uint8Array {
  const { algorithm, qop, nonceCount } = fields;
  const { method, uri, body } = request;
  const nonce = encodeHex(fields.nonce);
  const cnonce = encodeHex(fields.cnonce);
  return decodeHex(
    computeResponse({ algorithm, qop, nonceCount, nonce, cnonce, ha1: encodeHex(ha1), method, uri, body }),
  );
}

/** rspauth (RFC 7616 §3.5), and the response of a DPE-2 proof: A2 with no method, over a response. */
export function computeRspauth(fields: ResponseFields, ha1: Uint8Array, response: DigestResponse): Uint8Array {
  return computeRequestResponse(fields, ha1, { method: "", uri: response.uri, body: response.body });
}

/** The fields of an Authorization that enter a response. */
export type ResponseFields = Pick<Authorization, "algorithm" | "qop" | "nonce" | "cnonce" | "nonceCount">;

/** Equality in time that depends on the lengths only. */
export function areEqualBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
