import { DtlsError } from "../errors.js";
import { decodeExtensions, encodeExtensions, type Extensions } from "./extensions.js";
import { ByteReader, checkedLength } from "./reader.js";
import { concat, uint16, uint16List, vector16, vector8 } from "./writer.js";

/**
 * ClientHello (RFC 6347 §4.2.1):
 *
 * ```
 * struct {
 *   ProtocolVersion client_version;
 *   Random random;
 *   SessionID session_id;
 *   opaque cookie<0..2^8-1>;
 *   CipherSuite cipher_suites<2..2^16-1>;
 *   CompressionMethod compression_methods<1..2^8-1>;
 *   Extension extensions<0..2^16-1>;
 * } ClientHello;
 * ```
 */
export interface ClientHello {
  readonly version: number;
  /** 32 bytes. */
  readonly random: Uint8Array;
  readonly sessionId: Uint8Array;
  readonly cookie: Uint8Array;
  readonly cipherSuites: readonly number[];
  readonly compressionMethods: readonly number[];
  readonly extensions: Extensions;
}

/** Where the random stands, and how long it is. */
export const RANDOM_AT = 2;
export const RANDOM_BYTES = 32;

/** Of views. @throws DtlsError DTLS_DECODE_ERROR */
export function decodeClientHello(body: Uint8Array): ClientHello {
  const reader = new ByteReader(body);
  return {
    version: reader.uint16(),
    random: reader.bytes(RANDOM_BYTES),
    sessionId: reader.vector8(0, 32),
    cookie: reader.vector8(),
    cipherSuites: reader.uint16List(2, 0xfffe),
    compressionMethods: reader.uint8List(1),
    extensions: decodeExtensions(reader),
  };
}

/**
 * Where a ClientHello has what a cookie is bound to, as it was sent, and the cookie: all that stands before the extensions.
 *
 * ```
 *  from                               cookieAt               to
 *  +---------+--------+------------+---+--------+------------+
 *  | version | random | session_id | n | cookie | suites … methods
 *  +---------+--------+------------+---+--------+------------+
 * ```
 */
export interface ClientHelloParts {
  /** Whatever the ClientHello stands in. */
  readonly bytes: Uint8Array;
  readonly from: number;
  readonly cookieAt: number;
  readonly cookieBytes: number;
  readonly to: number;
}

/**
 * As much as a stateless server needs of a first fragment that stands from `from` to `end`, whatever follows: places only,
 * as all is done for nothing where the cookie is missing.
 * @throws DtlsError DTLS_DECODE_ERROR
 */
export function readClientHelloParts(bytes: Uint8Array, from = 0, end: number = bytes.length): ClientHelloParts {
  const sessionIdAt = from + RANDOM_AT + RANDOM_BYTES + 1;
  const cookieAt = sessionIdAt + checkedLength(lengthAt(bytes, sessionIdAt - 1, end), 0, 32) + 1;
  const cookieBytes = lengthAt(bytes, cookieAt - 1, end);
  const suitesAt = cookieAt + cookieBytes + 2;
  const suites = lengthAt(bytes, suitesAt - 2, end) * 256 + lengthAt(bytes, suitesAt - 1, end);
  if (checkedLength(suites, 2, 0xfffe) % 2 !== 0) throw new DtlsError("DTLS_DECODE_ERROR", "cipher suites");
  const methodsAt = suitesAt + suites + 1;
  const to = methodsAt + checkedLength(lengthAt(bytes, methodsAt - 1, end), 1, 0xff);
  if (to > end) throw new DtlsError("DTLS_DECODE_ERROR", "short");
  return { bytes, from, cookieAt, cookieBytes, to };
}

function lengthAt(bytes: Uint8Array, at: number, end: number): number {
  if (at >= end) throw new DtlsError("DTLS_DECODE_ERROR", "short");
  return bytes[at] ?? 0;
}

export function encodeClientHello(hello: ClientHello): Uint8Array {
  return concat(
    uint16(hello.version),
    hello.random,
    vector8(hello.sessionId),
    vector8(hello.cookie),
    vector16(uint16List(hello.cipherSuites)),
    vector8(Uint8Array.from(hello.compressionMethods)),
    encodeExtensions(hello.extensions),
  );
}
