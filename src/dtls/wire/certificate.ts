import { ByteReader } from "./reader.js";
import { copyOf, vector24 } from "./writer.js";

/**
 * Certificate (RFC 5246 §7.4.2): `opaque ASN.1Cert<1..2^24-1>; struct { ASN.1Cert certificate_list<0..2^24-1>; }`.
 * DER, leaf first; empty when a client has none.
 */
export type CertificateList = readonly Uint8Array[];

/** @throws DtlsError DTLS_DECODE_ERROR */
export function decodeCertificate(body: Uint8Array): CertificateList {
  const reader = new ByteReader(body);
  const list = new ByteReader(reader.vector24());
  reader.end();
  const certificates: Uint8Array[] = [];
  while (list.remaining > 0) certificates.push(copyOf(list.vector24()));
  return certificates;
}

/** With a raw public key (RFC 7250 §3): `opaque ASN.1_subjectPublicKeyInfo<1..2^24-1>`. */
export function decodeRawPublicKey(body: Uint8Array): Uint8Array {
  const reader = new ByteReader(body);
  const spki = copyOf(reader.vector24());
  reader.end();
  return spki;
}

export function encodeRawPublicKey(spki: Uint8Array): Uint8Array {
  return vector24(spki);
}

export function encodeCertificate(certificates: CertificateList): Uint8Array {
  return vector24(...certificates.map((certificate) => vector24(certificate)));
}
