import { ByteReader } from "./reader.js";
import { concat, uint16List, vector16, vector8 } from "./writer.js";

/**
 * CertificateRequest (RFC 5246 §7.4.4):
 *
 * ```
 * struct {
 *   ClientCertificateType certificate_types<1..2^8-1>;
 *   SignatureAndHashAlgorithm supported_signature_algorithms<2^16-1>;
 *   DistinguishedName certificate_authorities<0..2^16-1>;
 * } CertificateRequest;
 * ```
 */
export interface CertificateRequest {
  readonly certificateTypes: readonly number[];
  readonly signatureSchemes: readonly number[];
  /** DER names. */
  readonly certificateAuthorities: readonly Uint8Array[];
}

/** RFC 5246 §7.4.4, RFC 8422 §5.5. */
export const CLIENT_CERTIFICATE_TYPES = { rsa_sign: 1, ecdsa_sign: 64 } as const;

/** @throws DtlsError DTLS_DECODE_ERROR */
export function decodeCertificateRequest(body: Uint8Array): CertificateRequest {
  const reader = new ByteReader(body);
  const certificateTypes = [...reader.vector8(1)];
  const signatureSchemes = reader.uint16List(2);
  const names = new ByteReader(reader.vector16());
  reader.end();
  const certificateAuthorities: Uint8Array[] = [];
  while (names.remaining > 0) certificateAuthorities.push(names.vector16(1));
  return { certificateTypes, signatureSchemes, certificateAuthorities };
}

export function encodeCertificateRequest(request: CertificateRequest): Uint8Array {
  return concat(
    vector8(Uint8Array.from(request.certificateTypes)),
    vector16(uint16List(request.signatureSchemes)),
    vector16(...request.certificateAuthorities.map((name) => vector16(name))),
  );
}
