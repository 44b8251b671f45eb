/** Why a peer's certificates were refused; the code a test or an event names. */
export type CertificateFault = keyof typeof CERTIFICATE_FAULT_ALERTS;

/** The TLS alerts that a refusal can become (RFC 5246 §7.2.2). */
export type CertificateFaultAlert = (typeof CERTIFICATE_FAULT_ALERTS)[CertificateFault];

/**
 * Each fault with the alert that tells the peer (RFC 5246 §7.2.2): `certificate_expired` for time, `unknown_ca` where no
 * usable authority was found, `unsupported_certificate` for a certificate of another kind than was needed,
 * `bad_certificate` for one that is corrupt or too weak, or for another peer, `certificate_unknown` for what is left.
 */
export const CERTIFICATE_FAULT_ALERTS = {
  /** Not DER, not X.509 version 1 to 3, or with a field out of its range. */
  malformed: "bad_certificate",
  /** More certificates than `maxChainLength`. */
  "chain-too-long": "bad_certificate",
  /** Certificates of more bytes than `maxChainBytes`. */
  "certificate-too-large": "bad_certificate",
  expired: "certificate_expired",
  "not-yet-valid": "certificate_expired",
  /** No anchor issued the chain. */
  "unknown-issuer": "unknown_ca",
  /** The peer's certificate signed itself, and is no anchor. */
  "self-signed": "unknown_ca",
  /** The issuer's name fits, but not its key. */
  "bad-signature": "bad_certificate",
  /** Signed with SHA-1, MD5 or another algorithm outside the list. */
  "weak-signature": "bad_certificate",
  /** RSA below 2048 bits, or a curve outside the list. */
  "weak-key": "bad_certificate",
  /** An issuer without basicConstraints cA. */
  "not-a-ca": "unknown_ca",
  "path-length": "unknown_ca",
  "name-constraints": "certificate_unknown",
  /** extKeyUsage lacks the purpose. */
  "wrong-usage": "unsupported_certificate",
  /** keyUsage lacks digitalSignature (the peer's certificate) or keyCertSign (an issuer's). */
  "wrong-key-usage": "unsupported_certificate",
  /** A critical extension that this implementation does not process (RFC 5280 §4.2). */
  "unknown-critical-extension": "unsupported_certificate",
  /** Its issuer's revocation list names it. */
  revoked: "certificate_revoked",
  /** Revocation lists are required, and its issuer's is missing, or past its nextUpdate. */
  "revocation-unknown": "certificate_unknown",
  /** No subjectAltName is the name that was dialled. */
  "wrong-name": "bad_certificate",
} as const;

/** A fault before it has its alert; `reason` is a sentence for a log, in which names from the peer are quoted. */
export interface Refusal {
  readonly cause: CertificateFault;
  readonly reason: string;
}
