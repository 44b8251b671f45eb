import { ByteReader } from "./reader.js";
import { vector8 } from "./writer.js";

/** CertificateType (RFC 7250 §3): what a Certificate message holds. */
export type CertificateType = keyof typeof CERTIFICATE_TYPES;

export const CERTIFICATE_TYPES = { "X.509": 0, RawPublicKey: 2 } as const;

/** client_certificate_type or server_certificate_type of a ClientHello, in its order; unknown types are left out. */
export function decodeCertificateTypes(data: Uint8Array): CertificateType[] {
  const reader = new ByteReader(data);
  const ids = reader.vector8(1);
  reader.end();
  return [...ids].flatMap((id) => certificateTypeById(id) ?? []);
}

export function encodeCertificateTypes(types: readonly CertificateType[]): Uint8Array {
  return vector8(Uint8Array.from(types, (type) => CERTIFICATE_TYPES[type]));
}

/** Of a ServerHello, which chooses one; undefined when it is unknown. */
export function decodeCertificateType(data: Uint8Array): CertificateType | undefined {
  const reader = new ByteReader(data);
  const id = reader.uint8();
  reader.end();
  return certificateTypeById(id);
}

export function encodeCertificateType(type: CertificateType): Uint8Array {
  return Uint8Array.of(CERTIFICATE_TYPES[type]);
}

function certificateTypeById(id: number): CertificateType | undefined {
  return (Object.keys(CERTIFICATE_TYPES) as CertificateType[]).find((type) => CERTIFICATE_TYPES[type] === id);
}
