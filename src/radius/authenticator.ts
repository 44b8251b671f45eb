import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { ATTRIBUTE } from "./attributes.js";
import { RadiusError } from "./errors.js";
import { AUTHENTICATOR_AT, encodePacket, HEADER_BYTES, RADIUS_CODE, type RadiusPacket } from "./packet.js";

/**
 * Checks the Request Authenticator of an Accounting-Request (RFC 2866 §3), and its Message-Authenticator where it has one
 * (RFC 2869 §5.14, over the packet with both authenticators zeroed).
 *
 * @throws RadiusError RADIUS_BAD_AUTHENTICATOR.
 */
export function checkRequestAuthenticator(packet: RadiusPacket, secret: Uint8Array): void {
  // A copy: the slice of a Buffer would be a view.
  const zeroed = Uint8Array.from(packet.bytes);
  zeroed.fill(0, AUTHENTICATOR_AT, HEADER_BYTES);
  if (!timingSafeEqual(md5(zeroed, secret), packet.authenticator)) throw bad("Request Authenticator");
  const signatures = packet.attributes.filter(({ type }) => type === ATTRIBUTE.MessageAuthenticator);
  if (signatures.length === 0) return;
  const [signature] = signatures;
  if (signatures.length > 1 || signature?.value.length !== DIGEST_BYTES) throw bad("Message-Authenticator");
  zeroed.fill(0, signature.offset, signature.offset + DIGEST_BYTES);
  const expected = createHmac("md5", secret).update(zeroed).digest();
  if (!timingSafeEqual(expected, signature.value)) throw bad("Message-Authenticator");
}

/** The Accounting-Response to a request: its Proxy-State attributes (RFC 2866 §4.2), and the Response Authenticator. */
export function accountingResponse(request: RadiusPacket, secret: Uint8Array): Uint8Array {
  const proxyStates = request.attributes.filter(({ type }) => type === ATTRIBUTE.ProxyState);
  const response = encodePacket(RADIUS_CODE.AccountingResponse, request.identifier, proxyStates);
  response.set(request.authenticator, AUTHENTICATOR_AT);
  response.set(md5(response, secret), AUTHENTICATOR_AT);
  return response;
}

function md5(packet: Uint8Array, secret: Uint8Array): Buffer {
  return createHash("md5").update(packet).update(secret).digest();
}

function bad(what: string): RadiusError {
  return new RadiusError("RADIUS_BAD_AUTHENTICATOR", `the ${what} does not fit the secret of this client`);
}

const DIGEST_BYTES = 16;
