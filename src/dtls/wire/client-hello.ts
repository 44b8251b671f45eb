import { decodeExtensions, encodeExtensions, type Extensions } from "./extensions.js";
import { ByteReader, decodeUint16List } from "./reader.js";
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
export interface ClientHello extends ClientHelloParameters {
  readonly extensions: Extensions;
}

/** What a cookie is bound to, and the cookie: all that stands before the extensions. */
export interface ClientHelloParameters {
  readonly version: number;
  /** 32 bytes. */
  readonly random: Uint8Array;
  readonly sessionId: Uint8Array;
  readonly cookie: Uint8Array;
  readonly cipherSuites: readonly number[];
  readonly compressionMethods: readonly number[];
}

export const RANDOM_BYTES = 32;

/** @throws DtlsError DTLS_DECODE_ERROR */
export function decodeClientHello(body: Uint8Array): ClientHello {
  const reader = new ByteReader(body);
  return { ...readParameters(reader), extensions: decodeExtensions(reader) };
}

/**
 * As much as a stateless server needs of a first fragment, whatever follows.
 * @throws DtlsError DTLS_DECODE_ERROR
 */
export function decodeClientHelloParameters(start: Uint8Array): ClientHelloParameters {
  return readParameters(new ByteReader(start));
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

function readParameters(reader: ByteReader): ClientHelloParameters {
  return {
    version: reader.uint16(),
    random: reader.bytes(RANDOM_BYTES),
    sessionId: reader.vector8(0, 32),
    cookie: reader.vector8(),
    cipherSuites: decodeUint16List(reader.vector16(2, 0xfffe)),
    compressionMethods: [...reader.vector8(1)],
  };
}
