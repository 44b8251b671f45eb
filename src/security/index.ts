export type { AssociationFacts, LowerLayerIdentity } from "./association-facts.js";
export { authErrorOf, ClientAuthenticator } from "./client-authenticator.js";
export { type AuditEvent, cleanText } from "./audit-event.js";
export { auditSourceOf } from "./audit-source.js";
export { AuditTrail } from "./audit-trail.js";
export type { ClientOffer } from "./decide-on-client.js";
export type { ServerOffer } from "./decide-on-server.js";
export { type ClientDecision, type Decision, decide } from "./decision.js";
export { DEFAULT_FAILURE_LIMITS, type FailureLimitOptions, FailureLimits } from "./failure-limits.js";
export { handshakeFailure } from "./handshake-failure.js";
export { offerAsText } from "./offer-text.js";
export { decideOnPairing, type PairingDecision } from "./pairing/decide-on-pairing.js";
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
export { isSameSubscriber, ProofChallenger } from "./proof-challenger.js";
export { encodeSecurityRequired, type SecurityRequired, securityRequiredOf } from "./security-required.js";
export type { GuardDigest } from "./server-digest.js";
export {
  decodeAuthorization,
  decodeChallenge,
  type DigestScope,
  encodeAuthorization,
  encodeChallenge,
  type ScopedChallenge,
} from "./digest-options.js";
export { digestUri } from "./digest-uri.js";
export { SecurityError } from "./errors.js";
export { exchangeOf, explain } from "./explain.js";
export type { ExternalIdentities } from "./external-identities.js";
export { problem, refusal } from "./refusal.js";
export { type GuardPolicy, type Judgement, ServerGuard } from "./server-guard.js";
export {
  decodeSubscriberIdentity,
  encodeSubscriberIdentity,
  formatSubscriberIdentity,
  parseSubscriberIdentity,
  subscriberIdentity,
  type SubscriberIdentity,
} from "./subscriber-identity.js";
export { mayRegister, mayReport, type Subscriber, Subscribers } from "./subscribers.js";
export {
  DEFAULT_GBA_LIMITS,
  GbaCredentials,
  type GbaOptions,
  gbaRealm,
  gbaPassword,
  parseKsNaf,
} from "./gba-credentials.js";
