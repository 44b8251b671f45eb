import { createHash, createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import { X509Error } from "./errors.js";
import { loadCertificateChain, loadPrivateKey } from "./pem.js";

/** How a public key is named where there is no certificate: SHA-256 of its SubjectPublicKeyInfo (DER), lower-case hexadecimal. */
export function keyFingerprint(subjectPublicKeyInfo: Uint8Array): string {
  return createHash("sha256").update(subjectPublicKeyInfo).digest("hex");
}

/** That of a certificate's key; `certificate` is DER, and was verified before. */
export function certificateKeyFingerprint(certificate: Uint8Array): string {
  return keyFingerprint(subjectPublicKeyInfoOf(new X509Certificate(certificate).publicKey));
}

/**
 * That of a PEM text: a certificate (the first), a public key, or a private key, whose public half it is then.
 *
 * @throws X509Error as `loadPrivateKey` and `loadCertificateChain`; X509_MALFORMED_PUBLIC_KEY.
 */
export function pemKeyFingerprint(pem: string): string {
  if (pem.includes("-----BEGIN CERTIFICATE-----")) {
    const [leaf] = loadCertificateChain(pem);
    if (leaf !== undefined) return certificateKeyFingerprint(leaf);
  }
  if (/-----BEGIN (RSA )?PUBLIC KEY-----/.test(pem)) {
    try {
      return keyFingerprint(subjectPublicKeyInfoOf(createPublicKey(pem)));
    } catch (cause) {
      throw new X509Error("X509_MALFORMED_PUBLIC_KEY", "the PUBLIC KEY block cannot be read", { cause });
    }
  }
  return keyFingerprint(subjectPublicKeyInfoOf(createPublicKey(loadPrivateKey(pem))));
}

function subjectPublicKeyInfoOf(key: KeyObject): Uint8Array {
  return key.export({ type: "spki", format: "der" });
}
