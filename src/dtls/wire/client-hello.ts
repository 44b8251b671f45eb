import { DtlsError } from "../errors.js";
import { decodeExtensions, encodeExtensions, type Extensions } from "./extensions.js";
import { ByteReader, checkedLength, decodeUint16List } from "./reader.js";
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
    cipherSuites: decodeUint16List(reader.vector16(2, 0xfffe)),
    compressionMethods: listOf(reader.vector8(1)),
    extensions: decodeExtensions(reader),
  };
}

/** What a cookie is bound to, as it was sent, and the cookie: all that stands before the extensions. */
export interface ClientHelloParts {
  /** Version, random and session identifier. */
  readonly beforeCookie: Uint8Array;
  readonly cookie: Uint8Array;
  /** The cipher suites and the compression methods. */
  readonly afterCookie: Uint8Array;
}

/**
 * As much as a stateless server needs of a first fragment, whatever follows: views, as all is done for nothing where the
 * cookie is missing.
 * @throws DtlsError DTLS_DECODE_ERROR
 */
export function readClientHelloParts(start: Uint8Array): ClientHelloParts {
  const reader = new ByteReader(start);
  reader.skip(RANDOM_AT + RANDOM_BYTES);
  reader.skip(checkedLength(reader.uint8(), 0, 32));
  const cookieAt = reader.offset;
  const cookie = reader.vector8();
  const afterCookieAt = reader.offset;
  const cipherSuites = checkedLength(reader.uint16(), 2, 0xfffe);
  if (cipherSuites % 2 !== 0) throw new DtlsError("DTLS_DECODE_ERROR", "cipher suites");
  reader.skip(cipherSuites);
  reader.skip(checkedLength(reader.uint8(), 1, 0xff));
  return {
    beforeCookie: start.subarray(0, cookieAt),
    cookie,
    afterCookie: start.subarray(afterCookieAt, reader.offset),
  };
}

/** `Array.from` takes 1 µs for one byte. */
function listOf(bytes: Uint8Array): number[] {
  const list: number[] = [];
  for (let i = 0; i < bytes.length; i++) list.push(bytes[i] ?? 0);
  return list;
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
