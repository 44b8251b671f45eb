export { CERTIFICATE_FAULT_ALERTS, type CertificateFault, type CertificateFaultAlert } from "./certificate-fault.js";
export {
  type AuthorityRenewalOptions,
  type AuthoritySuccession,
  type CertificateRenewalOptions,
  renewAuthority,
  renewCertificate,
  succeedAuthority,
} from "./authority-renewal.js";
export {
  CertificateAuthority,
  type CertificateFacts,
  type ClientCertificateOptions,
  encodePemCertificates,
  factsOf,
  generateKey,
  type IssuedCertificate,
  validityOf,
} from "./certificate-authority.js";
export { generateKeyAndRequest, type KeyAndRequest, keyOfRequest } from "./certification-request.js";
export { inFile, X509_ERROR_CODES, X509Error, type X509ErrorCode } from "./errors.js";
export type { SubjectAltName } from "./general-name.js";
export type { CertificatePurpose, RevocationPolicy } from "./path-validation.js";
export { certificateKeyFingerprint, keyFingerprint, pemKeyFingerprint } from "./key-fingerprint.js";
export { type PeerName, peerNameOf } from "./peer-name.js";
export {
  decodePemCertificates,
  firstCertificate,
  loadCertificateChain,
  loadCredentials,
  loadPrivateKey,
  loadTrustAnchors,
  type Credentials,
} from "./pem.js";
export { loadRevocationLists, type RevocationList } from "./revocation-list.js";
export {
  issueThrowawayCredentials,
  type ThrowawayAuthority,
  type ThrowawayCredentials,
  type ThrowawayOptions,
} from "./throwaway-credentials.js";
export {
  VERIFICATION_DEFAULTS,
  verifyPeerCertificates,
  type VerificationLimits,
  type Verdict,
  type VerifyPeerCertificatesOptions,
} from "./verify-peer-certificates.js";
