import { type KeyObject, X509Certificate } from "node:crypto";
import { DtlsError } from "../errors.js";
import { sha256 } from "./sha256.js";

/** The public key of a DER certificate. @throws DtlsError DTLS_BAD_CERTIFICATE */
export function publicKeyOf(certificate: Uint8Array): KeyObject {
  const kept = KEPT.get(nameOf(certificate));
  if (kept !== undefined) return kept;
  try {
    return new X509Certificate(certificate).publicKey;
  } catch (cause) {
    throw new DtlsError("DTLS_BAD_CERTIFICATE", undefined, { cause });
  }
}

/**
 * Keeps the key of a certificate whose holder has signed with it, for the next handshake: having OpenSSL parse a
 * certificate and its key takes 250 µs, three times as long as verifying a signature. The oldest makes way.
 */
export function keepPublicKey(certificate: Uint8Array, key: KeyObject): void {
  const name = nameOf(certificate);
  KEPT.delete(name);
  KEPT.set(name, key);
  const oldest = KEPT.keys().next();
  if (KEPT.size > MAX_KEPT && oldest.done !== true) KEPT.delete(oldest.value);
}

function nameOf(certificate: Uint8Array): string {
  return Buffer.from(sha256(certificate)).toString("latin1");
}

const KEPT = new Map<string, KeyObject>();
/** About 2 kB each. */
const MAX_KEPT = 256;
