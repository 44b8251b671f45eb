import { ByteReader } from "./reader.js";
import { concat, uint16, vector16 } from "./writer.js";

/** `digitally-signed` (RFC 5246 §4.7): `SignatureAndHashAlgorithm algorithm; opaque signature<0..2^16-1>;` */
export interface DigitallySigned {
  readonly scheme: number;
  readonly signature: Uint8Array;
}

/** CertificateVerify (RFC 5246 §7.4.8) is one digitally-signed. @throws DtlsError DTLS_DECODE_ERROR */
export function decodeCertificateVerify(body: Uint8Array): DigitallySigned {
  const reader = new ByteReader(body);
  const signed = decodeDigitallySigned(reader);
  reader.end();
  return signed;
}

export function encodeCertificateVerify(signed: DigitallySigned): Uint8Array {
  return encodeDigitallySigned(signed);
}

export function decodeDigitallySigned(reader: ByteReader): DigitallySigned {
  return { scheme: reader.uint16(), signature: reader.vector16() };
}

export function encodeDigitallySigned(signed: DigitallySigned): Uint8Array {
  return concat(uint16(signed.scheme), vector16(signed.signature));
}
