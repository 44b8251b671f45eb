import type { KeyExchangeName } from "../crypto/suites.js";
import { ByteReader } from "./reader.js";
import { concat, copyOf, vector16, vector8 } from "./writer.js";

/**
 * ClientKeyExchange, whose form depends on the key exchange:
 *
 * ```
 * psk:         opaque psk_identity<0..2^16-1>;                                RFC 4279 §2
 * ecdhe_psk:   opaque psk_identity<0..2^16-1>; opaque ecdh_Yc<1..2^8-1>;      RFC 5489 §2
 * ecdhe_*:     opaque ecdh_Yc<1..2^8-1>;                                      RFC 8422 §5.7
 * ```
 */
export interface ClientKeyExchange {
  readonly pskIdentity?: Uint8Array;
  readonly publicKey?: Uint8Array;
}

/** @throws DtlsError DTLS_DECODE_ERROR */
export function decodeClientKeyExchange(body: Uint8Array, keyExchange: KeyExchangeName): ClientKeyExchange {
  const reader = new ByteReader(body);
  const message = read(reader, keyExchange);
  reader.end();
  return message;
}

export function encodeClientKeyExchange(message: ClientKeyExchange): Uint8Array {
  const { pskIdentity, publicKey } = message;
  return concat(
    pskIdentity === undefined ? EMPTY : vector16(pskIdentity),
    publicKey === undefined ? EMPTY : vector8(publicKey),
  );
}

function read(reader: ByteReader, keyExchange: KeyExchangeName): ClientKeyExchange {
  switch (keyExchange) {
    case "psk":
      return { pskIdentity: copyOf(reader.vector16()) };
    case "ecdhe_psk":
      return { pskIdentity: copyOf(reader.vector16()), publicKey: reader.vector8(1) };
    case "ecdhe_ecdsa":
    case "ecdhe_rsa":
      return { publicKey: reader.vector8(1) };
  }
}

const EMPTY = new Uint8Array(0);
