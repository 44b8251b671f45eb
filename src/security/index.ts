export type { AssociationFacts, LowerLayerIdentity } from "./association-facts.js";
export { authErrorOf, ClientAuthenticator } from "./client-authenticator.js";
export { type AuditEvent, type AuditMode, cleanText } from "./audit-event.js";
export { auditSourceOf } from "./audit-source.js";
export { type AuditFilter, AuditTrail, DEFAULT_MAX_AUDIT_EVENTS } from "./audit-trail.js";
export type { ClientOffer, DigestFault } from "./decide-on-client.js";
export type { ServerOffer } from "./decide-on-server.js";
export {
  type ClientDecision,
  type ClientExchange,
  type Decision,
  decide,
  type Exchange,
  type Refusal,
  type ServerDecision,
  type ServerExchange,
} from "./decision.js";
export { DEFAULT_FAILURE_LIMITS, type FailureLimitOptions, FailureLimits } from "./failure-limits.js";
export { handshakeFailure, type HandshakeError, type HandshakePlace } from "./handshake-failure.js";
export { offerAsText } from "./offer-text.js";
export { decideOnPairing, type PairingDecision, type PairingOffer } from "./pairing/decide-on-pairing.js";
export {
  formatPairingCode,
  generatePairingCode,
  type PairingCode,
  pairingIdOf,
  pairingPsk,
  parsePairingCode,
} from "./pairing/pairing-code.js";
export {
  decodePairingAnchors,
  decodePairingGrant,
  decodePairingRequest,
  encodePairingAnchors,
  encodePairingGrant,
  encodePairingRequest,
  type PairingGrant,
  type PairingRequest,
} from "./pairing/pairing-messages.js";
export { formatPairingUri, parsePairingUri, type PairingTarget } from "./pairing/pairing-uri.js";
export {
  CLIENT_AUTHENTICATIONS,
  type ClientAuthentication,
  type ClientPolicy,
  SERVER_AUTHENTICATIONS,
  type ServerAuthentication,
  type ServerPolicy,
} from "./policy.js";
export { answerProof } from "./proof-answerer.js";
export { isSameSubscriber, ProofChallenger, type ProofExchange } from "./proof-challenger.js";
export { encodeSecurityRequired, type SecurityRequired, securityRequiredOf } from "./security-required.js";
export type { GuardDigest } from "./server-digest.js";
export {
  decodeAuthorization,
  decodeChallenge,
  decodeInfo,
  type DigestScope,
  encodeAuthorization,
  encodeChallenge,
  encodeInfo,
  type ScopedChallenge,
} from "./digest-options.js";
export { digestUri } from "./digest-uri.js";
export { SecurityError, type SecurityErrorCode } from "./errors.js";
export { type ExchangeDescription, exchangeOf, explain } from "./explain.js";
export { type ExternalIdentities, NO_EXTERNAL_IDENTITIES } from "./external-identities.js";
export { problem, refusal } from "./refusal.js";
export { type GuardPolicy, type GuardSurroundings, type Judgement, ServerGuard } from "./server-guard.js";
export {
  canonicalAddress,
  decodeSubscriberIdentity,
  encodeSubscriberIdentity,
  formatSubscriberIdentity,
  parseSubscriberIdentity,
  subscriberIdentity,
  type SubscriberIdentity,
} from "./subscriber-identity.js";
export { mayRegister, mayReport, mayUse, type Subscriber, Subscribers } from "./subscribers.js";
export {
  DEFAULT_GBA_LIMITS,
  type GbaCredential,
  GbaCredentials,
  type GbaLimits,
  type GbaLookup,
  type GbaOptions,
  gbaRealm,
  type GbaSubscriber,
} from "./gba-credentials.js";
