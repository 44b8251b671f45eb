export { CERTIFICATE_FAULT_ALERTS, type CertificateFault, type CertificateFaultAlert } from "./certificate-fault.js";
export { renewAuthority, renewCertificate, succeedAuthority } from "./authority-renewal.js";
export {
  CertificateAuthority,
  type CertificateFacts,
  encodePemCertificates,
  factsOf,
  generateKey,
  validityOf,
} from "./certificate-authority.js";
export { generateKeyAndRequest, keyOfRequest } from "./certification-request.js";
export { inFile, X509Error, type X509ErrorCode } from "./errors.js";
export type { RevocationPolicy } from "./path-validation.js";
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
export { loadRevocationLists } from "./revocation-list.js";
export {
  issueThrowawayCredentials,
  type ThrowawayAuthority,
  type ThrowawayCredentials,
} from "./throwaway-credentials.js";
export {
  VERIFICATION_DEFAULTS,
  verifyPeerCertificates,
  type VerificationLimits,
  type Verdict,
  type VerifyPeerCertificatesOptions,
} from "./verify-peer-certificates.js";
