import type { KeyExchangeName } from "../crypto/suites.js";
import { DtlsError } from "../errors.js";
import { decodeDigitallySigned, type DigitallySigned, encodeDigitallySigned } from "./certificate-verify.js";
import { ByteReader } from "./reader.js";
import { concat, uint16, uint8, vector16, vector8 } from "./writer.js";

/**
 * ServerKeyExchange, whose form depends on the key exchange:
 *
 * ```
 * psk:         opaque psk_identity_hint<0..2^16-1>;                            RFC 4279 §2
 * ecdhe_psk:   opaque psk_identity_hint<0..2^16-1>; ServerECDHParams params;   RFC 5489 §2
 * ecdhe_*:     ServerECDHParams params; digitally-signed signature;            RFC 8422 §5.4
 *
 * struct { ECCurveType curve_type = named_curve(3); NamedCurve namedcurve; opaque point<1..2^8-1>; } ServerECDHParams;
 * ```
 */
export interface ServerKeyExchange {
  readonly pskIdentityHint?: Uint8Array;
  readonly params?: ServerEcdhParams;
  readonly signature?: DigitallySigned;
}

export interface ServerEcdhParams {
  readonly group: number;
  readonly publicKey: Uint8Array;
}

/** @throws DtlsError DTLS_DECODE_ERROR | DTLS_ILLEGAL_PARAMETER */
export function decodeServerKeyExchange(body: Uint8Array, keyExchange: KeyExchangeName): ServerKeyExchange {
  const reader = new ByteReader(body);
  const message = read(reader, keyExchange);
  reader.end();
  return message;
}

export function encodeServerKeyExchange(message: ServerKeyExchange): Uint8Array {
  const { pskIdentityHint, params, signature } = message;
  return concat(
    pskIdentityHint === undefined ? EMPTY : vector16(pskIdentityHint),
    params === undefined ? EMPTY : encodeServerEcdhParams(params),
    signature === undefined ? EMPTY : encodeDigitallySigned(signature),
  );
}

/** Also what is signed, after both randoms (RFC 8422 §5.4). */
export function encodeServerEcdhParams(params: ServerEcdhParams): Uint8Array {
  return concat(uint8(NAMED_CURVE), uint16(params.group), vector8(params.publicKey));
}

function read(reader: ByteReader, keyExchange: KeyExchangeName): ServerKeyExchange {
  switch (keyExchange) {
    case "psk":
      return { pskIdentityHint: reader.vector16() };
    case "ecdhe_psk":
      return { pskIdentityHint: reader.vector16(), params: readParams(reader) };
    case "ecdhe_ecdsa":
    case "ecdhe_rsa":
      return { params: readParams(reader), signature: decodeDigitallySigned(reader) };
  }
}

function readParams(reader: ByteReader): ServerEcdhParams {
  if (reader.uint8() !== NAMED_CURVE) throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "no named curve");
  return { group: reader.uint16(), publicKey: reader.vector8(1) };
}

const NAMED_CURVE = 3;
const EMPTY = new Uint8Array(0);
