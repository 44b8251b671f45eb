import { ByteReader } from "./reader.js";
import { ByteWriter } from "./writer.js";

/**
 * HelloVerifyRequest (RFC 6347 §4.2.1):
 * `struct { ProtocolVersion server_version; opaque cookie<0..2^8-1>; } HelloVerifyRequest;`
 */
export interface HelloVerifyRequest {
  /** Says nothing of the version to be negotiated. */
  readonly version: number;
  readonly cookie: Uint8Array;
}

/** @throws DtlsError DTLS_DECODE_ERROR */
export function decodeHelloVerifyRequest(body: Uint8Array): HelloVerifyRequest {
  const reader = new ByteReader(body);
  const request = { version: reader.uint16(), cookie: reader.vector8() };
  reader.end();
  return request;
}

export function encodeHelloVerifyRequest(request: HelloVerifyRequest): Uint8Array {
  const writer = new ByteWriter(3 + request.cookie.length);
  writer.uint16(request.version);
  writer.vector8(request.cookie);
  return writer.end();
}
