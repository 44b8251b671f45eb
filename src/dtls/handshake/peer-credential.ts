import type { KeyObject } from "node:crypto";
import type { PeerInfo } from "../association-output.js";
import { publicKeyOf } from "../crypto/certificate-key.js";
import { publicKeyOfSpki } from "../crypto/signatures.js";
import { decodeCertificate, decodeRawPublicKey } from "../wire/certificate.js";
import type { CertificateType } from "../wire/certificate-type.js";
import type { HandshakeQuestion } from "./handshake-driver.js";

/** What the peer showed in its Certificate message: not trusted yet, nor proved to be its own. */
export type PeerCredential = (
  | { readonly certificates: readonly Uint8Array[]; readonly rawPublicKey?: never }
  | { readonly rawPublicKey: Uint8Array; readonly certificates?: never }
) & { readonly publicKey: KeyObject };

/** Undefined for an empty list of certificates. @throws DtlsError DTLS_DECODE_ERROR, DTLS_BAD_CERTIFICATE */
export function decodeCredential(body: Uint8Array, type: CertificateType): PeerCredential | undefined {
  if (type === "RawPublicKey") {
    const rawPublicKey = decodeRawPublicKey(body);
    return { rawPublicKey, publicKey: publicKeyOfSpki(rawPublicKey) };
  }
  const certificates = decodeCertificate(body);
  const leaf = certificates[0];
  return leaf === undefined ? undefined : { certificates, publicKey: publicKeyOf(leaf) };
}

export function credentialQuestion({ certificates, rawPublicKey }: PeerCredential): HandshakeQuestion {
  return rawPublicKey === undefined
    ? { type: "need-peer-certificate-verification", certificates }
    : { type: "need-raw-public-key-verification", rawPublicKey };
}

export function credentialFacts({
  certificates,
  rawPublicKey,
}: PeerCredential): Pick<PeerInfo, "certificates" | "rawPublicKey"> {
  return rawPublicKey === undefined ? { certificates } : { rawPublicKey };
}
