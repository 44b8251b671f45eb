export { Association } from "./association.js";
export { DROP_REASONS } from "./association-output.js";
export type {
  AssociationCounters,
  AssociationOutput,
  CertificateVerdict,
  DatagramSource,
  DropReason,
  PeerInfo,
} from "./association-output.js";
export type { CipherSuiteName } from "./crypto/suites.js";
export { CIPHER_SUITE_NAMES, CIPHER_SUITES } from "./crypto/suites.js";
export { DTLS_ERRORS, DtlsError, type DtlsErrorCode } from "./errors.js";
export { type CertificateCredential, type ClientOptions, DTLS_DEFAULTS, type ServerOptions } from "./options.js";
export { SharedKeys } from "./shared-keys.js";
export { type GateAnswer, ServerGate } from "./server-gate.js";
