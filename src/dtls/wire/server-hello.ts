import { RANDOM_BYTES } from "./client-hello.js";
import { decodeExtensions, type Extensions, extensionsBytes, writeExtensions } from "./extensions.js";
import { ByteReader } from "./reader.js";
import { ByteWriter } from "./writer.js";

/**
 * ServerHello (RFC 5246 §7.4.1.3):
 *
 * ```
 * struct {
 *   ProtocolVersion server_version;
 *   Random random;
 *   SessionID session_id;
 *   CipherSuite cipher_suite;
 *   CompressionMethod compression_method;
 *   Extension extensions<0..2^16-1>;
 * } ServerHello;
 * ```
 */
export interface ServerHello {
  readonly version: number;
  readonly random: Uint8Array;
  readonly sessionId: Uint8Array;
  readonly cipherSuite: number;
  readonly compressionMethod: number;
  readonly extensions: Extensions;
}

/** @throws DtlsError DTLS_DECODE_ERROR */
export function decodeServerHello(body: Uint8Array): ServerHello {
  const reader = new ByteReader(body);
  return {
    version: reader.uint16(),
    random: reader.bytes(RANDOM_BYTES),
    sessionId: reader.vector8(0, 32),
    cipherSuite: reader.uint16(),
    compressionMethod: reader.uint8(),
    extensions: decodeExtensions(reader),
  };
}

export function encodeServerHello(hello: ServerHello): Uint8Array {
  const { random, sessionId, extensions } = hello;
  const writer = new ByteWriter(6 + random.length + sessionId.length + extensionsBytes(extensions));
  writer.uint16(hello.version);
  writer.bytes(random);
  writer.vector8(sessionId);
  writer.uint16(hello.cipherSuite);
  writer.uint8(hello.compressionMethod);
  writeExtensions(extensions, writer);
  return writer.end();
}
