import { createPublicKey, type KeyObject } from "node:crypto";
import type { CommonOptions } from "../options.js";
import { type CertificateList, encodeCertificate, encodeRawPublicKey } from "../wire/certificate.js";
import type { CertificateType } from "../wire/certificate-type.js";

/** What we show in a Certificate message, and the key that stands behind it. */
export type OwnCredential =
  | { readonly type: "X.509"; readonly chain: CertificateList; readonly privateKey: KeyObject }
  | { readonly type: "RawPublicKey"; readonly spki: Uint8Array; readonly privateKey: KeyObject };

/** The types that the options hold credentials of; certificates first. */
export function ownCertificateTypes(options: CommonOptions): CertificateType[] {
  return [
    ...(options.certificate === undefined ? [] : (["X.509"] as const)),
    ...(options.rawPublicKey === undefined ? [] : (["RawPublicKey"] as const)),
  ];
}

export function ownCredential(type: CertificateType, options: CommonOptions): OwnCredential | undefined {
  const { certificate, rawPublicKey } = options;
  if (type === "X.509") return certificate && { type, ...certificate };
  if (rawPublicKey === undefined) return undefined;
  const { privateKey } = rawPublicKey;
  return { type, spki: createPublicKey(privateKey).export({ type: "spki", format: "der" }), privateKey };
}

export function encodeCredential(credential: OwnCredential): Uint8Array {
  return credential.type === "X.509" ? encodeCertificate(credential.chain) : encodeRawPublicKey(credential.spki);
}
