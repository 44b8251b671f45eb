export { Association } from "./association.js";
export { DROP_REASONS } from "./association-output.js";
export type {
  AssociationCounters,
  AssociationOutput,
  AssociationState,
  CertificateAlert,
  CertificateVerdict,
  ClosingAlert,
  DatagramSource,
  DropReason,
  PeerInfo,
} from "./association-output.js";
export type { GroupName } from "./crypto/key-exchange.js";
export type { SignatureSchemeName } from "./crypto/signatures.js";
export type { AeadName, CipherSuiteName, KeyExchangeName } from "./crypto/suites.js";
export { CIPHER_SUITES } from "./crypto/suites.js";
export { DTLS_ERRORS, DtlsError, type DtlsErrorCode, type DtlsFault } from "./errors.js";
export {
  type CertificateCredential,
  type ClientOptions,
  type CommonOptions,
  DTLS_DEFAULTS,
  type ServerOptions,
} from "./options.js";
export { SharedKeys } from "./shared-keys.js";
export type { CertificateType } from "./wire/certificate-type.js";
export { type GateAnswer, ServerGate } from "./server-gate.js";
export type { AlertDescription, AlertLevel } from "./wire/alert.js";
